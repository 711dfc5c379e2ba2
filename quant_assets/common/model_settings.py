"""What a strategy may say about labels and models: objectives that convert exactly, weights, stopping, stacking."""

from typing import Any, Literal, Self, get_args

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from quant_assets.common.config_model import Config

LabelKind = Literal["return", "direction"]
Device = Literal["cpu", "cuda"]
Binning = Literal["exact", "shared"]

# Objectives of log-likelihood on classes 0 and 1; every other objective of the whitelists predicts a return.
CLASSIFICATION_OBJECTIVES = ("binary", "binary:logistic", "Logloss")


def _wrong(expected: str) -> PydanticCustomError:
    """A refusal that reads as what was expected; pydantic would put "Value error" before a ValueError's text."""
    return PydanticCustomError("models", "{expected}", {"expected": expected})


def label_kind_of(objective: str) -> LabelKind:
    """The kind of label that an objective is fitted to."""
    return "direction" if objective in CLASSIFICATION_OBJECTIVES else "return"


class LabelConfig(Config):
    """Forward return from the next open: enter at open t+1, leave at open t+1+horizon.

    ``kind`` says what the learners are fitted to. ``return``: the forward return itself; scores are expected
    returns. ``direction``: whether the name beats the median forward return of its cross-section, 1 or 0, as
    in Krauss, Do and Huck (2017, EJOR 259), because positions are cross-sectional ranks: the sign of a
    return is mostly that of the market, which a rank does not trade. A return at the median (a tie, the middle
    name of an odd number, or a cross-section of one) is 0: it did not beat it. Scores are then log-odds: above
    zero when beating the median is more likely than not, in the order of the probabilities.
    """

    horizon_sessions: int = Field(default=5, ge=1, le=252)
    kind: LabelKind = "return"


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


class LightGBMConfig(LearnerConfig):
    """Parameters of one LightGBM booster; ``binary`` for ``label.kind: direction``."""

    objective: Literal["regression", "huber", "binary"] = "regression"
    n_estimators: int = Field(default=80, ge=1, le=5000)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    num_leaves: int = Field(default=15, ge=2, le=1024)
    min_data_in_leaf: int = Field(default=200, ge=1)
    feature_fraction: float = Field(default=0.6, gt=0, le=1)
    bagging_fraction: float = Field(default=0.8, gt=0, le=1)
    lambda_l2: float = Field(default=1.0, ge=0)


class XGBoostConfig(LearnerConfig):
    """Parameters of one XGBoost booster; ``binary:logistic`` for ``label.kind: direction``.

    ``min_child_weight`` is a sum of second derivatives: rows for squared error, a quarter of them or less for
    ``binary:logistic``.
    """

    objective: Literal["reg:squarederror", "binary:logistic"] = "reg:squarederror"
    n_estimators: int = Field(default=80, ge=1, le=5000)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    max_depth: int = Field(default=4, ge=1, le=12)
    min_child_weight: float = Field(default=200.0, ge=0)
    colsample_bytree: float = Field(default=0.6, gt=0, le=1)
    subsample: float = Field(default=0.8, gt=0, le=1)
    reg_lambda: float = Field(default=1.0, ge=0)


class CatBoostConfig(LearnerConfig):
    """Parameters of one CatBoost model (needs the extra ``catboost``); ``Logloss`` for ``label.kind: direction``."""

    objective: Literal["RMSE", "Logloss"] = "RMSE"
    n_estimators: int = Field(default=80, ge=1, le=5000)
    learning_rate: float = Field(default=0.05, gt=0, le=1)
    depth: int = Field(default=4, ge=1, le=10)
    l2_leaf_reg: float = Field(default=3.0, ge=0)


class StackerConfig(Config):
    """Ridge, for a direction L2-penalised logistic regression, over standardised out-of-fold predictions.

    ``ridge_alpha`` is the penalty of both: ``alpha |w|^2`` beside the sum of squares, ``alpha / 2 |w|^2`` beside
    the negative log-likelihood (scikit-learn's ``C = 1 / alpha``). The inner split is purged.
    """

    ridge_alpha: float = Field(default=1.0, ge=0)
    inner_folds: int = Field(default=3, ge=2, le=20)


class WeightsConfig(Config):
    """Sample weights from label times (Lopez de Prado 2018, ch. 4), of mean 1 inside every fit.

    ``uniqueness`` weighs a row by the average uniqueness of its label among those of its symbol. ``time_decay``
    is the weight of the oldest observation beside 1 for the newest, linear in cumulated uniqueness; 1 is none.
    """

    uniqueness: bool = False
    time_decay: float = Field(default=1.0, ge=0, le=1)

    @property
    def in_use(self) -> bool:
        """Whether rows differ in weight at all."""
        return self.uniqueness or self.time_decay < 1


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

    ``device`` is where the libraries fit; predictions and graphs always run on the CPU. The promise of equal
    bits holds for ``cpu``: sums on a GPU have no fixed order.

    ``binning`` is where the bins of the features come from in cross-predictions. ``exact``: from each split's own
    training rows. ``shared``: from all rows of the training set, once, which is faster, but the leakage prover sees
    tested features in them and refuses it. The candidate itself is fitted to all rows: it has equal bits with either.
    """

    lightgbm: LightGBMConfig | None = LightGBMConfig()
    xgboost: XGBoostConfig | None = XGBoostConfig()
    catboost: CatBoostConfig | None = None
    stacker: StackerConfig = StackerConfig()
    weights: WeightsConfig = WeightsConfig()
    early_stopping: EarlyStoppingConfig | None = None
    device: Device = "cpu"
    binning: Binning = "exact"

    @model_validator(mode="after")
    def _learners_of_one_kind(self) -> Self:
        if not self.learners:
            raise _wrong("at least one of lightgbm, xgboost, catboost configured")
        kinds = {label_kind_of(objective) for objective in self.objectives.values()}
        if len(kinds) > 1:
            raise _wrong(
                f"objectives of one kind of label, all of returns or all of directions, instead of "
                f"{self._spelt()}: a stack of expected returns and log-odds means nothing"
            )
        return self

    def _spelt(self) -> str:
        return ", ".join(f"{name}.objective: {objective}" for name, objective in self.objectives.items())

    @property
    def learners(self) -> tuple[str, ...]:
        """Names of the configured base learners, in stacking order."""
        return tuple(n for n in ("lightgbm", "xgboost", "catboost") if getattr(self, n) is not None)

    @property
    def objectives(self) -> dict[str, str]:
        """Objective of each configured base learner."""
        return {name: getattr(self, name).objective for name in self.learners}

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
        if label.kind != self.label_kind:
            fitting = {
                "return": "lightgbm regression or huber, xgboost reg:squarederror, catboost RMSE",
                "direction": "lightgbm binary, xgboost binary:logistic, catboost Logloss",
            }[label.kind]
            raise _wrong(
                f"objectives that fit label.kind: {label.kind} ({fitting}), instead of {self._spelt()} in models; "
                f"these fit label.kind: {self.label_kind}"
            )
