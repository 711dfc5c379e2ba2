"""The recipe: what an ensemble is made from, as a digest that binds cross-predictions to the candidate.

Cross-predictions are evidence about a *way of making* models: other fits on other rows. They speak for a
candidate only when training set, configuration, seed, embargo, code and libraries are the same.
"""

from quant_assets.common.hashing import code_fingerprint, json_digest
from quant_assets.common.settings import ModelsConfig

_CODE = (
    "quant_assets.models",
    "quant_assets.datasets.labels",
    "quant_assets.datasets.sample_weights",
    "quant_assets.validation.cpcv",
    "quant_assets.validation.purging",
    "quant_assets.validation.spans",
    "quant_assets.validation.splitting",
)


def recipe_digest(training_set_version: str, models: ModelsConfig, seed: int, embargo_sessions: int) -> str:
    """SHA-256 of everything that determines the bits of an ensemble.

    Parameters
    ----------
    training_set_version : str
        Data version of the training set.
    models : ModelsConfig
    seed : int
    embargo_sessions : int
        Of the stacker's inner split.
    """
    libraries = ("lightgbm", "xgboost", "numpy", *(("catboost",) if models.catboost is not None else ()))
    return json_digest(
        {
            "training_set": training_set_version,
            "models": models.model_dump(mode="json"),
            "seed": seed,
            "embargo_sessions": embargo_sessions,
            "code": code_fingerprint(_CODE, libraries),
        }
    )
