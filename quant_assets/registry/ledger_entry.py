"""One line of the promotion ledger: its fields, its hash and its text form."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Literal, get_args

from quant_assets.common.errors import LedgerError
from quant_assets.common.hashing import canonical_json, json_digest

Action = Literal["promoted", "refused", "rolled_back"]
GENESIS = "0" * 64


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the ledger.

    Attributes
    ----------
    index : int
        Position from 0.
    previous : str
        Hash of the entry before (64 zeros for the first).
    action : {"promoted", "refused", "rolled_back"}
    strategy, subject, model_version : str
        Whose model, its data version, its version in the model registry. For a roll-back: the one restored.
    replaces : str or None
        Registry version that was champion before; None when there was none, or for a refusal.
    reasons : tuple of str
        Why: every closed gate of a refusal, the operator's reason for a roll-back.
    evidence : mapping of str to str
        SHA-256 per piece of evidence, as in ``{"validation": ..., "bundle": ...}``.
    actor, run_id : str
        Who or what did it, and in which orchestrator run.
    at : str
        ISO 8601 time in UTC.
    hash : str
        SHA-256 of all other fields.
    """

    index: int
    previous: str
    action: Action
    strategy: str
    subject: str
    model_version: str
    replaces: str | None
    reasons: tuple[str, ...]
    evidence: Mapping[str, str]
    actor: str
    at: str
    run_id: str
    hash: str

    def expected_hash(self) -> str:
        """The hash that the fields ask for."""
        return json_digest({k: v for k, v in asdict(self).items() if k != "hash"})

    def line(self) -> bytes:
        """The entry as it stands in the file."""
        return canonical_json(asdict(self)) + b"\n"


def utc_iso(moment: datetime) -> str:
    """ISO 8601 in UTC. A naive time is refused: nobody knows when it was."""
    if moment.tzinfo is None:
        raise LedgerError(
            "time of a ledger entry",
            expected="a timezone-aware datetime",
            found=f"naive {moment.isoformat()}",
            action="pass datetime.now(UTC)",
        )
    return moment.astimezone(UTC).isoformat()


def parse_line(line: bytes) -> LedgerEntry:
    """Read one line back; ValueError, TypeError or KeyError when it is not an entry."""
    data = json.loads(line)
    if not isinstance(data, dict) or set(data) != {f.name for f in fields(LedgerEntry)}:
        raise ValueError("not the fields of a ledger entry")
    entry = LedgerEntry(**(data | {"reasons": tuple(data["reasons"])}))
    if entry.action not in get_args(Action):
        raise ValueError(f"unknown action {entry.action!r}")
    return entry
