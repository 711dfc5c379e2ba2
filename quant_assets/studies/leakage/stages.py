"""The stages on trial, as functions. The defaults are the product's own; a test replaces one to plant a leak."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from quant_assets.common.settings import ModelsConfig, StrategyConfig, UniverseConfig, ValidationConfig
from quant_assets.common.store import Table
from quant_assets.splits.purging import Split
from quant_assets.studies.calibration import pipeline as product

Features = Callable[[pl.DataFrame, StrategyConfig], pl.DataFrame]
Labels = Callable[[pl.DataFrame, UniverseConfig, StrategyConfig], pl.DataFrame]
TrainingSet = Callable[[pl.DataFrame, pl.DataFrame, StrategyConfig, datetime], Table]
Splits = Callable[[Any, Any, StrategyConfig], Iterator[Split]]
Decisions = Callable[[pl.DataFrame, pl.DataFrame, StrategyConfig], pl.DataFrame]


class CrossPredict(Protocol):
    """Out-of-sample scores of every row on every path, as `quant_assets.models.cross_prediction.cross_predict`."""

    def __call__(
        self,
        frame: pl.DataFrame,
        feature_names: Sequence[str],
        models: ModelsConfig,
        validation: ValidationConfig,
        *,
        seed: int,
    ) -> pl.DataFrame:
        """Columns ``symbol, session, path_0 ...``, rows as in ``frame``."""


def outer_splits(t0: Any, t1: Any, strategy: StrategyConfig) -> Iterator[Split]:
    """The splits in which candidates are judged."""
    from quant_assets.splits.cpcv import CombinatorialPurgedCV

    v = strategy.validation
    return CombinatorialPurgedCV(v.n_groups, v.n_test_groups, embargo=v.embargo_sessions).split(t0, t1)


def inner_splits(t0: Any, t1: Any, strategy: StrategyConfig) -> Iterator[Split]:
    """The splits in which the stacker's out-of-fold predictions are made."""
    from quant_assets.splits.cpcv import PurgedKFold

    folds = PurgedKFold(strategy.models.stacker.inner_folds, embargo=strategy.validation.embargo_sessions)
    return folds.split(t0, t1)


def cross_predictions(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    validation: ValidationConfig,
    *,
    seed: int,
) -> pl.DataFrame:
    """The product's cross-prediction."""
    from quant_assets.models.cross_prediction import cross_predict

    return cross_predict(frame, feature_names, models, validation, seed=seed)


def traded(predictions: pl.DataFrame, bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """Positions taken from scores, filled, paid for and held: the returns and turnover of each path."""
    from quant_assets.trading.paths import path_returns

    return path_returns(predictions, bars, strategy.portfolio, strategy.costs)


@dataclass(frozen=True)
class Pipeline:
    """The functions that a strategy's path consists of.

    Attributes
    ----------
    features : (bars, strategy) -> frame ``symbol, session, ...``
    labels : (bars, universe, strategy) -> frame with ``t0, t1, known_at, forward_return``
    training_set : (features, labels, strategy, known_by) -> Table
    splits, inner_splits : (t0, t1, strategy) -> iterator of (train, test) row positions
    cross_predict : see `CrossPredict`
    decisions : (predictions, bars, strategy) -> path returns, one row per path and session of the fill
    """

    features: Features = product.features_of
    labels: Labels = product.labels_of
    training_set: TrainingSet = product.training_set_of
    splits: Splits = outer_splits
    inner_splits: Splits = inner_splits
    cross_predict: CrossPredict = cross_predictions
    decisions: Decisions = traded


PRODUCT = Pipeline()
