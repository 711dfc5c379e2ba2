"""What a gate is, as one object: its limit, how it judges, how people read it; and the registry of all gates.

A gate is declared once, in one module, and nothing else lists it. The keys of ``gates.yaml``, the judging, the asset
checks, the tear sheet, the guard of promotion and the table of the docs all ask the registry, when they are called.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, get_args

from quant_assets.common.errors import ConfigurationError, closest
from quant_assets.common.lazy import every_module_of
from quant_assets.gates.verdicts import Comparison, ReportKind, Status, Verdict, judge

KINDS: tuple[ReportKind, ...] = get_args(ReportKind)
_KEY = r"[a-z][a-z0-9_]*"


class Case(Protocol):
    """What every gate is shown, whatever its kind; see `quant_assets.gates.cases` for the rest."""

    @property
    def subject(self) -> str:
        """Data version of the candidate."""

    @property
    def limits(self) -> Any:
        """The section of the configuration that holds the limits."""


@dataclass(frozen=True)
class Limit:
    """A number that a gate compares with, as the configuration may set it.

    The limit of a gate of kind ``drift`` is a key of section ``drift`` of ``gates.yaml``, every other one a key of
    the file itself.

    Attributes
    ----------
    key : str
        Name in the configuration; no two limits share one.
    default : float
        In force where the file does not say.
    comparison : {">=", "<="}
        The gate passes iff ``observed comparison limit``. So a limit of ``>=`` gets stricter upwards.
    description : str
        Unit and meaning, in a few words.
    offset : float
        Added to the configured number to give the one that is compared with.
    ge, gt, le, lt : float or None
        Bounds of what may be configured.
    floor : float or None
        The loosest that a file may say; bounds are what the number can mean.
    whole : bool
        Whether it counts something.
    per_strategy : bool
        Whether a strategy may set a stricter one of its own.
    percent : bool
        Whether it is a fraction that people read in percent.
    """

    key: str
    default: float
    comparison: Comparison
    description: str = ""
    offset: float = 0.0
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    floor: float | None = None
    whole: bool = False
    per_strategy: bool = True
    percent: bool = False

    def __post_init__(self) -> None:
        if re.fullmatch(_KEY, self.key) is None or self.comparison not in get_args(Comparison):
            raise ConfigurationError(
                f"limit {self.key!r}",
                expected=f"a key in lower case with underscores, and a comparison of {get_args(Comparison)}",
                found=f"key {self.key!r}, comparison {self.comparison!r}",
                action="correct the declaration of the limit",
            )

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds that it has, by name."""
        named = {"ge": self.ge, "gt": self.gt, "le": self.le, "lt": self.lt}
        return {name: bound for name, bound in named.items() if bound is not None}

    def required(self, limits: Any) -> float:
        """The number to compare with, by a section of the configuration or by limits by name.

        Raises
        ------
        ConfigurationError
            When they do not hold this limit.
        """
        held = limits if isinstance(limits, Mapping) else limits.limit_values()
        if held.get(self.key) is None:
            raise ConfigurationError(
                f"limit {self.key!r}",
                expected=f"it among the limits ({', '.join(held)})",
                found="nothing",
                action="read the configuration after the gate was registered",
            )
        return float(held[self.key]) + self.offset

    def as_strict(self, value: float, shared: float) -> bool:
        """Whether a value is at least as strict as the shared one. NaN is not."""
        return bool(value >= shared) if self.comparison == ">=" else bool(value <= shared)


@dataclass(frozen=True)
class Gate:
    """One gate between a candidate and production. Every registered gate is required.

    Attributes
    ----------
    name : str
        As in ``cpcv_deflated_sharpe``: the name of its verdicts and of its asset check.
    kind : {"validation", "walk_forward", "parity", "drift"}
        The report that it is judged in.
    title : str
        Heading for people.
    description : str
        One sentence: what is observed. The text of the asset check.
    opens_when : str
        One clause for the docs that goes on from "opens when", naming limits by their keys.
    limit : Limit
        What it compares with; a verdict that compares with anything else is not this gate's.
    judge : function
        From the case of its kind (`quant_assets.gates.cases`) to a `Verdict`. Its module is part of the version of
        the report.
    further : tuple of Limit
        Limits of its other conditions.
    remedy : str
        What opens it when it is closed, where that does not depend on the case.
    may_not_apply : bool
        Whether ``not_applicable`` opens it. To every other gate it is a closed one.
    place : int
        Where in its report it stands; names decide between equals.
    """

    name: str
    kind: ReportKind
    title: str
    description: str
    opens_when: str
    limit: Limit
    judge: Callable[[Any], Verdict]
    further: tuple[Limit, ...] = ()
    remedy: str = ""
    may_not_apply: bool = False
    place: int = 100

    def __post_init__(self) -> None:
        keys = [limit.key for limit in self.limits]
        wrong = {
            "name": re.fullmatch(_KEY, self.name) is None,
            "kind": self.kind not in KINDS,
            "title": not self.title,
            "description": not self.description,
            "opens_when": not self.opens_when,
            "judge": not inspect.isfunction(self.judge),
            "further": len(set(keys)) < len(keys),
        }
        if any(wrong.values()):
            raise ConfigurationError(
                f"gate {self.name!r}",
                expected=f"a name in lower case, a kind of {KINDS}, title, description and opens_when, a function "
                "that judges, and each limit once",
                found=f"wrong: {', '.join(name for name, is_wrong in wrong.items() if is_wrong)}",
                action="correct the declaration of the gate",
            )

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Every limit that it reads, the one of its verdict first."""
        return (self.limit, *self.further)

    def required_by(self, limits: Mapping[str, Any]) -> float | None:
        """The number that a verdict by these limits has to have compared with; None when they lack the gate's."""
        return None if limits.get(self.limit.key) is None else self.limit.required(limits)

    def verdict(
        self,
        case: Case,
        observed: float,
        *,
        quantity: str,
        remedy: str | None = None,
        by: Limit | None = None,
        alpha: float | None = None,
        power: float | None = None,
    ) -> Verdict:
        """Verdict of a plain comparison with a limit.

        Parameters
        ----------
        case : Case
        observed : float
        quantity : str
            What is observed, in words and with its unit.
        remedy : str, optional
            What would open the gate; the gate's own when not given.
        by : Limit, optional
            One of `further`, in place of the gate's own limit.
        alpha, power : float, optional
            As `Verdict`.
        """
        limit = by or self.limit
        return judge(
            self.name,
            case.subject,
            observed,
            limit.required(case.limits),
            quantity=quantity,
            remedy=self.remedy if remedy is None else remedy,
            comparison=limit.comparison,
            percent=limit.percent,
            alpha=alpha,
            power=power,
        )

    def unobserved(self, case: Case, status: Status, *, reason: str, remedy: str) -> Verdict:
        """Verdict of a gate that had nothing to observe: ``not_applicable`` or ``underpowered``."""
        return Verdict(
            gate=self.name,
            subject=case.subject,
            status=status,
            observed=None,
            required=self.limit.required(case.limits),
            comparison=self.limit.comparison,
            reason=reason,
            remedy=remedy,
        )


# ---------------------------------------------------------------------------------------- the registry of gates

_REGISTRY: dict[str, Gate] = {}


def register(gate: Gate) -> Gate:
    """Add a gate to the registry: from now on it has its key in the configuration, is judged, and is required.

    Raises
    ------
    ConfigurationError
        When another gate has its name, or a limit of the same key.
    """
    held = _REGISTRY.get(gate.name)
    taken = {limit.key: g.name for g in _REGISTRY.values() if g.name != gate.name for limit in g.limits}
    shared = [limit.key for limit in gate.limits if limit.key in taken]
    if shared or held not in (None, gate):
        raise ConfigurationError(
            f"gate {gate.name!r}",
            expected="a name and limits that no other gate has",
            found=f"limit {shared[0]!r} of gate {taken[shared[0]]!r}"
            if shared
            else "another gate of that name",
            action="rename one of the two",
        )
    _REGISTRY[gate.name] = gate
    return gate


def unregister(name: str) -> None:
    """Take a gate out again."""
    _REGISTRY.pop(name, None)


def gates() -> Mapping[str, Gate]:
    """All registered gates by name, in the order in which they are shown: by report, then by place.

    Every module of `quant_assets.gates.catalogue` registers itself.
    """
    every_module_of(f"{__package__}.catalogue")
    ordered = sorted(_REGISTRY.values(), key=lambda g: (KINDS.index(g.kind), g.place, g.name))
    return MappingProxyType({gate.name: gate for gate in ordered})


def gates_of(kind: ReportKind) -> tuple[Gate, ...]:
    """The gates that are judged in one kind of report."""
    return tuple(gate for gate in gates().values() if gate.kind == kind)


def gate_names(kind: ReportKind | None = None) -> tuple[str, ...]:
    """Names of all gates, or of those of one kind of report. Every one of them is required for promotion."""
    return tuple(name for name, gate in gates().items() if kind in (None, gate.kind))


def gate_modules(kind: ReportKind | None = None) -> tuple[str, ...]:
    """Modules in which gates are declared and judge: they shape the reports, and no import statement shows them."""
    return tuple(sorted({gate.judge.__module__ for gate in gates().values() if kind in (None, gate.kind)}))


def find_gate(name: str) -> Gate:
    """The gate of that name.

    Raises
    ------
    ConfigurationError
        When no gate has the name; the message offers the closest one.
    """
    known = gates()
    if name in known:
        return known[name]
    raise ConfigurationError(
        f"gate {name!r}",
        expected=f"one of {', '.join(known)}",
        found="no gate of that name",
        action=closest(name, known) or "choose one of them, or register the gate",
    )


def gate_title(name: str) -> str:
    """The heading of a gate; its name when no gate has it, as in the report of an earlier version."""
    gate = gates().get(name)
    return gate.title if gate else name


def gates_table() -> str:
    """Every gate as a table in Markdown: what opens it, and its limits with their defaults."""
    rows = [
        (
            f"`{gate.name}`",
            gate.opens_when,
            ", ".join(f"`{limit.key}: {limit.default:g}`" for limit in gate.limits),
        )
        for gate in gates().values()
    ]
    table = [("gate", "opens when", "limits"), ("---",) * 3, *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in table)
