"""What a gate is shown: the numbers of one candidate, for each kind of report.

Whoever writes the report measures and fills in its case; the gates only read it. Libraries of numbers are imported
where they are used, because the configuration loads every gate and judges none.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.gates.limits import DriftConfig, GatesConfig

if TYPE_CHECKING:
    from quant_assets.ledgers.trials import TrialSnapshot
    from quant_assets.statistics.overfitting import BacktestOverfitting
    from quant_assets.statistics.superior_ability import SuperiorAbility
    from quant_assets.trading.paths import PathStatistics

DRAWDOWN_QUANTILE = 0.1  # the worst decile of paths
# PBO ranks the best of several trials. Two return streams that correlate above .72 have an effective number below
# 1.5 and rank by coin flip: PBO of twice the same stream is 1. They still count in full in the deflated Sharpe ratio.
MIN_DISTINCT_TRIALS = 1.5
PBO_BLOCKS = 16


@dataclass(frozen=True, eq=False)
class ValidationCase:
    """A candidate's cross-validated paths and its trials. ``n`` counts the sessions of one path: paths overlap.

    Attributes
    ----------
    subject : str
    limits : GatesConfig
    statistics : tuple of PathStatistics
        Of every path.
    median : PathStatistics
        The path that the probabilistic and the deflated Sharpe ratio are about.
    snapshot : TrialSnapshot
    periods_per_year : float
    trial_returns : ndarray, shape (sessions, trials), or None
        Return streams of the ledger's trials, over the sessions that they share.
    """

    subject: str
    limits: GatesConfig
    statistics: "tuple[PathStatistics, ...]"
    median: "PathStatistics"
    snapshot: "TrialSnapshot"
    periods_per_year: float
    trial_returns: NDArray[np.float64] | None = None

    @property
    def n(self) -> int:
        """Sessions of one path."""
        return self.median.n_sessions

    @property
    def required(self) -> float:
        """The required Sharpe ratio per session, which is also the effect at which power is stated."""
        return self.limits.sharpe_min / math.sqrt(self.periods_per_year)

    @property
    def rho(self) -> float:
        """Autocorrelation, where the standard allows for it."""
        return self.median.autocorrelation if self.limits.psr_standard == "2025" else 0.0

    def years(self, sessions: float) -> str:
        """A number of sessions in words."""
        # Rounded up: after so many years the statement holds.
        return f"{math.ceil(sessions / self.periods_per_year * 10) / 10:.1f} more years of record"

    def needed(self, ratio: float, benchmark: float, alpha: float, *, normal: bool = False) -> float:
        """Sessions after which this Sharpe ratio passes the test; with the path's own moments or a normal's."""
        from quant_assets.statistics import sharpe

        skewness, kurtosis = (0.0, 3.0) if normal else (self.median.skewness, self.median.kurtosis)
        return float(
            sharpe.minimum_track_record_length(
                ratio,
                skewness,
                kurtosis,
                benchmark,
                alpha,
                standard=self.limits.psr_standard,
                autocorrelation=0.0 if normal else self.rho,
            )
        )

    def power(self, benchmark: float, alpha: float) -> float | None:
        """Probability that a true Sharpe ratio of ``required`` passes the test against ``benchmark``."""
        from quant_assets.statistics import sharpe

        if not 0.0 < alpha <= 0.5:
            return None
        return float(
            sharpe.sharpe_test_power(
                self.required,
                self.n,
                self.median.skewness,
                self.median.kurtosis,
                benchmark,
                alpha,
                standard=self.limits.psr_standard,
                autocorrelation=self.rho,
            )
        )

    @property
    def required_record(self) -> float | None:
        """Sessions that the required Sharpe ratio needs to differ from 0; None when it asks for no skill.

        The longer of two: a normal's, and that of the path's own moments. So a lucky skewness shortens nothing.
        """
        if self.required <= 0.0:
            return None
        normal = self.needed(self.required, 0.0, self.limits.alpha, normal=True)
        own = self.needed(self.required, 0.0, self.limits.alpha)
        return float(np.fmax(normal, own))

    @property
    def worst_decile(self) -> float:
        """Drawdown (negative fraction) in the worst decile of paths, never interpolated upwards."""
        drawdowns = [path.drawdown_fraction for path in self.statistics]
        return float(np.quantile(drawdowns, DRAWDOWN_QUANTILE, method="lower"))

    @cached_property
    def overfitting(self) -> "BacktestOverfitting | None":
        """PBO of the ledger's return streams; None when it is not defined.

        That is with fewer than `MIN_DISTINCT_TRIALS` effective trials, or with hardly any sessions in common.
        """
        from quant_assets.statistics.overfitting import probability_of_backtest_overfitting

        nothing_selected = self.snapshot.effective_number_of_trials < MIN_DISTINCT_TRIALS
        if nothing_selected or self.trial_returns is None or len(self.trial_returns) < 2 * PBO_BLOCKS:
            return None
        return probability_of_backtest_overfitting(self.trial_returns, n_blocks=PBO_BLOCKS)

    @cached_property
    def best_of_trials(self) -> "SuperiorAbility | None":
        """Whether the best of the ledger's return streams beats doing nothing; None when there is no choice to test.

        Information, not a gate: the deflated Sharpe ratio already charges for the number of trials.
        """
        from quant_assets.statistics.superior_ability import FEWEST_PERIODS, superior_ability

        returns = self.trial_returns
        if self.snapshot.n_trials < 2 or returns is None or len(returns) < FEWEST_PERIODS:
            return None
        return superior_ability(returns) if np.ptp(returns, axis=0).any() else None


@dataclass(frozen=True)
class GraphParity:
    """An exported graph against the native model, over all sets of rows.

    Attributes
    ----------
    rows : int
    max_error_over_sd : float
        Largest error over the spread of the scores; NaN when a score is missing.
    rank_correlation : float
        The lowest of the sets of rows; NaN when one has none.
    flipped_decisions : int
        Decisions that differ, and rows that should have no score and have one.
    """

    rows: int
    max_error_over_sd: float
    rank_correlation: float
    flipped_decisions: int


@dataclass(frozen=True)
class StudentParity:
    """An INT8 student against its own FP32 form."""

    rows: int
    rank_correlation: float


@dataclass(frozen=True)
class ParityCase:
    """A candidate's exported graphs.

    Attributes
    ----------
    subject : str
    limits : GatesConfig
    graph : GraphParity
    student : StudentParity or None
        None when INT8 does nothing to the graph.
    no_student : str
        Why there is none.
    details : mapping
        Everything else that was measured, as the report shows it.
    """

    subject: str
    limits: GatesConfig
    graph: GraphParity
    student: StudentParity | None = None
    no_student: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DriftCase:
    """The newest window of a candidate's features against the window that it was trained on.

    Attributes
    ----------
    subject : str
    limits : DriftConfig
    features : tuple of mapping
        For each feature its name, distances, p-values and whether it drifted, as the report shows them.
    """

    subject: str
    limits: DriftConfig
    features: tuple[Mapping[str, Any], ...]

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the features that drifted."""
        return tuple(row["feature"] for row in self.features if row["drifted"])
