"""One base learner as a strategy asks for it: weights and number of trees, both from its training rows alone."""

from collections.abc import Sequence

from quant_assets.common.settings import ModelsConfig
from quant_assets.models.inner_folds import chosen_trees
from quant_assets.models.learners import FittedLearner, fit_learner
from quant_assets.models.training_arrays import TrainingArrays


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
