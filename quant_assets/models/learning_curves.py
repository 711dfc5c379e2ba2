"""Learning curves of a base learner: its loss after each tree, on rows it is fitted to and on rows it never saw.

A diagnosis and no part of the model: the boosters grown here are thrown away, and the model's text has the same
bytes with and without them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import ModelsConfig
from quant_assets.models.fitting import inner_folds
from quant_assets.models.learners import learning_curve
from quant_assets.models.training_arrays import Samples, TrainingArrays

# What each library calls the loss of an objective, and reports without being told.
_LOSSES = {
    "regression": "l2",
    "huber": "huber",
    "binary": "log_loss",
    "reg:squarederror": "rmse",
    "binary:logistic": "log_loss",
    "RMSE": "rmse",
    "Logloss": "log_loss",
}


@dataclass(frozen=True)
class LearningCurves:
    """Loss of one learner after each tree.

    Attributes
    ----------
    loss : {"l2", "rmse", "huber", "log_loss"}
        ``l2`` is the mean squared error, ``rmse`` its root; squared returns and returns, as fractions.
    train, valid : tuple of float
        Entry i is the loss after tree i + 1, weighted as in the fit.
    rows_trained, rows_validated : int
    """

    loss: str
    train: tuple[float, ...]
    valid: tuple[float, ...]
    rows_trained: int
    rows_validated: int

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "train": list(self.train), "valid": list(self.valid)}

    @classmethod
    def from_json(cls, data: Any) -> "LearningCurves":
        """Read stored curves back.

        Raises
        ------
        ModelError
            When a field is missing, or the two curves differ in length.
        """
        try:
            curves = cls(
                str(data["loss"]),
                tuple(float(v) for v in data["train"]),
                tuple(float(v) for v in data["valid"]),
                int(data["rows_trained"]),
                int(data["rows_validated"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise _unreadable(f"{type(error).__name__}: {error}") from error
        if len(curves.train) != len(curves.valid):
            raise _unreadable(
                f"{len(curves.train)} losses in training and {len(curves.valid)} on unseen rows"
            )
        return curves


def learning_curves(
    name: str,
    data: TrainingArrays,
    models: ModelsConfig,
    *,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
) -> LearningCurves:
    """Loss per tree of one base learner, on the newest of the stacker's purged inner folds and on the rest.

    Parameters
    ----------
    name : {"lightgbm", "xgboost", "catboost"}
    data : TrainingArrays
        Training rows of the model.
    models : ModelsConfig
        With early stopping, learners grow to its ceiling.
    seed : int
        That of the model.
    feature_names : sequence of str
    embargo_sessions : int

    Returns
    -------
    LearningCurves
        Same input, same losses. The newest fold is unseen, so that no row of the fit is later than one that is
        predicted; rows whose label reaches into it are purged from the fit.

    Raises
    ------
    ModelError
        When the fold leaves nothing to train on, or as `quant_assets.models.learners.learning_curve`.

    Notes
    -----
    Two fits, one per curve: a learner that watches its own training rows as well is the same fit.
    """
    config = getattr(models, name)
    if models.early_stopping is not None and models.early_stopping.max_estimators is not None:
        config = config.model_copy(update={"n_estimators": models.early_stopping.max_estimators})
    folds = inner_folds(
        data, models.stacker.inner_folds, embargo_sessions, setting="models.stacker.inner_folds"
    )
    fitted, unseen = (
        Samples(rows.features, rows.target, rows.weights(models.weights))
        for rows in map(data.take, folds[-1])
    )
    train, valid = (
        learning_curve(
            name, config, fitted, watched, seed=seed, feature_names=feature_names, device=models.device
        )
        for watched in (fitted, unseen)
    )
    return LearningCurves(
        _LOSSES[config.objective],
        tuple(np.asarray(train).tolist()),
        tuple(np.asarray(valid).tolist()),
        len(fitted.target),
        len(unseen.target),
    )


def _unreadable(found: str) -> ModelError:
    return ModelError(
        "learning curves of a base learner",
        expected="a loss, and as many values in training as on unseen rows",
        found=found,
        action="materialise the base learner again",
    )
