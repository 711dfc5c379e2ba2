"""What a stage may be asked and told: named parts of one universe's and strategy's configuration, and effects."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel

from quant_assets.common.errors import GateClosedError
from quant_assets.common.hashing import bytes_digest, json_digest
from quant_assets.common.home import Home
from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.gates.desk_gates import in_identity
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.configured import Settings

# ---------------------------------------------------- what a stage does to the world or is told about its run


Progress = Callable[[str], Callable[[int, int], None]]


@dataclass(frozen=True)
class RunFacts:
    """The run that a stage is part of.

    Attributes
    ----------
    run_id : str
    trigger : str
        Who or what asked for it.
    url : str
        Where the run is shown; empty when nowhere.
    resources : callable, names of steps -> mapping
        What the steps of this run took of the machine, as ``<step>/<quantity>``.
    """

    run_id: str = "notebook"
    trigger: str = "notebook"
    url: str = ""
    resources: Callable[[Sequence[str]], Mapping[str, float]] = lambda _: {}


@dataclass(frozen=True)
class KnownVintage:
    """The newest earlier version of a partition.

    Attributes
    ----------
    known_at : datetime
        When its content was first seen.
    symbol_digests : mapping of str to str
        As its event recorded them.
    artifact : Artifact
        Its object may be lost.
    """

    version: str
    known_at: datetime
    symbol_digests: Mapping[str, str]
    artifact: Artifact


@dataclass(frozen=True)
class Made:
    """One version of an asset, as the event log names it.

    Attributes
    ----------
    artifact : Artifact
        Its object may be lost.
    at : datetime
        When it was last made, or found to be what would be made (UTC).
    run_id : str
    facts : mapping
        What people were told of it.
    """

    artifact: Artifact
    at: datetime
    run_id: str
    facts: Mapping[str, Any]


class History(Protocol):
    """What the event log knows of earlier versions of the asset that is made, and of any other."""

    def versions(self, key: tuple[str, str]) -> Iterator[Made]:
        """Every version of an asset that the log still names, newest first, each once."""

    def previous(self) -> KnownVintage | None:
        """The newest earlier version of this partition."""

    def last_session(self) -> date | None:
        """The newest session known in any partition."""

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """Facts about the newest version of each partition, by partition."""


class NoHistory:
    """Nothing was ever made before."""

    def versions(self, key: tuple[str, str]) -> Iterator[Made]:
        """None of any asset."""
        return iter(())

    def previous(self) -> KnownVintage | None:
        """None."""
        return None

    def last_session(self) -> date | None:
        """None."""
        return None

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """None of any partition."""
        return {}


class Scrutiny(NamedTuple):
    """What a guard found.

    Attributes
    ----------
    reasons : tuple of str
        Why the lineage does not open the way to promotion; empty when it does.
    seconds : mapping of str to float
        What finding out took, by what was asked.
    """

    reasons: tuple[str, ...]
    seconds: Mapping[str, float]


class Guard(Protocol):
    """Whether the lineage opens the way to promotion: its checks, and all that can be found out again."""

    def __call__(self, already_closed: frozenset[str]) -> Scrutiny:
        """Reasons, without those of checks whose gate the evidence closes anyway."""


def no_guard(already_closed: frozenset[str]) -> Scrutiny:
    """Without an orchestrator no check has run, so nothing is promoted."""
    raise GateClosedError(
        "promotion",
        expected="a run of the orchestrator, whose checks have judged every asset",
        found="a call outside of one",
        action="run quant-assets run, or materialise promotion in the UI",
    )


def effects_of(
    home: Home,
    run: RunFacts,
    history: History,
    partition: str | None,
    options: BaseModel | None = None,
    progress: "Progress | None" = None,
) -> dict[str, Any]:
    """What a stage may do to the world and is told of its run, by the names in `EFFECTS`."""
    return {
        "home": home,
        "run": run,
        "history": history,
        "partition": partition,
        "options": options,
        "progress": progress or quiet,
        "n_jobs": None,
    }


def quiet(_: str) -> Callable[[int, int], None]:
    """Progress that nobody watches."""
    return lambda done, total: None


def now() -> datetime:
    """The wall clock, for what records when something was decided. In no version."""
    return datetime.now(UTC)


# ---------------------------------------------------------------------------------- what a stage may be asked


class SessionRange(NamedTuple):
    """The sessions that exist: a calendar between two dates."""

    calendar: str
    start: date
    end: date


class DeskStrategy(NamedTuple):
    """One strategy of the desk: where its looks count, and the settings of what would be made of it today.

    Attributes
    ----------
    name, universe, description, book : str
    sessions : SessionRange
        Of its universe.
    settings : mapping
        Plain JSON data: everything that shapes a candidate.
    configuration : str
        Their digest, as `basis_of` has it.
    """

    name: str
    universe: str
    description: str
    book: str
    sessions: SessionRange
    settings: Mapping[str, Any]
    configuration: str


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

    @property
    def sessions(self) -> SessionRange:
        """The sessions that its universe has."""
        return SessionRange(self.bars.calendar, self.bars.start, self.bars.end)

    @property
    def book(self) -> str:
        """The book of trials that a look at a strategy counts in: its universe and label family."""
        return f"{self.bars.name}.{self.plan.label.family}"

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


def desk_of(scope: Scope) -> tuple[DeskStrategy, ...]:
    """Every configured strategy, by name."""
    settings = scope.settings
    every = [Scope(settings, settings.universe_of(s), s) for _, s in sorted(settings.strategies.items())]
    return tuple(_on_the_desk(own) for own in every)


def _on_the_desk(own: Scope) -> DeskStrategy:
    basis, plan = basis_of(own), research_of(own.plan).model_dump(mode="json", exclude={"name"})
    return DeskStrategy(
        name=own.key,
        universe=own.bars.name,
        description=own.plan.description,
        book=own.book,
        sessions=own.sessions,
        settings={**plan, "universe": basis["universe"]},
        configuration=basis["configuration"],
    )


# Keys of a configuration that are written for people and shape nothing.
FOR_PEOPLE = {"owner"}
# Sections of a strategy that say how results are judged and shown, not how they are made.
NOT_RESEARCH = (
    "gates", "further_gates", "further_checks", "reports", "artifacts", "description", "owner",
)  # fmt: skip


def research_of(strategy: StrategyConfig) -> StrategyConfig:
    """The strategy as far as it says how predictions and positions are made; the rest at its defaults."""
    defaults = {
        name: StrategyConfig.model_fields[name].get_default(call_default_factory=True)
        for name in NOT_RESEARCH
    }
    return strategy.model_copy(update=defaults)


def basis_of(scope: Scope) -> dict[str, Any]:
    """What a verdict about a candidate is about, beside its version: the settings that its evidence was made under.

    Those that shape a net return are told in full, all that shape the candidate by their digest.
    """
    universe = scope.bars.model_copy(update={"description": "", "sectors": {}})
    strategy = research_of(scope.plan)
    told = {name: getattr(strategy, name) for name in ("label", "validation", "portfolio", "costs")}
    plain = {name: part.model_dump(mode="json") for name, part in {"universe": universe, **told}.items()}
    # A desk's own code: what it is called says nothing of what it does.
    own = {where: plugin.digest for where, plugin in strategy.plugins.items()}
    gates = in_identity(scope.plan.further_gates)
    files = files_behind(scope.bars)
    return {
        **plain,
        **({"files": files} if files else {}),
        **({"code": own} if own else {}),
        **({"further_gates": gates} if gates else {}),
        "configuration": json_digest([plain["universe"], strategy.model_dump(mode="json"), files]),
    }


def files_behind(universe: UniverseConfig) -> dict[str, str]:
    """Digests of the files that a universe names beside its bars: actions, listings and memberships, as they are now.

    A file that is not there has the digest ``absent``: what reads it says so.
    """
    named = {
        "actions": universe.actions.path,
        "listings": universe.listings.path if universe.listings else None,
        "memberships": universe.memberships.path if universe.memberships else None,
    }
    found = {name: Path(path) for name, path in named.items() if path is not None}
    return {
        name: bytes_digest(file.read_bytes()) if file.is_file() else "absent" for name, file in found.items()
    }


# What only the stages of listings and memberships are told of: bars are the same bars without it.
UNTOLD: Mapping[str, Any] = {"listings": None, "memberships": None, "members": None, "sectors": {}}
# Parts of the configuration by the name of a parameter. Whoever reads one has it in his version.
CONFIGURATION: Mapping[str, Callable[[Scope], Any]] = {
    # The asset class says what costs may be assumed, not how bars are made.
    "universe": lambda s: s.bars.model_copy(update={"description": "", "asset_class": "equity", **UNTOLD}),
    "listing_source": lambda s: s.bars.model_copy(
        update={
            "description": "",
            "asset_class": "equity",
            "memberships": None,
            "members": None,
            "sectors": {},
        }
    ),
    "membership_source": lambda s: s.bars.memberships,
    "members": lambda s: s.bars.members,
    "calendar": lambda s: s.bars.calendar,
    "delisting": lambda s: s.bars.delisting,
    "actions": lambda s: s.bars.actions,
    "multipliers": lambda s: s.bars.multipliers,
    "sessions": lambda s: s.sessions,
    "strategy": lambda s: s.plan,
    "research": lambda s: research_of(s.plan),
    "name": lambda s: s.key,
    "book": lambda s: s.book,
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
    "further_gates": lambda s: s.plan.further_gates,
    "limits": lambda s: s.settings.gates.for_strategy(s.plan.gates),
    "gates": lambda s: s.settings.gates,
    "minima": lambda s: s.settings.minima,
    "drift": lambda s: s.settings.drift,
    "basis": basis_of,
    "desk": desk_of,
    "member": lambda s: None,  # of a family; filled in for each of its assets
}

# What a stage does to the world, or is told about its run. In no version.
CHECK_EFFECTS = ("home", "history")
EFFECTS = (
    "home",
    "run",
    "look",
    "ideas",
    "progress",
    "history",
    "options",
    "n_jobs",
    "fits",
    "guard",
    "partition",
    "value",
    "made",
)
