"""The promotion ledger: who put which model in charge, when, on what evidence. Append-only, hash-chained."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from quant_assets.common.errors import LedgerError
from quant_assets.common.files import Address, located, make_folder, read_whole, write_whole
from quant_assets.common.hashing import canonical_json, json_digest
from quant_assets.ledgers.chain import GENESIS, Chain, LineFile, RecordFiles, RecordType, json_record

__all__ = ["GENESIS", "LedgerEntry", "LedgerState", "PromotionLedger"]

# --------------------------------------------------------------------------- one line of the promotion ledger


Action = Literal["promoted", "refused", "rolled_back", "shown"]

# An entry written before there was a basis has none, in its bytes and in its hash.
NO_BASIS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class LedgerEntry:
    """One line of the ledger.

    Attributes
    ----------
    index : int
        Position from 0.
    previous : str
        Hash of the entry before (64 zeros for the first).
    action : {"promoted", "refused", "rolled_back", "shown"}
        ``shown``: the champion's performance on the holdout was looked at.
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
    basis : mapping
        Plain JSON data: by what it was decided. The limits in force in full, the settings that the evidence was made
        under, the trials that were counted. Empty for an entry of before this was recorded, which stays as it is.
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
    basis: Mapping[str, Any] = field(default_factory=dict)

    @property
    def moves(self) -> bool:
        """Whether it put a model in charge: a promotion or a roll-back, no refusal and no look."""
        return self.action in ("promoted", "rolled_back")

    def expected_hash(self) -> str:
        """The hash that the fields ask for."""
        return json_digest({k: v for k, v in self._recorded().items() if k != "hash"})

    def line(self) -> bytes:
        """The entry as it stands in the ledger, under the hash that its fields ask for."""
        return canonical_json({**self._recorded(), "hash": self.expected_hash()})

    def _recorded(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "basis" or v}


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
    data = json_record(line, {f.name for f in fields(LedgerEntry)}, later=frozenset({"basis"}))
    entry = LedgerEntry(**(data | {"reasons": tuple(data["reasons"])}))
    if entry.action not in get_args(Action):
        raise ValueError(f"unknown action {entry.action!r}")
    if not isinstance(entry.basis, dict):
        raise TypeError(f"no mapping as a basis: {entry.basis!r}")
    return entry


PROMOTIONS = RecordType[LedgerEntry](
    noun="ledger entry",
    encode=LedgerEntry.line,
    decode=parse_line,
    position=lambda entry: entry.index,
    previous=lambda entry: entry.previous,
    digest=lambda entry: entry.hash,
)


# --------------------------------------------------------------------------------------- the promotion ledger

# On a local disk it is one file of canonical JSON lines, with a lock and a head file beside it; in a bucket one
# object per entry and one per acknowledgement (`quant_assets.ledgers.chain` says what either notices). Somebody who
# rewrites entries and heads consistently is not detected by them alone; promotion therefore also writes each entry's
# hash to the model version it concerns, and compares.


@dataclass(frozen=True)
class LedgerState:
    """What verification found: how many entries, the last hash, and bytes of a line that a crash cut short."""

    n_entries: int
    head: str
    torn_bytes: int


class PromotionLedger:
    """An append-only ledger of `LedgerEntry`, safe against crashes and concurrent processes.

    Parameters
    ----------
    path : str, Path or UPath
        The JSON-lines file; ``<path>.head``, ``<path>.lock`` and the folder of signatures live beside it. Of a URL
        (``s3://bucket/home/promotions/ledger.jsonl``) the entries are the objects below it without its suffix.
    """

    def __init__(self, path: Address) -> None:
        self.path = located(path)
        self._signatures = self.path.with_suffix(".signatures")
        medium = (
            LineFile(self.path)
            if isinstance(self.path, Path)
            else RecordFiles(self.path.with_suffix(""), keeps_head=True)
        )
        self._chain = Chain(
            PROMOTIONS,
            medium,
            "stop promoting, find out who changed it, and restore it from a backup",
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger for a transaction. Nests within one thread.

        A local ledger has a lock. One in a bucket has none: where another process appends meanwhile, the next call
        of this transaction raises LedgerError and writes nothing, so that no decision stands on an older record.
        """
        with self._chain.transaction():
            yield

    def verify(self) -> LedgerState:
        """Check every entry, the chain and the end.

        Returns
        -------
        LedgerState
            ``torn_bytes`` > 0 says that a crash cut the last write short. That entry was never acknowledged;
            the next append moves its bytes to ``<path>.torn-<digest>``.

        Raises
        ------
        LedgerError
            Naming the first entry that was edited, deleted, reordered or cut off.
        """
        with self._chain.turn():
            entries, torn = self._chain.state()
        return LedgerState(len(entries), self._chain.head_of(entries), torn)

    def entries(self, strategy: str | None = None) -> tuple[LedgerEntry, ...]:
        """Verified entries in order, of one strategy or of all."""
        with self._chain.turn():
            entries = self._chain.records()
        return tuple(e for e in entries if strategy is None or e.strategy == strategy)

    def signature(self, entry: LedgerEntry) -> bytes | None:
        """The detached signature of an entry, not verified; None when it has none."""
        return read_whole(self._signatures / f"{entry.hash}.sig")

    def append(
        self,
        action: Action,
        *,
        strategy: str,
        subject: str,
        model_version: str,
        reasons: Sequence[str],
        evidence: Mapping[str, str],
        actor: str,
        at: datetime,
        run_id: str,
        replaces: str | None = None,
        basis: Mapping[str, Any] = NO_BASIS,
        seal: Callable[[bytes], bytes] | None = None,
    ) -> LedgerEntry:
        """Write one entry through to the disk and return it.

        A refusal that repeats the strategy's latest entry (same subject, evidence, reasons and basis), or a look that
        repeats any earlier one, writes nothing and returns that entry: an automation that retries hourly must not
        flood the record, and what was seen once cannot be seen for the first time again.

        Parameters
        ----------
        seal : callable, optional
            Signs the bytes of the entry. Its signature is kept beside the chain, whose hashes know nothing of it, and
            is written first: a crash leaves a signature without an entry, never an entry without its signature.
        """
        draft = LedgerEntry(
            index=-1,
            previous="",
            action=action,
            strategy=strategy,
            subject=subject,
            model_version=model_version,
            replaces=replaces,
            reasons=tuple(reasons),
            evidence=dict(evidence),
            actor=actor,
            at=utc_iso(at),
            run_id=run_id,
            hash="",
            basis=dict(basis),
        )
        with self._chain.turn():
            while True:
                entries = self._chain.records()
                own = [e for e in entries if e.strategy == strategy]
                asked = {"refused": own[-1:], "shown": own}.get(action, [])
                same = next((e for e in asked if _content(e) == _content(draft)), None)
                if same is not None:
                    return same
                entry = replace(draft, index=len(entries), previous=self._chain.head_of(entries))
                entry = replace(entry, hash=entry.expected_hash())
                if seal is not None:
                    make_folder(self._signatures)
                    write_whole(self._signatures / f"{entry.hash}.sig", seal(entry.line()), durable_name=True)
                if self._chain.extend(entries, entry):
                    return entry


def _content(entry: LedgerEntry) -> tuple[object, ...]:
    return entry.action, entry.subject, entry.reasons, dict(entry.evidence), dict(entry.basis)
