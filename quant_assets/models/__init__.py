"""Models: base learners, the stacked ensemble, cross-predictions and the recipe that binds evidence to it."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.models.cross_prediction import cross_predict, recipe_digest
    from quant_assets.models.ensemble import Ensemble, assemble_ensemble
    from quant_assets.models.fitting import LearningCurves, fit_base
    from quant_assets.models.learners import FittedLearner
    from quant_assets.models.stacking import Stacker, fit_stacker
    from quant_assets.models.training_arrays import TrainingArrays
    from quant_assets.models.tuning import best_trial, tune
    from quant_assets.models.tuning_study import apply_tuning
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "Ensemble",
    "FittedLearner",
    "LearningCurves",
    "Stacker",
    "TrainingArrays",
    "apply_tuning",
    "assemble_ensemble",
    "best_trial",
    "cross_predict",
    "fit_base",
    "fit_stacker",
    "recipe_digest",
    "tune",
]
