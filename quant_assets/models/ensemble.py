"""The ensemble: base learners and their stacker, as one model with one score per row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import ModelsConfig
from quant_assets.models.fitting import fit_base
from quant_assets.models.learners import FittedLearner, from_text
from quant_assets.models.stacking import Stacker, fit_stacker, weighted_importance
from quant_assets.models.training_arrays import training_arrays

FORMAT: Literal["quant_assets.ensemble/1"] = "quant_assets.ensemble/1"

HOST_TOLERANCE = 1e-9
"""Most by which scores differ between two x86-64 hosts with the locked libraries, in spreads of the scores.

It holds for a stored ensemble and, on the CPU, for one fitted again to the same training rows. On one host both
have equal bits. Measured: with numpy's and the C library's code paths for newer processors switched off and other
BLAS kernels, learners had equal texts, and scores moved by at most 1.1e-15 spreads, by the sums of the stacker.
Other architectures, other library versions and GPUs were not measured: a split with two nearly equal gains may
turn out otherwise there, which no tolerance bounds.
"""


@dataclass(frozen=True)
class Ensemble:
    """A stacked ensemble.

    Attributes
    ----------
    learners : tuple of FittedLearner
        In stacking order.
    stacker : Stacker
    feature_names : tuple of str
        Inputs, in order.
    recipe : str
        Digest of what it was made from; evidence is bound to it.
    """

    learners: tuple[FittedLearner, ...]
    stacker: Stacker
    feature_names: tuple[str, ...]
    recipe: str

    @property
    def score_unit(self) -> Literal["forward_return", "log_odds"]:
        """What a score is. Above zero means long either way, and ranks are what portfolios are made of."""
        return "log_odds" if self.learners[0].label_kind == "direction" else "forward_return"

    def base_predictions(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predictions of the base learners, shape (n, learners), in the unit of the scores."""
        return np.column_stack([learner.predict(features) for learner in self.learners])

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores: expected forward return, a fraction, or log-odds of the direction (see `score_unit`).

        Parameters
        ----------
        features : ndarray of float32, shape (n, f)

        Returns
        -------
        ndarray of float64, shape (n,)
            NaN for a row with a NaN or infinite feature. The libraries would each send it down a branch of
            their own; a row without all of its features has no score.
        """
        return stacked_scores(self.stacker, self.base_predictions(features), features)

    @property
    def research_only(self) -> dict[str, str]:
        """Why nothing of it may be promoted, by learner; empty when it may."""
        return {learner.name: why for learner in self.learners if (why := learner.research_only)}

    @property
    def research_sentence(self) -> str:
        """That nothing of it may be promoted, and why, in one sentence; empty when it may."""
        told = "; ".join(f"{name}: {why}" for name, why in self.research_only.items())
        if not told:
            return ""
        return f"For research only ({told}): no graph, no bundle, and no promotion whatever the verdicts."

    @cached_property
    def _shares(self) -> dict[str, dict[str, float]]:
        return {learner.name: learner.importance() for learner in self.learners}

    def importance(self) -> dict[str, float]:
        """Gain share of each feature over all learners, each counted by its weight in the stack; sums to 1."""
        return weighted_importance(self.stacker, self._shares)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the store; `Ensemble.from_json` gives back the same bits."""
        return {
            "format": FORMAT,
            "recipe": self.recipe,
            "feature_names": list(self.feature_names),
            "learners": [{"name": learner.name, "text": learner.to_text()} for learner in self.learners],
            "stacker": self.stacker.to_json(),
        }

    @classmethod
    def from_json(cls, data: Any) -> "Ensemble":
        """Read a stored ensemble back.

        Raises
        ------
        ModelError
            When a field is missing, unknown or of the wrong type, a learner's text is damaged, or the parts
            do not belong together.
        """
        try:
            record = _EnsembleRecord.model_validate(data)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise ModelError(
                "stored ensemble",
                expected=f"the fields of format {FORMAT}",
                found=f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}",
                action="materialise the ensemble again",
            ) from error
        learners = [from_text(part.name, part.text) for part in record.learners]
        stacker = Stacker(
            record.stacker.learners,
            record.stacker.coefficients,
            record.stacker.intercept,
            record.stacker.spreads,
        )
        return assemble_ensemble(learners, stacker, feature_names=record.feature_names, recipe=record.recipe)


def stacked_scores(
    stacker: Stacker, base: NDArray[np.float64], features: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Scores from base predictions of the same rows, NaN where a feature is not finite; see `Ensemble.predict`."""
    score = stacker.combine(base)
    score[~np.isfinite(features).all(axis=1)] = np.nan
    return score


def assemble_ensemble(
    learners: Iterable[FittedLearner], stacker: Stacker, *, feature_names: Sequence[str], recipe: str
) -> Ensemble:
    """Put learners that were fitted one by one, in any order, together with their stacker.

    Raises
    ------
    ModelError
        When the learners are not exactly those of the stacker, read other features, or mix returns and
        directions.
    """
    given = tuple(learners)
    by_name = {learner.name: learner for learner in given}
    members = tuple(by_name[name] for name in stacker.learners if name in by_name)
    names = tuple(feature_names)
    if (
        not given
        or not len(given) == len(members) == len(stacker.learners)
        or len({len(stacker.learners), len(stacker.coefficients), len(stacker.spreads)}) != 1
    ):
        raise ModelError(
            "ensemble",
            expected=f"learners {', '.join(stacker.learners)}, one coefficient each",
            found=f"{', '.join(learner.name for learner in given) or 'none'} with "
            f"{len(stacker.coefficients)} coefficients and {len(stacker.spreads)} spreads",
            action="materialise the base learners and the ensemble again from one training set",
        )
    for member in members:
        if member.feature_names != names:
            raise ModelError(
                f"learner {member.name!r} of the ensemble",
                expected=f"the {len(names)} features of the ensemble, in order",
                found=f"{len(member.feature_names)} features, "
                f"{[a for a, b in zip(member.feature_names, names, strict=False) if a != b][:3]} differ",
                action="materialise the base learners again from the ensemble's training set",
            )
    kinds = {member.name: member.label_kind for member in members}
    if len(set(kinds.values())) > 1:
        raise ModelError(
            "ensemble",
            expected="learners fitted to one kind of label",
            found=", ".join(f"{name}: {kind}" for name, kind in kinds.items()),
            action="materialise the base learners again from one configuration",
        )
    return Ensemble(members, stacker, names, recipe)


def fit_ensemble(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    *,
    seed: int,
    embargo_sessions: int,
    recipe: str,
    n_jobs: int = 1,
) -> Ensemble:
    """Fit base learners and stacker on one training set.

    Bit for bit the same as fitting each learner with `fit_base` and the stacker with `fit_stacker` on the
    arrays of the same frame, then `assemble_ensemble`.

    Parameters
    ----------
    frame : polars.DataFrame
        Training set: ``symbol, t0, t1``, the features (Float32, no nulls), ``target`` (forward return).
    feature_names : sequence of str
    models : ModelsConfig
    seed, embargo_sessions : int
    recipe : str
        As given by `quant_assets.models.cross_prediction.recipe_digest`.
    n_jobs : int, default 1
        Inner folds fitted at the same time; the result does not depend on it.
    """
    data = training_arrays(frame, feature_names, models.label_kind).with_shared_bins()
    learners = [
        fit_base(
            name, data, models, seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions
        )
        for name in models.learners
    ]
    stacker = fit_stacker(
        data, models,
        seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions, n_jobs=n_jobs,
    )  # fmt: skip
    return assemble_ensemble(learners, stacker, feature_names=feature_names, recipe=recipe)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _LearnerRecord(_Record):
    name: str
    text: str


class _StackerRecord(_Record):
    learners: tuple[str, ...]
    coefficients: tuple[float, ...]
    intercept: float
    spreads: tuple[float, ...]


class _EnsembleRecord(_Record):
    format: Literal["quant_assets.ensemble/1"]
    recipe: str
    feature_names: tuple[str, ...]
    learners: tuple[_LearnerRecord, ...]
    stacker: _StackerRecord
