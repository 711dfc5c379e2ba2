"""What a strategy may say about models and tuning: exact objectives, weights, stacking, search."""

import re
from typing import Any, ClassVar, Literal, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from quant_assets.common.config_model import Config
from quant_assets.common.label_settings import LabelConfig as LabelConfig
from quant_assets.common.label_settings import LabelKind as LabelKind
from quant_assets.common.plugins import Plugin

# ----------------------------------------------------------------------------------------------------- models


Device = Literal["cpu", "cuda"]
Binning = Literal["exact", "shared"]

# Objectives of log-likelihood on classes 0 and 1; every other objective of the whitelists predicts a return.
CLASSIFICATION_OBJECTIVES = ("binary", "binary:logistic", "Logloss", "graph:class")
# Objectives on the order of a session's names. What they give orders names, as an expected return does.
RANKING_OBJECTIVES = ("lambdarank", "rank:pairwise", "rank:ndcg")
# Equal buckets of a session's labels, best to worst, unless a learner says otherwise.
RELEVANCE_GRADES = 5
OWN_LEARNERS = ("lightgbm", "xgboost", "catboost")


_LEARNER_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def _wrong(expected: str) -> PydanticCustomError:
    """A refusal that reads as what was expected; pydantic would put "Value error" before a ValueError's text."""
    return PydanticCustomError("models", "{expected}", {"expected": expected})


def label_kind_of(objective: str) -> LabelKind:
    """The kind of label that an objective is fitted to."""
    return "direction" if objective in CLASSIFICATION_OBJECTIVES else "return"


class LearnerConfig(Config):
    """What the learners' sections share: a whitelist of objectives, refused with the reason."""

    @field_validator("objective", mode="before", check_fields=False)
    @classmethod
    def _converts_exactly(cls, value: Any) -> Any:
        allowed = get_args(cls.model_fields["objective"].annotation)
        if value not in allowed:
            raise _wrong(
                f"one of {', '.join(allowed)}: any other converts to ONNX silently wrong or not at all, and the "
                "exported graph would not be the model that was validated"
            )
        return value

    @model_validator(mode="after")
    def _grades_are_ranked(self) -> Self:
        ranks = getattr(self, "objective", None) in RANKING_OBJECTIVES
        if getattr(self, "relevance_grades", None) is not None and not ranks:
            raise _wrong(f"no relevance_grades without an objective of {', '.join(RANKING_OBJECTIVES)}")
        return self


class LightGBMConfig(LearnerConfig):
    """Parameters of one LightGBM booster; ``binary`` for ``label.kind: direction``.

    ``lambdarank`` (Burges 2010, MSR-TR-2010-82) orders the names of each session by ``relevance_grades`` equal
    buckets of the label, 5 when not given; it weighs mistakes at the top of the order most.
    """

    objective: Literal["regression", "huber", "binary", "lambdarank"] = "regression"
    relevance_grades: int | None = Field(default=None, ge=2, le=31)
    n_estimators: int = Field(default=80, ge=1, le=5000)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    num_leaves: int = Field(default=15, ge=2, le=1024)
    min_data_in_leaf: int = Field(default=200, ge=1, le=10**9)
    feature_fraction: float = Field(default=0.6, gt=0, le=1)
    bagging_fraction: float = Field(default=0.8, gt=0, le=1)
    lambda_l2: float = Field(default=1.0, ge=0, le=1e9)


class XGBoostConfig(LearnerConfig):
    """Parameters of one XGBoost booster; ``binary:logistic`` for ``label.kind: direction``.

    ``min_child_weight`` is a sum of second derivatives: rows for squared error, a quarter of them or less for
    ``binary:logistic``. ``rank:pairwise`` and ``rank:ndcg`` order the names of each session, as LightGBM's
    ``lambdarank`` does; a session has one weight, the mean of its rows'.
    """

    objective: Literal["reg:squarederror", "binary:logistic", "rank:pairwise", "rank:ndcg"] = (
        "reg:squarederror"
    )
    relevance_grades: int | None = Field(default=None, ge=2, le=31)
    n_estimators: int = Field(default=80, ge=1, le=5000)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    max_depth: int = Field(default=4, ge=1, le=12)
    min_child_weight: float = Field(default=200.0, ge=0, le=1e9)
    colsample_bytree: float = Field(default=0.6, gt=0, le=1)
    subsample: float = Field(default=0.8, gt=0, le=1)
    reg_lambda: float = Field(default=1.0, ge=0, le=1e9)


class CatBoostConfig(LearnerConfig):
    """Parameters of one CatBoost model (needs the extra ``catboost``); ``Logloss`` for ``label.kind: direction``."""

    objective: Literal["RMSE", "Logloss"] = "RMSE"
    n_estimators: int = Field(default=80, ge=1, le=5000)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    depth: int = Field(default=4, ge=1, le=10)
    l2_leaf_reg: float = Field(default=3.0, ge=0, le=1e9)


class CustomLearnerConfig(Plugin):
    """A learner of the desk's own: a function of its options that returns an unfitted scikit-learn regressor,
    classifier or Pipeline, or an object whose ``fit(features, target, weights, seed)`` returns ONNX bytes.

    ``target`` says what it is fitted to: a ``number`` (a return) or a ``class``, of which its score is the log-odds.
    ``research_only`` lets it be judged where it cannot be exported with parity; nothing of it is ever promoted.
    """

    target: Literal["number", "class"] = "number"
    research_only: bool = False

    @property
    def objective(self) -> str:
        """Name of what it is fitted to, among the objectives of the libraries."""
        return f"graph:{self.target}"


class StackerConfig(Config):
    """Ridge, for a direction L2-penalised logistic regression, over standardised out-of-fold predictions.

    ``ridge_alpha`` is the penalty of both: ``alpha |w|^2`` beside the sum of squares, ``alpha / 2 |w|^2`` beside
    the negative log-likelihood (scikit-learn's ``C = 1 / alpha``). The inner split is purged.
    """

    ridge_alpha: float = Field(default=1.0, ge=0, le=1e12)
    inner_folds: int = Field(default=3, ge=2, le=20)


class WeightsConfig(Config):
    """Sample weights from label times (Lopez de Prado 2018, ch. 4), of mean 1 inside every fit.

    ``uniqueness`` weighs a row by the average uniqueness of its label among those of its symbol. ``time_decay``
    is the weight of the oldest observation beside 1 for the newest, linear in cumulated uniqueness; 1 is none.
    ``custom`` names a function of the training rows of a fit (symbol, session, t0, t1, features; no outcomes) that
    returns one weight a row; it multiplies the other two.
    """

    uniqueness: bool = False
    time_decay: float = Field(default=1.0, ge=0, le=1)
    custom: Plugin | None = None

    @property
    def in_use(self) -> bool:
        """Whether rows differ in weight at all."""
        return self.uniqueness or self.time_decay < 1 or self.custom is not None


class EarlyStoppingConfig(Config):
    """Number of trees chosen on purged inner folds of the training rows, then refitted on all of them.

    ``rounds`` without a better loss, averaged over the folds, end the search; ``max_estimators`` is its ceiling,
    the learner's ``n_estimators`` when not given. A fit with it costs ``inner_folds`` more at the ceiling.
    """

    rounds: int = Field(default=20, ge=1, le=5000)
    max_estimators: int | None = Field(default=None, ge=1, le=5000)
    inner_folds: int = Field(default=3, ge=2, le=20)


class ModelsConfig(Config):
    """The base learners of the ensemble (at least one) and how they are fitted and stacked.

    ``custom`` are learners of the desk's own, by the names that their assets get. ``research_only`` lets all of them
    be judged where they cannot be exported with parity; nothing of such a strategy is ever promoted.

    ``device`` is where the libraries fit; predictions and graphs always run on the CPU. The promise of equal
    bits holds for ``cpu``: sums on a GPU have no fixed order.

    ``binning`` is where the bins of the features come from in cross-predictions. ``exact``: from each split's own
    training rows. ``shared``: from all rows of the training set, once, which is faster, but the leakage prover sees
    tested features in them and refuses it. The candidate itself is fitted to all rows: it has equal bits with either.
    """

    lightgbm: LightGBMConfig | None = LightGBMConfig()
    xgboost: XGBoostConfig | None = XGBoostConfig()
    catboost: CatBoostConfig | None = None
    custom: dict[str, CustomLearnerConfig] = Field(default_factory=dict, max_length=32)
    research_only: bool = False
    stacker: StackerConfig = StackerConfig()
    weights: WeightsConfig = WeightsConfig()
    early_stopping: EarlyStoppingConfig | None = None
    device: Device = "cpu"
    binning: Binning = "exact"

    @model_validator(mode="after")
    def _learners_of_one_kind(self) -> Self:
        if not self.learners:
            raise _wrong("at least one of lightgbm, xgboost, catboost configured, or one of custom")
        for name in self.custom:
            if name in OWN_LEARNERS or _LEARNER_NAME.fullmatch(name) is None:
                raise _wrong(
                    f"a name of small letters, digits and _ for the learner custom.{name}, and none of "
                    f"{', '.join(OWN_LEARNERS)}"
                )
        if self.research_only and not self.custom:
            raise _wrong(
                "no research_only without custom learners: those of the platform are always exported"
            )
        kinds = {label_kind_of(objective) for objective in self.objectives.values()}
        if len(kinds) > 1:
            raise _wrong(
                f"objectives of one kind of label, all of returns or all of directions, instead of "
                f"{self._spelt()}: a stack of expected returns and log-odds means nothing"
            )
        return self

    def _spelt(self) -> str:
        return ", ".join(
            f"custom.{name}.target: {self.custom[name].target}"
            if name in self.custom
            else f"{name}.objective: {objective}"
            for name, objective in self.objectives.items()
        )

    @property
    def learners(self) -> tuple[str, ...]:
        """Names of the configured base learners, in stacking order."""
        return (*(n for n in OWN_LEARNERS if getattr(self, n) is not None), *sorted(self.custom))

    def config_of(self, name: str) -> Any:
        """What is configured for one base learner."""
        return self.custom[name] if name in self.custom else getattr(self, name)

    @property
    def objectives(self) -> dict[str, str]:
        """Objective of each configured base learner."""
        return {name: self.config_of(name).objective for name in self.learners}

    @property
    def research_learners(self) -> tuple[str, ...]:
        """Learners that are judged whether or not they can be exported; with any, nothing is promoted."""
        return tuple(n for n in sorted(self.custom) if self.custom[n].research_only or self.research_only)

    def plugins(self, learner: str | None = None) -> tuple[Plugin, ...]:
        """Code of the desk's own that shapes one base learner, or all of them: the learners and the weights."""
        names = self.custom if learner is None else [learner] if learner in self.custom else []
        weights = (self.weights.custom,) if self.weights.custom is not None else ()
        return (*(self.custom[name] for name in sorted(names)), *weights)

    @property
    def label_kind(self) -> LabelKind:
        """What the learners are fitted to, by their objectives."""
        return label_kind_of(next(iter(self.objectives.values())))

    def check_label(self, label: LabelConfig) -> None:
        """Refuse objectives that do not fit the label.

        Raises
        ------
        PydanticCustomError
            To be raised inside a validator: becomes the message about the strategy's file.
        """
        if label.learnt_as != self.label_kind:
            fitting = {
                "return": "lightgbm regression, huber or lambdarank, xgboost reg:squarederror, rank:pairwise or "
                "rank:ndcg, catboost RMSE, custom target: number",
                "direction": "lightgbm binary, xgboost binary:logistic, catboost Logloss, custom target: class",
            }[label.learnt_as]
            others = {
                "return": "label.kind: return, and every kind with target: number",
                "direction": "label.kind: direction, and every kind with target: class",
            }[self.label_kind]
            said = f"label.kind: {label.kind}" + (f" with target: {label.target}" if label.target else "")
            raise _wrong(
                f"objectives that fit {said} ({fitting}), instead of {self._spelt()} in models; these fit {others}"
            )


# ------------------------------------------------------------------------------------- hyper-parameter tuning


# ``binary:logistic`` has second derivatives p(1 - p) of at most a quarter, squared error of 1.
LOGISTIC_HESSIAN = 0.25


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
            # A learner of the desk's own has no ranges, and may be called like anything that an object has.
            space: LearnerSpace | None = getattr(self.space, learner) if learner in OWN_LEARNERS else None
            if space is None:
                continue
            for name in type(space).model_fields:
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
