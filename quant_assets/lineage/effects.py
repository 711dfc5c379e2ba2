"""What a stage does to the world or is told about its run: the home, the run, its history, the guard of promotion."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Protocol

from quant_assets.common.errors import GateClosedError
from quant_assets.lineage.artifact import Artifact

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


class History(Protocol):
    """What the event log knows of earlier versions of the asset that is made."""

    def previous(self) -> KnownVintage | None:
        """The newest earlier version of this partition."""

    def last_session(self) -> date | None:
        """The newest session known in any partition."""

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """Facts about the newest version of each partition, by partition."""


class NoHistory:
    """Nothing was ever made before."""

    def previous(self) -> KnownVintage | None:
        """None."""
        return None

    def last_session(self) -> date | None:
        """None."""
        return None

    def facts(self) -> Mapping[str, Mapping[str, Any]]:
        """None of any partition."""
        return {}


class Guard(Protocol):
    """Why the checks of a lineage do not open the way to promotion; empty when they do."""

    def __call__(self, already_closed: frozenset[str]) -> tuple[str, ...]:
        """Reasons, without those of checks whose gate the evidence closes anyway."""


def no_guard(already_closed: frozenset[str]) -> tuple[str, ...]:
    """Without an orchestrator no check has run, so nothing is promoted."""
    raise GateClosedError(
        "promotion",
        expected="a run of the orchestrator, whose checks have judged every asset",
        found="a call outside of one",
        action="run quant-assets run, or materialise promotion in the UI",
    )


def quiet(_: str) -> Callable[[int, int], None]:
    """Progress that nobody watches."""
    return lambda done, total: None


def now() -> datetime:
    """The wall clock, for what records when something was decided. In no version."""
    return datetime.now(UTC)
