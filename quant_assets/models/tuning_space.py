"""The search space as Optuna draws from it, and tuned parameters put back into a strategy's models."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from quant_assets.common.errors import ModelError, closest
from quant_assets.common.settings import ModelsConfig, TuningConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# What shapes a trial: the version of the asset and the name of the study both follow from it.
TUNING_CODE = (
    "quant_assets.common.model_settings",
    "quant_assets.models",
    "quant_assets.datasets.labels",
    "quant_assets.datasets.sample_weights",
    "quant_assets.splits",
    "quant_assets.statistics.sharpe",
    "quant_assets.trading",
    "quant_assets.studies.strategy_tuning",
)
TUNING_LIBRARIES = ("lightgbm", "numpy", "optuna", "polars", "scipy", "xgboost")

# By learner, then parameter.
Params = Mapping[str, Mapping[str, int | float]]


def is_integer(models: ModelsConfig, name: str) -> bool:
    """Whether ``<learner>.<parameter>`` counts something."""
    learner, parameter = name.split(".")
    return type(getattr(models, learner)).model_fields[parameter].annotation is int


def distributions_of(tuning: TuningConfig, models: ModelsConfig) -> "dict[str, BaseDistribution]":
    """Optuna's distribution of each parameter that is searched, by ``<learner>.<parameter>``."""
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: IntDistribution(int(r.low), int(r.high), log=bool(r.log))
        if is_integer(models, name)
        else FloatDistribution(r.low, r.high, log=bool(r.log))
        for name, r in tuning.ranges(models).items()
    }


def configured_values(tuning: TuningConfig, models: ModelsConfig) -> dict[str, int | float] | None:
    """The models' own values of what is searched; None when one lies outside of its range."""
    values: dict[str, int | float] = {}
    for name, r in tuning.ranges(models).items():
        learner, parameter = name.split(".")
        values[name] = getattr(getattr(models, learner), parameter)
        if not r.low <= values[name] <= r.high:
            return None
    return values


def nested(params: Mapping[str, int | float]) -> dict[str, dict[str, int | float]]:
    """``{"lightgbm.num_leaves": 15}`` as ``{"lightgbm": {"num_leaves": 15}}``."""
    by_learner: dict[str, dict[str, int | float]] = {}
    for name, value in sorted(params.items()):
        learner, parameter = name.split(".")
        by_learner.setdefault(learner, {})[parameter] = value
    return by_learner


def apply_tuning(models: ModelsConfig, best_params: Params) -> ModelsConfig:
    """The models with tuned parameters in place of the configured ones.

    Parameters
    ----------
    models : ModelsConfig
    best_params : mapping of str to mapping of str to number
        By learner and parameter, as a tuning result holds them. Empty gives the models back.

    Raises
    ------
    ModelError
        When a learner is not configured, a parameter is none of its parameters, or a value is out of bounds.
    """
    sections: dict[str, Any] = {}
    for learner, params in best_params.items():
        config = getattr(models, learner) if learner in models.learners else None
        if config is None:
            raise _unknown("learner", learner, models.learners)
        known = tuple(n for n in type(config).model_fields if n != "objective")
        for name in params:
            if name not in known:
                raise _unknown(f"parameter of {learner}", name, known)
        try:
            sections[learner] = type(config).model_validate({**config.model_dump(), **params})
        except ValidationError as error:
            first = error.errors()[0]
            raise ModelError(
                f"tuned {learner}.{'.'.join(map(str, first['loc']))}",
                expected=first["msg"],
                found=repr(first["input"]),
                action="materialise tuning again with the models as they are configured now",
            ) from error
    return models.model_copy(update=sections)


def _unknown(what: str, name: str, known: tuple[str, ...]) -> ModelError:
    return ModelError(
        f"tuned {what}",
        expected=f"one of {', '.join(known)}",
        found=repr(name),
        action=closest(name, known) or "materialise tuning again, for these models",
    )
