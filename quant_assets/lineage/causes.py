"""Why a run ended: the blocking check that closed the way, and what waits behind it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quant_assets.lineage.declaring import CheckOutcome
from quant_assets.lineage.graph import Key, Lineage


@dataclass(frozen=True)
class Judged:
    """A check that ran in a run, on one asset."""

    key: Key
    check: str
    passed: bool
    severity: str
    description: str
    blocking: bool

    @classmethod
    def of(cls, path: Sequence[str], told: Any) -> "Judged":
        """From an evaluation of the orchestrator's event log."""
        blocking, severity = bool(told.blocking), str(told.severity.value)
        return cls(
            (path[0], path[1]), told.check_name, told.passed, severity, told.description or "", blocking
        )

    @property
    def closes(self) -> bool:
        """Whether it keeps everything behind its asset from being made."""
        return self.blocking and not self.passed and self.severity == "ERROR"

    @property
    def sentence(self) -> str:
        """What it found, and where."""
        return f"the blocking check {self.check} of {'/'.join(self.key)} is closed: {self.description}"


def closed_upstream(lineage: Lineage, strategy: str, judged: Iterable[Judged]) -> tuple[str, ...]:
    """Sentences of the closed checks that are no gates of the strategy, in the order of the lineage.

    A gate's refusal is a verdict with a reason of its own.
    """
    closed = {(j.key, j.check): j for j in judged if j.closes}
    return tuple(
        closed[node.key, name].sentence
        for node in lineage.of(strategy)
        if node.stage.gates is None
        for name in sorted({check for key, check in closed if key == node.key})
    )


# Fact of an event of `quarantined_bars`: what was set aside, a sentence each.
SET_ASIDE = "set_aside"


def set_aside(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences about what was left out of a universe, from the facts of its `quarantined_bars`."""
    told = getattr(facts.get(SET_ASIDE), "value", ())
    return tuple(str(sentence) for sentence in told or ())


def waits(lineage: Lineage, strategy: str, made: Collection[Sequence[str]]) -> bool:
    """Whether a run could not come to its decision, because something that this reads was not made in it."""
    return any(key not in made for key in lineage.decision(strategy).parents)


def check_outcomes(
    lineage: Lineage, selected: Iterable[tuple[Key, str]], judged: Iterable[Judged], made: Collection[Key]
) -> tuple[CheckOutcome, ...]:
    """One outcome for each check; those of assets that were never made are one for each cause.

    Parameters
    ----------
    selected : iterable of (key, check)
        Every check that was asked for.
    judged : iterable of Judged
        Those that ran.
    made : collection of keys
        Assets with a materialization.
    """
    found = {(j.key, j.check): j for j in judged}
    outcomes: list[CheckOutcome] = []
    waiting: dict[str, list[tuple[Key, str]]] = {}
    for key, check in selected:
        told = found.get((key, check))
        name = "/".join(key)
        if told is not None:
            outcome = "passed" if told.passed else "failed"
            outcomes.append(CheckOutcome(name, check, outcome, told.severity, told.description))  # type: ignore[arg-type]
        elif key in made:
            outcomes.append(CheckOutcome(name, check, "no verdict", "ERROR", "the check crashed"))
        else:
            waiting.setdefault(_cause(lineage, key, found), []).append((key, check))
    for cause, those in waiting.items():
        assets = list(dict.fromkeys("/".join(key) for key, _ in those))
        shown = assets[0] if len(assets) == 1 else f"{assets[0]} and {len(assets) - 1} more assets"
        checks = those[0][1] if len(those) == 1 else f"{len(those)} checks"
        outcomes.append(CheckOutcome(shown, checks, "no verdict", "ERROR", f"never materialised: {cause}"))
    return tuple(outcomes)


def _cause(lineage: Lineage, key: Key, found: Mapping[tuple[Key, str], Judged]) -> str:
    """The first closed check of everything that an asset is made from, or what to run."""
    behind = [node.key for node in lineage.ancestors(key) if node.key != key]
    for parent in behind:
        for (owner, _), told in sorted(found.items()):
            if owner == parent and told.closes:
                return told.sentence
    return "run quant-assets run first"


def waiting_keys(
    parents: Mapping[Key, Collection[Key]], stale: Collection[Key], mine: Collection[Key]
) -> set[Key]:
    """Stale assets that must wait, because something between them and an earlier stale asset may still change.

    Staleness is one step deep: an asset is stale when a direct input has a new version. While a change travels down
    the lineage, an asset that reads both near and far (bars and predictions, say) is stale long before its far input
    is, and made too early it would put new bars beside old predictions.

    Parameters
    ----------
    parents : mapping of key to keys
        What each asset reads, in the order of the lineage.
    stale : collection of keys
        Everything that is stale, also what another run makes.
    mine : collection of keys
        What this run may make. In one run, stale assets next to each other are made in order, and none waits.
    """
    moving = {key for key in stale if key not in mine}
    waiting: set[Key] = set()
    for key, read in parents.items():
        if key in stale:
            if not moving.isdisjoint(read) or not waiting.isdisjoint(read):
                waiting.add(key)
        elif not (moving | set(stale)).isdisjoint(read):
            moving.add(key)
    return waiting
