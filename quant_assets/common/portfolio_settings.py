"""What a strategy file may say of how scores become positions: a scheme with its options, and constraints.

A scheme is one of ours by name, or a desk's own as ``module:object``; either may have options::

    scheme: long_short
    scheme: {use: top_k, options: {names: 20}}
    scheme: {use: my_desk.sizing:inverse_volatility, options: {floor: 0.005}}
"""

import importlib.metadata
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, JsonValue, ValidationError, field_validator, model_validator

from quant_assets.common.config_model import Config
from quant_assets.common.errors import closest
from quant_assets.common.plugins import ENTRY_POINTS, Plugin, is_reference


class NoOptions(Config):
    """Of a scheme that has none."""


class SidedOptions(Config):
    """Of a scheme that holds both sides, or the upper half alone."""

    long_only: bool = False


class ZScoreOptions(SidedOptions):
    """Weights by the score less its mean over its standard deviation, cut at so many of them."""

    cut_at: float = Field(default=3.0, gt=0, le=100, description="standard deviations")


class TopKOptions(SidedOptions):
    """Equal weights of the best names, and of the worst ones short."""

    names: int = Field(default=10, ge=1, le=10_000, description="on each side")


class VolatilityTargetOptions(SidedOptions):
    """Rank weights, scaled to an ex-ante volatility; never above ``gross_leverage``."""

    annual_volatility: float = Field(default=0.10, ge=0.02, le=2.0, description="fraction of capital")


class TurnoverAwareOptions(SidedOptions):
    """Rank weights, left alone while they are near what is held."""

    band: float = Field(default=0.5, gt=0, le=10, description="of the average absolute weight")


Rebalance = Literal["daily", "weekly", "monthly"]


class OptimisedOptions(SidedOptions):
    """Of a scheme that solves a problem: it does so in the first session of each week or month, and keeps between."""

    rebalance: Rebalance = "monthly"


class MeanVarianceOptions(OptimisedOptions):
    """Expected return is IC x volatility x score (Grinold 1994, Journal of Portfolio Management 20, 9)."""

    risk_aversion: float = Field(
        default=5.0, gt=0, le=1e6, description="times variance, less expected return"
    )
    information_coefficient: float = Field(default=0.03, gt=0, le=1)


# The order is that of the docs. Those of the first line need nothing but scores.
BY_RANK = ("long_short", "long_only")
# Those of a library that only whoever uses them needs to have.
OPTIMISED = ("mean_variance", "hierarchical_risk_parity")
SCHEMES: Mapping[str, type[Config]] = {
    "long_short": NoOptions,
    "long_only": NoOptions,
    "z_score": ZScoreOptions,
    "top_k": TopKOptions,
    "volatility_target": VolatilityTargetOptions,
    "sector_neutral": NoOptions,
    "beta_neutral": NoOptions,
    "turnover_aware": TurnoverAwareOptions,
    "mean_variance": MeanVarianceOptions,
    "hierarchical_risk_parity": OptimisedOptions,
}


class ConstraintsConfig(Config):
    """Upper bounds of a book, as fractions of capital. Whatever is cut stays in cash."""

    largest_weight: float | None = Field(default=None, gt=0, le=10, description="of one name, either side")
    participation: float | None = Field(
        default=None, gt=0, le=100, description="a position over the name's daily traded value"
    )
    largest_sector: float | None = Field(
        default=None, gt=0, le=10, description="absolute weights of a sector"
    )
    net: float | None = Field(default=None, ge=0, le=10, description="long less short, either way")
    gross: float | None = Field(default=None, gt=0, le=10, description="absolute weights of all")

    @property
    def named(self) -> dict[str, float]:
        """Those that are set, by name."""
        return {name: value for name, value in self if value is not None}


class PortfolioConfig(Config):
    """How scores become positions.

    ``long_short`` holds centred cross-sectional ranks, ``long_only`` the ranks above the median; both sum to
    ``gross_leverage`` in absolute value. Targets are averaged over
    ``holding_sessions`` (overlapping tranches). Other schemes see, beside the scores of a session, what was known at
    its close: ``lookback_sessions`` of returns, and so on. A desk's own is `module:object`.

    On what a book holds net long the ``risk_free_rate`` (a year, by calendar days over 365) is subtracted: a
    Sharpe ratio is about excess returns, and what stays in cash would earn the rate itself. A ``long_short`` book is
    its own finance. The default is what three-month US bills paid from 2000 to 2023, 1.7 % a year (FRED TB3MS),
    rounded up.
    """

    scheme: str = Field(default="long_short", min_length=1, max_length=200)
    options: dict[str, JsonValue] = Field(default_factory=dict, max_length=64)
    gross_leverage: float = Field(default=1.0, gt=0, le=10)
    holding_sessions: int = Field(default=5, ge=1, le=252)
    risk_free_rate: float = Field(default=0.02, ge=0, le=0.5, description="a year, on what is held net long")
    lookback_sessions: int = Field(default=252, ge=20, le=1260, description="returns that a scheme is shown")
    constraints: ConstraintsConfig = ConstraintsConfig()
    sectors: dict[str, str] = Field(
        default_factory=dict, max_length=20_000, description="of names; those of the universe by default"
    )

    @model_validator(mode="before")
    @classmethod
    def _options_beside_the_scheme(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and isinstance(data.get("scheme"), Mapping):
            told = dict(data["scheme"])
            unknown = sorted(set(told) - {"use", "options"})
            if unknown or "use" not in told or "options" in data:
                raise ValueError("a scheme is its name, or {use: name, options: {...}}")
            return {**data, "scheme": told["use"], "options": told.get("options", {})}
        return data

    @field_validator("scheme")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value in SCHEMES or is_reference(value):
            return value
        installed = [found.name for found in importlib.metadata.entry_points(group=ENTRY_POINTS)]
        if value not in installed:
            near = closest(value, [*SCHEMES, *installed])
            raise ValueError(
                f"one of {', '.join((*SCHEMES, *installed))}, or 'package.module:object'"
                f"{f': {near}' if near else ''}"
            )
        return value

    @model_validator(mode="after")
    def _options_of_the_scheme(self) -> Self:
        model = SCHEMES.get(self.scheme)
        if model is not None:
            try:
                told = model.model_validate(self.options)
            except ValidationError as error:
                first = error.errors()[0]
                key = ".".join(str(part) for part in first["loc"])
                known = ", ".join(model.model_fields) or "it has none"
                raise ValueError(
                    f"option {key!r} of scheme {self.scheme!r}: {first['msg']}, found {first['input']!r} "
                    f"(its options: {known})"
                ) from None
            object.__setattr__(
                self, "options", told.model_dump(mode="json")
            )  # in full: defaults are identity
        return self

    @model_validator(mode="after")
    def _constraints_can_bind(self) -> Self:
        limits = self.constraints
        least = min(self.gross_leverage, limits.gross or self.gross_leverage)
        for name in ("gross", "net", "largest_weight", "largest_sector"):
            value = getattr(limits, name)
            if value is not None and value > least:
                raise ValueError(
                    f"constraints.{name} {value:g} can never bind: the book is at most {least:g} in all"
                )
        if limits.net == 0.0 and self.holds_one_side:
            raise ValueError("constraints.net 0 leaves nothing of a book that holds one side alone")
        return self

    @property
    def plugin(self) -> Plugin | None:
        """The desk's own scheme, where it is none of ours."""
        return None if self.scheme in SCHEMES else Plugin(use=self.scheme, options=self.options)

    @property
    def code(self) -> tuple[str, ...]:
        """Code that it reaches by name, as ``module:object``: it is in the version of whatever trades."""
        if self.plugin is not None:
            return (self.plugin.reference,)
        return (f"quant_assets.trading.optimised:{self.scheme}",) if self.scheme in OPTIMISED else ()

    @property
    def holds_one_side(self) -> bool:
        """Whether it never goes short, as far as the configuration says."""
        return self.scheme == "long_only" or self.options.get("long_only") is True

    @property
    def by_rank_alone(self) -> bool:
        """Whether weights are a function of the scores of one session and nothing else."""
        return self.scheme in BY_RANK and not self.constraints.named

    @property
    def needs_sectors(self) -> bool:
        """Whether it can do nothing where nobody says which sector a name is in."""
        return self.scheme == "sector_neutral" or self.constraints.largest_sector is not None

    @property
    def reads_sectors(self) -> bool:
        """Whether sectors shape its weights."""
        return self.needs_sectors or self.plugin is not None

    @property
    def financing_rate(self) -> float:
        """What is subtracted on net long capital, a year; 0 of a book of centred ranks, which has none."""
        return 0.0 if self.scheme == "long_short" and self.by_rank_alone else self.risk_free_rate
