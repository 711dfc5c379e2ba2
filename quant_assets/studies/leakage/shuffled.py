"""Shuffle the labels: nothing can be learned from them, so whatever still predicts them has seen them.

Every shuffle gives one rank correlation and one Sharpe ratio; over shuffles they are independent given the features,
and without a leak their mean is 0. A two-sided t-test for each of the two at half of `ALPHA` each.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.settings import PortfolioConfig, StrategyConfig, ValidationConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import TARGET, feature_names_of
from quant_assets.studies.leakage.future import Original
from quant_assets.studies.leakage.leakage_report import Evidence, Stage
from quant_assets.studies.leakage.probe import Probe, probe_rows
from quant_assets.studies.leakage.stages import Pipeline

# Once in a thousand clean strategies this experiment raises a false alarm.
ALPHA = 0.001
GROUPS = 4


@dataclass(frozen=True)
class CentreTest:
    """Whether a sample is centred on 0.

    Attributes
    ----------
    quantity : str
    mean, standard_error : float
    p_value : float
        Two-sided; NaN with fewer than two finite values.
    n : int
        Finite values.
    """

    quantity: str
    mean: float
    standard_error: float
    p_value: float
    n: int

    @property
    def off_centre(self) -> bool:
        """Whether the mean is not 0 at half of `ALPHA`."""
        return bool(self.p_value < ALPHA / 2.0)

    def __str__(self) -> str:
        return f"{self.quantity} {self.mean:+.4f} (standard error {self.standard_error:.4f}, p {self.p_value:.2g})"


def centre_test(values: Sequence[float], quantity: str) -> CentreTest:
    """Two-sided t-test of mean 0."""
    from scipy.special import stdtr

    sample = np.array([v for v in values if math.isfinite(v)])
    if len(sample) < 2:
        return CentreTest(quantity, math.nan, math.nan, math.nan, len(sample))
    mean, error = float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(len(sample))
    if error == 0.0:  # every shuffle the same: 0 says nothing, anything else cannot be chance
        return CentreTest(quantity, mean, 0.0, math.nan if mean == 0.0 else 0.0, len(sample))
    p = 2.0 * float(stdtr(len(sample) - 1, -abs(mean) / error))
    return CentreTest(quantity, mean, error, p, len(sample))


def shuffled_labels(
    original: Original,
    strategy: StrategyConfig,
    pipeline: Pipeline,
    probe: Probe,
    *,
    n_shuffles: int,
    seed: int,
) -> Evidence:
    """Shuffle the labels before the training set is assembled; where that finds something, also after it."""
    labels = original.labels

    def assembled(rng: np.random.Generator) -> Table:
        mixed = rng.permutation(labels["forward_return"].to_numpy())
        return pipeline.training_set(
            original.features, labels.with_columns(forward_return=mixed), strategy, original.known_by
        )

    def targets(rng: np.random.Generator) -> Table:
        table = original.training_set
        mixed = rng.permutation(table.frame[TARGET].to_numpy())
        return Table(table.frame.with_columns(pl.Series(TARGET, mixed)), table.metadata)

    def tests(make: Callable[[np.random.Generator], Table]) -> tuple[CentreTest, CentreTest]:
        found = [
            _predictability(make(np.random.default_rng([seed, number])), strategy, pipeline, probe)
            for number in range(n_shuffles)
        ]
        return (
            centre_test([ic for ic, _ in found], "mean rank IC"),
            centre_test([ratio for _, ratio in found], "mean Sharpe ratio per session"),
        )

    first = tests(assembled)
    stage: Stage = "models"
    if any(t.off_centre for t in first) and not any(t.off_centre for t in tests(targets)):
        # Shuffled after assembly they cannot be predicted: so the assembly had put them into the inputs.
        stage = "training_set"
    off = [t for t in first if t.off_centre]
    shown = " and ".join(str(t) for t in off or first)
    return Evidence(
        stage=stage,
        experiment="labels shuffled",
        checked=min(t.n for t in first)
        if all(math.isnan(t.p_value) for t in first)
        else max(t.n for t in first),
        violations=len(off),
        moved=sum(not math.isnan(t.p_value) for t in first),
        finding=f"{n_shuffles} shuffles, t-test at {ALPHA:g}: {shown} {'is not' if off else 'is'} centred on 0",
    )


def _predictability(
    table: Table, strategy: StrategyConfig, pipeline: Pipeline, probe: Probe
) -> tuple[float, float]:
    """Rank IC within each test group, and the Sharpe ratio of positions held against the labels."""
    from quant_assets.splits.cpcv import CombinatorialPurgedCV

    frame = probe_rows(table.frame, strategy)
    validation = ValidationConfig(
        n_groups=min(GROUPS, probe.validation.n_groups),
        n_test_groups=1,
        embargo_sessions=probe.validation.embargo_sessions,
    )
    scores = pipeline.cross_predict(
        frame, feature_names_of(table), probe.models, validation, seed=probe.seed
    )["path_0"].to_numpy()
    outcome = frame[TARGET].to_numpy()
    cv = CombinatorialPurgedCV(validation.n_groups, 1, embargo=validation.embargo_sessions)
    # Within one test group all scores come from one model. Between groups their levels differ against the outcome's:
    # the mean of what is left to train on falls when that of the test group rises.
    groups = cv.groups(frame["t0"])
    within = [_spearman(scores[groups == g], outcome[groups == g]) for g in range(validation.n_groups)]
    known = [ic for ic in within if math.isfinite(ic)]
    ic = float(np.mean(known)) if known else math.nan
    return ic, _label_sharpe(frame, scores, outcome, strategy.portfolio)


def _spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    from scipy.stats import rankdata

    a, b = rankdata(x) - (len(x) + 1) / 2, rankdata(y) - (len(y) + 1) / 2
    scale = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else math.nan


def _label_sharpe(
    frame: pl.DataFrame, scores: NDArray[np.float64], outcome: NDArray[np.float64], portfolio: PortfolioConfig
) -> float:
    """Per session: the positions that scores ask for, times the labels they would earn. No costs."""
    from quant_assets.statistics.sharpe import sharpe_ratio
    from quant_assets.trading.portfolio import target_weights

    # Market neutral whatever the strategy holds: shuffled labels keep the drift of the market.
    neutral = portfolio.model_copy(update={"scheme": "long_short"})
    rows: Any = frame["session"].rank("dense").to_numpy().astype(np.int64) - 1
    columns: Any = frame["symbol"].rank("dense").to_numpy().astype(np.int64) - 1
    grid = np.full((rows.max() + 1, columns.max() + 1), np.nan)
    earned = np.zeros_like(grid)
    grid[rows, columns], earned[rows, columns] = scores, outcome
    returns = (target_weights(grid, neutral) * earned).sum(axis=1)
    return float(sharpe_ratio(returns))
