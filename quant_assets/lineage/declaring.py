"""What a stage of the lineage is, as data: a pure function, what it reads, what it is asked, and how it is checked.

A stage is declared once, by a decorator on its function::

    @stage(group="datasets", kinds=frozenset({"polars"}))
    def labels(bars: Artifact, *, label: LabelConfig, sessions: SessionRange) -> Product:
        "Forward returns from the next open, each with the times at which it starts, ends and is known."

Positional parameters are the assets that it reads, by name. Parameters after the ``*`` are parts of the configuration
(`quant_assets.lineage.scope.CONFIGURATION`) and what it does to the world (`EFFECTS`: a home to write ledgers to,
the run that it is part of, a callback for progress). Configuration is in its version, effects are not. So inputs,
slices and code are named once, by the function itself, and none can be left out.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import polars as pl
from pydantic import BaseModel

from quant_assets.common.errors import ConfigurationError, closest
from quant_assets.common.files import Location
from quant_assets.common.plugins import Plugin
from quant_assets.common.provenance import reference
from quant_assets.common.store import Value
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.desk_gates import desk_names, desk_titles
from quant_assets.gates.gate import gate_modules, gates_of
from quant_assets.gates.limits import DriftConfig, GatesConfig, limits_in_force, other_limits
from quant_assets.gates.verdicts import GateReport, ReportKind, Verdict
from quant_assets.lineage.artifact import FEEDS, PANELS, Artifact
from quant_assets.lineage.scope import CHECK_EFFECTS, CONFIGURATION, EFFECTS, Scope

# ----------------------------------------------------------------- what people see of a result beside numbers


@dataclass(frozen=True)
class Picture:
    """A PNG as a ``data:`` address, and its title."""

    data_uri: str
    title: str


@dataclass(frozen=True)
class Markdown:
    """Text with Markdown in it."""

    text: str


@dataclass(frozen=True)
class Link:
    """An address to open."""

    address: str


@dataclass(frozen=True)
class File:
    """A file on this machine, or an object of a bucket."""

    path: Location


@dataclass(frozen=True)
class LongTable:
    """A table that is shown with more rows than usual."""

    frame: pl.DataFrame
    max_rows: int


# ---------------------------------------------------------------------------------------- stages and checks


Owner = Literal["universe", "strategy", "platform"]
Severity = Literal["ERROR", "WARN"]
Outcome = Literal["passed", "failed", "no verdict"]
Function = TypeVar("Function", bound=Callable[..., Any])

# Groups in the order of the lineage: also those of the UI.
GROUPS = ("market", "features", "datasets", "models", "validation", "artifacts", "monitoring", "registry")


@dataclass(frozen=True)
class Product:
    """What a stage computed: the value to store and what people should see of it.

    Facts are numbers, texts, frames (tables), dictionaries, and pictures, pages and texts as above. They are in no
    version.
    """

    value: Value
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckSpec:
    """One check as it is announced: its name, whether it stops what comes after, and one sentence."""

    name: str
    description: str
    blocking: bool


@dataclass(frozen=True)
class CheckResult:
    """What one check found. ``name`` is that of its spec."""

    name: str
    passed: bool
    description: str
    severity: Severity = "ERROR"
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """One or more checks of one asset, judged together.

    Attributes
    ----------
    name : str
        Of the judging, unique for its asset.
    specs : callable, Scope -> sequence of CheckSpec
        The checks in force for a scope.
    function : callable
        Reads assets by the names of its parameters, as a stage does, and gives a result for each spec.
    """

    name: str
    specs: Callable[[Scope], Sequence[CheckSpec]]
    function: Callable[..., Iterable[CheckResult] | CheckResult]

    def judge(self, arguments: Mapping[str, Any]) -> tuple[CheckResult, ...]:
        """Call the function; one result is a sequence of one."""
        found = self.function(**arguments)
        return (found,) if isinstance(found, CheckResult) else tuple(found)


def everywhere(_: Scope) -> bool:
    """A stage that every scope has."""
    return True


@dataclass(frozen=True)
class Stage:
    """One stage: an asset of each universe, of each strategy or of the platform, or a family of such assets.

    Attributes
    ----------
    name : str
        Of the asset; of a family, the name under which others read all of its members.
    function : callable
        From artifacts and configuration to a `Product`.
    group : str
        Of `GROUPS`.
    owner : {"universe", "strategy", "platform"}
        Whose asset it is: the first part of its key.
    kinds : set of str, or callable from Scope
        Technologies, for people.
    wanted : callable, Scope -> bool
        Whether a scope has it.
    members : callable, Scope -> mapping, optional
        For a family: asset name to member, as in ``{"technical_features": "technical_v1"}``; the member is the
        parameter ``member`` of the function.
    roots : callable, (Scope, member) -> sequence of str, optional
        Modules that the function reaches by name at run time.
    identity : callable, (Scope, member) -> str, optional
        What else tells one version of a member from another: the fingerprint of its declaration.
    describe : callable, optional
        Further facts, from the value and any of the stage's inputs and configuration; in no version.
    counts : callable, optional
        Of a stage that shows an outcome: enters it into the trial ledger, from the value and any of the stage's
        inputs, before anybody sees it; gives facts.
    checks : tuple of Check
    gates : {"validation", "walk_forward", "parity", "drift"} or None
        The kind of report that the asset is, if gates are judged in it.
    partitions : callable, Scope -> sequence of str, optional
    fresh : callable, optional
        Further facts that shape the result (a key, an environment), from effects and configuration.
    always : bool
        Computed even when nothing has changed, because it reads or acts on the outside world.
    still : callable, optional
        Of a stage that acts on the outside world: from the version that it ``made``, why that is not there any more
        as it was left (empty when it is). Asked before a run; without it the stage is computed to find out.
    guarded : bool
        Stands behind the orchestrator's guard: no plain run makes it.
    decides : bool
        Decides what serves. A strategy has one such asset, and automation asks for it once all blocking checks of
        everything upstream have passed.
    rederived : bool
        Cheap and pure: promotion makes it again from what it was made from, and it must come out the same.
    options : pydantic model, optional
        How much is done, chosen for a run: the parameter ``options``.
    pool : str or None
    team : str or None
        Who owns it; None is the strategy's owner.
    sentence : str, or callable from (Scope, member)
        One sentence for people; the first of the docstring when empty.
    """

    name: str
    function: Callable[..., Product]
    group: str
    owner: Owner = "strategy"
    kinds: frozenset[str] | Callable[[Scope], Iterable[str]] = frozenset()
    wanted: Callable[[Scope], bool] = everywhere
    members: Callable[[Scope], Mapping[str, str]] | None = None
    roots: Callable[[Scope, str | None], Sequence[str]] | None = None
    identity: Callable[[Scope, str | None], str] | None = None
    describe: Callable[..., Mapping[str, Any]] | None = None
    counts: Callable[..., Mapping[str, Any]] | None = None
    checks: tuple[Check, ...] = ()
    gates: ReportKind | None = None
    partitions: Callable[[Scope], Sequence[str]] | None = None
    fresh: Callable[..., Sequence[str]] | None = None
    always: bool = False
    still: Callable[..., str] | None = None
    guarded: bool = False
    decides: bool = False
    rederived: bool = False
    options: type[BaseModel] | None = None
    pool: str | None = None
    team: str | None = None
    sentence: str | Callable[[Scope, str | None], str] = ""

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ConfigurationError(
                f"group of stage {self.name!r}",
                expected=f"one of {', '.join(GROUPS)}",
                found=repr(self.group),
                action=closest(self.group, GROUPS) or "choose one of them",
            )
        told = set(EFFECTS) - {"value", "made"}
        told -= {"options"} if self.options is None else set()
        told -= {"partition"} if self.partitions is None else set()
        told -= set() if self.always else {"history", "guard"}  # who reads the world is asked every time
        self._require_keywords(self.function, told)
        for further in filter(None, (self.describe, self.counts, self.fresh)):
            self._require_keywords(further, told if further is self.fresh else {*told, "value"})
        if self.still is not None:
            self._require_keywords(self.still, {*told, "made"})
        for check in self.checks:
            self._require_keywords(check.function, set(CHECK_EFFECTS))

    def _require_keywords(self, function: Callable[..., Any], told: set[str]) -> None:
        unknown = [n for n in keywords_of(function) if n not in CONFIGURATION and n not in told]
        if unknown:
            known = [*CONFIGURATION, *sorted(told)]
            raise ConfigurationError(
                f"parameters of {getattr(function, '__name__', 'a function')!r} of stage {self.name!r}",
                expected=f"after the '*' only {', '.join(known)}",
                found=", ".join(unknown),
                action=closest(unknown[0], known) or "put the name of an asset before the '*'",
            )

    @staticmethod
    def parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
        """The parameters of a function that are assets."""
        return tuple(p for p in _parameters(function) if p.kind is not inspect.Parameter.KEYWORD_ONLY)

    @property
    def slices(self) -> tuple[str, ...]:
        """The parts of the configuration that shape the result, in order."""
        return tuple(n for n in keywords_of(self.function) if n in CONFIGURATION)


def keywords_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a function's keyword-only parameters."""
    return tuple(p.name for p in _parameters(function) if p.kind is inspect.Parameter.KEYWORD_ONLY)


@cache
def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(function).parameters.values())


@dataclass(frozen=True)
class CheckOutcome:
    """One check's outcome. ``no verdict``: it crashed, or what it judges was never materialised."""

    asset: str
    check: str
    outcome: Outcome
    severity: str
    description: str


@dataclass(frozen=True)
class CheckRun:
    """All outcomes of one call, and the exit code that CI acts on."""

    results: tuple[CheckOutcome, ...]

    @property
    def exit_code(self) -> int:
        """0 all passed (a failed WARN check is no failure), 1 any ERROR, 2 nothing selected or no verdict."""
        if not self.results or any(r.outcome == "no verdict" for r in self.results):
            return 2
        return int(any(r.outcome == "failed" and r.severity == "ERROR" for r in self.results))

    @property
    def summary(self) -> str:
        """One line for people."""
        counts = {o: sum(r.outcome == o for r in self.results) for o in ("passed", "failed", "no verdict")}
        return ", ".join(f"{n} {o}" for o, n in counts.items()) + f"; exit code {self.exit_code}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"exit_code": self.exit_code, "results": [asdict(r) for r in self.results]}


# ---------------------------------------------------------------------------------------- the registry of stages

_REGISTRY: dict[str, Stage] = {}


def stage(**declared: Any) -> Callable[[Function], Function]:
    """Declare a function as a stage, under its own name unless ``name`` is given. Arguments as `Stage`."""

    def declare(function: Function) -> Function:
        register(Stage(**{"name": function.__name__, "function": function, **declared}))
        return function

    return declare


def register(declared: Stage) -> Stage:
    """Add a stage to the lineage.

    Raises
    ------
    ConfigurationError
        When another stage has its name.
    """
    held = _REGISTRY.setdefault(declared.name, declared)
    if held is not declared:
        raise ConfigurationError(
            f"stage {declared.name!r}",
            expected="a name that no other stage has",
            found=f"{held.function.__module__}.{held.function.__qualname__} registered under it",
            action="rename one of the two",
        )
    return declared


def unregister(name: str) -> None:
    """Take a stage out again."""
    _REGISTRY.pop(name, None)


def add_check(name: str, check: Check) -> None:
    """Add a check to a stage that is registered.

    Raises
    ------
    ConfigurationError
        When there is no stage of that name.
    """
    if name not in _REGISTRY:
        raise ConfigurationError(
            f"stage {name!r}",
            expected=f"one of {', '.join(_REGISTRY)}",
            found="no stage of that name",
            action=closest(name, _REGISTRY) or "register the stage first",
        )
    _REGISTRY[name] = replace(_REGISTRY[name], checks=(*_REGISTRY[name].checks, check))


def registered() -> Mapping[str, Stage]:
    """Every registered stage by name, as declared."""
    return MappingProxyType(_REGISTRY)


def through(
    *last: str, given: Sequence[str] = (), scope: Callable[[Scope], Scope] = lambda scope: scope
) -> Callable[[Scope, str | None], Sequence[str]]:
    """Roots of a stage that runs other stages: those named, and all that they are made from but what is given.

    Parameters
    ----------
    last : str
        Names of stages.
    given : sequence of str
        Stages that are not run, because what they make is handed over.
    scope : callable, optional
        The scope in which they are run, when it is not the stage's own.
    """

    def roots(own: Scope, _: str | None) -> Sequence[str]:
        found: dict[str, None] = {}
        run_in, waiting = scope(own), list(last)
        while waiting:
            name = waiting.pop()
            names = {"panel": PANELS, "feed": FEEDS}.get(name, (name,))
            for stage in (_REGISTRY[n] for n in names if n in _REGISTRY and n not in given):
                if reference(stage.function) in found:
                    continue
                found[reference(stage.function)] = None
                if stage.roots is not None:
                    members = [None] if stage.members is None else list(stage.members(run_in).values())
                    found |= dict.fromkeys(r for member in members for r in stage.roots(run_in, member))
                waiting += [p.name for p in Stage.parameters(stage.function)]
        return list(found)

    return roots


def single(name: str, description: str, *, blocking: bool) -> Callable[[Scope], Sequence[CheckSpec]]:
    """Specs of a check that stands alone and is the same in every scope."""
    spec = (CheckSpec(name, description, blocking),)
    return lambda _: spec


# -------------------------------------------------------------------------------------------- gates as checks


def gates_behind(kind: ReportKind) -> Callable[[Scope, str | None], Sequence[str]]:
    """Roots of a report: the modules of the gates that are judged in it, and the code of a desk's own."""

    def roots(scope: Scope, _: str | None) -> Sequence[str]:
        return (*gate_modules(kind), *(desk_code(scope) if kind == DESK_KIND else ()))

    return roots


def every_gate(scope: Scope, _: str | None) -> Sequence[str]:
    """Roots of whatever shows or asks for every verdict."""
    return (*gate_modules(), *desk_code(scope))


def desk_code(scope: Scope) -> tuple[str, ...]:
    """The code of a strategy's own gates; none outside of a strategy."""
    return tuple(plugin.reference for plugin in scope.strategy.further_gates) if scope.strategy else ()


def trading_code(scope: Scope, _: str | None) -> Sequence[str]:
    """Roots of whatever trades: the code of a desk's own scheme and cost model."""
    return (*scope.strategy.portfolio.code, *scope.strategy.costs.code) if scope.strategy else ()


def every_gate_and_trading(scope: Scope, member: str | None) -> Sequence[str]:
    """Roots of whatever trades, and shows every verdict."""
    return (*every_gate(scope, member), *trading_code(scope, member))


# The report in which a desk's own gates are judged.
DESK_KIND: ReportKind = "validation"


def gate_checks(kind: ReportKind) -> Check:
    """The checks of a report's gates. Which those are is asked each time: a new gate is one object elsewhere."""

    def specs(scope: Scope) -> Sequence[CheckSpec]:
        own = desk_titles(scope.plan.further_gates) if kind == DESK_KIND else {}
        told = {**{gate.name: gate.description for gate in gates_of(kind)}, **own}
        return [CheckSpec(name, description, blocking=True) for name, description in told.items()]

    def said(
        asset: Artifact, *, limits: GatesConfig, drift: DriftConfig, further_gates: Sequence[Plugin]
    ) -> Iterator[CheckResult]:
        report = GateReport.from_json(asset.json())
        verdicts = {verdict.gate: verdict for verdict in report.verdicts}
        other = other_limits(report.limits, limits_in_force(limits, drift)[kind])
        own = desk_names(further_gates) if kind == DESK_KIND else ()
        for name in (*(gate.name for gate in gates_of(kind)), *own):
            yield verdict_result(name, verdicts.get(name), other)

    return Check(f"{kind}_gates", specs, said)


def verdict_result(gate: str, verdict: Verdict | None, other: Sequence[str] = ()) -> CheckResult:
    """A verdict as a check result. No verdict, one that does not admit, or one by other limits is a failed check."""
    if verdict is not None and other:
        said = f"judged by other limits than those in force ({'; '.join(other)})"
        return CheckResult(gate, False, f"{said}: materialise the report again")
    if verdict is None:
        return CheckResult(gate, False, "the report has no verdict for it")
    facts = {
        "status": verdict.status,
        "observed": verdict.observed if verdict.observed is not None else "nothing",
        "required": f"{verdict.comparison} {verdict.required}",
        "reason": verdict.reason,
        "remedy": verdict.remedy,
        "subject": verdict.subject,
    }
    passed = not closed_reasons(verdict.subject, [verdict], [gate])
    return CheckResult(gate, bool(passed), f"{verdict.status}: {verdict.reason}", facts=facts)
