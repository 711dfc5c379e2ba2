"""What a strategy may say about hyper-parameter tuning: how many trials, how they are judged, where they search."""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from quant_assets.common.config_model import Config
from quant_assets.common.model_settings import (
    CatBoostConfig,
    LightGBMConfig,
    ModelsConfig,
    XGBoostConfig,
)

# ``binary:logistic`` has second derivatives p(1 - p) of at most a quarter, squared error of 1.
LOGISTIC_HESSIAN = 0.25


def _wrong(expected: str) -> PydanticCustomError:
    """A refusal that reads as what was expected, without pydantic's "Value error" before it."""
    return PydanticCustomError("tuning", "{expected}", {"expected": expected})


class Range(Config):
    """Values between two bounds, both included; ``log`` spreads them evenly over orders of magnitude.

    Without ``log`` a range keeps the scale of the shipped one.
    """

    low: float
    high: float
    log: bool | None = None

    @model_validator(mode="after")
    def _has_an_inside(self) -> Self:
        if not self.low < self.high:
            raise _wrong(
                f"low below high instead of low: {self.low:g}, high: {self.high:g} (to leave a parameter at its "
                "configured value, write null instead of a range)"
            )
        if self.log and self.low <= 0:
            raise _wrong(f"low above 0 on a log scale, instead of {self.low:g}")
        return self


def _log(low: float, high: float) -> Range:
    return Range(low=low, high=high, log=True)


def _linear(low: float, high: float) -> Range:
    return Range(low=low, high=high, log=False)


class LearnerSpace(Config):
    """Ranges of one learner's parameters. What is not named keeps its shipped range; ``null`` is not searched."""

    learner: ClassVar[type[Config]]

    @field_validator("*")
    @classmethod
    def _within_what_the_learner_takes(cls, value: Range | None, info: Any) -> Range | None:
        if value is None:
            return None
        name = str(info.field_name)
        shipped = cls.model_fields[name].default
        value = value.model_copy(update={"log": shipped.log if value.log is None else value.log})
        if value.log and value.low <= 0:
            raise _wrong(f"low above 0 on a log scale, instead of {value.low:g} (or log: false)")
        for bound in (value.low, value.high):
            try:
                cls.learner.model_validate({name: bound})
            except ValidationError as error:
                first = error.errors()[0]
                raise _wrong(f"bounds that the learner takes; {bound:g}: {first['msg']}") from error
        return value


class LightGBMSpace(LearnerSpace):
    """LightGBM's ranges: small trees and large leaves, because labels of daily returns are nearly all noise."""

    learner = LightGBMConfig
    n_estimators: Range | None = _log(40, 400)
    learning_rate: Range | None = _log(0.01, 0.2)
    num_leaves: Range | None = _log(4, 63)
    min_data_in_leaf: Range | None = _log(50, 1000)
    feature_fraction: Range | None = _linear(0.3, 1.0)
    bagging_fraction: Range | None = _linear(0.5, 1.0)
    lambda_l2: Range | None = _log(0.01, 100.0)


class XGBoostSpace(LearnerSpace):
    """XGBoost's ranges; the shipped one of ``min_child_weight`` is a quarter of this for ``binary:logistic``."""

    learner = XGBoostConfig
    n_estimators: Range | None = _log(40, 400)
    learning_rate: Range | None = _log(0.01, 0.2)
    max_depth: Range | None = _linear(2, 8)
    min_child_weight: Range | None = _log(50.0, 1000.0)
    colsample_bytree: Range | None = _linear(0.3, 1.0)
    subsample: Range | None = _linear(0.5, 1.0)
    reg_lambda: Range | None = _log(0.01, 100.0)


class CatBoostSpace(LearnerSpace):
    """CatBoost's ranges."""

    learner = CatBoostConfig
    n_estimators: Range | None = _log(40, 400)
    learning_rate: Range | None = _log(0.01, 0.2)
    depth: Range | None = _linear(2, 8)
    l2_leaf_reg: Range | None = _log(0.1, 100.0)


class SpaceConfig(Config):
    """Where to search, by learner. ``null`` leaves a learner as it is configured."""

    lightgbm: LightGBMSpace | None = LightGBMSpace()
    xgboost: XGBoostSpace | None = XGBoostSpace()
    catboost: CatBoostSpace | None = CatBoostSpace()


class TuningConfig(Config):
    """Search for the learners' parameters by purged cross-validation inside the training window.

    ``folds`` are purged k-folds with the strategy's embargo; a trial's value is the net Sharpe ratio of trading
    its out-of-fold scores. There is no time limit: how many trials fit into an hour is no property of the data.
    The first trial is the configuration as it stands, when it lies inside the space.

    ``pruning: median`` ends a trial whose mean Sharpe ratio of the folds so far is below the median of earlier
    trials, once ``startup_trials`` are completed. It is off by default: a pruned trial enters the ledger with the
    returns that were seen and cash for the rest, which understates how far the trials spread.

    Examples
    --------
    ::

        tuning:
          n_trials: 40
          folds: 4
          space:
            lightgbm:
              num_leaves: {low: 7, high: 127}
              bagging_fraction: null        # stays as configured
            xgboost: null                   # not tuned
    """

    n_trials: int = Field(ge=1, le=1000)
    folds: int = Field(default=3, ge=2, le=20)
    sampler: Literal["tpe"] = "tpe"
    startup_trials: int = Field(
        default=10, ge=1, le=1000, description="drawn at random before TPE models them"
    )
    pruning: Literal["none", "median"] = "none"
    space: SpaceConfig = SpaceConfig()

    def ranges(self, models: ModelsConfig) -> dict[str, Range]:
        """What is searched for these models: ``<learner>.<parameter>`` to its range, in a fixed order."""
        found: dict[str, Range] = {}
        for learner in models.learners:
            space = getattr(self.space, learner)
            for name in type(space).model_fields if space is not None else ():
                chosen: Range | None = getattr(space, name)
                if chosen is None:
                    continue
                named = name in space.model_fields_set
                if name == "n_estimators" and models.early_stopping is not None and not named:
                    continue  # early stopping finds the number of trees
                if name == "min_child_weight" and models.label_kind == "direction" and not named:
                    chosen = _log(LOGISTIC_HESSIAN * chosen.low, LOGISTIC_HESSIAN * chosen.high)
                found[f"{learner}.{name}"] = chosen
        return found

    def check_models(self, models: ModelsConfig) -> None:
        """Refuse a search that does not go with the models.

        Raises
        ------
        PydanticCustomError
            To be raised inside a validator: becomes the message about the strategy's file.
        """
        for learner in ("lightgbm", "xgboost", "catboost"):
            space = getattr(self.space, learner)
            given = learner in self.space.model_fields_set and space is not None
            if given and learner not in models.learners:
                raise _wrong(
                    f"ranges of the learners configured in models ({', '.join(models.learners)}), not of {learner}"
                )
            stopping = models.early_stopping
            if (
                given
                and stopping is not None
                and stopping.max_estimators is not None
                and "n_estimators" in space.model_fields_set
                and space.n_estimators is not None
            ):
                raise _wrong(
                    f"no range of {learner}.n_estimators beside models.early_stopping.max_estimators, which makes "
                    "it without effect"
                )
        if not self.ranges(models):
            raise _wrong("at least one parameter to search; the space is empty")
