"""The archive of a bundle: a zip that is a function of its files, read within bounds.

Same files, same bytes: entries are stored uncompressed (deflate differs between zlib versions), in name order,
with a fixed time. An archive is therefore intact iff it equals the archive of its own contents.
"""

import io
import re
import zipfile
from collections.abc import Mapping

from quant_assets.common.errors import ArtifactError

# A graph has to fit one protobuf message (2 GiB); half of that for the whole archive leaves room to hold it twice.
MAX_ARCHIVE_BYTES = 1 << 30
MAX_FILES = 32
_FIRST_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_SAFE_NAME = re.compile(r"[a-z0-9_]+(/[a-z0-9_]+)?(\.[a-z0-9_]+)+")


def pack(files: Mapping[str, bytes]) -> bytes:
    """The archive of some files, by name. Same files, same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _FIRST_ZIP_TIME)
            entry.create_system = 3  # Unix on every host
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, bytes]:
    """Read an archive that `pack` wrote, in memory; nothing is written to a disk.

    Raises
    ------
    ArtifactError
        Each with its own message: empty, not a zip archive, too large, truncated or damaged, too many entries, a
        name twice or compressed, a name that leaves the folder, sizes larger than the archive (a zip bomb).
    """
    if not data:
        raise refused("an archive", "0 bytes")
    if data[:4] != b"PK\x03\x04":
        raise refused("a zip archive", f"{len(data)} bytes that begin with {data[:8]!r}")
    if len(data) > MAX_ARCHIVE_BYTES:
        raise refused(f"an archive of at most {MAX_ARCHIVE_BYTES} bytes", f"{len(data)} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            _check_entries(entries, len(data))
            files = {entry.filename: archive.read(entry) for entry in entries}
    except zipfile.BadZipFile as error:
        # A wrong checksum names its file; a lost directory does not.
        if "CRC" in str(error):
            raise refused("files that match their checksums", f"a changed byte ({error})") from error
        raise refused(
            "a whole archive", f"a truncated or damaged one of {len(data)} bytes ({error})"
        ) from error
    except (EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise refused("a readable archive", f"a damaged one ({type(error).__name__}: {error})") from error
    return files


def require_canonical(data: bytes, files: Mapping[str, bytes]) -> None:
    """Refuse an archive that is not the one that `pack` writes for its files (an altered header, bytes between)."""
    if pack(files) != data:
        raise refused(
            "the archive that its own files give", "other bytes between the files (an altered header)"
        )


def _check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    names = [entry.filename for entry in entries]
    shown = ", ".join(repr(name) for name in names[:8])
    if len(entries) > MAX_FILES:
        raise refused(f"at most {MAX_FILES} files", f"{len(entries)}")
    leaving = [n for n in names if ".." in n.split("/") or n.startswith(("/", "\\")) or "\\" in n or ":" in n]
    if leaving:
        raise refused("files inside one folder", f"a name that leaves it: {leaving[0]!r}")
    if len(set(names)) != len(names) or any(e.compress_type != zipfile.ZIP_STORED for e in entries):
        raise refused("each file once, uncompressed", f"entries {shown}")
    strange = [name for name in names if not _SAFE_NAME.fullmatch(name)]
    if strange:
        raise refused("names of lower-case letters, digits and _", f"{strange[0]!r}")
    claimed = sum(max(entry.file_size, entry.compress_size) for entry in entries)
    if claimed > size:
        raise refused(
            f"files that fit into the {size} bytes of the archive", f"{claimed} bytes claimed (a zip bomb)"
        )


def refused(expected: str, found: str) -> ArtifactError:
    """The error of a bundle that must not be used."""
    return ArtifactError(
        "bundle",
        expected=expected,
        found=found,
        action="do not load it; materialise the bundle again from its candidate",
    )
