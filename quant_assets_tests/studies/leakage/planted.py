"""Leaks, planted: each function below is a stage of the pipeline with one mistake that people make."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl

from quant_assets.common.settings import ModelsConfig, StrategyConfig, UniverseConfig, ValidationConfig
from quant_assets.common.store import Table
from quant_assets.features.as_known import FOUND_WRONG
from quant_assets.lineage import pipeline as product
from quant_assets.lineage.pipeline import cross_predictions, traded
from quant_assets.splits.cpcv import CombinatorialPurgedCV
from quant_assets.splits.purging import Split
from quant_assets.studies.leakage.leakage_report import CrossPredict

RIDGE = 1e-3

Scaler = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


# ----------------------------------------------------------------------------------------------------------- bars


def bars_without_what_came_back(
    raw: pl.DataFrame, universe: UniverseConfig, strategy: StrategyConfig
) -> pl.DataFrame:
    """A leap for one session is taken out of history, although its own close could not tell."""
    bars = product.bars_of(raw, universe, strategy)
    return bars.filter(pl.col(FOUND_WRONG).is_null()) if FOUND_WRONG in bars.columns else bars


# ------------------------------------------------------------------------------------------------------- features


def features_without_what_came_back(bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """Bars that are ever found to be wrong are in no window, and have no row of their own."""
    good = bars.filter(pl.col(FOUND_WRONG).is_null()) if FOUND_WRONG in bars.columns else bars
    return product.features_of(good, strategy)


def feature_of_tomorrow(bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """`shift(-1)` where `shift(1)` was meant."""
    return product.features_of(bars, strategy).with_columns(pl.col("ret_1").shift(-1).over("symbol"))


def candle_of_tomorrow(bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """The next session's body: its open over its close, which no common factor moves."""
    body = bars.sort("symbol", "session").select(
        "symbol",
        "session",
        ret_1=(pl.col("close") / pl.col("open") - 1.0).shift(-1).over("symbol").cast(pl.Float32),
    )
    return product.features_of(bars, strategy).drop("ret_1").join(body, on=["symbol", "session"], how="left")


def features_scaled_by_everything(bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """Standardised with the mean and deviation of the whole history."""
    features = product.features_of(bars, strategy)
    column = pl.col("rsi_14")
    return features.with_columns((column - column.mean()) / column.std())


def price_level(bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """An adjusted price, which later splits rescale."""
    level = bars.select("symbol", "session", ret_1=pl.col("close").cast(pl.Float32))
    return product.features_of(bars, strategy).drop("ret_1").join(level, on=["symbol", "session"], how="left")


def survivors_only(bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """Features of those sessions only whose symbol will not have halved by the end of the bars."""
    last = bars.sort("session").group_by("symbol").agg(last=pl.col("close").last())
    alive = bars.join(last, on="symbol").filter(pl.col("last") > pl.col("close") / 2)
    return product.features_of(bars, strategy).join(alive, on=["symbol", "session"], how="semi")


# --------------------------------------------------------------------------------------------------------- labels


def labels_known_too_early(
    bars: pl.DataFrame, universe: UniverseConfig, strategy: StrategyConfig
) -> pl.DataFrame:
    """Labels that say they are known at the close of their decision."""
    labels = product.labels_of(bars, universe, strategy)
    return labels.with_columns(known_at=pl.col("t0"), t1=pl.col("t0") + timedelta(microseconds=1))


# --------------------------------------------------------------------------------------------------- training set


def with_input(table: Table, name: str, column: pl.Expr) -> Table:
    """The training set with one more model input."""
    names = [*json.loads(table.metadata["features"]), name]
    frame = table.frame.with_columns(column.cast(pl.Float32).alias(name))
    return Table(frame, {**table.metadata, "features": json.dumps(names)})


def target_encoded(
    features: pl.DataFrame, labels: pl.DataFrame, strategy: StrategyConfig, known_by: datetime
) -> Table:
    """A categorical column (symbol and calendar month) replaced by its mean target over all rows."""
    table = product.training_set_of(features, labels, strategy, known_by)
    return with_input(
        table, "encoded", pl.col("target").mean().over("symbol", pl.col("session").dt.truncate("1mo"))
    )


def labels_of_any_time(
    features: pl.DataFrame, labels: pl.DataFrame, strategy: StrategyConfig, known_by: datetime
) -> Table:
    """A training set that does not ask when its labels are known."""
    end = labels["known_at"].max()
    assert isinstance(end, datetime)
    return product.training_set_of(features, labels, strategy, end)


# ---------------------------------------------------------------------------------------------------- scored rows


def rows_with_an_outcome(
    features: pl.DataFrame, bars: pl.DataFrame, training_set: Table, strategy: StrategyConfig
) -> pl.DataFrame:
    """Only what can be trained on is scored: a name is left before it ends, because it will."""
    return training_set.frame.select("symbol", "session", "t0")


# ---------------------------------------------------------------------------------------------------------- folds


def unpurged(t0: Any, t1: Any, strategy: StrategyConfig) -> Iterator[Split]:
    """Splits with a purge of zero: as if every outcome were known at its decision."""
    v = strategy.validation
    return CombinatorialPurgedCV(v.n_groups, v.n_test_groups, embargo=v.embargo_sessions).split(t0, t0)


def without_embargo(t0: Any, t1: Any, strategy: StrategyConfig) -> Iterator[Split]:
    """Purged splits that forget the configured embargo."""
    v = strategy.validation
    return CombinatorialPurgedCV(v.n_groups, v.n_test_groups, embargo=0).split(t0, t1)


# --------------------------------------------------------------------------------------------------------- models


def scaled_by_training_rows(x: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x[train].mean(axis=0), x[train].std(axis=0)


def scaled_by_everything(x: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(axis=0), x.std(axis=0)


def ridge(scaler: Scaler = scaled_by_training_rows, *, purged: bool = True) -> CrossPredict:
    """Cross-predictions of a ridge regression, quick and smooth: every row of its training set moves every score."""

    def predict(
        frame: pl.DataFrame,
        feature_names: Sequence[str],
        models: ModelsConfig,
        validation: ValidationConfig,
        *,
        seed: int,
    ) -> pl.DataFrame:
        x = frame.select(feature_names).to_numpy().astype(np.float64)
        y = frame["target"].to_numpy()
        cv = CombinatorialPurgedCV(
            validation.n_groups,
            validation.n_test_groups,
            embargo=validation.embargo_sessions if purged else 0,
        )
        groups, ends = cv.groups(frame["t0"]), frame["t1" if purged else "t0"]
        scores = {}
        for split, (train, test) in enumerate(cv.split(frame["t0"], ends)):
            centre, spread = scaler(x, train)
            z = (x - centre) / np.where(spread > 0, spread, 1.0)
            # einsum instead of BLAS: its threads would wait for each other beside other test processes
            gram = np.einsum("ij,ik->jk", z[train], z[train]) + RIDGE * len(train) * np.eye(x.shape[1])
            weight = np.linalg.solve(gram, np.einsum("ij,i->j", z[train], y[train] - y[train].mean()))
            scores[split] = np.full(len(y), np.nan)
            scores[split][test] = np.einsum("ij,j->i", z[test], weight) + y[train].mean()
        tracks = []
        for path, steps in enumerate(cv.paths()):
            track = np.full(len(y), np.nan)
            for group, split in steps:
                track[groups == group] = scores[split][groups == group]
            tracks.append(pl.Series(f"path_{path}", track))
        return frame.select("symbol", "session").with_columns(tracks)

    return predict


def trees_on_inputs_scaled_by_everything(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    validation: ValidationConfig,
    *,
    seed: int,
) -> pl.DataFrame:
    """The product's own trees behind one scaler that is fitted before the splits are made."""
    column = pl.col(list(feature_names))
    scaled = frame.with_columns(((column - column.mean()) / column.std()).cast(pl.Float32))
    return cross_predictions(scaled, feature_names, models, validation, seed=seed)


def encoding_inside_the_models(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    validation: ValidationConfig,
    *,
    seed: int,
) -> pl.DataFrame:
    """A target encoding fitted on all rows, tested ones included, just before the fits."""
    encoded = pl.col("target").mean().over("symbol", pl.col("session").dt.truncate("1mo")).cast(pl.Float32)
    return ridge()(
        frame.with_columns(encoded=encoded), [*feature_names, "encoded"], models, validation, seed=seed
    )


def nothing_learned(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    validation: ValidationConfig,
    *,
    seed: int,
) -> pl.DataFrame:
    """Scores that read nothing, so that no experiment can move them."""
    cv = CombinatorialPurgedCV(validation.n_groups, validation.n_test_groups)
    return frame.select("symbol", "session").with_columns(
        pl.lit(0.0).alias(f"path_{path}") for path in range(cv.n_paths)
    )


# ------------------------------------------------------------------------------------------------------ decisions


def filled_before_decided(
    predictions: pl.DataFrame, bars: pl.DataFrame, strategy: StrategyConfig
) -> pl.DataFrame:
    """Fills at the open of the very session whose close gave the score."""
    early = predictions.sort("symbol", "session").with_columns(
        pl.col("^path_.*$").shift(-1).over("symbol").fill_null(0.0)
    )
    return traded(early, bars, strategy)


def positions_scaled_by_everything(
    predictions: pl.DataFrame, bars: pl.DataFrame, strategy: StrategyConfig
) -> pl.DataFrame:
    """Positions sized to the volatility that the whole track will have had."""
    track = traded(predictions, bars, strategy)
    size = 0.1 / (float(track["net_return"].std()) * 252**0.5)  # type: ignore[arg-type]
    return track.with_columns(pl.col("turnover", "gross_return", "net_return") * size)


def impact_of_adjusted_prices(
    predictions: pl.DataFrame, bars: pl.DataFrame, strategy: StrategyConfig
) -> pl.DataFrame:
    """Traded value from adjusted prices, which every later dividend makes smaller."""
    return traded(predictions, bars.drop("price_factor", "volume_factor"), strategy)
