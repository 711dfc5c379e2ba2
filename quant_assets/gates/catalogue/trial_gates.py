"""What is asked of all trials of a strategy together: that choosing the best of them was more than luck."""

from quant_assets.gates.cases import MIN_DISTINCT_TRIALS, PBO_BLOCKS, ValidationCase
from quant_assets.gates.gate import Gate, Limit, register
from quant_assets.gates.verdicts import Verdict


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
