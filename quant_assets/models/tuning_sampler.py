"""A sampler without a state: what a trial is given follows from its number and the finished trials alone.

Optuna's own samplers draw from one random stream, so a study that was killed and resumed goes on with other
numbers than one that ran through. Here each draw has a seed of its own, and a trial that was killed half-way is
given the same parameters again.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from optuna.samplers import BaseSampler, TPESampler

from quant_assets.common.hashing import json_digest

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial, TrialState


class NumberedSampler(BaseSampler):
    """Tree-structured Parzen estimator (Bergstra et al. 2011, NeurIPS), seeded for each trial's number.

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
