"""The one ledger mechanism: an append-only, hash-chained sequence of records, of any kind, in any place.

A record carries its position and the digest of the record before it, so an edit, a deletion in the middle or a new
order breaks the chain at a nameable record. What a record is, its `RecordType` says; where its bytes stand, a medium:

``RecordFiles``
    One file per record, made only where there is none (`quant_assets.common.files.create_whole`). Writers need no
    lock, on a local disk and in a bucket: of two that want one position one gets it, and the other reads on.
``LineFile``
    One local file with a line per record, and a lock beside it: cheap to read, whole to look at.

A chain alone cannot see that its *end* was cut off. So a medium may keep the head: position and digest of the last
record that was acknowledged. The head of record n is written before record n + 1 is, so it is never two behind.
"""

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

from quant_assets.common.errors import LedgerError
from quant_assets.common.files import (
    Location,
    create_whole,
    make_folder,
    names_in,
    read_all,
    read_whole,
    shown,
    write_whole,
)
from quant_assets.common.hashing import bytes_digest, canonical_json, json_digest

GENESIS = "0" * 64
LOCK_TIMEOUT_SECONDS = 60.0

RecordT = TypeVar("RecordT")


def ledger_error(
    location: Location, expected: str, found: str, action: str = "restore it from a backup"
) -> LedgerError:
    """The error for a ledger file that is not what it has to be, naming the file."""
    return LedgerError(f"ledger file {shown(location)}", expected=expected, found=found, action=action)


def json_record(data: bytes, fields: set[str], later: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A record's JSON mapping; ValueError when it is cut short, no JSON, or has not exactly these fields.

    Of the fields that came ``later``, a record of before has none.
    """
    record = json.loads(data)
    json.dumps(record, ensure_ascii=False).encode()  # half of a surrogate pair is no text, and has no digest
    if not isinstance(record, dict) or not fields - later <= set(record) <= fields:
        raise ValueError(f"not the fields {sorted(fields)}: {str(record)[:120]}")
    return record


@dataclass(frozen=True)
class RecordType(Generic[RecordT]):
    """How one kind of record stands in a chain.

    Attributes
    ----------
    noun : str
        What one is called in messages.
    encode, decode : callable
        Its bytes, on one line, and back. ``decode`` raises ValueError, TypeError or KeyError for anything else.
        Bytes that do not encode back to themselves were edited.
    position : callable
        Its place, counted from 0.
    previous, digest : callable
        The digest that it carries of the record before, and the one that the next has to carry.
    """

    noun: str
    encode: Callable[[RecordT], bytes]
    decode: Callable[[bytes], RecordT]
    position: Callable[[RecordT], int]
    previous: Callable[[RecordT], str]
    digest: Callable[[RecordT], str]


class Numbered(Protocol):
    """A dataclass record that says its place, from 1, and the digest of the record before."""

    @property
    def number(self) -> int:
        """Its place in the chain."""

    @property
    def previous(self) -> str:
        """What the record before has as its digest."""


NumberedT = TypeVar("NumberedT", bound=Numbered)


def numbered(noun: str, record: type[NumberedT]) -> RecordType[NumberedT]:
    """The type of a dataclass of records of which all fields are kept, and nothing else."""
    names = {field.name for field in fields(cast("Any", record))}

    def plain(made: NumberedT) -> dict[str, Any]:
        return asdict(cast("Any", made))

    return RecordType(
        noun=noun,
        encode=lambda made: canonical_json(plain(made)),
        decode=lambda data: record(**json_record(data, names)),
        position=lambda made: made.number - 1,
        previous=lambda made: made.previous,
        digest=lambda made: json_digest(plain(made)),
    )


class Medium(Protocol):
    """Where the bytes of a chain's records stand."""

    def name(self, position: int) -> str:
        """How messages call the record at a position."""

    def turn(self) -> AbstractContextManager[None]:
        """Hold off the other writers, where this medium needs that. Nests within one thread."""

    def read(self) -> tuple[list[bytes], int]:
        """Every record in order, and how many bytes of one that a crash cut short follow them."""

    def head(self) -> tuple[int, str] | None:
        """Position and digest of the last acknowledged record, (-1, GENESIS) before the first; None: not kept."""

    def acknowledge(self, position: int, digest: str) -> None:
        """Remember that the record at this position, and so all before it, was written."""

    def add(self, position: int, data: bytes) -> bool:
        """Write a record through to the disk. False when another writer has taken the position."""


class Chain(Generic[RecordT]):
    """An append-only, hash-chained sequence of records.

    Parameters
    ----------
    kind : RecordType
    medium : Medium
    remedy : str
        What to do about a broken chain.
    """

    def __init__(
        self, kind: RecordType[RecordT], medium: Medium, remedy: str = "restore it from a backup"
    ) -> None:
        self._kind, self._medium, self._remedy = kind, medium, remedy
        self._transaction = _Transaction()

    def head_of(self, records: Sequence[RecordT]) -> str:
        """Digest that stands for a chain up to its last record."""
        return self._kind.digest(records[-1]) if records else GENESIS

    def turn(self) -> AbstractContextManager[None]:
        """Keep others from appending between reading and extending, where the medium can; it then never loses."""
        return self._medium.turn()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the chain for something that is decided on it. Nests within one thread.

        A medium with a lock holds every other writer off. Without one, others may append meanwhile, and that is
        found: the next `records` or `extend` of this transaction raises, and nothing further is written.
        """
        with self.turn():
            if self._transaction.open:
                yield
                return
            self._transaction.open, self._transaction.head = True, None
            try:
                yield
            finally:
                self._transaction.open = False

    def records(self) -> list[RecordT]:
        """The whole chain, verified.

        Raises
        ------
        LedgerError
            Naming the first record that was edited, deleted, reordered or cut off.
        """
        return self.state()[0]

    def state(self) -> tuple[list[RecordT], int]:
        """The whole chain, verified, and how many bytes of a record that a crash cut short follow it."""
        head = self._medium.head()  # before the records: what it names must be among them
        raw, torn = self._medium.read()
        records: list[RecordT] = []
        for position, data in enumerate(raw):
            records.append(self._verified(position, data, self.head_of(records)))
        if head is not None:
            self._hold_to(head, records)
        if self._transaction.open:
            seen, now = self._transaction.head, self.head_of(records)
            if seen not in (None, now):
                raise self._overtaken(len(records))
            self._transaction.head = now
        return records, torn

    def extend(self, records: Sequence[RecordT], record: RecordT) -> bool:
        """Add one record behind the given chain, read from here. False when another writer has taken its place."""
        position = len(records)
        if records:  # the head catches up first: it may be one behind after a crash, never two
            self._medium.acknowledge(position - 1, self.head_of(records))
        if not self._medium.add(position, self._kind.encode(record)):
            if self._transaction.open:
                raise self._overtaken(position)
            return False
        if self._transaction.open:
            self._transaction.head = self._kind.digest(record)
        self._medium.acknowledge(position, self._kind.digest(record))  # last: what it names is written
        return True

    def _verified(self, position: int, data: bytes, previous: str) -> RecordT:
        kind = self._kind
        try:
            record = kind.decode(data)
            intact = kind.encode(record) == data
        except (ValueError, TypeError, KeyError) as error:
            raise self._broken(self._medium.name(position), f"one {kind.noun} as JSON", f"{error}") from error
        if kind.position(record) != position or kind.previous(record) != previous:
            raise self._broken(
                self._medium.name(position),
                f"{kind.noun} {position + 1}, continuing {previous[:12]}",
                f"{kind.noun} {kind.position(record) + 1}, continuing {str(kind.previous(record))[:12]} "
                "(one was deleted, edited or moved)",
            )
        if not intact:
            raise self._broken(
                self._medium.name(position),
                f"what was hashed as {kind.digest(record)[:12]}",
                "edited content",
            )
        return record

    def _hold_to(self, head: tuple[int, str], records: Sequence[RecordT]) -> None:
        position, digest = head
        if position >= len(records):
            raise self._broken(
                self._medium.name(len(records)),
                f"{position + 1} of them",
                f"{len(records)} (cut off at the end)",
            )
        if position >= 0 and self._kind.digest(records[position]) != digest:
            raise self._broken(
                self._medium.name(position),
                f"digest {digest[:12]} of the head file",
                self._kind.digest(records[position])[:12],
            )
        # Where nobody holds a lock the head has moved on since: what counts is whether it ever came this far.
        latest = self._medium.head() if len(records) - 1 - position > 1 else head
        if latest is not None and len(records) - 1 - latest[0] > 1:
            raise self._broken(
                f"{self._medium.name(latest[0] + 1)}, its head file",
                f"the head of {self._kind.noun} {len(records)} or the one before",
                f"that of {self._kind.noun} {latest[0] + 1}",
            )

    def _broken(self, what: str, expected: str, found: str) -> LedgerError:
        return LedgerError(what, expected=expected, found=found, action=self._remedy)

    def _overtaken(self, position: int) -> LedgerError:
        return LedgerError(
            self._medium.name(position),
            expected="no other writer since this transaction read the ledger",
            found="another one's record; what this one had written before stays",
            action="run it again: it then decides on the ledger as it stands",
        )


class _Transaction(threading.local):
    """The transaction of one thread: whether there is one, and the head of the chain that it decided on."""

    open: bool = False
    head: str | None = None


# ---------------------------------------------------------------------------------------- one file per record


_NUMBERED = re.compile(r"[0-9]{8,}\.json")


class RecordFiles:
    """A file per record below one folder, local or in a bucket.

    Parameters
    ----------
    folder : Path or UPath
        Holds the records; made with the first.
    keeps_head : bool
        Keep the head, as one more file per record below ``acknowledged/``. Nothing is ever replaced, so a
        delayed writer cannot set it back.
    """

    def __init__(self, folder: Location, *, keeps_head: bool = False) -> None:
        self.folder = folder
        self._heads = folder / "acknowledged" if keeps_head else None

    def name(self, position: int) -> str:
        """The file's own."""
        return f"ledger file {shown(self.folder / self._file(position))}"

    def turn(self) -> AbstractContextManager[None]:
        """Nobody has to wait."""
        return contextlib.nullcontext()

    def read(self) -> tuple[list[bytes], int]:
        """Every record up to the first that is missing; none may follow that one."""
        present = self._numbered(self.folder)
        wanted = [self._file(position) for position in range(len(present))]
        found = read_all(self.folder, wanted)
        for position, name in enumerate(wanted):
            if found[name] is None and (later := [other for other in present if other > name]):
                # A later record proves that this one was written: it may be newer than the listing. Look again.
                found[name] = read_whole(self.folder / name)
                if found[name] is None:
                    raise ledger_error(
                        self.folder / name, f"record {position + 1} ({later[-1]} exists)", "no such file"
                    )
        return [data for name in wanted if (data := found[name]) is not None], 0

    def head(self) -> tuple[int, str] | None:
        """What the newest file below ``acknowledged/`` says."""
        if self._heads is None:
            return None
        names = self._numbered(self._heads)
        return _head(self._heads / names[-1]) if names else (-1, GENESIS)

    def acknowledge(self, position: int, digest: str) -> None:
        """One more file, unless it is there."""
        if self._heads is not None:
            make_folder(self._heads)
            create_whole(self._heads / self._file(position), _head_bytes(position, digest))

    def add(self, position: int, data: bytes) -> bool:
        """True also when the very same record stands there: our own, whose answer was lost on the way."""
        make_folder(self.folder)
        return create_whole(self.folder / self._file(position), data)

    @staticmethod
    def _file(position: int) -> str:
        return f"{position + 1:08d}.json"

    @staticmethod
    def _numbered(folder: Location) -> list[str]:
        return [name for name in names_in(folder) if _NUMBERED.fullmatch(name)]


# ---------------------------------------------------------------------- one local file with a line per record


class LineFile:
    """A line per record in one local file, safe against crashes and concurrent processes on one machine.

    Parameters
    ----------
    path : Path
        ``<path>.head`` and ``<path>.lock`` live beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head_path = path.with_name(f"{path.name}.head")

    def name(self, position: int) -> str:
        """The file and the entry, counted from 0."""
        return f"ledger {self.path}, entry {position}"

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the file's lock."""
        from filelock import FileLock, Timeout

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

    def read(self) -> tuple[list[bytes], int]:
        """Every complete line; the bytes after the last are those that a crash cut short."""
        *lines, tail = (read_whole(self.path) or b"").split(b"\n")
        return lines, len(tail)

    def head(self) -> tuple[int, str] | None:
        """What the head file remembers."""
        return _head(self._head_path)

    def acknowledge(self, position: int, digest: str) -> None:
        """Replace the head file, unless it says so already. Its rename makes the ledger's name durable too."""
        if self.head() != (position, digest):
            write_whole(self._head_path, _head_bytes(position, digest), durable_name=True)

    def add(self, position: int, data: bytes) -> bool:
        """Append one line."""
        tail = (read_whole(self.path) or b"").rpartition(b"\n")[2]
        if tail:
            self._set_aside(tail)
        with self.path.open("ab") as handle:
            handle.write(data + b"\n")
            handle.flush()
            os.fsync(handle.fileno())
        return True

    def _set_aside(self, tail: bytes) -> None:
        """Move a torn last line aside, whole, before the file is cut back to its last complete record."""
        aside = self.path.with_name(f"{self.path.name}.torn-{bytes_digest(tail)[:12]}")
        write_whole(aside, tail, durable_name=True)
        with self.path.open("r+b") as handle:
            handle.truncate(self.path.stat().st_size - len(tail))
            os.fsync(handle.fileno())


def _head_bytes(position: int, digest: str) -> bytes:
    return canonical_json({"index": position, "hash": digest})


def _head(location: Location) -> tuple[int, str]:
    data = read_whole(location)
    if data is None:
        return -1, GENESIS
    try:
        head: Mapping[str, Any] = json.loads(data)
        return int(head["index"]), str(head["hash"])
    except (ValueError, KeyError, TypeError) as error:
        raise ledger_error(location, "the index and hash of a head file", f"unreadable: {error}") from error
