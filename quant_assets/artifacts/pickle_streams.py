"""Finding pickles in bytes that should hold none, without unpickling anything.

A stream of protocol 2 and up begins with the byte 0x80 and its protocol, at any offset; random bytes do so once in
16,384. What tells them apart is the rest: a stream that does harm names a module to import, in opcodes that parse
from its first byte on. Loading stops for nobody: an import runs before a stream turns out to be cut short, so no
STOP is asked for. Protocols 0 and 1 have no first byte; they are searched by the text of their import opcode.
"""

import io
import logging
import pickletools
import re
import warnings
from collections.abc import Iterator

_HEADER = re.compile(rb"\x80[\x02-\x05]")
# A look-ahead, because a match may begin inside another (``xicposix``); bounded, because lines may be long.
_TEXT_IMPORT = re.compile(rb"(?=([ci][A-Za-z_][\w.]{0,120}\n[A-Za-z_][\w.]{0,120}\n))")
_NAME = re.compile(r"[A-Za-z_][\w.]*")
# Random bytes cost 2 bytes a candidate. A file that needs more than this is made to tire the scan out.
_BUDGET_BYTES = 16 << 20
_BUDGET_FACTOR = 8


class ScanBudgetError(Exception):
    """A file holds so many almost-pickles that they cannot all be read in reasonable time."""


def find_pickles(data: bytes) -> Iterator[tuple[int, str]]:
    """Offset and description of each pickle in some bytes.

    Parameters
    ----------
    data : bytes
        A file of any kind.

    Yields
    ------
    offset : int
    description : str
        What it imports and how picklescan rates that, or that it is a pickle without imports.

    Raises
    ------
    ScanBudgetError
        When the bytes were made to be slow to scan.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # odd escapes in strings of almost-pickles
        yield from _whole_pickle(data)
        yield from _binary_streams(data)
        yield from _text_imports(data)


def _whole_pickle(data: bytes) -> Iterator[tuple[int, str]]:
    """The file itself as a pickle: with imports in any protocol, or any that runs to its end and has a header."""
    imports = _imports_of(data)
    if imports:
        yield 0, f"a pickle that imports {imports}"
    elif _HEADER.match(data):
        try:
            if any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(io.BytesIO(data))):
                yield 0, "a pickle"
        except (ValueError, OverflowError, MemoryError):
            return


def _binary_streams(data: bytes) -> Iterator[tuple[int, str]]:
    stream = io.BytesIO(data)
    budget = _BUDGET_BYTES + _BUDGET_FACTOR * len(data)
    seen: set[int] = set()  # opcode positions that were parsed: from there on it is the same parse again
    for match in _HEADER.finditer(data):
        start = match.start()
        if start in seen:
            continue
        stream.seek(start)
        names: list[str] = []
        try:
            for opcode, argument, position in pickletools.genops(stream):
                if position is not None:
                    seen.add(position)
                if isinstance(argument, str) and _NAME.fullmatch(argument):
                    names.append(argument)
                importing = opcode.name in ("GLOBAL", "INST") and all(
                    _NAME.fullmatch(part) for part in str(argument).split(" ", 1)
                )
                if importing or (opcode.name == "STACK_GLOBAL" and len(names) >= 2):
                    imports = _imports_of(data[start : stream.tell()]) or str(
                        argument or ".".join(names[-2:])
                    )
                    yield start, f"a pickle that imports {imports}"
                    break
        except (ValueError, OverflowError, MemoryError):
            pass  # not a pickle from here on, which is what random bytes are
        budget -= stream.tell() - start
        if budget < 0:
            raise ScanBudgetError


def _text_imports(data: bytes) -> Iterator[tuple[int, str]]:
    """Import opcodes of protocols 0 and 1 that name a module which picklescan calls dangerous."""
    for match in _TEXT_IMPORT.finditer(data):
        imports = _imports_of(match.group(1), dangerous_only=True)
        if imports:
            yield match.start(), f"an import opcode of a pickle: {imports}"


def _imports_of(data: bytes, *, dangerous_only: bool = False) -> str:
    """What picklescan says a stream imports; empty when it imports nothing, or is none."""
    from picklescan.scanner import SafetyLevel, scan_pickle_bytes  # type: ignore[import-untyped]

    logging.getLogger("picklescan").setLevel(logging.CRITICAL)  # it logs every file that is no pickle
    if not data:
        return ""
    try:
        found = scan_pickle_bytes(io.BytesIO(data), "", multiple_pickles=False).globals
    except ValueError:  # a STACK_GLOBAL without two values before it: loading would stop there as well
        return ""
    named = {
        f"{g.module}.{g.name} ({g.safety.value})"
        for g in found
        if not dangerous_only or g.safety is SafetyLevel.Dangerous
    }
    return ", ".join(sorted(named))
