"""The gates of cross-validated performance: Sharpe, PSR, DSR, drawdown, and overfitting over the trials."""

import math
from dataclasses import replace

from quant_assets.gates.cases import MIN_DISTINCT_TRIALS, PBO_BLOCKS, ValidationCase
from quant_assets.gates.gate import Gate, Limit, register
from quant_assets.gates.verdicts import Verdict

# ------------------------------------------------------- what is asked of a candidate's cross-validated paths


def judge_sharpe(case: ValidationCase) -> Verdict:
    """Median net Sharpe ratio over paths; underpowered where the record cannot show such a ratio at all."""
    from scipy.special import ndtr

    limits, median = case.limits, case.median
    remedy = (
        "a strategy that trades: its returns do not vary"
        if math.isnan(median.sharpe_annual)
        else f"more edge or lower costs: {median.gross_sharpe_annual:.2f} before costs, at a turnover of "
        f"{median.turnover_per_session:.0%} of capital per session"
    )
    verdict = SHARPE.verdict(
        case,
        median.sharpe_annual,
        quantity=f"median net Sharpe ratio over {len(case.statistics)} paths (annual)",
        remedy=remedy,
        alpha=float(1.0 - ndtr(case.required * math.sqrt(case.n))),
        power=0.5,  # estimates of a true value on the limit lie on either side of it equally often
    )
    record = case.required_record
    if record is None or case.n >= record or verdict.observed is None:
        return verdict
    return replace(
        verdict,
        status="underpowered",
        reason=f"{case.n} sessions cannot tell a Sharpe ratio of {limits.sharpe_min:.2f} from 0 at "
        f"{limits.alpha:.0%}: that takes {math.ceil(record)} (observed {verdict.observed:.2f})",
        remedy=f"needs {case.years(record - case.n)}",
    )


def judge_probabilistic_sharpe(case: ValidationCase) -> Verdict:
    """Probability that the median path has skill at all."""
    alpha = 1.0 - case.limits.psr_min
    return PROBABILISTIC_SHARPE.verdict(
        case,
        case.median.psr,
        quantity=f"probability that the median path's true Sharpe ratio is above 0, from {case.n} sessions",
        remedy=_longer_record(case, 0.0, alpha, "no skill"),
        alpha=alpha,
        power=case.power(0.0, alpha),
    )


def judge_deflated_sharpe(case: ValidationCase) -> Verdict:
    """Probability that the median path beats the best of the ledger's trials, had they no skill."""
    from quant_assets.statistics import sharpe

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
    return DEFLATED_SHARPE.verdict(
        case,
        float(deflated),
        quantity=f"probability that the true Sharpe ratio is above {annual:.2f} (annual), the best that "
        f"{snapshot.n_trials} trial{'s' if snapshot.n_trials > 1 else ''} without skill would show,",
        remedy=_longer_record(case, best_of_noise, alpha, f"the best of {snapshot.n_trials} trials"),
        alpha=alpha,
        # The 2025 standard also widens the test by the spread of the maximum, for which there is no power formula.
        power=case.power(best_of_noise, alpha)
        if limits.psr_standard == "2012" or snapshot.n_trials == 1
        else None,
    )


def _longer_record(case: ValidationCase, benchmark: float, alpha: float, against: str) -> str:
    """What would open a test that compares the median path with a benchmark."""
    ratio = case.median.sharpe_per_period
    if not (math.isfinite(ratio) and 0.0 < alpha <= 0.5):
        return "a strategy that trades: its returns do not vary" if math.isnan(ratio) else "a larger edge"
    missing = case.needed(ratio, benchmark, alpha) - case.n
    if not math.isfinite(missing):
        return f"a larger edge: what was observed does not beat {against}, so no record is long enough"
    return f"needs {case.years(missing)} at the observed Sharpe ratio, or a larger edge"


def judge_drawdown(case: ValidationCase) -> Verdict:
    """Maximum drawdown in the worst decile of paths."""
    worst = case.worst_decile
    scale = case.limits.max_drawdown_min / worst if worst < 0.0 else math.nan
    return MAX_DRAWDOWN.verdict(
        case,
        worst,
        quantity=f"maximum drawdown in the worst decile of {len(case.statistics)} paths (fraction)",
        remedy=f"smaller positions: about {scale:.0%} of the present gross leverage, or a steadier strategy",
    )


SHARPE = register(
    Gate(
        name="cpcv_sharpe",
        kind="validation",
        title="Net Sharpe ratio",
        description="Median over CPCV paths of the annualised Sharpe, net of costs.",
        opens_when="the median over CPCV paths of the annual net Sharpe ratio is at least `sharpe_min`, on a record "
        "at least as long as MinTRL (else `underpowered`)",
        limit=Limit("sharpe_min", 1.2, ">=", "annualised, net of costs, median over paths"),
        judge=judge_sharpe,
        place=1,
    )
)
PROBABILISTIC_SHARPE = register(
    Gate(
        name="cpcv_probabilistic_sharpe",
        kind="validation",
        title="Probabilistic Sharpe ratio",
        description="Probability that the true Sharpe of the median path is above zero.",
        opens_when="the PSR of the path with the median Sharpe ratio is at least `psr_min`",
        limit=Limit("psr_min", 0.95, ">=", "probability, median path", ge=0, le=1),
        judge=judge_probabilistic_sharpe,
        place=2,
    )
)
DEFLATED_SHARPE = register(
    Gate(
        name="cpcv_deflated_sharpe",
        kind="validation",
        title="Deflated Sharpe ratio",
        description="The same, against the best of as many trials as the ledger has counted.",
        opens_when="the DSR of that path is at least `dsr_min`; number and variance of the trials come from the "
        "trial ledger only",
        limit=Limit("dsr_min", 0.95, ">=", "probability, median path", ge=0, le=1),
        judge=judge_deflated_sharpe,
        place=3,
    )
)
MAX_DRAWDOWN = register(
    Gate(
        name="cpcv_max_drawdown",
        kind="validation",
        title="Maximum drawdown",
        description="Worst decile over paths of the maximum drawdown (negative fraction).",
        opens_when="the maximum drawdown in the worst decile of paths is no deeper than `max_drawdown_min`",
        limit=Limit("max_drawdown_min", -0.20, ">=", "fraction, worst decile of paths", ge=-1, le=0),
        judge=judge_drawdown,
        place=4,
    )
)


# --------------------------------------------------------- what is asked of all trials of a strategy together


def judge_overfitting(case: ValidationCase) -> Verdict:
    """Probability of backtest overfitting over the ledger's trials; needs two of them."""
    n_trials = case.snapshot.n_trials
    if case.overfitting is not None:
        return BACKTEST_OVERFITTING.verdict(
            case,
            case.overfitting.pbo,
            quantity=f"probability that the best of {n_trials} trials in one half of the record is below the "
            "median in the other",
        )
    effective = case.snapshot.effective_number_of_trials
    if effective < MIN_DISTINCT_TRIALS:
        return BACKTEST_OVERFITTING.unobserved(
            case,
            "not_applicable",
            reason=f"{n_trials} recorded {'trials are' if n_trials > 1 else 'trial is'} {effective:.2f} in effect: "
            "nothing distinct was selected from, so nothing can be overfitted by selection",
            remedy=f"at least {MIN_DISTINCT_TRIALS:g} effective trials make this gate apply",
        )
    return BACKTEST_OVERFITTING.unobserved(
        case,
        "underpowered",
        reason=f"the {n_trials} trials have fewer than {2 * PBO_BLOCKS} sessions in common",
        remedy="evaluate the trials over the same sessions",
    )


BACKTEST_OVERFITTING = register(
    Gate(
        name="cpcv_backtest_overfitting",
        kind="validation",
        title="Backtest overfitting",
        description="Probability that the best trial in sample is below the median out of sample.",
        opens_when="the PBO over the ledger's trials is at most `pbo_max`; not applicable below "
        f"{MIN_DISTINCT_TRIALS:g} effective trials",
        limit=Limit("pbo_max", 0.2, "<=", "probability, over the ledger's trials", ge=0, le=1),
        judge=judge_overfitting,
        remedy="fewer, better founded trials: the ledger keeps those already made",
        may_not_apply=True,  # a single trial cannot be overfitted by selection: PBO needs two
        place=5,
    )
)
