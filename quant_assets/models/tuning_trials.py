"""Trials of a tuning as they ended, and the best of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from quant_assets.common.errors import ModelError, StoreError

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

State = Literal["complete", "pruned", "failed"]

# Under this name the storage keeps what a trial showed, written before the trial ends.
OUTCOME = "outcome"


@dataclass(frozen=True)
class TrialRecord:
    """One trial as it ended.

    Attributes
    ----------
    number : int
    state : {"complete", "pruned", "failed"}
    value : float or None
        The judge's value of the whole track; None unless complete.
    params : mapping of str to number
        By ``<learner>.<parameter>``.
    fold_values : tuple of float
        Of the folds that were evaluated, in order of time.
    fingerprint : str or None
        Its row in the trial ledger; None when it failed before any score was seen.
    reason : str or None
        Why it failed.
    """

    number: int
    state: State
    value: float | None
    params: Mapping[str, int | float]
    fold_values: tuple[float, ...]
    fingerprint: str | None
    reason: str | None


def best_trial(records: Sequence[TrialRecord]) -> TrialRecord:
    """The completed trial of the highest value; the earliest of equals.

    Raises
    ------
    ModelError
        When none was completed.
    """
    completed = [r for r in records if r.state == "complete" and r.value is not None]
    if not completed:
        raise ModelError(
            "tuning",
            expected="at least one completed trial",
            found=f"{len(records)} that failed, the first with: {records[0].reason}",
            action="correct the models or the space in the strategy's tuning section",
        )
    return min(completed, key=lambda r: (-(r.value or 0.0), r.number))


def record_of(trial: "FrozenTrial") -> TrialRecord:
    """A trial of the storage that has ended.

    Raises
    ------
    StoreError
        When it has no outcome, so somebody else has ended it.
    """
    from optuna.trial import TrialState

    states: dict[Any, State] = {
        TrialState.COMPLETE: "complete",
        TrialState.PRUNED: "pruned",
        TrialState.FAIL: "failed",
    }
    outcome = trial.user_attrs.get(OUTCOME)
    if outcome is None or trial.state not in states:
        raise StoreError(
            f"trial {trial.number} of the study",
            expected="an outcome, written before the trial ended",
            found=f"state {trial.state.name} without one",
            action="delete the study: somebody else has written into it",
        )
    return TrialRecord(
        trial.number,
        states[trial.state],
        outcome["value"],
        dict(sorted(trial.params.items())),
        tuple(outcome["fold_values"]),
        outcome["fingerprint"],
        outcome["reason"],
    )
