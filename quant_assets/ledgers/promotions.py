"""The promotion ledger: who put which model in charge, when, on what evidence. Append-only, hash-chained."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock, Timeout

from quant_assets.common.errors import LedgerError
from quant_assets.common.hashing import bytes_digest, canonical_json, json_digest

# --------------------------------------------------------------------------------------------------
# One line of the promotion ledger: its fields, its hash and its text form.


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


# --------------------------------------------------------------------------------------------------
# The promotion ledger: who put which model in charge, when, on what evidence. Append-only, hash-chained.
#
# One line of canonical JSON per entry; each carries the hash of the one before it and its own, so an edit, a
# deletion in the middle or a new order breaks the chain at a nameable entry. A chain alone cannot see that its
# *end* was cut off, so a head file beside it holds the index and hash of the last acknowledged entry. Somebody
# who rewrites both files consistently is not detected by them alone; promotion therefore also writes each
# entry's hash to the model version it concerns, and compares.


LOCK_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class LedgerState:
    """What verification found: how many entries, the last hash, and bytes of a line that a crash cut short."""

    n_entries: int
    head: str
    torn_bytes: int


def _sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class PromotionLedger:
    """An append-only file of `LedgerEntry`, safe against crashes and concurrent processes on one machine.

    Parameters
    ----------
    path : str or Path
        The JSON-lines file. ``<path>.head`` and ``<path>.lock`` live beside it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._head_path = self.path.with_name(f"{self.path.name}.head")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger for a transaction. Nests within one thread; it is taken by every method."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # A singleton per path, so that a transaction that holds the lock may call the other methods.
        lock = FileLock(self.path.with_name(f"{self.path.name}.lock"), is_singleton=True)
        try:
            lock.acquire(timeout=LOCK_TIMEOUT_SECONDS)
        except Timeout as error:
            raise LedgerError(
                f"ledger {self.path}",
                expected=f"its lock within {LOCK_TIMEOUT_SECONDS:.0f} s",
                found="another process holding it",
                action="wait for the other promotion to end",
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _broken(self, what: str, expected: str, found: str) -> LedgerError:
        return LedgerError(
            f"ledger {self.path}, {what}",
            expected=expected,
            found=found,
            action="stop promoting, find out who changed the file, and restore it from a backup",
        )

    def _head(self) -> tuple[int, str]:
        """Index and hash that the head file remembers; (-1, GENESIS) when there is none."""
        if not self._head_path.exists():
            return -1, GENESIS
        try:
            data = json.loads(self._head_path.read_bytes())
            return int(data["index"]), str(data["hash"])
        except (ValueError, KeyError, TypeError) as error:
            raise self._broken("its head file", "an index and a hash", f"unreadable: {error}") from error

    def _read(self) -> tuple[list[LedgerEntry], bytes]:
        """All entries, verified against the chain and the head, and the torn bytes after them."""
        content = self.path.read_bytes() if self.path.exists() else b""
        *lines, tail = content.split(b"\n")
        entries: list[LedgerEntry] = []
        previous = GENESIS
        for number, line in enumerate(lines):
            name = f"entry {number}"
            try:
                entry = parse_line(line)
                intact = entry.expected_hash() == entry.hash and entry.line() == line + b"\n"
            except (ValueError, TypeError, KeyError) as error:
                raise self._broken(name, "one ledger entry as JSON", f"{error}") from error
            if entry.index != number:
                raise self._broken(name, f"index {number}", f"index {entry.index} (deleted or reordered)")
            if entry.previous != previous:
                raise self._broken(name, f"previous hash {previous[:12]}", f"{entry.previous[:12]}")
            if not intact:
                raise self._broken(name, f"content with hash {entry.hash[:12]}", "edited content")
            entries.append(entry)
            previous = entry.hash
        index, head = self._head()
        if index >= len(entries):
            raise self._broken(
                f"entry {len(entries)}", f"{index + 1} entries", f"{len(entries)} (cut off at the end)"
            )
        if index >= 0 and entries[index].hash != head:
            raise self._broken(f"entry {index}", f"hash {head[:12]} of the head file", entries[index].hash)
        if len(entries) - 1 - index > 1:
            # A crash can leave the head one entry behind, never two: each append first catches up.
            raise self._broken(
                "its head file", f"entry {len(entries) - 1} or the one before", f"entry {index}"
            )
        return entries, tail

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
        with self.locked():
            entries, tail = self._read()
        return LedgerState(len(entries), entries[-1].hash if entries else GENESIS, len(tail))

    def entries(self, strategy: str | None = None) -> tuple[LedgerEntry, ...]:
        """Verified entries in order, of one strategy or of all."""
        with self.locked():
            entries, _ = self._read()
        return tuple(e for e in entries if strategy is None or e.strategy == strategy)

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
    ) -> LedgerEntry:
        """Write one entry through to the disk and return it.

        A refusal that repeats the strategy's latest entry (same subject, evidence and reasons) writes
        nothing and returns that entry: an automation that retries hourly must not flood the record.
        """
        moment = utc_iso(at)
        with self.locked():
            entries, tail = self._read()
            latest = next((e for e in reversed(entries) if e.strategy == strategy), None)
            content = ("refused", subject, tuple(reasons), dict(evidence))
            if (
                action == "refused"
                and latest is not None
                and content == (latest.action, latest.subject, latest.reasons, dict(latest.evidence))
            ):
                return latest
            if tail:
                self._quarantine(tail)
            if entries:
                self._write_head(entries[-1])
            draft = LedgerEntry(
                index=len(entries),
                previous=entries[-1].hash if entries else GENESIS,
                action=action,
                strategy=strategy,
                subject=subject,
                model_version=model_version,
                replaces=replaces,
                reasons=tuple(reasons),
                evidence=dict(evidence),
                actor=actor,
                at=moment,
                run_id=run_id,
                hash="",
            )
            entry = replace(draft, hash=draft.expected_hash())
            with self.path.open("ab") as handle:
                handle.write(entry.line())
                handle.flush()
                os.fsync(handle.fileno())
            # The head goes last: what it names is on the disk. Its rename also makes the file's name durable.
            self._write_head(entry)
            return entry

    def _quarantine(self, tail: bytes) -> None:
        """Move a torn last line aside, whole, before the file is cut back to its last complete entry."""
        aside = self.path.with_name(f"{self.path.name}.torn-{bytes_digest(tail)[:12]}")
        self._replace(aside, tail)
        with self.path.open("r+b") as handle:
            handle.truncate(self.path.stat().st_size - len(tail))
            os.fsync(handle.fileno())

    def _write_head(self, entry: LedgerEntry) -> None:
        if self._head() != (entry.index, entry.hash):
            self._replace(self._head_path, canonical_json({"index": entry.index, "hash": entry.hash}))

    @staticmethod
    def _replace(target: Path, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        Path(temporary).replace(target)
        _sync_folder(target.parent)
