"""One base learner as a strategy asks for it: weights and number of trees, both from its training rows alone.

Whatever is chosen or fitted on held-out predictions (number of trees, stacker) takes them from purged folds inside
the training rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import EarlyStoppingConfig, ModelsConfig
from quant_assets.models.learners import FittedLearner, fit_learner, learning_curve
from quant_assets.models.training_arrays import Samples, TrainingArrays
from quant_assets.splits.cpcv import PurgedKFold

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]


def inner_splitter(n_folds: int, embargo_sessions: int) -> PurgedKFold:
    """The splits inside the training rows."""
    return PurgedKFold(n_folds, embargo=embargo_sessions)


def inner_folds(data: TrainingArrays, n_folds: int, embargo_sessions: int, *, setting: str) -> list[Fold]:
    """Training and held-out rows of each purged fold.

    Parameters
    ----------
    data : TrainingArrays
    n_folds, embargo_sessions : int
    setting : str
        The setting that says ``n_folds``, for the error.

    Raises
    ------
    ModelError
        When a fold has nothing to train on.
    """
    folds = list(inner_splitter(n_folds, embargo_sessions).split(data.t0, data.t1))
    for number, (train, _) in enumerate(folds):
        if not len(train):
            raise ModelError(
                f"inner fold {number + 1} of {len(folds)}",
                expected="rows to train on after purge and embargo",
                found=f"none of {len(data.target)}",
                action=f"lower {setting} or validation.embargo_sessions, or train on more sessions",
            )
    return folds


def fit_base(
    name: str,
    data: TrainingArrays,
    models: ModelsConfig,
    *,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
) -> FittedLearner:
    """Fit one base learner on all rows given.

    Parameters
    ----------
    name : {"lightgbm", "xgboost", "catboost"}
    data : TrainingArrays
        Training rows and no others: weights and early stopping are worked out from them.
    models : ModelsConfig
    seed : int
    feature_names : sequence of str
    embargo_sessions : int
        Of the inner folds on which the number of trees is chosen.

    Raises
    ------
    ModelError
        As `quant_assets.models.learners.fit_learner`.
    """
    config = getattr(models, name)
    if models.early_stopping is not None:
        trees = chosen_trees(
            name, data, models, models.early_stopping,
            seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions,
        )  # fmt: skip
        config = config.model_copy(update={"n_estimators": trees})
    return fit_learner(
        name,
        config,
        data.features,
        data.target,
        seed=seed,
        feature_names=feature_names,
        weights=data.weights(models.weights),
        binned=data.binned,
        device=models.device,
    )


def chosen_trees(
    name: str,
    data: TrainingArrays,
    models: ModelsConfig,
    stopping: EarlyStoppingConfig,
    *,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
) -> int:
    """Early stopping: the number of trees with the smallest mean loss over the inner folds.

    Each fold's learner grows to the ceiling while its loss on the fold's own rows is written down; the curves are
    averaged, which is steadier than one fold's, and patience ends the search. Rows outside of the training rows are
    not even an argument.

    Parameters
    ----------
    name : {"lightgbm", "xgboost", "catboost"}
    data : TrainingArrays
        Training rows.
    models : ModelsConfig
    stopping : EarlyStoppingConfig
    seed : int
    feature_names : sequence of str
    embargo_sessions : int

    Raises
    ------
    ModelError
        When an inner fold has nothing to train on, or as `quant_assets.models.learners.learning_curve`.
    """
    config = getattr(models, name)
    ceiling = stopping.max_estimators or config.n_estimators
    grown = config.model_copy(update={"n_estimators": ceiling})
    total = np.zeros(ceiling)
    for train, held_out in inner_folds(
        data, stopping.inner_folds, embargo_sessions, setting="models.early_stopping.inner_folds"
    ):
        curve = learning_curve(
            name,
            grown,
            _samples(data.take(train), models),
            _samples(data.take(held_out), models),
            seed=seed,
            feature_names=feature_names,
            device=models.device,
        )
        total += len(held_out) * curve
    return best_count(total, stopping.rounds)


def _samples(data: TrainingArrays, models: ModelsConfig) -> Samples:
    return Samples(data.features, data.target, data.weights(models.weights), data.binned)


def best_count(losses: NDArray[np.float64], rounds: int) -> int:
    """Trees at the lowest loss before ``rounds`` trees in a row brought none lower; the first of equals."""
    best = 0
    for number, loss in enumerate(losses):
        if loss < losses[best]:
            best = number
        elif number - best >= rounds:
            break
    return best + 1
