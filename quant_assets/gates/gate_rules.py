"""What each gate of cross-validation asks, and what it says when the answer is no."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import Verdict, judge
from quant_assets.ledgers.trials import TrialSnapshot
from quant_assets.statistics import sharpe
from quant_assets.statistics.overfitting import BacktestOverfitting, probability_of_backtest_overfitting
from quant_assets.statistics.superior_ability import FEWEST_PERIODS, SuperiorAbility, superior_ability
from quant_assets.trading.paths import PathStatistics

DRAWDOWN_QUANTILE = 0.1  # the worst decile of paths
# PBO ranks the best of several trials. Two return streams that correlate above .72 have an effective number below
# 1.5 and rank by coin flip: PBO of twice the same stream is 1. They still count in full in the deflated Sharpe ratio.
MIN_DISTINCT_TRIALS = 1.5
PBO_BLOCKS = 16


@dataclass(frozen=True)
class Case:
    """What the verdicts are about. ``n`` counts the sessions of one path: paths overlap."""

    subject: str
    statistics: tuple[PathStatistics, ...]
    median: PathStatistics
    snapshot: TrialSnapshot
    limits: GatesConfig
    periods_per_year: float

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


def required_record(case: Case) -> float | None:
    """Sessions that the required Sharpe ratio needs to differ from 0; None when it asks for no skill.

    The longer of two: a normal's, and that of the path's own moments. So a lucky skewness shortens nothing.
    """
    if case.required <= 0.0:
        return None
    normal = case.needed(case.required, 0.0, case.limits.alpha, normal=True)
    own = case.needed(case.required, 0.0, case.limits.alpha)
    return float(np.fmax(normal, own))


def judge_sharpe(case: Case) -> Verdict:
    """Median net Sharpe ratio over paths; underpowered where the record cannot show such a ratio at all."""
    limits, median = case.limits, case.median
    remedy = (
        "a strategy that trades: its returns do not vary"
        if math.isnan(median.sharpe_annual)
        else f"more edge or lower costs: {median.gross_sharpe_annual:.2f} before costs, at a turnover of "
        f"{median.turnover_per_session:.0%} of capital per session"
    )
    verdict = judge(
        "cpcv_sharpe",
        case.subject,
        median.sharpe_annual,
        limits.sharpe_min,
        quantity=f"median net Sharpe ratio over {len(case.statistics)} paths (annual)",
        remedy=remedy,
        alpha=float(1.0 - ndtr(case.required * math.sqrt(case.n))),
        power=0.5,  # estimates of a true value on the limit lie on either side of it equally often
    )
    record = required_record(case)
    if record is None or case.n >= record or verdict.observed is None:
        return verdict
    return Verdict(
        gate=verdict.gate,
        subject=case.subject,
        status="underpowered",
        observed=verdict.observed,
        required=verdict.required,
        comparison=verdict.comparison,
        reason=f"{case.n} sessions cannot tell a Sharpe ratio of {limits.sharpe_min:.2f} from 0 at "
        f"{limits.alpha:.0%}: that takes {math.ceil(record)} (observed {verdict.observed:.2f})",
        remedy=f"needs {case.years(record - case.n)}",
        alpha=verdict.alpha,
        power=verdict.power,
    )


def judge_probabilistic_sharpe(case: Case) -> Verdict:
    """Probability that the median path has skill at all."""
    alpha = 1.0 - case.limits.psr_min
    return judge(
        "cpcv_probabilistic_sharpe",
        case.subject,
        case.median.psr,
        case.limits.psr_min,
        quantity=f"probability that the median path's true Sharpe ratio is above 0, from {case.n} sessions",
        remedy=_longer_record(case, 0.0, alpha, "no skill"),
        alpha=alpha,
        power=case.power(0.0, alpha),
    )


def judge_deflated_sharpe(case: Case) -> Verdict:
    """Probability that the median path beats the best of the ledger's trials, had they no skill."""
    limits, median, snapshot = case.limits, case.median, case.snapshot
    deflated = sharpe.deflated_sharpe_ratio(
        median.sharpe_per_period,
        case.n,
        snapshot.n_trials,
        snapshot.trial_variance,
        median.skewness,
        median.kurtosis,
        standard=limits.psr_standard,
        autocorrelation=case.rho,
    )
    best_of_noise = float(sharpe.expected_maximum_sharpe(snapshot.n_trials, snapshot.trial_variance))
    alpha = 1.0 - limits.dsr_min
    annual = float(sharpe.annualised_sharpe(best_of_noise, case.periods_per_year))
    return judge(
        "cpcv_deflated_sharpe",
        case.subject,
        float(deflated),
        limits.dsr_min,
        quantity=f"probability that the true Sharpe ratio is above {annual:.2f} (annual), the best that "
        f"{snapshot.n_trials} trial{'s' if snapshot.n_trials > 1 else ''} without skill would show,",
        remedy=_longer_record(case, best_of_noise, alpha, f"the best of {snapshot.n_trials} trials"),
        alpha=alpha,
        # The 2025 standard also widens the test by the spread of the maximum, for which there is no power formula.
        power=case.power(best_of_noise, alpha)
        if limits.psr_standard == "2012" or snapshot.n_trials == 1
        else None,
    )


def _longer_record(case: Case, benchmark: float, alpha: float, against: str) -> str:
    """What would open a test that compares the median path with a benchmark."""
    ratio = case.median.sharpe_per_period
    if not (math.isfinite(ratio) and 0.0 < alpha <= 0.5):
        return "a strategy that trades: its returns do not vary" if math.isnan(ratio) else "a larger edge"
    missing = case.needed(ratio, benchmark, alpha) - case.n
    if not math.isfinite(missing):
        return f"a larger edge: what was observed does not beat {against}, so no record is long enough"
    return f"needs {case.years(missing)} at the observed Sharpe ratio, or a larger edge"


def worst_decile(case: Case) -> float:
    """Drawdown (negative fraction) in the worst decile of paths, never interpolated upwards."""
    drawdowns = [path.drawdown_fraction for path in case.statistics]
    return float(np.quantile(drawdowns, DRAWDOWN_QUANTILE, method="lower"))


def judge_drawdown(case: Case) -> Verdict:
    """Maximum drawdown in the worst decile of paths."""
    worst, limit = worst_decile(case), case.limits.max_drawdown_min
    scale = limit / worst if worst < 0.0 else math.nan
    return judge(
        "cpcv_max_drawdown",
        case.subject,
        worst,
        limit,
        quantity=f"maximum drawdown in the worst decile of {len(case.statistics)} paths (fraction)",
        remedy=f"smaller positions: about {scale:.0%} of the present gross leverage, or a steadier strategy",
    )


def backtest_overfitting(
    trial_returns: NDArray[np.float64] | None, snapshot: TrialSnapshot
) -> BacktestOverfitting | None:
    """PBO of the ledger's return streams; None when it is not defined.

    That is with fewer than `MIN_DISTINCT_TRIALS` effective trials, or with hardly any sessions in common.
    """
    nothing_selected = snapshot.effective_number_of_trials < MIN_DISTINCT_TRIALS
    if nothing_selected or trial_returns is None or len(trial_returns) < 2 * PBO_BLOCKS:
        return None
    return probability_of_backtest_overfitting(trial_returns, n_blocks=PBO_BLOCKS)


def best_of_trials(
    trial_returns: NDArray[np.float64] | None, snapshot: TrialSnapshot
) -> SuperiorAbility | None:
    """Whether the best of the ledger's return streams beats doing nothing; None when there is no choice to test.

    Information, not a gate: the deflated Sharpe ratio already charges for the number of trials.
    """
    if snapshot.n_trials < 2 or trial_returns is None or len(trial_returns) < FEWEST_PERIODS:
        return None
    return superior_ability(trial_returns) if np.ptp(trial_returns, axis=0).any() else None


def judge_overfitting(case: Case, probability: float | None) -> Verdict:
    """Probability of backtest overfitting over the ledger's trials; needs two of them."""
    n_trials, limit = case.snapshot.n_trials, case.limits.pbo_max
    if probability is not None:
        return judge(
            "cpcv_backtest_overfitting",
            case.subject,
            probability,
            limit,
            quantity=f"probability that the best of {n_trials} trials in one half of the record is below the "
            "median in the other",
            remedy="fewer, better founded trials: the ledger keeps those already made",
            comparison="<=",
        )
    effective = case.snapshot.effective_number_of_trials
    single = effective < MIN_DISTINCT_TRIALS
    return Verdict(
        gate="cpcv_backtest_overfitting",
        subject=case.subject,
        status="not_applicable" if single else "underpowered",
        observed=None,
        required=limit,
        comparison="<=",
        reason=f"{n_trials} recorded {'trials are' if n_trials > 1 else 'trial is'} {effective:.2f} in effect: "
        "nothing distinct was selected from, so "
        "nothing can be overfitted by selection"
        if single
        else f"the {n_trials} trials have fewer than {2 * PBO_BLOCKS} sessions in common",
        remedy=f"at least {MIN_DISTINCT_TRIALS:g} effective trials make this gate apply"
        if single
        else "evaluate the trials over the same sessions",
    )
