"""One base learner as a strategy asks for it: weights and trees from its training rows alone; its curves."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError, ValidationError
from quant_assets.common.model_settings import CustomLearnerConfig
from quant_assets.common.settings import EarlyStoppingConfig, ModelsConfig
from quant_assets.models.custom_learner import fit_custom
from quant_assets.models.learners import FittedLearner, fit_learner, learning_curve
from quant_assets.models.training_arrays import Samples, TrainingArrays
from quant_assets.splits.cpcv import PurgedKFold
from quant_assets.splits.purging import PurgedSplitter

# ----------------------------------------------------------------- one base learner as a strategy asks for it

# Whatever is chosen or fitted on held-out predictions (number of trees, stacker) takes them from purged folds inside
# the training rows.


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
    advice = f"lower {setting} or validation.embargo_sessions"
    return list(purged_splits(inner_splitter(n_folds, embargo_sessions), data, advice))


def purged_splits(splitter: PurgedSplitter, data: TrainingArrays, advice: str) -> Iterator[Fold]:
    """Every split of the rows, lazily, each with something to train on: that is looked at here and now.

    Parameters
    ----------
    advice : str
        Which setting to change where there is a split without.

    Raises
    ------
    ModelError
        When the rows cannot be split so, with what the splitter says.
    """
    try:
        return splitter.split(data.t0, data.t1)
    except ValidationError as error:
        action = f"{advice}, or train on more sessions"
        raise ModelError(error.what, expected=error.expected, found=error.found, action=action) from error


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
    config = models.config_of(name)
    if isinstance(config, CustomLearnerConfig):
        return fit_custom(
            name, config, samples_of(data, models),
            seed=seed, feature_names=feature_names, research_only=name in models.research_learners,
        ).learner  # fmt: skip
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
        session=data.t0,
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
    config = models.config_of(name)
    ceiling = stopping.max_estimators or config.n_estimators
    grown = config.model_copy(update={"n_estimators": ceiling})
    total = np.zeros(ceiling)
    for train, held_out in inner_folds(
        data, stopping.inner_folds, embargo_sessions, setting="models.early_stopping.inner_folds"
    ):
        curve = learning_curve(
            name,
            grown,
            samples_of(data.take(train), models),
            samples_of(data.take(held_out), models),
            seed=seed,
            feature_names=feature_names,
            device=models.device,
        )
        total += len(held_out) * curve
    return best_count(total, stopping.rounds)


def samples_of(data: TrainingArrays, models: ModelsConfig) -> Samples:
    """The rows of a fit, with their weights."""
    return Samples(data.features, data.target, data.weights(models.weights), data.binned, data.t0)


def best_count(losses: NDArray[np.float64], rounds: int) -> int:
    """Trees at the lowest loss before ``rounds`` trees in a row brought none lower; the first of equals."""
    best = 0
    for number, loss in enumerate(losses):
        if loss < losses[best]:
            best = number
        elif number - best >= rounds:
            break
    return best + 1


# -------------------------------------------------------------------------------------------- learning curves


# What each library calls the loss of an objective, and reports without being told.
_LOSSES = {
    "regression": "l2",
    "huber": "huber",
    "binary": "log_loss",
    "lambdarank": "one_minus_ndcg",
    "rank:pairwise": "one_minus_ndcg",
    "rank:ndcg": "one_minus_ndcg",
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
    loss : {"l2", "rmse", "huber", "log_loss", "one_minus_ndcg"}
        ``l2`` is the mean squared error, ``rmse`` its root; squared returns and returns, as fractions. Of a ranking 1
        less the mean NDCG of the sessions.
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
    config = models.config_of(name)
    if isinstance(config, CustomLearnerConfig):
        return _single_fit(name, config, data, models, seed, feature_names, embargo_sessions)
    if models.early_stopping is not None and models.early_stopping.max_estimators is not None:
        config = config.model_copy(update={"n_estimators": models.early_stopping.max_estimators})
    folds = inner_folds(
        data, models.stacker.inner_folds, embargo_sessions, setting="models.stacker.inner_folds"
    )
    fitted, unseen = (
        Samples(rows.features, rows.target, rows.weights(models.weights), session=rows.t0)
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


def _single_fit(
    name: str,
    config: CustomLearnerConfig,
    data: TrainingArrays,
    models: ModelsConfig,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
) -> LearningCurves:
    """Of a learner that is fitted in one go: its loss on the rows of the fit and on unseen ones, one number each."""
    folds = inner_folds(
        data, models.stacker.inner_folds, embargo_sessions, setting="models.stacker.inner_folds"
    )
    fitted, unseen = (samples_of(rows, models) for rows in map(data.take, folds[-1]))
    learner = fit_custom(
        name, config, fitted, seed=seed, feature_names=feature_names, research_only=name in models.research_learners
    ).learner  # fmt: skip
    loss = "rmse" if config.target == "number" else "log_loss"
    train, valid = (
        single_loss(loss, learner.predict(rows.features), rows.target, rows.weights)
        for rows in (fitted, unseen)
    )
    return LearningCurves(loss, (train,), (valid,), len(fitted.target), len(unseen.target))


def single_loss(
    loss: str, scores: NDArray[np.float64], target: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> float:
    """Weighted root mean squared error of predictions, or mean negative log-likelihood of log-odds."""
    if loss == "rmse":
        return float(np.sqrt(np.average((scores - target) ** 2, weights=weights)))
    return float(np.average(np.logaddexp(0.0, scores) - target * scores, weights=weights))


def _unreadable(found: str) -> ModelError:
    return ModelError(
        "learning curves of a base learner",
        expected="a loss, and as many values in training as on unseen rows",
        found=found,
        action="materialise the base learner again",
    )
