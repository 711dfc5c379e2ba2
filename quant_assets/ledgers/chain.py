"""Append-only records on a file system: files that appear whole or not at all, and a hash chain over them.

A file is written under a temporary name, synced, and given its name by ``os.link``, which fails when the name
is taken. So writers need no lock, a writer that is killed leaves at most an unused temporary file, and a
reader never sees half a record. The folder must be on a local file system with hard links.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from quant_assets.common.errors import LedgerError
from quant_assets.common.hashing import canonical_json, json_digest

GENESIS = "0" * 64


def ledger_error(
    path: Path, expected: str, found: str, action: str = "restore it from a backup"
) -> LedgerError:
    """The error for a ledger file that is not what it has to be, naming the file."""
    return LedgerError(f"ledger file {path}", expected=expected, found=found, action=action)


def create_record(path: Path, record: Mapping[str, Any]) -> bool:
    """Make a JSON record appear, whole and durable, unless its name is taken. Whether this call made it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".incoming-")
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(canonical_json(dict(record)))
            handle.flush()
            os.fsync(handle.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()


def read_record(path: Path, fields: set[str]) -> dict[str, Any]:
    """Read a record back.

    Raises
    ------
    LedgerError
        When the file is missing, is not JSON (cut short, overwritten), or has not exactly these fields.
    """
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ledger_error(path, "a record", "no such file") from error
    except ValueError as error:
        raise ledger_error(path, "one JSON record", f"{error}") from error
    if not isinstance(record, dict) or set(record) != fields:
        raise ledger_error(path, f"the fields {sorted(fields)}", str(record)[:120])
    return record


def chain_head(links: Sequence[Mapping[str, Any]]) -> str:
    """Digest that stands for a chain up to its last link."""
    return json_digest(dict(links[-1])) if links else GENESIS


class RecordChain:
    """Numbered links ``00000001.json, ...``, each with the digest of the one before it.

    Parameters
    ----------
    folder : Path
        Holds the links and nothing else.
    payload : set of str
        The fields of a link besides ``number`` and ``previous``.
    """

    def __init__(self, folder: Path, payload: set[str]) -> None:
        self.folder = folder
        self._fields = payload | {"number", "previous"}

    def links(self) -> list[dict[str, Any]]:
        """The whole chain, verified.

        Raises
        ------
        LedgerError
            When a link was altered, or removed while a later one is there.
        """
        links: list[dict[str, Any]] = []
        while True:
            path = self._path(len(links) + 1)
            if not path.exists():
                # A later link proves that this one was written: look again (it may be newer than our first
                # look), and refuse when it is gone.
                later = [p for p in self.folder.glob("[0-9]*.json") if p.name > path.name]
                if not later:
                    return links
                if not path.exists():
                    raise ledger_error(path, f"link {len(links) + 1} (later ones exist)", "no such file")
            link = read_record(path, self._fields)
            if link["number"] != len(links) + 1 or link["previous"] != chain_head(links):
                raise ledger_error(
                    path,
                    f"link {len(links) + 1}, continuing {chain_head(links)[:12]}",
                    f"number {link['number']}, continuing {str(link['previous'])[:12]}",
                )
            links.append(link)

    def extend(self, links: Sequence[Mapping[str, Any]], payload: Mapping[str, Any]) -> bool:
        """Add one link behind the given chain. False when another writer has taken that place."""
        number = len(links) + 1
        return create_record(self._path(number), {**payload, "number": number, "previous": chain_head(links)})

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.json"
