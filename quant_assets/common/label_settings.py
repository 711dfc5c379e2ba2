"""What a strategy may say about its labels: the kind, the horizon, what learners are fitted to, and options."""

from typing import Any, Literal, Self

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from quant_assets.common.config_model import Config
from quant_assets.common.plugins import Plugin, names_a_plugin

# What an objective is fitted to: a number (regression) or one of two classes (classification).
LabelKind = Literal["return", "direction"]
Target = Literal["number", "class"]


def _wrong(expected: str) -> PydanticCustomError:
    return PydanticCustomError("label", "{expected}", {"expected": expected})


class NoOptions(Config):
    """A kind without options."""


class VolatilityOptions(Config):
    """Returns in units of the volatility that was known at the decision."""

    volatility_sessions: int = Field(default=60, ge=5, le=2520, description="daily returns it is taken of")


class TripleBarrierOptions(VolatilityOptions):
    """Barriers in units of daily volatility around the entry price; ``null`` is no barrier on that side.

    ``vertical`` says what a label is when none was touched: the ``sign`` of the return at the horizon, or ``zero``.
    """

    profit_taking: float | None = Field(default=1.0, gt=0, le=1000)
    stop_loss: float | None = Field(default=1.0, gt=0, le=1000)
    vertical: Literal["sign", "zero"] = "sign"

    @model_validator(mode="after")
    def _has_a_barrier(self) -> Self:
        if self.profit_taking is None and self.stop_loss is None:
            raise _wrong("profit_taking or stop_loss, or both: without a barrier write kind: return")
        return self


class TrendScanningOptions(Config):
    """The shortest window of closes after the decision; the longest is the horizon."""

    shortest_sessions: int = Field(default=3, ge=2, le=252)


class FeatureSide(Config):
    """A feature whose sign is the side."""

    pack: str
    name: str


class MetaOptions(Config):
    """The primary rule, whose side is judged: the sign of a feature, or a plug-in."""

    feature: FeatureSide | None = None
    rule: Plugin | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if (self.feature is None) == (self.rule is None):
            raise _wrong("one of feature: {pack, name} and rule: module:object, and not both")
        return self


# Of each kind: what its options may say, and what learners can be fitted to, the first by default.
KINDS: dict[str, tuple[type[Config], tuple[Target, ...]]] = {
    "return": (NoOptions, ("number",)),
    "direction": (NoOptions, ("class",)),
    "volatility_scaled": (VolatilityOptions, ("number",)),
    "triple_barrier": (TripleBarrierOptions, ("number", "class")),
    "trend_scanning": (TrendScanningOptions, ("number", "class")),
    "meta": (MetaOptions, ("class",)),
}
OF_THE_DESK: tuple[Target, ...] = ("number", "class")


class LabelConfig(Config):
    """What is learnt of the return of entering at open t+1 and leaving ``horizon_sessions`` later, at the latest.

    ``kind`` is one of

    - ``return``: the forward return itself; scores are expected returns.
    - ``direction``: whether the name beats the median forward return of its cross-section, 1 or 0, as in Krauss, Do
      and Huck (2017, EJOR 259), because positions are cross-sectional ranks: the sign of a return is mostly that of
      the market, which a rank does not trade. A return at the median (a tie, the middle name of an odd number, or a
      cross-section of one) is 0: it did not beat it. Scores are then log-odds, in the order of the probabilities.
    - ``volatility_scaled``: the forward return over the volatility known at the decision, of the same horizon.
    - ``triple_barrier``: which barrier is touched first (Lopez de Prado 2018, ch. 3).
    - ``trend_scanning``: the t-value of the strongest trend that follows (Lopez de Prado 2020, ch. 5).
    - ``meta``: whether the side of a primary rule made money (Lopez de Prado 2018, 3.6).
    - ``module:object``: a function of the desk's own.

    ``target`` is what learners are fitted to: a ``number``, or a ``class`` of 0 and 1.

    Examples
    --------
    ::

        label:
          kind: triple_barrier
          horizon_sessions: 10
          target: class
          options: {profit_taking: 2.0, stop_loss: 1.0, volatility_sessions: 100}
    """

    horizon_sessions: int = Field(default=5, ge=1, le=252)
    kind: str = Field(default="return", max_length=200)
    target: Target | None = Field(default=None, description="number or class, where the kind leaves a choice")
    options: dict[str, JsonValue] = Field(default_factory=dict, max_length=64)

    @field_validator("kind")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in KINDS and not names_a_plugin(value):
            raise _wrong(f"one of {', '.join(KINDS)}, or module:object of a label of your own")
        return value

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        _, targets = KINDS.get(self.kind, (NoOptions, OF_THE_DESK))
        if self.target is not None and self.target not in targets:
            raise _wrong(f"target: {' or '.join(targets)} with kind: {self.kind}, instead of {self.target}")
        if self.kind in KINDS:
            chosen = self.settings
            if isinstance(chosen, TrendScanningOptions) and chosen.shortest_sessions > self.horizon_sessions:
                raise _wrong(
                    f"shortest_sessions of at most horizon_sessions ({self.horizon_sessions}), instead of "
                    f"{chosen.shortest_sessions}"
                )
        return self

    @property
    def settings(self) -> Any:
        """The options of a kind of the platform's own, checked.

        Raises
        ------
        PydanticCustomError
            To be raised inside a validator.
        """
        model, _ = KINDS[self.kind]
        try:
            return model.model_validate(self.options)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            known = ", ".join(model.model_fields) or "none"
            raise _wrong(
                f"options of kind: {self.kind} ({known}); {where or 'options'}: {first['msg']}"
            ) from error

    @property
    def plugin(self) -> Plugin | None:
        """The function of the desk's own, for a kind that names one."""
        return None if self.kind in KINDS else Plugin(use=self.kind, options=self.options)

    @property
    def learnt_as(self) -> LabelKind:
        """The kind of objective that it takes: ``return`` for numbers, ``direction`` for classes."""
        _, targets = KINDS.get(self.kind, (NoOptions, OF_THE_DESK))
        return "direction" if (self.target or targets[0]) == "class" else "return"

    @property
    def family(self) -> str:
        """What the label is a view of. Trials are counted by it: another horizon, another kind, or a function of the
        desk's own is another look at what the same names did after the same decisions.
        """
        return "forward_return"
