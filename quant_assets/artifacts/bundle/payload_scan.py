"""The scan of a bundle's files for anything that a loader could execute.

Nothing in a bundle needs to be a program, a pickle, an archive or a graph with foreign operators, so that any of
them, anywhere, is a reason to refuse. A scan finds known forms; what keeps unknown ones out is the signature.

Pickles are found without unpickling anything. A stream of protocol 2 and up begins with the byte 0x80 and its
protocol, at any offset; random bytes do so once in 16,384. What tells them apart is the rest: a stream that does harm
names a module to import, in opcodes that parse from its first byte on. Loading stops for nobody: an import runs
before a stream turns out to be cut short, so no STOP is asked for. Protocols 0 and 1 have no first byte; they are
searched by the text of their import opcode.
"""

import io
import logging
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quant_assets.artifacts.bundle.archive import refused
from quant_assets.common.errors import ArtifactError
from quant_assets.models.graphs import checked_model

# ---------------------------------------------------------------------------------------------------- pickles


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


# --------------------------------------------------------------------------------- programs, archives, graphs


Kind = Literal["empty", "pickle", "program", "archive", "graph", "unscannable"]

# Members of an archive inside an artifact are named up to this size; the archive is refused in any case.
_MAX_INNER_BYTES = 64 << 20
_HEADS: Mapping[bytes, tuple[Kind, str]] = {
    b"#!": ("program", "a script (#!)"),
    b"\x00asm": ("program", "a WebAssembly module"),
    b"\xca\xfe\xba\xbe": ("program", "a Java class or universal Mach-O binary"),
    b"dex\n": ("program", "a Dalvik program"),
    b"PK\x03\x04": ("archive", "a zip archive"),
    b"\x1f\x8b\x08": ("archive", "gzip data"),
    b"BZh": ("archive", "bzip2 data"),
    b"\xfd7zXZ\x00": ("archive", "xz data"),
    b"\x28\xb5\x2f\xfd": ("archive", "zstd data"),
    b"7z\xbc\xaf\x27\x1c": ("archive", "a 7z archive"),
    b"Rar!\x1a\x07": ("archive", "a rar archive"),
    b"\x93NUMPY": ("archive", "a NumPy file, which may hold pickled objects"),
    b"\x89HDF": ("archive", "an HDF5 file, which may hold pickled code"),
}
_ELF = re.compile(rb"\x7fELF[\x01\x02][\x01\x02]\x01")
_PE = re.compile(rb"MZ", re.DOTALL)
_MACH_O = re.compile(rb"\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe")
_MACH_CPUS = frozenset({7, 12, 18, 0x01000007, 0x0100000C, 0x01000012, 0x0200000C})


@dataclass(frozen=True)
class Finding:
    """Something that a loader could execute, or that hides what it holds.

    Attributes
    ----------
    file : str
    offset : int
        First byte of it.
    kind : {"empty", "pickle", "program", "archive", "graph", "unscannable"}
    what : str
    """

    file: str
    offset: int
    kind: Kind
    what: str


@dataclass(frozen=True)
class ScanReport:
    """What a scan looked at and what it found; clean iff it found nothing."""

    files: int
    scanned_bytes: int
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "files": self.files,
            "scanned_bytes": self.scanned_bytes,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def require_clean(self) -> None:
        """Raise on any finding.

        Raises
        ------
        ArtifactError
            Naming file, offset and kind of the first three.
        """
        if self.findings:
            shown = "; ".join(f"{f.file} at byte {f.offset}: {f.what}" for f in self.findings[:3])
            raise refused("files in which nothing can be executed", shown)


def payload_scan(files: Mapping[str, bytes], *, graphs: bool = True) -> ScanReport:
    """Scan files for executable payloads.

    Parameters
    ----------
    files : mapping of str to bytes
        Contents by name.
    graphs : bool, default True
        Also hand files named ``*.onnx`` in which nothing else was found to the ONNX checks: external data, custom
        operators, functions. They parse protobuf, so they wait until a signature was found good.

    Returns
    -------
    ScanReport
        Same files, same report.
    """
    findings: list[Finding] = []
    for name, data in sorted(files.items()):
        found = list(_of_file(name, data))
        if not found and graphs and name.endswith(".onnx"):
            found = list(_of_graph(name, data))
        findings += found
    return ScanReport(len(files), sum(map(len, files.values())), tuple(findings))


def _of_file(name: str, data: bytes) -> Iterator[Finding]:
    if not data:
        yield Finding(name, 0, "empty", "a file of 0 bytes")
        return
    yield from (Finding(name, offset, kind, what) for offset, kind, what in _magic(data))
    try:
        yield from (Finding(name, offset, "pickle", what) for offset, what in find_pickles(data))
        yield from _of_inner_archive(name, data)
    except ScanBudgetError:
        yield Finding(name, 0, "unscannable", "more almost-pickles than can be read")


def _of_graph(name: str, data: bytes) -> Iterator[Finding]:
    try:
        checked_model(data)
    except ArtifactError as error:
        yield Finding(name, 0, "graph", error.found)


def _magic(data: bytes) -> Iterator[tuple[int, Kind, str]]:
    for head, (kind, what) in _HEADS.items():
        if data.startswith(head):
            yield 0, kind, what
    if data[257:262] == b"ustar":
        yield 0, "archive", "a tar archive"
    if _is_bytecode(data):
        yield 0, "program", "Python bytecode"
    for match in _ELF.finditer(data):
        yield match.start(), "program", "an ELF program or library"
    for match in _PE.finditer(data):
        if _is_pe(data, match.start()):
            yield match.start(), "program", "a Windows program or library"
    for match in _MACH_O.finditer(data):
        if _is_mach_o(data, match.start()):
            yield match.start(), "program", "a Mach-O program or library"


def _is_bytecode(data: bytes) -> bool:
    # A .pyc: a magic number of CPython 3 (3000 to 3999), CR LF, flags 0 to 3, and a marshalled code object.
    if len(data) < 17 or data[2:4] != b"\r\n":
        return False
    magic, flags = struct.unpack_from("<H2xI", data)
    return 3000 <= magic < 4000 and flags <= 3 and data[16] & 0x7F == ord("c")


def _is_pe(data: bytes, start: int) -> bool:
    if start + 64 > len(data):
        return False
    (header,) = struct.unpack_from("<I", data, start + 0x3C)
    return data[start + header : start + header + 4] == b"PE\x00\x00"


def _is_mach_o(data: bytes, start: int) -> bool:
    if start + 16 > len(data):
        return False
    order = ">" if data[start] == 0xFE else "<"
    cpu, _, kind = struct.unpack_from(f"{order}III", data, start + 4)
    return cpu in _MACH_CPUS and 1 <= kind <= 12


def _of_inner_archive(name: str, data: bytes) -> Iterator[Finding]:
    """A zip is read from its end, so one that was appended to a harmless file counts; so do pickles in it."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return
    yield Finding(name, 0, "archive", "a zip archive in or behind it")
    room = _MAX_INNER_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                room -= entry.file_size
                if room < 0 or entry.flag_bits & 1:
                    yield Finding(name, 0, "unscannable", f"{entry.filename!r} in it, too large or encrypted")
                    return
                with archive.open(entry) as member:
                    content = member.read(entry.file_size)
                for offset, what in find_pickles(content):
                    yield Finding(f"{name}!{entry.filename}", offset, "pickle", what)
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        yield Finding(name, 0, "unscannable", f"a damaged archive in it ({type(error).__name__})")
