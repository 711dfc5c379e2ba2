"""Files in folders and in buckets: written whole or not at all, and never missing only because a store failed.

A *location* is a local path, or a path of an object store that fsspec knows (``s3://bucket/prefix``,
``memory://name``). Options of a store come from the environment, as its own package reads it: for S3 the ``AWS_*``
variables, with ``AWS_ENDPOINT_URL`` for a server that is not Amazon's. Addresses carry no credentials.
"""

import contextlib
import mimetypes
import os
import re
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote, urlsplit

from quant_assets.common.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from upath import UPath

Location: TypeAlias = "Path | UPath"
Address: TypeAlias = "str | Path | UPath"

# Stores whose "create only if there is none" was tested. On others two writers could take one name.
EXCLUSIVE_STORES = ("s3", "s3a", "memory")
_CONFLICT_TRIES = 20


def is_url(address: Address) -> bool:
    """Whether an address names a store other than the local file system."""
    return (
        not isinstance(address, Path) and "://" in str(address) and _scheme(address) not in ("file", "local")
    )


def local_path(address: Address) -> Path:
    """The path behind an address of the local file system (`is_url` is false for it)."""
    text = str(address)
    return Path(unquote(urlsplit(text).path)) if "://" in text else Path(text)


def located(address: Address, **storage_options: Any) -> Location:
    """The location behind a folder or a URL.

    Parameters
    ----------
    address : str, Path or UPath
    **storage_options
        For the store's fsspec package; none is needed where the environment says it all.

    Raises
    ------
    ConfigurationError
        When the URL holds credentials: it would be shown, and stored in events.
    StorageError
        When no such kind of store is known, or its package is not installed.
    """
    if isinstance(address, Path):
        return address
    if not is_url(address):
        return local_path(address)
    if "@" in urlsplit(str(address)).netloc:
        raise ConfigurationError(
            f"address {shown(address)}",
            expected="a URL without credentials",
            found="a part before '@' (not shown)",
            action="take it out, and set the variables that the store's package reads, as in AWS_ACCESS_KEY_ID",
        )
    from upath import UPath

    # A remembered listing would hide what other processes have written since.
    own = {} if isinstance(address, str | Path) else dict(address.storage_options)
    with _reported(address):
        location = UPath(address, **({"use_listings_cache": False} | own | storage_options))
        _ = location.fs
    return location


def shown(address: Address) -> str:
    """An address for messages: without credentials."""
    return re.sub(r"(://)[^/@\s]*@", r"\1***@", str(address))


# Characters that a terminal or a spreadsheet obeys instead of showing, or that turn the order of what is shown.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def control_character(text: str) -> str | None:
    """Which invisible character a text holds and where, in words; None when it holds none but tab and line ends."""
    found = _CONTROL.search(text)
    if found is None:
        return None
    line = text.count("\n", 0, found.start()) + 1
    return f"the control character U+{ord(found.group()):04X} in line {line}"


def bounded_text(file: Path, most: int) -> str:
    """The text of a small file that people write.

    Parameters
    ----------
    file : Path
    most : int
        Bytes that it may have; no more than one beyond is read.

    Raises
    ------
    ConfigurationError
        When it is larger, cannot be read, is not UTF-8 or holds control characters.
    """
    text, found, action = "", "", "save it as plain UTF-8 text"
    try:
        with file.open("rb") as stream:
            data = stream.read(most + 1)
        if len(data) > most:
            found, action = f"more than {most} bytes", "check that it is the right file"
        else:
            text = data.decode("utf-8-sig")
            found = control_character(text) or ""
    except UnicodeDecodeError as error:
        utf_16 = error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
        found = (
            f"byte 0x{error.object[error.start]:02x} at offset {error.start}{': UTF-16' if utf_16 else ''}"
        )
    except OSError as error:
        found, action = f"{type(error).__name__}: {error.strerror}", "make it readable"
    if found:
        raise ConfigurationError(
            str(file), expected=f"UTF-8 text of at most {most} bytes", found=found, action=action
        )
    return text


def make_folder(folder: Location) -> None:
    """Make a folder and those above it. Object stores have none to make."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter, or make it so where it is his own and is not.

    What is below it is then closed too, whatever its own mode. A folder that is for more than this (the root,
    a user's own, one that everybody may write to) stays as it is.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found, whole = folder.stat(), folder.resolve()
    shared = found.st_mode & stat.S_ISVTX or whole in (whole.parent, Path.home())
    if found.st_uid == os.getuid() and found.st_mode & 0o077 and not shared:
        folder.chmod(0o700)


def write_whole(target: Location, data: bytes, *, durable_name: bool = False) -> None:
    """Write a file whole: a reader sees the old content or the new, never a part of it.

    Locally: beside the target, flushed to disk, then renamed over it. In an object store: one PUT.

    Parameters
    ----------
    target : Path or UPath
        Its folder exists. A file already there is replaced in one step.
    data : bytes
    durable_name : bool
        Flush the folder too, so that a new name survives a power cut as well.

    Raises
    ------
    OSError
        When the disk refuses; the target is then as it was, and nothing is left beside it.
    StorageError
        When the store refuses, or does not answer.
    """
    if not isinstance(target, Path):
        with _reported(target):
            target.fs.pipe_file(target.path, data, **_headers(target))
        return
    with _beside(
        target, data, 0o644
    ) as temporary:  # the 0600 of a temporary file would hide it from the others
        temporary.replace(target)
    if durable_name:
        sync_folder(target.parent)


def create_whole(target: Location, data: bytes, *, mode: int = 0o644) -> bool:
    """Make a file appear, whole and durable, unless its name is taken. Whether it now holds this very content.

    Writers need no lock: of several, one makes the file and the others leave it as it is. Locally the name is
    given by ``os.link``, which fails where the name is taken (the file system needs hard links). In an object
    store it is one PUT with ``If-None-Match: *``.

    Raises
    ------
    OSError, StorageError
        As `write_whole`; also when the store is none that is known to refuse a second writer.
    """
    if not isinstance(target, Path):
        _require_exclusive(target.parent)
        return _put_new(target, data) or read_whole(target) == data
    with _beside(target, data, mode) as temporary:
        try:
            os.link(temporary, target)
        except FileExistsError:
            return target.read_bytes() == data
    sync_folder(target.parent)
    return True


def read_whole(location: Location) -> bytes | None:
    """The bytes of a file; None when there is no such file.

    Raises
    ------
    StorageError
        When the store cannot say: a bucket that is missing, unreachable or closed is not an empty one.
    """
    if isinstance(location, Path):
        try:
            return location.read_bytes()
        except FileNotFoundError:
            return None
    with _reported(location):
        try:
            return bytes(location.fs.cat_file(location.path))
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise
            return None


def read_all(folder: Location, names: Iterable[str]) -> dict[str, bytes | None]:
    """The bytes of several files of a folder by name, fetched together; None for each that is not there."""
    wanted = list(names)
    if isinstance(folder, Path) or len(wanted) < 2:
        return {name: read_whole(folder / name) for name in wanted}
    paths = {name: (folder / name).path for name in wanted}
    with _reported(folder):
        found = folder.fs.cat(list(paths.values()), on_error="return")
        for answer in found.values():
            if isinstance(answer, Exception) and not (
                isinstance(answer, FileNotFoundError) and _code(answer) != "NoSuchBucket"
            ):
                raise answer
    return {name: found[path] if isinstance(found[path], bytes) else None for name, path in paths.items()}


def names_in(folder: Location) -> list[str]:
    """Names directly below a folder, sorted; none when there is no such folder.

    Raises
    ------
    StorageError
        When the store cannot say; see `read_whole`.
    """
    if isinstance(folder, Path):
        try:
            return sorted(entry.name for entry in os.scandir(folder))
        except FileNotFoundError:
            return []
    with _reported(folder):
        try:
            paths = folder.fs.ls(folder.path, detail=False)
        except FileNotFoundError as error:
            if _code(error) == "NoSuchBucket":
                raise
            return []
    return sorted(name for path in paths if (name := str(path).rstrip("/").rpartition("/")[2]))


def sync_folder(folder: Path) -> None:
    """Make renames and new names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _beside(target: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A temporary file beside the target, whole and on the disk; gone at the end unless it was renamed."""
    descriptor, name = tempfile.mkstemp(dir=target.absolute().parent, prefix=".incoming-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(mode)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


# ---------------------------------------------------------------------------------------------- object stores


def _put_new(target: "UPath", data: bytes) -> bool:
    """One conditional PUT; False when the name is taken. A write that collides with another is tried again."""
    for number in range(_CONFLICT_TRIES):
        with _reported(target):
            try:
                target.fs.pipe_file(target.path, data, mode="create", **_headers(target))
            except FileExistsError:
                return False
            except OSError as error:
                if _code(error) in ("PreconditionFailed", "412"):
                    return False
                if _code(error) not in ("ConditionalRequestConflict", "OperationAborted", "409"):
                    raise
                time.sleep(min(0.02 * 2**number, 1.0))
            else:
                return True
    raise StorageError(
        f"storage {shown(target)}",
        expected="one of several writers to win",
        found=f"a conflict with another in each of {_CONFLICT_TRIES} tries",
        action="try again when fewer processes write",
    )


def _require_exclusive(folder: "UPath") -> None:
    if folder.protocol not in EXCLUSIVE_STORES:
        raise StorageError(
            f"storage {shown(folder)}",
            expected=f"a local folder, or one of {', '.join(f'{name}://' for name in EXCLUSIVE_STORES)}",
            found=f"{folder.protocol}://, of which it is not known that it refuses a second writer of one name",
            action="keep ledgers in one of those; nothing was written",
        )
    _probe(folder)


@cache
def _probe(folder: "UPath") -> None:
    """See once per process and folder that the store refuses a second writer, instead of believing it."""
    probe = folder / ".exclusive"
    if _put_new(probe, b"") and _put_new(probe, b""):
        raise StorageError(
            f"storage {shown(folder)}",
            expected="a store that keeps to If-None-Match: *, as S3 does",
            found="one that lets a second writer replace the first",
            action="use a server that supports conditional writes; no record was written",
        )


def _headers(target: "UPath") -> dict[str, str]:
    """What a browser needs to show a page that it gets from a bucket."""
    if target.protocol not in ("s3", "s3a"):
        return {}
    kind, _ = mimetypes.guess_type(target.name)
    return {"ContentType": kind} if kind else {}


@contextlib.contextmanager
def _reported(address: Address) -> Iterator[None]:
    """Say clearly how a store failed, in one error and without a secret."""
    try:
        yield
    except _failures() as error:
        raise _failure(address, error) from error


def _failures() -> tuple[type[Exception], ...]:
    botocore = sys.modules.get("botocore.exceptions")
    return (OSError, ImportError, ValueError, *((botocore.BotoCoreError,) if botocore else ()))


def _code(error: BaseException) -> str:
    """The store's own code of an error, as in ``NoSuchBucket``; empty when it gave none."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


_UNREACHABLE = ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionError",
                "HTTPClientError", "TimeoutError")  # fmt: skip
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
)


def _failure(address: Address, error: Exception) -> StorageError:
    code, kinds = _code(error), {kind.__name__ for kind in type(error).__mro__}
    scheme = _scheme(address)
    expected, found, action = (
        "a store that answers and keeps what it is given",
        f"{type(error).__name__}{f' {code}' if code else ''}: {shown((str(error).splitlines() or [''])[0][:300])}",
        "check that it is reachable and whole, then run it again",
    )
    if isinstance(error, ImportError):
        expected, found = f"the package that reads {scheme}:// addresses", "it is not installed"
        action = "install quant-assets[s3]" if scheme in ("s3", "s3a") else "install fsspec's package for it"
    elif type(error) is ValueError and "filesystem" in str(error):
        expected, found = (
            "a folder, or a URL of a store that fsspec knows (s3://bucket/prefix)",
            f"{scheme}://",
        )
        action = "correct the address"
    elif code == "NoSuchBucket":
        expected, found = f"the bucket {urlsplit(str(address)).netloc}", "no such bucket"
        action = "create it, or correct the address; a bucket is never made up"
    elif kinds & set(_NO_CREDENTIALS):
        expected, found = "credentials for it", "none in the environment, or half of them"
        action = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another source that botocore reads"
    elif isinstance(error, PermissionError):
        expected, found = "leave to read, list and write", f"refused ({code or 'permission denied'})"
        action = "check the credentials in the environment, the clock, and the policy of the bucket"
    elif kinds & set(_UNREACHABLE):
        endpoint = os.environ.get("AWS_ENDPOINT_URL", "") if scheme in ("s3", "s3a") else ""
        expected = "a store that answers"
        found = f"no connection{f' to {shown(endpoint)}' if endpoint else ''} ({type(error).__name__})"
        action = "check AWS_ENDPOINT_URL and the network, then run it again; nothing stored is lost"
    return StorageError(f"storage {shown(address)}", expected=expected, found=found, action=action)


def _scheme(address: Address) -> str:
    return str(address).partition("://")[0]
