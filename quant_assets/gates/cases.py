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
    from quant_assets.trading.path_figures import PathStatistics

DRAWDOWN_QUANTILE = 0.1  # the worst decile of paths
# PBO ranks the best of several trials. Two return streams that correlate above .96 have an effective number below
# 1.5 and rank by coin flip: PBO of twice the same stream is 1. They still count in full in the deflated Sharpe ratio.
MIN_DISTINCT_TRIALS = 1.5
CSCV_BLOCKS = 16
# Trials are compared over sessions that all of them have. One that would leave less than half of the candidate's is
# left out of that comparison; it counts in full in the deflated Sharpe ratio.
SHARED_SESSIONS = 0.5


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
    net_returns : ndarray, shape (paths, sessions)
        Of every path, in the order of ``statistics``.
    trial_returns : ndarray, shape (sessions, trials), or None
        Return streams of the ledger's trials; NaN where a trial has no such session. None with a single trial, which
        is the candidate.
    """

    subject: str
    limits: GatesConfig
    statistics: "tuple[PathStatistics, ...]"
    median: "PathStatistics"
    snapshot: "TrialSnapshot"
    periods_per_year: float
    net_returns: NDArray[np.float64]
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

    @cached_property
    def search_p_value(self) -> float | None:
        """Probability that trials which nobody searched for arrive in such an order; None with a single trial."""
        from quant_assets.statistics.overfitting import search_p_value

        if self.trial_returns is None:
            return None
        return search_p_value(self.trial_returns[:, np.argsort(self.snapshot.arrival)])

    @property
    def searched(self) -> bool:
        """Whether the ledger shows a search: trials that are changes of the best one before, and not by chance."""
        from quant_assets.statistics.overfitting import SEARCH_LEVEL

        return self.search_p_value is not None and self.search_p_value <= SEARCH_LEVEL

    @property
    def required_record(self) -> float:
        """Sessions below which noise would show what was observed too often, whatever else is true.

        The longest of three: `min_record_sessions`, and the minimum track record length of the observed Sharpe ratio
        (of the required one, where less was observed) at the level at which the best of N trials without skill shows
        it in `false_pass_max` of cases, or the best combination of them where the ledger shows a search: for a
        normal's moments, and for the path's own. So a lucky skewness shortens nothing.
        """
        from quant_assets.statistics.overfitting import level_of_best

        limits, observed = self.limits, self.median.sharpe_per_period
        shown = self.required if math.isnan(observed) else max(observed, self.required)
        if shown <= 0.0:
            return limits.min_record_sessions
        alpha = level_of_best(self.snapshot.n_trials, limits.false_pass_max, searched=self.searched)
        normal, own = (self.needed(shown, 0.0, alpha, normal=is_normal) for is_normal in (True, False))
        return float(np.fmax(np.fmax(normal, own), limits.min_record_sessions))

    @property
    def selection_variance(self) -> float:
        """V of the deflated Sharpe ratio, per session: that of the trials without the candidate, and noise at least.

        With the candidate in it a good one raises its own bar, and copies of one trial pull V to 0: then 12 % of
        noise passed. A Sharpe ratio without skill scatters by 1/T whatever the ledger shows.
        """
        from quant_assets.statistics import sharpe

        ratios = np.array(self.snapshot.sharpes)
        own = 0.0 if math.isnan(self.median.sharpe_per_period) else self.median.sharpe_per_period
        others = np.delete(ratios, np.abs(ratios - own).argmin()) if ratios.size else ratios
        spread = float(others.var(ddof=1)) if others.size > 1 else 0.0
        error = sharpe.sharpe_standard_error(
            0.0, self.n, standard=self.limits.psr_standard, autocorrelation=self.rho
        )
        return float(np.fmax(max(spread, 1.0 / self.n), error**2))

    def worst_decile(self, volatility: float | None = None) -> float:
        """Drawdown (negative fraction) in the worst decile of paths, never interpolated upwards.

        Parameters
        ----------
        volatility : float, optional
            Annual; every path is scaled to it first. NaN when one of them does not vary.
        """
        from quant_assets.statistics.track_record import max_drawdown

        returns = self.net_returns
        if volatility is not None:
            own = np.array([[path.annual_volatility_fraction] for path in self.statistics])
            returns = returns * np.divide(volatility, own, out=np.full_like(own, np.nan), where=own > 0.0)
        return float(np.quantile(max_drawdown(returns, axis=1), DRAWDOWN_QUANTILE, method="lower"))

    @cached_property
    def leverage_within_limit(self) -> float:
        """Multiple of the present positions at which the account's own worst decile just meets the limit.

        NaN when it never falls, or the limit allows for no loss.
        """
        from scipy.optimize import brentq

        from quant_assets.statistics.track_record import max_drawdown

        limit = self.limits.max_drawdown_min
        if not (self.worst_decile() < 0.0 and limit < 0.0):
            return math.nan

        def excess(leverage: float) -> float:
            worst = np.quantile(
                max_drawdown(leverage * self.net_returns, axis=1), DRAWDOWN_QUANTILE, method="lower"
            )
            return float(worst) - limit

        # A single loss of 1 / leverage or more is ruin, so one of the two ends is beyond any limit.
        highest = 1.0 / -float(self.net_returns.min())
        return float(brentq(excess, 0.0, highest, xtol=1e-6)) if excess(highest) < 0.0 else highest

    @cached_property
    def compared_returns(self) -> NDArray[np.float64]:
        """Return streams of the trials over the sessions that they share, the candidate's among them.

        Trials join in order of how many of the candidate's sessions they have, while `SHARED_SESSIONS` of these are
        left. Without a ledger of several trials it is the candidate's stream alone.
        """
        place = [path.path for path in self.statistics].index(self.median.path)
        if self.trial_returns is None or self.snapshot.n_trials < 2:
            alone: NDArray[np.float64] = self.net_returns[place][:, None]
            return alone
        ratios = np.array(self.snapshot.sharpes)
        own = 0.0 if math.isnan(self.median.sharpe_per_period) else self.median.sharpe_per_period
        candidate = int(np.abs(ratios - own).argmin())
        present = ~np.isnan(self.trial_returns)
        rows, joined = present[:, candidate], [candidate]
        fewest = SHARED_SESSIONS * rows.sum()
        for trial in np.argsort(-(present & rows[:, None]).sum(axis=0), kind="stable"):
            shared = rows & present[:, trial]
            if trial != candidate and shared.sum() >= fewest:
                rows, joined = shared, [*joined, int(trial)]
        streams: NDArray[np.float64] = self.trial_returns[np.ix_(rows, np.sort(joined))]
        return streams

    @cached_property
    def cross_validated_choice(self) -> "BacktestOverfitting | None":
        """CSCV of the ledger's return streams; None on hardly any sessions."""
        from quant_assets.statistics.overfitting import probability_of_backtest_overfitting

        returns = self.compared_returns
        if len(returns) < 2 * CSCV_BLOCKS:
            return None
        return probability_of_backtest_overfitting(returns, n_blocks=CSCV_BLOCKS)

    @property
    def overfitting(self) -> "BacktestOverfitting | None":
        """The same where there was a choice: None below `MIN_DISTINCT_TRIALS` effective trials.

        Its PBO is information, not a gate: it compares the winner with the median trial, which among equally good
        ones is a coin flip.
        """
        distinct = self.snapshot.effective_number_of_trials >= MIN_DISTINCT_TRIALS
        found = self.cross_validated_choice
        return found if distinct and found is not None and found.n_trials > 1 else None

    @cached_property
    def best_of_trials(self) -> "SuperiorAbility | None":
        """Whether the best of the ledger's return streams beats doing nothing; None when there is no choice to test.

        Information, not a gate: the deflated Sharpe ratio already charges for the number of trials.
        """
        from quant_assets.statistics.superior_ability import FEWEST_PERIODS, superior_ability

        returns = self.compared_returns
        if returns.shape[1] < 2 or len(returns) < FEWEST_PERIODS:
            return None
        return superior_ability(returns) if np.ptp(returns, axis=0).any() else None


@dataclass(frozen=True)
class WalkForwardTrack:
    """The walk-forward track beside the worst of the cross-validated paths, once half of the record lies behind it.

    Attributes
    ----------
    n_sessions : int
    sharpe_annual : float
        Net of costs; NaN when the returns do not vary.
    worst_path : int
        The path with the lowest Sharpe ratio over these sessions.
    worst_sharpe_annual : float
    p_value : float
        One-sided, of `quant_assets.statistics.sharpe_inference.sharpe_difference`. The path is the worst of several
        on these very sessions, so a track of equal skill is refused less often than the p-value says.
    """

    n_sessions: int
    sharpe_annual: float
    worst_path: int
    worst_sharpe_annual: float
    p_value: float


@dataclass(frozen=True)
class WalkForwardCase:
    """A candidate's walk-forward track."""

    subject: str
    limits: GatesConfig
    track: WalkForwardTrack


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
