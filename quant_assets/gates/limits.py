"""The limits of all gates, as ``gates.yaml`` says them and as a strategy may tighten them.

Which limits there are is said by the gates: a gate that is registered has its key here, with its default, its bounds
and its direction.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from quant_assets.common.config_model import Config
from quant_assets.common.errors import ConfigurationError, closest
from quant_assets.common.hashing import json_digest
from quant_assets.common.settings import AssetClass, StrategyConfig, UniverseConfig
from quant_assets.gates.gate import KINDS, Limit, gates_of
from quant_assets.gates.verdicts import ReportKind


@cache
def _model_of(limits: tuple[Limit, ...]) -> type[Config]:
    """What a section may say about these limits."""
    fields: dict[str, Any] = {
        limit.key: (
            int if limit.whole else float,
            Field(default=limit.default, description=limit.description, **limit.bounds),
        )
        for limit in limits
    }
    return create_model("Limits", __base__=Config, **fields)


class LimitSection(Config):
    """A section of the configuration that holds the limits of the gates of some kinds, beside fields of its own.

    A limit is an attribute under its key. It is there because a gate declares it, so a type checker knows no more
    than that it is a number.
    """

    model_config = ConfigDict(extra="allow")  # the limits; `_limits_of_the_gates` refuses everything else
    kinds: ClassVar[tuple[ReportKind, ...]] = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> float: ...

    @classmethod
    def declared(cls) -> tuple[Limit, ...]:
        """The limits of the gates of its kinds that are registered now.

        Raises
        ------
        ConfigurationError
            When a gate has a limit of the same name as something else in this section.
        """
        limits = tuple(limit for kind in cls.kinds for gate in gates_of(kind) for limit in gate.limits)
        taken = [limit.key for limit in limits if limit.key in cls.model_fields or hasattr(cls, limit.key)]
        if taken:
            raise ConfigurationError(
                f"limit {taken[0]!r} of a gate",
                expected=f"a key that {cls.__name__} does not have already",
                found="one that it has",
                action="rename the limit",
            )
        return limits

    @classmethod
    def known_keys(cls) -> tuple[str, ...]:
        """Its own fields and the limits of the gates."""
        return (*cls.model_fields, *(limit.key for limit in cls.declared()))

    @model_validator(mode="before")
    @classmethod
    def _limits_of_the_gates(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping):
            return data
        own = {key: value for key, value in data.items() if key in cls.model_fields}
        limits = {key: value for key, value in data.items() if key not in own}
        # JSON is what was stored: nothing in it is a number in the dress of a text, as in YAML.
        held = _model_of(cls.declared()).model_validate(limits, strict=info.mode == "json")
        return {**own, **held.model_dump()}

    def limit_values(self) -> dict[str, float]:
        """The limits of the gates by name, without the section's other fields."""
        return dict(self.model_extra or {})


class GatesConfig(LimitSection):
    """Limits of validation and parity. A gate passes iff value >= limit (or <= where its limit says so)."""

    kinds = ("validation", "walk_forward", "parity")

    psr_standard: Literal["2012", "2025"] = "2025"
    baseline_max_sharpe_fall: float = Field(default=0.2, ge=0, description="annual, against a baseline file")

    def for_strategy(self, overrides: Mapping[str, float]) -> "GatesConfig":
        """These limits with one strategy's stricter ones in their place.

        Raises
        ------
        ConfigurationError
            When a limit of the strategy is unknown, not its own to set, out of bounds, or looser than the shared one.
        """
        own = {limit.key: limit for limit in self.declared() if limit.per_strategy}
        for key, value in overrides.items():
            if key not in own:
                near = closest(key, own)
                raise ConfigurationError(
                    f"key 'gates.{key}' of a strategy",
                    expected=f"one of {', '.join(own)}",
                    found=f"unknown key {key!r} with value {value!r}",
                    action=f"{near} Correct or remove the key".strip(),
                )
        try:
            given = _model_of(tuple(own[key] for key in overrides)).model_validate(dict(overrides))
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigurationError(
                f"key 'gates.{first['loc'][0]}' of a strategy",
                expected=first["msg"],
                found=repr(first["input"]),
                action="correct the value",
            ) from error
        stricter = given.model_dump()
        for key, value in stricter.items():
            shared = getattr(self, key)
            if not own[key].as_strict(value, shared):
                raise ConfigurationError(
                    f"key 'gates.{key}' of a strategy",
                    expected=f"a limit at least as strict as the {shared} of gates.yaml",
                    found=str(value),
                    action="tighten it, or change gates.yaml for everyone in a reviewed commit",
                )
        return self.model_copy(update=stricter)


class DriftConfig(LimitSection):
    """Drift of the newest window against the training window."""

    kinds = ("drift",)

    window_sessions: int = Field(default=63, ge=20, le=1000)
    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    n_bins: int = Field(default=10, ge=4, le=100)


@dataclass(frozen=True)
class Shortfall:
    """One key that is looser than a minimum: its name in the file, what was found and what is asked."""

    key: str
    found: str
    expected: str


def _short(key: str, found: float, comparison: str, limit: float, *, unit: str = "") -> Iterator[Shortfall]:
    if not (found >= limit if comparison == ">=" else found <= limit):
        yield Shortfall(key, f"{found:g}{unit}", f"{comparison} {limit:g}{unit}")


class CostMinima(Config):
    """The least that trading costs of one asset class may be assumed to be; the bounds are the floors of all."""

    commission_bps: float = Field(ge=0.0)
    half_spread_bps: float = Field(ge=0.05)
    impact_coefficient: float = Field(ge=0.05)
    borrow_fee_bps: float = Field(default=0.0, ge=0.0, description="a year, of what is held short")
    funding_bps: float = Field(
        default=0.0, ge=0.0, description="a year: nobody is paid for holding by assumption"
    )
    capital: float = Field(
        default=100_000.0, ge=10_000.0, description="of a smaller account impact is nothing"
    )


def _costs() -> dict[AssetClass, CostMinima]:
    return {
        "equity": CostMinima(
            commission_bps=0.1, half_spread_bps=0.5, impact_coefficient=0.2, borrow_fee_bps=10.0
        ),
        "future": CostMinima(commission_bps=0.05, half_spread_bps=0.2, impact_coefficient=0.2),
        "fx": CostMinima(commission_bps=0.02, half_spread_bps=0.1, impact_coefficient=0.1),
        "crypto": CostMinima(commission_bps=1.0, half_spread_bps=1.0, impact_coefficient=0.2),
    }


class MinimaConfig(Config):
    """What a strategy and its universe may not be configured below; the bounds are the floors of ``gates.yaml``.

    Costs: half a basis point is half of a spread of one cent on a share of 100, and the coefficient of the
    square-root law is of order one (Almgren et al. 2005; Toth et al. 2011), so a fifth of it is lenient. A futures,
    currency or crypto market has costs of its own: a universe says its ``asset_class``.
    """

    costs: dict[AssetClass, CostMinima] = Field(default_factory=_costs)
    embargo_per_horizon: float = Field(default=1.0, ge=1.0, description="embargo sessions per label session")
    groups: int = Field(default=4, ge=4, description="of combinatorial purged cross-validation")
    paths: int = Field(default=3, ge=2, description="of combinatorial purged cross-validation")
    gross_leverage: float = Field(default=0.1, ge=0.01)
    price_tolerance_bps: float = Field(default=100.0, gt=0, le=250.0, description="at most, between sources")
    names: int = Field(default=4, ge=3, description="of the training set, to be promoted")

    @field_validator("costs")
    @classmethod
    def _of_every_asset_class(cls, value: dict[str, CostMinima]) -> dict[str, CostMinima]:
        missing = [name for name in get_args(AssetClass) if name not in value]
        if missing:
            raise ValueError(f"no costs of {', '.join(missing)}")
        return value

    def of_universe(self, universe: UniverseConfig) -> tuple[Shortfall, ...]:
        """Where a universe is configured more loosely than this.

        Nobody is paid for an unknown end by assumption, and a share is worth its price: times 10,000 its traded value
        is as much too large, and a hundredth of the impact is left.
        """
        tolerance = universe.reconciliation.price_tolerance_bps
        multipliers = universe.multipliers if universe.asset_class == "equity" else {}
        return (
            *_short("reconciliation.price_tolerance_bps", tolerance, "<=", self.price_tolerance_bps),
            *_short("delisting.final_return", universe.delisting.final_return, "<=", 0.0),
            *(
                short
                for name, value in multipliers.items()
                for short in _short(f"multipliers.{name}", value, "<=", 1.0)
            ),
        )

    def of_strategy(self, strategy: StrategyConfig, universe: UniverseConfig) -> tuple[Shortfall, ...]:
        """Where a strategy is configured more loosely than this."""
        validation, costs = strategy.validation, self.costs[universe.asset_class]
        horizon = math.ceil(self.embargo_per_horizon * strategy.label.horizon_sessions)
        n_paths = math.comb(validation.n_groups - 1, validation.n_test_groups - 1)
        return (
            *(
                short
                for name in CostMinima.model_fields
                for short in _short(
                    f"costs.{name}", getattr(strategy.costs, name), ">=", getattr(costs, name)
                )
            ),
            *_short("validation.embargo_sessions", validation.embargo_sessions, ">=", horizon),
            *_short("validation.n_groups", validation.n_groups, ">=", self.groups),
            *_short("validation.n_test_groups", n_paths, ">=", self.paths, unit=" paths"),
            *_short("portfolio.gross_leverage", strategy.portfolio.gross_leverage, ">=", self.gross_leverage),
        )

    def of_record(self, n_names: int) -> tuple[str, ...]:
        """Why data are too narrow to be promoted on; empty when they are not. They may be looked at, and count."""
        if n_names >= self.names:
            return ()
        return (f"minima.names of gates.yaml: at least {self.names} names to be promoted, found {n_names}",)


# The loosest that a file may say of what no gate declares; of the gates see `quant_assets.gates.gate.Limit.floor`.
LOOSEST = {
    "baseline_max_sharpe_fall": Limit("baseline_max_sharpe_fall", 0.2, "<=", floor=1.0),
    "drift.alpha": Limit("alpha", 0.01, ">=", floor=0.001),
}
# By the standard of 2012 autocorrelated noise passes more often than stated (6.5 % for 5 %): it is there to be
# compared with, and for what was judged by it.
STANDARD = "2025"


class GatesFile(GatesConfig):
    """What ``gates.yaml`` says: the limits of validation and parity; those of drift, and the minima, in sections."""

    drift: DriftConfig = Field(default_factory=DriftConfig)
    minima: MinimaConfig = Field(default_factory=MinimaConfig)

    def loosened(self) -> tuple[Shortfall, ...]:
        """Where the file is looser than the platform lets any file be."""
        known = {limit.key: limit for limit in self.declared()}
        known |= {f"drift.{limit.key}": limit for limit in self.drift.declared()} | LOOSEST
        found: list[Shortfall] = []
        for key, limit in known.items():
            value = getattr(self.drift if key.startswith("drift.") else self, limit.key)
            if limit.floor is not None:
                found += _short(key, value, limit.comparison, limit.floor)
        if self.psr_standard != STANDARD:
            found.append(Shortfall("psr_standard", self.psr_standard, f'"{STANDARD}"'))
        return tuple(found)

    def without_drift(self) -> GatesConfig:
        """The limits of validation and parity alone: what drift is judged by changes no other report."""
        return GatesConfig.model_validate(self.model_dump(exclude={"drift", "minima"}))


def limits_in_force(gates: GatesConfig, drift: DriftConfig) -> dict[str, dict[str, Any]]:
    """The limits that a report of each kind states when it was judged by this configuration."""
    stated = {kind: section for section in (gates, drift) for kind in section.kinds}
    return {kind: section.model_dump(mode="json") for kind, section in stated.items()}


def other_limits(applied: Mapping[str, Any], in_force: Mapping[str, Any]) -> tuple[str, ...]:
    """Which limits differ, each with both values; empty when none does."""
    keys = sorted(key for key in {*applied, *in_force} if applied.get(key) != in_force.get(key))
    return tuple(f"{key} {applied.get(key)}, in force {in_force.get(key)}" for key in keys)


def looser_limits(applied: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Which limits, by kind of report, are looser than those that the gates ship with; empty when none is."""
    shipped = [(kind, limit) for kind in KINDS for gate in gates_of(kind) for limit in gate.limits]
    return tuple(
        f"{limit.key} {held}, shipped {limit.default:g}"
        for kind, limit in shipped
        if kind in applied
        and ((held := applied[kind].get(limit.key)) is None or not limit.as_strict(held, limit.default))
    )


# ------------------------------------------------------------------------------------------ approved limits

# Whoever chooses the configuration folder chooses its gates.yaml. What production promotes by is therefore said in a
# place of its own, beside the keys: by the digest of the limits that were reviewed.
APPROVED_VARIABLE = "QUANT_ASSETS_APPROVED_GATES"


def gates_digest(gates: GatesConfig, drift: DriftConfig, minima: MinimaConfig) -> str:
    """Digest of everything in a configuration that decides what opens a gate, wherever it was read from.

    It is of values and not of a file: of ``gates.yaml`` with the defaults behind it, and of what each registered gate
    compares, so a gate that a plug-in added, left out or declared anew is another digest.
    """
    declared = {
        gate.name: [kind, gate.limit.comparison, gate.may_not_apply, [[x.key, x.offset] for x in gate.limits]]
        for kind in KINDS
        for gate in gates_of(kind)
    }
    least = minima.model_dump(mode="json")
    said = {"limits": limits_in_force(gates, drift), "minima": least, "gates": declared}
    return f"sha256:{json_digest(said)}"


def unapproved(digest: str | None, *, to_promote: bool) -> tuple[str, ...]:
    """Why limits may not be promoted by, or a champion that was promoted by them not be served; empty when they may.

    Asked where ``$QUANT_ASSETS_APPROVED_GATES`` is set, and always in production. It holds digests as `gates_digest`
    gives them, joined by commas: the first is what promotions are decided by, the others are of limits that were
    approved earlier, and champions of that time are still served.

    Parameters
    ----------
    digest : str or None
        None where the ledger does not say.

    Raises
    ------
    ConfigurationError
        When the variable is not set in production, or holds something other than digests.
    """
    said = os.environ.get(APPROVED_VARIABLE, "")
    if not said and os.environ.get("QUANT_ASSETS_ENV") != "production":
        return ()
    approved = [part.strip() for part in said.split(",")]
    if not all(re.fullmatch("sha256:[0-9a-f]{64}", part) for part in approved):
        raise ConfigurationError(
            f"environment variable {APPROVED_VARIABLE}",
            expected="the digest of the limits that were approved, as in sha256:<64 hexadecimal digits>",
            found=repr(said) if said else "it is not set, and production has to know",
            action="review the limits, take `gates_digest` of `quant-assets config show`, and set it beside the keys",
        )
    if digest in (approved[:1] if to_promote else approved):
        return ()
    found = f"by limits with digest {digest}" if digest else "by limits that its ledger entry does not name"
    return (f"limits: {found}, approved is {approved[0]} ({APPROVED_VARIABLE})",)
