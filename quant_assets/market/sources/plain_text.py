"""Files as text: unpacked within bounds, decoded, and known for what they are when they hold no table at all."""

import gzip
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from quant_assets.common.errors import SourceError, brief
from quant_assets.common.files import control_character
from quant_assets.market.parsing import bytes_cause

# 25 million bars of 20 bytes; a bar has 8 columns, and feature files of vendors some hundreds.
MAX_TEXT_BYTES = 512 << 20
_HEAD = 4096
_PAGE = re.compile(r"\s*<\s*(!doctype|html|head|body|meta|script|\?xml)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>\s*([^<]{1,200})", re.IGNORECASE)
_OBJECT = re.compile(r'\s*(\{\s*"|\[\s*\{|\{\s*\}|\[\s*\])')


@dataclass(frozen=True)
class PlainText:
    """The text of a file, its encoding, and what it was packed in (empty: nothing)."""

    text: str
    encoding: str
    packing: str = ""


def read_text(path: Path) -> PlainText:
    """The text of a file: plain, gzip, or the one text file of a zip; UTF-8, UTF-16 with its mark, or Windows-1252.

    Every symbol, date and number of a table is ASCII, so that of bytes that are no UTF-8 only names can be misread,
    and those are no symbols: Windows-1252 is safe to assume, and told.

    Raises
    ------
    SourceError
        When it is no such text, larger than `MAX_TEXT_BYTES`, holds control characters, or is a page of the web or a
        message in JSON in the place of a table.
    """
    data, packing = _unpacked(path)
    text, encoding = _decoded(path, data)
    if problem := control_character(text):
        raise SourceError(
            f"{path}",
            expected="text without control characters",
            found=problem,
            action="download the file again, or remove them at its source",
        )
    _require_no_page(path, text)
    return PlainText(text, encoding, packing)


def decode_text(path: Path) -> str:
    """As `read_text`, the text alone."""
    return read_text(path).text


def _unpacked(path: Path) -> tuple[bytes, str]:
    with path.open("rb") as stream:
        head = stream.read(4)
    if head.startswith(b"PK\x03\x04"):
        return _of_zip(path)
    zipped = head.startswith(b"\x1f\x8b")
    try:
        # One byte more than may be: a bomb of a megabyte would unpack to all of the memory.
        with gzip.open(path) if zipped else path.open("rb") as stream:
            plain = stream.read(MAX_TEXT_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(
            f"{path}",
            expected="a complete gzip file",
            found=f"{path.stat().st_size} bytes that do not unpack ({error})",
            action="download the file again",
        ) from error
    _require_small(path, plain, packed=zipped)
    return plain, "gzip" if zipped else ""


def _of_zip(path: Path) -> tuple[bytes, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                info.filename
                for info in archive.infolist()
                if not info.is_dir() and not info.filename.startswith("__MACOSX/")
            ]
            if len(names) != 1 or names[0].lower().endswith(
                (".parquet", ".xlsx", ".zip", ".feather", ".arrow")
            ):
                raise SourceError(
                    f"{path}",
                    expected="a zip file of one text file",
                    found=f"{len(names)} files: {brief(', '.join(sorted(names)[:5]), 200)}",
                    action="unpack it into a folder and name that folder (or the file that is meant)",
                )
            with archive.open(names[0]) as stream:
                plain = stream.read(MAX_TEXT_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise SourceError(
            f"{path}",
            expected="a complete zip file without a password",
            found=f"{path.stat().st_size} bytes that do not unpack ({error})",
            action="download the file again, or unpack it and name the file that is inside",
        ) from error
    _require_small(path, plain, packed=True)
    return plain, f"zip ({names[0]})"


def _require_small(path: Path, plain: bytes, *, packed: bool) -> None:
    if len(plain) > MAX_TEXT_BYTES:
        raise SourceError(
            f"{path}",
            expected=f"text of at most {MAX_TEXT_BYTES} bytes",
            found=f"more{', unpacked' if packed else ''}",
            action="split the file by year, or write it as Parquet",
        )


def _decoded(path: Path, data: bytes) -> tuple[str, str]:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16").removeprefix("\ufeff"), "UTF-16"
        except UnicodeDecodeError as error:
            raise SourceError(
                f"{path}",
                expected="UTF-16 text, as its first two bytes say",
                found=f"{len(data)} bytes that are not ({error.reason} at offset {error.start})",
                action="download the file again: it is cut off or damaged",
            ) from error
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError as error:
        kind = bytes_cause(data[:4], len(data))
        if kind is None or kind.startswith("text"):
            try:
                text = data.decode("cp1252")
            except UnicodeDecodeError:
                text = "\x00"
            if control_character(text) is None:
                return text, "Windows-1252"
        raise SourceError(
            f"{path}",
            expected="text",
            found=f"byte 0x{data[error.start]:02x} at offset {error.start}{'' if kind is None else f': {kind}'}",
            action="set the `kind:` that the file is (csv, parquet, arrow, excel), or save it as UTF-8",
        ) from error


def _require_no_page(path: Path, text: str) -> None:
    head = text[:_HEAD]
    if _PAGE.match(head):
        title = _TITLE.search(head)
        raise SourceError(
            f"{path}",
            expected="a table",
            found="a web page" + (f" with the title {brief(' '.join(title[1].split()))}" if title else ""),
            action="the vendor answered with a page (a login, a limit, an error) and that was saved: download the "
            "data itself",
        )
    if _OBJECT.match(head):
        raise SourceError(
            f"{path}",
            expected="a table",
            found=f"JSON: {brief(' '.join(head.split()), 120)}",
            action="when it is the vendor's error message, repair what it says and download again; bars in JSON are "
            "written as CSV or Parquet first",
        )
