"""CSV files as text frames, with every line that is not a row found before anything is parsed.

Downloaded CSVs carry error pages, cut lines and appended headers. A lenient parser turns those into nulls;
here they are refused by line number.
"""

import gzip
import io
import zlib
from pathlib import Path

import polars as pl

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.market.contract import MAX_OFFENDERS_SHOWN
from quant_assets.market.diagnosis import bytes_cause, line_cause

_SHOWN_CHARACTERS = 60


def read_delimited(path: Path, *, delimiter: str) -> pl.DataFrame:
    """Read a delimited file (plain or gzip, UTF-8) with a header line; every column is text.

    Raises
    ------
    SourceError
        When the bytes are no UTF-8 text, the gzip stream is damaged, or the file is empty.
    BarContractError
        When a line has not as many cells as the header (an HTML page, a cut line, a note); names the lines.
    """
    text = _decode(path)
    lines = pl.Series("text", text.rstrip("\r\n").replace("\r\n", "\n").split("\n"))
    header = lines[0]
    if not header.strip():
        raise SourceError(
            f"{path}",
            expected="a header line, then one row per symbol and session",
            found="an empty first line" if lines.len() > 1 else "an empty file",
            action="download the file again",
        )
    # Quoted cells may hold the delimiter; they count as one cell.
    cells = lines.str.replace_all(r'"[^"]*"', "q").str.count_matches(delimiter, literal=True) + 1
    junk = pl.DataFrame({"line": range(1, lines.len() + 1), "text": lines, "cells": cells}).filter(
        (pl.col("cells") != cells[0]) | pl.col("text").str.starts_with("<")
    )
    if junk.height:
        raise _junk_error(path, junk, n_lines=lines.len(), n_cells=int(cells[0]))
    names = [name.strip() for name in pl.read_csv(io.StringIO(header), separator=delimiter).columns]
    repeated = sorted({name for name in names if names.count(name) > 1 or "_duplicated_" in name})
    if repeated:
        raise BarContractError(
            f"{path}, line 1",
            expected="each column once",
            found=f"repeated names {repeated} in {header!r}",
            action="rename the columns in the file",
        )
    body = "\n".join(lines.to_list())
    frame = pl.read_csv(io.StringIO(body), separator=delimiter, infer_schema=False)
    return frame.rename(dict(zip(frame.columns, names, strict=True)))


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SourceError(
            f"{path}",
            expected="a complete gzip file",
            found=f"{len(data)} bytes that do not unpack ({error})",
            action="download the file again",
        ) from error
    try:
        return plain.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}",
            expected="UTF-8 text",
            found=f"byte 0x{plain[error.start]:02x} at offset {error.start}"
            + ("" if (kind := bytes_cause(plain[:4], len(plain))) is None else f": {kind}"),
            action="save the file as UTF-8 (it may be another format: set the right `kind:`)",
        ) from error


def _junk_error(path: Path, junk: pl.DataFrame, *, n_lines: int, n_cells: int) -> BarContractError:
    shown = [
        f"line {line} has {cells}: {text[:_SHOWN_CHARACTERS]!r}"
        for line, text, cells in junk.head(MAX_OFFENDERS_SHOWN).iter_rows()
    ]
    rest = junk.height - len(shown)
    columns = (junk[name].to_list() for name in ("line", "text", "cells"))
    cause = line_cause(*columns, n_lines=n_lines, n_cells=n_cells)
    return BarContractError(
        f"{path}: {junk.height} of {n_lines} lines",
        expected=f"{n_cells} cells in each line, as in the header",
        found=f"{cause}: " + "; ".join(shown) + (f"; and {rest} more" if rest else ""),
        action="text that is no table was saved inside the file (often a vendor's error page): download it again "
        "or cut those lines out; where every line is affected, set `delimiter:` in the universe YAML",
    )
