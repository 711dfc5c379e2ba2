"""The prover: every experiment on every stage of one strategy, on its own bars."""

from datetime import date

import polars as pl

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.datasets.training_set import feature_names_of, training_known_by
from quant_assets.studies.leakage.fitted import (
    checked_splits,
    fitted_inside_splits,
    probe_of,
    probe_rows,
    shuffled_labels,
)
from quant_assets.studies.leakage.future import (
    Original,
    altered_future,
    leap_that_stays_or_not,
    positions,
    removed_names,
    rescaled_history,
    shifted_known_at,
    stated_times,
)
from quant_assets.studies.leakage.leakage_report import STAGES, LeakageReport, Pipeline

# Where the future is cut off, as shares of the training window; the end of it is always one of the cuts.
CUTS = (0.4, 0.75)


def prove_no_leak(
    universe: UniverseConfig,
    strategy: StrategyConfig,
    bars: pl.DataFrame,
    *,
    pipeline: Pipeline,
    n_shuffles: int = 12,
    seed: int = 0,
) -> LeakageReport:
    """Try every stage from bars to decisions for what it may not know.

    Parameters
    ----------
    universe : UniverseConfig
    strategy : StrategyConfig
        Its features, labels, splits, learners and portfolio are on trial; learners with few trees, because what flows
        where does not depend on their number.
    bars : polars.DataFrame
        The adjusted panel.
    pipeline : Pipeline
        The functions on trial: the lineage's own, unless a test plants a leak.
    n_shuffles : int, default 12
        Of the labels, at least 2.
    seed : int
        Of shuffles and trial scores. The same input gives the same report.

    Returns
    -------
    LeakageReport
        Passed only when every stage was proven; otherwise it names the stages that leak.

    Raises
    ------
    ValidationError
        Fewer than two shuffles.
    QuantAssetsError
        Whatever a stage raises: a stage that cannot run is no proof.
    """
    if n_shuffles < 2:
        raise ValidationError(
            "leakage prover",
            expected="at least 2 shuffles, to know how far one strays",
            found=f"{n_shuffles}",
            action="leave it at 12",
        )
    features = pipeline.features(bars, strategy)
    labels = pipeline.labels(bars, universe, strategy)
    known_by = training_known_by(bars, strategy.holdout_sessions)
    training_set = pipeline.training_set(features, labels, strategy, known_by)
    scored = pipeline.scored(features, bars, training_set, strategy)
    original = Original(bars, features, labels, training_set, scored, known_by)
    cuts = _cuts(training_set.frame["session"])
    rows = probe_rows(training_set.frame, strategy)
    probe = probe_of(strategy, rows.height)
    names = feature_names_of(training_set)
    evidence = (
        *stated_times(original, universe),
        *leap_that_stays_or_not(original, universe, strategy, pipeline, cuts),
        *altered_future(original, universe, strategy, pipeline, cuts),
        *removed_names(original, universe, strategy, pipeline, cuts, seed=seed),
        *rescaled_history(original, universe, strategy, pipeline, seed=seed),
        shifted_known_at(original, strategy, pipeline, cuts),
        *checked_splits(training_set.frame, strategy, pipeline),
        *fitted_inside_splits(rows, names, probe, pipeline.cross_predict),
        shuffled_labels(original, strategy, pipeline, probe, n_shuffles=n_shuffles, seed=seed),
        positions(original, strategy, pipeline, seed=seed),
    )
    ordered = sorted(evidence, key=lambda e: STAGES.index(e.stage))
    return LeakageReport(strategy.name, universe.name, bars.height, tuple(ordered))


def _cuts(sessions: pl.Series) -> tuple[date, ...]:
    distinct = sessions.unique().sort()
    last = len(distinct) - 1
    return tuple(dict.fromkeys(distinct[round(share * last)] for share in (*CUTS, 1.0)))
