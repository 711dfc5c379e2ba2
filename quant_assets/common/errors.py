"""One exception hierarchy. Every message says what was expected, what was found and what to do."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar

NOTHING: Mapping[str, Any] = MappingProxyType({})


def closest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """What ends a message about an unknown name: did you mean the nearest known one? Empty when none is near."""
    near = get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else ""


def brief(value: object, most: int = 80) -> str:
    """A value as a message shows it: escaped, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def clearest(messages: Sequence[str]) -> str:
    """Of an error and its causes, outermost first: the platform's own, which says what to do, else the innermost."""
    lines = [(message.strip().splitlines() or [""])[0] for message in messages] or ["failed"]
    return next((line for line in lines if ": [QA" in line), lines[-1])


class QuantAssetsError(Exception):
    """Root of every error that the platform raises on purpose.

    Parameters
    ----------
    what : str
        One clause naming the thing that is wrong (file, row, column, asset).
    expected, found, action : str
        What was expected, what was found (with the offending values), what the reader should do.

    Notes
    -----
    ``code`` is stable across releases: alerts and runbooks refer to it.
    """

    code: ClassVar[str] = "QA000"

    def __init__(self, what: str, *, expected: str, found: str, action: str) -> None:
        self.what, self.expected, self.found, self.action = what, expected, found, action
        stop = "" if action.endswith(("?", ".")) else "."
        super().__init__(f"[{self.code}] {what}: expected {expected}; found {found}. To do: {action}{stop}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross a process border whole: an exception is rebuilt from positional arguments, and these have names."""
        parts = {"expected": self.expected, "found": self.found, "action": self.action}
        return partial(type(self), self.what, **parts), ()


class ConfigurationError(QuantAssetsError):
    """A configuration file is missing, misspelt or out of bounds."""

    code = "QA101"


class SourceError(QuantAssetsError):
    """A market data source cannot be read at all (missing file, undecodable, unknown columns)."""

    code = "QA201"


class BarContractError(QuantAssetsError):
    """Bars break the row contract (missing column, null, duplicate key, impossible price)."""

    code = "QA202"


class CalendarError(QuantAssetsError):
    """A calendar is unknown or a session lies outside it."""

    code = "QA203"


class ListingError(QuantAssetsError):
    """Listings or memberships break their contract (overlapping spells, an unknown end, no day of knowledge)."""

    code = "QA204"


class UndecidedTableError(SourceError):
    """A table can be read in more than one way, or not without a word from its owner.

    Parameters
    ----------
    option : str
        The option of the command line that decides it, as ``--date-format '%d/%m/%Y'``.
    """

    code = "QA205"

    def __init__(self, what: str, *, expected: str, found: str, action: str, option: str) -> None:
        self.option = option
        super().__init__(what, expected=expected, found=found, action=action)

    def __reduce__(self) -> tuple[Any, ...]:
        """As the others, with its option."""
        parts = {"expected": self.expected, "found": self.found, "action": self.action, "option": self.option}
        return partial(type(self), self.what, **parts), ()


class FeatureError(QuantAssetsError):
    """A feature pack is unknown, or features were asked of bars that cannot give them."""

    code = "QA301"


class DatasetError(QuantAssetsError):
    """Labels or a training set cannot be assembled from what was given."""

    code = "QA401"


class ModelError(QuantAssetsError):
    """A learner, an objective or a stored model cannot be used."""

    code = "QA501"


class ValidationError(QuantAssetsError):
    """A validation was asked for with inputs for which it is not defined."""

    code = "QA601"


class EvidenceError(QuantAssetsError):
    """Evidence (paths, reports, verdicts) does not belong to the subject it is presented for."""

    code = "QA602"


class LedgerError(QuantAssetsError):
    """An append-only ledger was altered, truncated or contradicts itself."""

    code = "QA603"


class ArtifactError(QuantAssetsError):
    """A model artifact cannot be built, or fails verification before loading."""

    code = "QA701"


class StoreError(QuantAssetsError):
    """An object of the artifact store is missing or its bytes do not match its address."""

    code = "QA702"


class StorageError(StoreError):
    """A folder or bucket cannot be used: missing, unreachable, closed to us, or its package is not installed."""

    code = "QA703"


class RegistryError(QuantAssetsError):
    """The tracking server or model registry is unreachable or contradicts the lineage."""

    code = "QA801"


class GateClosedError(QuantAssetsError):
    """A candidate was presented for promotion without passing evidence for every required gate.

    Parameters
    ----------
    reasons : sequence of str, optional
        Each by itself; ``found`` when not given.
    facts : mapping, optional
        What people should see of it, as the facts of a stage.
    """

    code = "QA802"

    def __init__(
        self,
        what: str,
        *,
        expected: str,
        found: str,
        action: str,
        reasons: Sequence[str] = (),
        facts: Mapping[str, Any] = NOTHING,
    ) -> None:
        super().__init__(what, expected=expected, found=found, action=action)
        self.reasons, self.facts = tuple(reasons) or (found,), facts

    def __reduce__(self) -> tuple[Any, ...]:
        parts: dict[str, Any] = {"expected": self.expected, "found": self.found, "action": self.action}
        parts |= {"reasons": self.reasons, "facts": dict(self.facts)}
        return partial(type(self), self.what, **parts), ()


class DriftError(QuantAssetsError):
    """Drift was asked for on windows for which it is not defined."""

    code = "QA901"


class ComputeError(QuantAssetsError):
    """The workers that tasks were to run on cannot be used."""

    code = "QA902"
