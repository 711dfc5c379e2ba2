"""The whole lineage of a strategy as plain functions, from bars to verdicts, without an orchestrator.

The same functions that the assets call, in the same order. For calibration, proofs and notebooks; what is promoted
always comes from the assets.
"""

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from quant_assets.common.hashing import frame_digest
from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.common.store import Table
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport


@dataclass(frozen=True)
class Lineage:
    """What a strategy is made from: bars, features, labels, training set."""

    bars: pl.DataFrame
    features: pl.DataFrame
    labels: pl.DataFrame
    training_set: Table


def judge_market(
    universe: UniverseConfig, strategy: StrategyConfig, limits: GatesConfig, *, n_jobs: int | None = 1
) -> GateReport:
    """Take a strategy from its universe to its verdicts, as its first and only trial.

    Parameters
    ----------
    universe : UniverseConfig
    strategy : StrategyConfig
        Its ``universe`` is not looked up: ``universe`` is what is judged.
    limits : GatesConfig
        The shared limits; the strategy's stricter ones are put in their place.
    n_jobs : int or None, default 1
        Splits fitted at the same time; None for all cores. The verdicts do not depend on it.

    Returns
    -------
    GateReport
        Of kind ``validation``. Its subject is the recipe of the models, because no candidate is fitted.
    """
    lineage = lineage_of(universe, strategy)
    predictions = predict_paths(lineage.training_set, strategy, n_jobs=n_jobs)
    return judge_predictions(predictions, lineage.bars, universe, strategy, limits)


def lineage_of(universe: UniverseConfig, strategy: StrategyConfig) -> Lineage:
    """Bars, features, labels and training set of a strategy."""
    bars = adjusted_bars(universe)
    features = features_of(bars, strategy)
    labels = labels_of(bars, universe, strategy)
    return Lineage(
        bars, features, labels, training_set_of(features, labels, strategy, known_by_of(bars, strategy))
    )


def adjusted_bars(universe: UniverseConfig) -> pl.DataFrame:
    """The adjusted panel of a universe."""
    from quant_assets.market.actions import adjust_bars, derive_corporate_actions
    from quant_assets.market.sources.sources import read_bars

    raw = read_bars(universe).bars.sort("symbol", "session")
    return adjust_bars(raw, derive_corporate_actions(raw), universe.calendar)


def features_of(bars: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """The strategy's feature packs over a panel, side by side."""
    from quant_assets.features import compute
    from quant_assets.features.pack import join_packs

    return join_packs({pack: compute(bars, pack=pack) for pack in strategy.feature_packs})


def labels_of(bars: pl.DataFrame, universe: UniverseConfig, strategy: StrategyConfig) -> pl.DataFrame:
    """Forward returns with the times at which they start, end and are known."""
    from quant_assets.datasets.labels import forward_return_labels
    from quant_assets.market.calendar import session_times

    times = session_times(universe.calendar, universe.start, universe.end)
    return forward_return_labels(bars, times, horizon_sessions=strategy.label.horizon_sessions)


def known_by_of(bars: pl.DataFrame, strategy: StrategyConfig) -> datetime:
    """The time up to which the strategy's training set may know anything: the close before its holdout."""
    from quant_assets.datasets.training_set import training_end

    end = training_end(bars["session"].unique().sort().to_list(), strategy.holdout_sessions)
    close: datetime = bars.filter(pl.col("session") == end)["known_at"][0]
    return close


def training_set_of(
    features: pl.DataFrame, labels: pl.DataFrame, strategy: StrategyConfig, known_by: datetime
) -> Table:
    """Complete feature rows with labels that were known by then."""
    from quant_assets.datasets.training_set import assemble_training_set
    from quant_assets.features.pack import joined_names

    names = joined_names(strategy.feature_packs)
    return assemble_training_set(features, labels, names, known_by=known_by, manifest={})


def predict_paths(training_set: Table, strategy: StrategyConfig, *, n_jobs: int | None = 1) -> Table:
    """Out-of-sample scores of every path, carrying the recipe of the models that predicted."""
    from quant_assets.datasets.training_set import feature_names_of
    from quant_assets.models.cross_prediction import cross_predict
    from quant_assets.models.ensemble import recipe_digest

    frame = cross_predict(
        training_set.frame,
        feature_names_of(training_set),
        strategy.models,
        strategy.validation,
        seed=strategy.seed,
        n_jobs=n_jobs,
    )
    version = frame_digest(training_set.frame, training_set.metadata)
    recipe = recipe_digest(version, strategy.models, strategy.seed, strategy.validation.embargo_sessions)
    return Table(frame, {"recipe": recipe})


def judge_predictions(
    predictions: Table,
    bars: pl.DataFrame,
    universe: UniverseConfig,
    strategy: StrategyConfig,
    limits: GatesConfig,
) -> GateReport:
    """Trade predictions and judge the paths as the first and only trial of their strategy.

    The ledger is a real one, in a temporary folder: no caller states a number of trials.
    """
    from quant_assets.gates.evidence import count_trial, judge_evidence, paths_table

    paths = paths_table(predictions, bars, strategy, version_of_bars=frame_digest(bars))
    recipe = predictions.metadata["recipe"]
    with tempfile.TemporaryDirectory(prefix="trials-") as folder:
        ledger = count_trial(Path(folder), strategy.name, paths, run_id="calibration")
        return judge_evidence(
            paths,
            ledger,
            {"recipe": recipe},
            recipe,
            home=Path(folder),
            universe=universe,
            limits=limits.for_strategy(strategy.gates),
        )
