"""Hyper-parameter search: seeded TPE over purged folds of the training window, every trial counted.

What a trial is worth is said by a `Judge`, which lives where portfolios do. Here is the order of events, chosen so
that a process may be killed between any two of them: the trial's row enters the ledger, then the storage learns
that the trial has ended. A trial that the storage knows as ended is therefore always in the ledger, and one that
is still running is evaluated again under its own number, with the same parameters, to the same row.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, TPESampler

from quant_assets.common.errors import ModelError, StoreError
from quant_assets.common.hashing import json_digest
from quant_assets.common.processes import run_tasks
from quant_assets.common.settings import ModelsConfig, TuningConfig
from quant_assets.models.cross_prediction import split_scores
from quant_assets.models.fitting import Fold, inner_folds
from quant_assets.models.training_arrays import TrainingArrays, Unseen
from quant_assets.models.tuning_study import (
    apply_tuning,
    configured_values,
    distributions_of,
    nested,
    opened_study,
)

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, Trial, TrialState

# --------------------------------------------------------------------------------------- trials as they ended


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


# ---------------------------------------------------------------------------------- a sampler without a state


class NumberedSampler(BaseSampler):
    """Tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS), without a state.

    What a trial is given follows from its number and the finished trials alone. Optuna's own samplers draw from one
    random stream, so a study that was killed and resumed goes on with other numbers than one that ran through. Here
    each draw has a seed of its own, and a trial that was killed half-way is given the same parameters again.

    Parameters
    ----------
    seed : int
    startup_trials : int
        Trials drawn at random before the estimator has something to model.
    first : mapping of str to number, optional
        What trial 0 is given instead of a draw.
    """

    def __init__(self, seed: int, startup_trials: int, first: Mapping[str, int | float] | None) -> None:
        self._seed, self._startup_trials, self._first = seed, startup_trials, first or {}

    def _estimator(self, *subject: int | str) -> TPESampler:
        seed = int(json_digest([self._seed, *subject])[:8], 16)
        # Parameters of a learner act together, hence multivariate. No other worker's trials need to be avoided.
        return TPESampler(
            seed=seed, n_startup_trials=self._startup_trials, multivariate=True, constant_liar=False
        )

    def infer_relative_search_space(
        self, study: "Study", trial: "FrozenTrial"
    ) -> "dict[str, BaseDistribution]":
        """The parameters that are drawn together."""
        return {} if trial.number == 0 else self._estimator().infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: "Study", trial: "FrozenTrial", search_space: "dict[str, BaseDistribution]"
    ) -> dict[str, Any]:
        """Draw the parameters of one trial together."""
        return self._estimator(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: "Study", trial: "FrozenTrial", param_name: str, param_distribution: "BaseDistribution"
    ) -> Any:
        """Draw one parameter; each has its own seed, so the order and number of earlier draws do not matter."""
        if trial.number == 0 and param_name in self._first:
            return self._first[param_name]
        estimator = self._estimator(trial.number, param_name)
        return estimator.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: "Study", trial: "FrozenTrial", state: "TrialState", values: Sequence[float] | None
    ) -> None:
        """Nothing to remember."""


# ------------------------------------------------------------------------------------------------- the search


Progress = Callable[[int, int], None]


class Judge(Protocol):
    """What scores are worth, and the ledger in which each evaluation is counted."""

    def fold_value(self, rows: NDArray[np.int64], scores: NDArray[np.float64]) -> float:
        """Value of the scores of one fold's rows alone. Finite; higher is better."""

    def track_value(
        self, params: Mapping[str, int | float], scores: NDArray[np.float64]
    ) -> tuple[float, str]:
        """Value of all rows' scores (NaN where none was made), entered into the ledger; also the row's name."""

    def is_counted(self, fingerprint: str) -> bool:
        """Whether the ledger has a row of that name."""


@dataclass(frozen=True)
class Search:
    """What is searched, on what, and how scores are made.

    Attributes
    ----------
    data : TrainingArrays
        The training window and nothing else.
    unseen : Unseen
        What is scored and judged: every decidable row of that window, whether or not it can be trained on.
    feature_names : tuple of str
    models : ModelsConfig
        As configured: what is not searched stays.
    tuning : TuningConfig
    seed, embargo_sessions : int
    n_jobs : int or None
        Folds fitted at the same time; all cores by default. One with pruning, which needs them in order.
    """

    data: TrainingArrays
    unseen: Unseen
    feature_names: tuple[str, ...]
    models: ModelsConfig
    tuning: TuningConfig
    seed: int
    embargo_sessions: int
    n_jobs: int | None = None

    def folds(self) -> list[Fold]:
        """Purged folds in order of time: rows of ``data`` to train on, rows of ``unseen`` to score."""
        folds = inner_folds(self.data, self.tuning.folds, self.embargo_sessions, setting="tuning.folds")
        fold_of = self.unseen.groups(np.array([self.data.t0[held_out].min() for _, held_out in folds]))
        return [(train, np.flatnonzero(fold_of == number)) for number, (train, _) in enumerate(folds)]


@dataclass(frozen=True)
class _Evaluation:
    scores: NDArray[np.float64]
    fold_values: tuple[float, ...]
    state: State
    reason: str | None = None


def tune(
    search: Search, judge: Judge, *, url: str, study_name: str, progress: Progress | None = None
) -> tuple[TrialRecord, ...]:
    """Evaluate ``n_trials`` configurations, going on where an earlier process stopped.

    Parameters
    ----------
    search : Search
    judge : Judge
    url : str
        Of the study's storage, see `quant_assets.models.tuning_study`.
    study_name : str
        Must change with everything that shapes a trial, or foreign trials would be taken for these.
    progress : callable, optional
        Called with (trials ended, trials in all).

    Returns
    -------
    tuple of TrialRecord
        In order of number: the same for one process and for any number of interrupted ones.

    Raises
    ------
    ModelError
        When a fold has nothing to train on, the first trial cannot be fitted, or no trial was completed.
    StoreError
        When the storage cannot be used, or holds a trial that is not this search's.
    """

    folds, tuning = search.folds(), search.tuning
    space = distributions_of(tuning, search.models)
    sampler = NumberedSampler(search.seed, tuning.startup_trials, configured_values(tuning, search.models))
    with opened_study(url, study_name, sampler) as study:
        _add_pruner(study, tuning)
        for number in range(tuning.n_trials):
            known = study.get_trials(deepcopy=False)
            if number < len(known) and known[number].state.is_finished():
                _count_again(search, judge, folds, record_of(known[number]))
            else:
                _run_trial(study, known[number] if number < len(known) else None, space, search, judge, folds)
            if progress is not None:
                progress(number + 1, tuning.n_trials)
        records = tuple(record_of(trial) for trial in study.get_trials(deepcopy=False)[: tuning.n_trials])
    best_trial(records)
    return records


def _add_pruner(study: "Study", tuning: TuningConfig) -> None:
    from optuna.pruners import MedianPruner, NopPruner

    study.pruner = (
        MedianPruner(n_startup_trials=tuning.startup_trials) if tuning.pruning == "median" else NopPruner()
    )


def _run_trial(
    study: "Study",
    interrupted: "FrozenTrial | None",
    space: "Mapping[str, BaseDistribution]",
    search: Search,
    judge: Judge,
    folds: list[Fold],
) -> None:
    from optuna.trial import Trial, TrialState

    # A trial that somebody left running goes on under its own number: its draws follow from that number.
    trial = study.ask() if interrupted is None else Trial(study, interrupted._trial_id)
    params = {name: _drawn(trial, name, distribution) for name, distribution in space.items()}
    try:
        evaluation = _evaluate(search, judge, folds, params, lambda values: _goes_on(study, trial, values))
    except ModelError as error:
        # Nothing was seen. Before any trial was completed it is the setting that is wrong, not the parameters.
        if not any(t.state == TrialState.COMPLETE for t in study.get_trials(deepcopy=False)):
            raise
        evaluation = _Evaluation(np.empty(0), (), "failed", str(error))
    value, fingerprint = (
        judge.track_value(params, evaluation.scores) if evaluation.fold_values else (0.0, None)
    )
    outcome = {
        "value": value if evaluation.state == "complete" else None,
        "fold_values": evaluation.fold_values,
        "fingerprint": fingerprint,
        "reason": evaluation.reason,
    }
    trial.set_user_attr(OUTCOME, outcome)
    match evaluation.state:
        case "complete":
            study.tell(trial, value)
        case "pruned":
            study.tell(trial, state=TrialState.PRUNED)
        case "failed":
            study.tell(trial, state=TrialState.FAIL)


def _drawn(trial: "Trial", name: str, distribution: Any) -> int | float:
    from optuna.distributions import IntDistribution

    suggest = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    drawn: int | float = suggest(name, distribution.low, distribution.high, log=distribution.log)
    return drawn


def _evaluate(
    search: Search,
    judge: Judge,
    folds: list[Fold],
    params: Mapping[str, int | float],
    goes_on: Callable[[Sequence[float]], bool],
) -> _Evaluation:
    """Scores of one configuration, fold after fold.

    Raises
    ------
    ModelError
        When it could not be fitted and nothing was scored before.
    """
    models = apply_tuning(search.models, nested(params))
    scores = np.full(len(search.unseen.t0), np.nan)
    values: list[float] = []
    workers = 1 if search.tuning.pruning != "none" else search.n_jobs
    fitted = run_tasks(_fold_scores, ((search, models, *fold) for fold in folds), workers=workers)
    try:
        for (_, held_out), predicted in zip(folds, fitted, strict=False):
            scores[held_out] = predicted
            values.append(judge.fold_value(held_out, predicted))
            if not goes_on(values) and len(values) < len(folds):
                return _Evaluation(scores, tuple(values), "pruned")
    except ModelError as error:
        if not values:
            raise
        return _Evaluation(scores, tuple(values), "failed", str(error))
    return _Evaluation(scores, tuple(values), "complete")


def _fold_scores(
    search: Search, models: ModelsConfig, train: NDArray[np.int64], held_out: NDArray[np.int64]
) -> NDArray[np.float64]:
    return split_scores(
        search.data.take(train),
        search.unseen.features[held_out],
        models,
        seed=search.seed,
        feature_names=search.feature_names,
        embargo_sessions=search.embargo_sessions,
    )


def _goes_on(study: "Study", trial: "Trial", values: Sequence[float]) -> bool:
    """Report the mean of the folds so far, and ask the pruner about what was known at that point."""
    reported = {step: float(np.mean(values[: step + 1])) for step in range(len(values))}
    frozen = copy.copy(study.get_trials(deepcopy=False)[trial.number])
    step = len(values) - 1
    if step not in frozen.intermediate_values:  # an interrupted trial may have reported it
        trial.report(reported[step], step)
    frozen.intermediate_values = reported
    return not study.pruner.prune(study, frozen)


def _count_again(search: Search, judge: Judge, folds: list[Fold], record: TrialRecord) -> None:
    """Evaluate an ended trial once more if its row is not in this ledger (another home, a restored backup)."""
    if record.fingerprint is None or judge.is_counted(record.fingerprint):
        return
    seen = len(record.fold_values)
    evaluation = _evaluate(search, judge, folds, record.params, lambda values: len(values) < seen)
    _, fingerprint = judge.track_value(record.params, evaluation.scores)
    if fingerprint != record.fingerprint:
        raise StoreError(
            f"trial {record.number} of the study",
            expected=f"path returns {record.fingerprint[:12]}, as when it was run",
            found=f"{fingerprint[:12]}",
            action="delete the study: it was made by something else, and trials are cheap next to a wrong count",
        )
