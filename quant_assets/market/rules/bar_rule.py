"""A bar rule as one object: name, severity, limits, how it is measured, and what it says of an offender.

Every module of `quant_assets.market.rules.catalogue` registers its rules. What a universe may configure, the checks,
the findings and the table of the documentation derive from them: a new rule is one `BarRule` in one file.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

import polars as pl
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from quant_assets.common.errors import ConfigurationError, closest
from quant_assets.common.lazy import every_module_of
from quant_assets.common.settings import UniverseConfig
from quant_assets.common.universe_settings import QualityConfig, Severity

KEY = ("symbol", "session")
USUAL_SESSIONS = 21  # one month: what "usual" means for moves, ranges and volumes
FEWEST_FOR_USUAL = 10
ROW_CONTRACT = "row_contract"  # the rule under which rows stand that are no bars
WHOLE = "is set aside as a whole"  # how the evidence of every row of such a symbol begins

Found = TypeVar("Found")
JudgedOn = Literal["rows", "feed", "panel", "actions", "acceptances", "aside"]
# Of which table a rule's check is: raw rules judge what goes into quarantine, panel rules the bars that were kept.
RAW: tuple[JudgedOn, ...] = ("rows", "feed", "acceptances", "aside")
PANEL: tuple[JudgedOn, ...] = ("panel", "actions", "acceptances")


# --------------------------------------------------------------------------------------------- what a rule is


@dataclass(frozen=True)
class Limit:
    """A number that a universe may set under ``quality:``.

    Parameters
    ----------
    key : str
        Its name in the YAML. Rules that share a limit share the object.
    default : float
    description : str
        In words, what it is a number of.
    at_least, above, at_most : float, optional
        Bounds of what a universe may set.
    whole : bool
        Whether it counts something.
    """

    key: str
    default: float
    description: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    whole: bool = False

    def of(self, universe: UniverseConfig) -> float:
        """The universe's value, else the default.

        Raises
        ------
        ConfigurationError
            When the value is no number, or out of bounds.
        """
        return self._checked(universe, f"universe {universe.name}")

    def _checked(self, universe: UniverseConfig, where: str) -> float:
        value = universe.quality.limits.get(self.key, self.default)
        try:
            return self._number.validate_python(value)
        except ValidationError as error:
            raise ConfigurationError(
                f"{where}, key 'quality.{self.key}'",
                expected=error.errors()[0]["msg"],
                found=repr(value),
                action="correct the value",
            ) from error

    @property
    def bounds(self) -> str:
        """What may be set, in words."""
        parts = ["whole"] if self.whole else []
        for word, bound in (("from", self.at_least), ("above", self.above), ("to", self.at_most)):
            parts += [] if bound is None else [f"{word} {bound:g}"]
        return " ".join(parts)

    @cached_property
    def _number(self) -> TypeAdapter[float]:
        field = Field(ge=self.at_least, gt=self.above, le=self.at_most)
        number: Any = Annotated[int if self.whole else float, field]
        return TypeAdapter(number, config=ConfigDict(allow_inf_nan=False))


@dataclass(frozen=True)
class Judged:
    """What a measure gets.

    Attributes
    ----------
    bars : polars.DataFrame
        For ``rows`` and ``feed``: raw bars made ready (`quant_assets.market.rules.quality.prepared`). For ``panel``
        and ``actions``: adjusted bars, sorted. For ``acceptances``: the accepted bars, with their ``rule``. For
        ``aside``: everything that is left out of the panel.
    actions : polars.DataFrame
        Corporate actions that are known.
    aside : polars.DataFrame
        What was set aside: for ``feed`` the rows taken out (``row``, null for what was no bar; ``n``: how many rows
        an entry stands for), for ``panel`` and ``actions`` the quarantined bars. For ``acceptances``: what was
        suspicious (``symbol``, ``session``, ``rule``).
    calendar : str
    limits : mapping of str to float
        The universe's, by key.
    asked : tuple of two datetime.date, optional
        First and last day that the universe asks for.
    listings : polars.DataFrame or None
        For ``rows`` and ``feed``: the universe's, by which the bars are named, where it has any.
    doubts : polars.DataFrame or None
        For ``feed``: what is in doubt about the actions (`quant_assets.market.actions.doubts_of`).
    """

    bars: pl.DataFrame
    actions: pl.DataFrame
    aside: pl.DataFrame
    calendar: str
    limits: Mapping[str, float]
    asked: tuple[date, date] | None = None
    listings: pl.DataFrame | None = None
    doubts: pl.DataFrame | None = None
    _known: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, name: str, measure: "Callable[[Judged], Found]") -> "Found":
        """What several rules measure of the same bars, measured by the first of them."""
        if name not in self._known:
            self._known[name] = measure(self)
        found: Found = self._known[name]
        return found

    def limit(self, limit: Limit) -> float:
        """The universe's value of a limit."""
        return self.limits[limit.key]


Measured = pl.DataFrame | tuple[pl.DataFrame, int]
Measure = Callable[[Judged], Measured]

_COLUMN = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class BarRule:
    """One rule.

    Parameters
    ----------
    name : str
        Also the name of its check.
    judged_on : {"rows", "feed", "panel", "actions", "acceptances", "aside"}
        Single raw bars, which it may take into quarantine; all raw bars of a symbol once those are out; the adjusted
        bars that were kept; the corporate actions; the bars that the configuration accepts (raw and kept); what was
        left out.
    rank : int
        Its place: rules are judged by ascending rank, and a row that breaks several is quarantined under the first.
        The most telling rule comes first.
    severity : {"ERROR", "SET_ASIDE", "QUARANTINE", "WARN"}
        ERROR blocks what comes after. SET_ASIDE takes the symbol out, as long as ``quality.set_aside.symbols`` allows
        it, and blocks beyond. QUARANTINE takes the row out. WARN is shown and let through.
    description : str
        In one sentence, what an offender is.
    measure : callable
        Gives the offenders: ``symbol`` and ``session`` (``row`` of a rule on rows), ``observed``, ``limit``, and the
        columns that ``evidence`` names; with how many things were judged where that is not the number of bars.
    evidence : str
        A sentence for a person on one offender; ``{name}`` stands for its value of that column.
    limits : tuple of Limit
        What the measure reads of the configuration.
    may_be : tuple of Severity
        What a universe may make of the severity, the rule's own first. Empty for a rule that is fixed: rows that are
        impossible stay errors, and what spoils every later row cannot be let through unseen either.
    later_bars : int
        Bars of the symbol after an offender that the measure reads: an offender can be known to be one at the close
        of the last of them, and not before. 0 for a rule that needs the bar and its past alone: its offenders are
        never in the panel.
    acceptable : bool
        Whether a person may look at an offender and let it through, by name and with a reason.
    """

    name: str
    judged_on: JudgedOn
    rank: int
    severity: Severity
    description: str
    measure: Measure
    evidence: str = ""
    limits: tuple[Limit, ...] = ()
    may_be: tuple[Severity, ...] = ()
    later_bars: int = 0
    acceptable: bool = False

    def __post_init__(self) -> None:
        wrong = None
        if re.fullmatch(r"[a-z][a-z0-9_]*", self.name) is None:
            wrong = ("a name in lower case, as in 'price_spike'", repr(self.name))
        elif self.may_be and self.severity not in self.may_be:
            wrong = (f"its severity among {', '.join(self.may_be)}", self.severity)
        elif self.judged_on != "rows" and "QUARANTINE" in (self.severity, *self.may_be):
            wrong = ("ERROR or WARN: only single raw rows can be taken out", "QUARANTINE")
        elif self.judged_on not in ("feed", "panel", "actions") and "SET_ASIDE" in (
            self.severity,
            *self.may_be,
        ):
            wrong = ("QUARANTINE, ERROR or WARN: only a symbol's whole history is set aside", "SET_ASIDE")
        elif not self.description.endswith("."):
            wrong = ("a sentence that says what an offender is", repr(self.description))
        if wrong is not None:
            raise ConfigurationError(
                f"bar rule {self.name!r}",
                expected=wrong[0],
                found=wrong[1],
                action="correct the declaration of the rule",
            )

    @property
    def check_severity(self) -> Literal["ERROR", "WARN"]:
        """Severity of the asset check: a row that was taken out is shown (WARN), it blocks nothing."""
        return "ERROR" if self.severity in ("ERROR", "SET_ASIDE") else "WARN"

    @property
    def evidence_columns(self) -> tuple[str, ...]:
        """The columns that the sentence names, in order."""
        return tuple(_COLUMN.findall(self.evidence))

    @property
    def evidence_template(self) -> str:
        """The sentence with ``{}`` for each of them."""
        return _COLUMN.sub("{}", self.evidence)


# -------------------------------------------------------------------------------------- which rules there are


_REGISTRY: list[BarRule] = []


def register(rule: BarRule) -> BarRule:
    """Add a rule.

    Raises
    ------
    ConfigurationError
        When another rule on the same bars has its name, one on the others has its name and another meaning, or
        another limit has the key of one of its limits.
    """
    if rule in _REGISTRY:
        return rule
    for held in _REGISTRY:
        if held.name == rule.name and not _may_share_name(held, rule):
            raise ConfigurationError(
                f"bar rule {rule.name!r}",
                expected="a name that no other rule has",
                found=f"one judged on {held.judged_on}: {held.description}",
                action="rename the new rule",
            )
    limits = {limit.key: limit for held in _REGISTRY for limit in held.limits}
    for limit in rule.limits:
        other = limits.get(limit.key, limit)
        reserved = limit.key in QualityConfig.model_fields
        if other != limit or reserved:
            raise ConfigurationError(
                f"bar rule {rule.name!r}, limit {limit.key!r}",
                expected="a key that means one thing in every universe",
                found="a section of `quality:`"
                if reserved
                else f"another limit with it: {other.description}",
                action="rename the key, or share the limit's object",
            )
    _REGISTRY.append(rule)
    return rule


def _may_share_name(held: BarRule, rule: BarRule) -> bool:
    """The same thing may be judged twice, raw and kept; a universe's word is about one of the two."""
    stages = (RAW, PANEL)
    apart = not any(held.judged_on in stage and rule.judged_on in stage for stage in stages)
    return apart and held.description == rule.description and not (held.may_be and rule.may_be)


def unregister(rule: BarRule) -> None:
    """Take a rule out again, as a notebook or test that tried one does. Unknown rules are left alone."""
    if rule in _REGISTRY:
        _REGISTRY.remove(rule)


def all_rules() -> tuple[BarRule, ...]:
    """Every registered rule with its own severity: on raw bars, then on kept bars, each by rank."""
    every_module_of(f"{__package__}.catalogue")
    return tuple(sorted(_REGISTRY, key=lambda r: (r.judged_on not in RAW, r.rank, r.name)))


def find_rule(name: str) -> BarRule:
    """The rule of that name; of a name that is judged on raw and on kept bars, the first.

    Raises
    ------
    ConfigurationError
        When no rule has the name; the message offers the closest one.
    """
    rules = {rule.name: rule for rule in reversed(all_rules())}
    if name in rules:
        return rules[name]
    raise ConfigurationError(
        f"bar rule {name!r}",
        expected=f"one of {', '.join(sorted(rules))}",
        found="no rule of that name",
        action=closest(name, rules) or "choose one of them, or register the rule",
    )


def rule_modules() -> tuple[str, ...]:
    """Modules whose source is the rules': no import statement shows them, so code versions name them as roots."""
    return tuple(sorted({rule.measure.__module__ for rule in all_rules()}))


# ----------------------------------------------------------------------- what a universe says about the rules


def check_quality(universe: UniverseConfig, where: str = "") -> None:
    """Hold what a universe says under ``quality:`` against the rules.

    Parameters
    ----------
    where : str
        What messages begin with; default: the universe's name.

    Raises
    ------
    ConfigurationError
        For an unknown key, a limit out of bounds, a severity that a rule cannot have, or an acceptance of what no
        person can accept. The message names key, value, what is allowed and the closest valid key.
    """
    _limits(universe, where or f"universe {universe.name}")


def limits_of(universe: UniverseConfig) -> dict[str, float]:
    """Every limit by its key, as the universe sets it, else its default.

    Raises
    ------
    ConfigurationError
        As `check_quality`.
    """
    return _limits(universe, f"universe {universe.name}")


def with_limits(universe: UniverseConfig, where: str = "") -> UniverseConfig:
    """The universe with every limit written out: what is in force, for people to read.

    Raises
    ------
    ConfigurationError
        As `check_quality`.
    """
    limits = _limits(universe, where or f"universe {universe.name}")
    quality = universe.quality
    said = {name: getattr(quality, name) for name in QualityConfig.model_fields}
    written = QualityConfig(**said, **limits)
    return universe.model_copy(update={"quality": written})


def _limits(universe: UniverseConfig, where: str) -> dict[str, float]:
    rules, quality = all_rules(), universe.quality
    # In the order of the rules, not of their registration: the universe's JSON is part of what a source's state is.
    known = {limit.key: limit for rule in rules for limit in rule.limits}
    for key, value in quality.limits.items():
        if key not in known:
            valid = sorted({*known, *QualityConfig.model_fields})
            raise ConfigurationError(
                f"{where}, key 'quality.{key}'",
                expected=f"one of {', '.join(valid)}",
                found=f"unknown key {key!r} with value {value!r}",
                action=f"{closest(key, valid)} Correct or remove the key".strip(),
            )
    limits = {key: limit._checked(universe, where) for key, limit in known.items()}
    adjustable = {rule.name: rule.may_be for rule in rules if rule.may_be}
    for name, chosen in quality.severity.items():
        allowed = adjustable.get(name)
        if allowed is None:
            raise ConfigurationError(
                f"{where}, key 'quality.severity.{name}'",
                expected=f"one of {', '.join(adjustable)}",
                found=f"{chosen!r}: the severity of {name!r} cannot be set",
                action=closest(name, adjustable) or "remove the key",
            )
        if chosen not in allowed:
            raise ConfigurationError(
                f"{where}, key 'quality.severity.{name}'",
                expected=" or ".join(allowed),
                found=f"{chosen!r}: {name!r} can be {' or '.join(allowed)}, not {chosen}",
                action="choose one of them",
            )
    acceptable = sorted({rule.name for rule in rules if rule.acceptable})
    for place, bar in enumerate(quality.accepted):
        if bar.rule not in acceptable:
            raise ConfigurationError(
                f"{where}, key 'quality.accepted.{place}.rule'",
                expected=f"a rule that a person can judge: {', '.join(acceptable)}",
                found=f"{bar.rule!r} is none of the rules that a bar can be accepted for",
                action=closest(bar.rule, acceptable) or "remove the acceptance",
            )
        if bar.session is None and bar.rule in {rule.name for rule in rules if rule.judged_on == "rows"}:
            raise ConfigurationError(
                f"{where}, key 'quality.accepted.{place}.session'",
                expected=f"the session of the bar: {bar.rule!r} is about single bars",
                found="no session",
                action="name it; a rule about a symbol's whole history is accepted without one",
            )
    return limits


def raw_rules(universe: UniverseConfig) -> tuple[BarRule, ...]:
    """Rules on raw bars with the universe's severities, in the order in which `quarantine` judges by them.

    Raises
    ------
    ConfigurationError
        As `check_quality`.
    """
    return _in_force(universe, RAW)


def bar_rules(universe: UniverseConfig) -> tuple[BarRule, ...]:
    """Rules on adjusted bars with the universe's severities, in the order in which `check_bars` judges by them.

    Raises
    ------
    ConfigurationError
        As `check_quality`.
    """
    return _in_force(universe, PANEL)


def _in_force(universe: UniverseConfig, stage: tuple[JudgedOn, ...]) -> tuple[BarRule, ...]:
    check_quality(universe)
    chosen = universe.quality.severity
    in_force = []
    for rule in sorted(all_rules(), key=lambda r: (r.rank, r.name)):
        if rule.judged_on in stage:
            severity = chosen.get(rule.name, rule.severity) if rule.may_be else rule.severity
            if severity == "SET_ASIDE" and universe.quality.strict:
                severity = "ERROR"
            in_force.append(replace(rule, severity=severity))
    return tuple(in_force)


def rules_table() -> str:
    """All rules as a Markdown table for the documentation."""
    rows = ["| rule | judged on | severity | an offender | limits |", "| --- | --- | --- | --- | --- |"]
    for rule in all_rules():
        others = [severity for severity in rule.may_be if severity != rule.severity]
        severity = rule.severity + (f" (or {', '.join(others)})" if others else "")
        limits = "; ".join(
            f"`{limit.key}` {limit.default:g} ({limit.bounds}): {limit.description}" for limit in rule.limits
        )
        cells = (f"`{rule.name}`", rule.judged_on, severity, rule.description, limits)
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"
