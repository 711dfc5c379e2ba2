"""The scan of a bundle's files for anything that a loader could execute.

Nothing in a bundle needs to be a program, a pickle, an archive or a graph with foreign operators, so that any of
them, anywhere, is a reason to refuse. A scan finds known forms; what keeps unknown ones out is the signature.
"""

import io
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from quant_assets.artifacts.archive import refused
from quant_assets.artifacts.pickle_streams import ScanBudgetError, find_pickles
from quant_assets.artifacts.runtime import checked_model
from quant_assets.common.errors import ArtifactError

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
