"""What a stage may be asked: named parts of the configuration of one universe and strategy, and named effects."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import Any, NamedTuple

from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.lineage.settings import Settings


class SessionRange(NamedTuple):
    """The sessions that exist: a calendar between two dates."""

    calendar: str
    start: date
    end: date


@dataclass(frozen=True)
class Scope:
    """The configuration that one asset lives in.

    Attributes
    ----------
    settings : Settings
    universe : UniverseConfig or None
        None for assets of the platform.
    strategy : StrategyConfig or None
        None for assets of a universe and of the platform.
    """

    settings: Settings
    universe: UniverseConfig | None = None
    strategy: StrategyConfig | None = None

    @cached_property
    def key(self) -> str:
        """First part of the keys of this scope's assets."""
        return self.strategy.name if self.strategy else self.universe.name if self.universe else "platform"

    @property
    def bars(self) -> UniverseConfig:
        """The universe, of a scope that has one."""
        if self.universe is None:
            raise TypeError(f"{self.key} has no universe")
        return self.universe

    @property
    def plan(self) -> StrategyConfig:
        """The strategy, of a scope that has one."""
        if self.strategy is None:
            raise TypeError(f"{self.key} has no strategy")
        return self.strategy

    @cached_property
    def packs(self) -> tuple[str, ...]:
        """Feature packs of the strategy; in a universe's scope those of all its strategies, by name."""
        if self.strategy is not None:
            return self.strategy.feature_packs
        strategies = self.settings.strategies.values()
        used = {p for s in strategies if s.universe == self.bars.name for p in s.feature_packs}
        return tuple(sorted(used))

    def of_universe(self) -> "Scope":
        """The scope of this strategy's universe."""
        return replace(self, strategy=None)


# Keys of a configuration that are written for people and shape nothing.
FOR_PEOPLE = {"description", "owner"}
# Sections of a strategy that say how results are judged and shown, not how they are made.
NOT_RESEARCH = ("gates", "reports", "artifacts", "description", "owner")


def research_of(strategy: StrategyConfig) -> StrategyConfig:
    """The strategy as far as it says how predictions and positions are made; the rest at its defaults."""
    defaults = {
        name: StrategyConfig.model_fields[name].get_default(call_default_factory=True)
        for name in NOT_RESEARCH
    }
    return strategy.model_copy(update=defaults)


# Parts of the configuration by the name of a parameter. Whoever reads one has it in his version.
CONFIGURATION: Mapping[str, Callable[[Scope], Any]] = {
    "universe": lambda s: s.bars,
    "calendar": lambda s: s.bars.calendar,
    "sessions": lambda s: SessionRange(s.bars.calendar, s.bars.start, s.bars.end),
    "strategy": lambda s: s.plan,
    "research": lambda s: research_of(s.plan),
    "name": lambda s: s.key,
    "packs": lambda s: s.packs,
    "holdout_sessions": lambda s: s.plan.holdout_sessions,
    "label": lambda s: s.plan.label,
    "models": lambda s: s.plan.models,
    "search": lambda s: s.plan.tuning,
    "seed": lambda s: s.plan.seed,
    "embargo_sessions": lambda s: s.plan.validation.embargo_sessions,
    "validation": lambda s: s.plan.validation,
    "portfolio": lambda s: s.plan.portfolio,
    "costs": lambda s: s.plan.costs,
    "int8_student": lambda s: s.plan.artifacts.int8_student,
    "limits": lambda s: s.settings.gates.for_strategy(s.plan.gates),
    "gates": lambda s: s.settings.gates,
    "drift": lambda s: s.settings.monitoring.drift,
    "member": lambda s: None,  # of a family; filled in for each of its assets
}

# What a stage does to the world, or is told about its run. In no version.
EFFECTS = ("home", "run", "progress", "history", "options", "n_jobs", "guard", "partition", "value")
