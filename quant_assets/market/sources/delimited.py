"""Delimited text as rows of text, with every line that is no row found before anything is parsed.

Downloaded CSVs carry error pages, cut lines and appended headers. A lenient parser turns those into nulls; here they
are refused by line number.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.market.parsing import line_cause
from quant_assets.market.sources.contract import MAX_OFFENDERS_SHOWN
from quant_assets.market.sources.layouts import MOST_HEADER_ROWS, header_height
from quant_assets.market.sources.plain_text import decode_text

_SHOWN_CHARACTERS = 60
_ANGLE_NAMES = re.compile(r"<\w+>(?:[,;\t|]<\w+>){5,}$")
DELIMITERS = (",", ";", "\t", "|")
MAX_LINE_CHARACTERS = 512 << 10
MAX_COLUMNS = 10_000  # 1,600 symbols side by side
MAX_SHOWN_HEADER = 200


@dataclass(frozen=True)
class DelimitedRows:
    """The cells of a delimited text: those of its header rows, and the rows below as columns of text."""

    header: tuple[tuple[str, ...], ...]
    frame: pl.DataFrame
    delimiter: str


def read_delimited(path: Path, *, delimiter: str) -> pl.DataFrame:
    """Read a delimited file with one header line; every column is text.

    Raises
    ------
    SourceError
        As `quant_assets.market.sources.plain_text.read_text`; when the file is empty.
    BarContractError
        When a line has not as many cells as the header (an HTML page, a cut line, a note), naming the lines; when a
        name stands twice.
    """
    rows = delimited_rows(decode_text(path), origin=str(path), delimiter=delimiter, most_header_rows=1)
    names = rows.header[0]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BarContractError(
            f"{path}, line 1",
            expected="each column once",
            found=f"repeated names {repeated} in {delimiter.join(names)[:MAX_SHOWN_HEADER]!r}",
            action="rename the columns in the file",
        )
    return rows.frame.rename(dict(zip(rows.frame.columns, names, strict=True)))


def delimiter_of(text: str) -> str:
    """What parts the cells of a text: of ``, ; tab |`` the one that its header has most of, a comma without any."""
    header = text.split("\n", 1)[0]
    return max(DELIMITERS, key=header.count)


def delimited_rows(
    text: str, *, origin: str, delimiter: str | None, most_header_rows: int = MOST_HEADER_ROWS
) -> DelimitedRows:
    """The rows of a delimited text.

    Parameters
    ----------
    delimiter : str, optional
        Found in the header when not given.
    most_header_rows : int
        1 where a second row is always data.

    Raises
    ------
    SourceError
        When it is empty, or holds lines of another system.
    BarContractError
        When a line has not as many cells as the header; names the lines.
    """
    text = text.rstrip("\r\n").replace("\r\n", "\n")
    if "\r" in text:
        raise SourceError(
            f"{origin}, line {text.count(chr(10), 0, text.index(chr(13))) + 1}",
            expected="lines that end with a line feed",
            found="a carriage return inside a line",
            action="save the file again with the line ends of Unix or Windows",
        )
    lines = pl.Series("text", text.split("\n"))
    if not lines[0].strip():
        raise SourceError(
            f"{origin}",
            expected="a header line, then one row per symbol and session",
            found="an empty first line" if lines.len() > 1 else "an empty file",
            action="download the file again",
        )
    delimiter = delimiter_of(lines[0]) if delimiter is None else delimiter
    _require_narrow(origin, lines, delimiter)
    _require_rows(origin, lines, delimiter, quoted='"' in text)
    first = lines.head(most_header_rows + 1 if most_header_rows > 1 else 1).to_list()
    cells = [tuple(cell.strip() for cell in row) for row in csv.reader(first, delimiter=delimiter)]
    height = header_height(cells) if most_header_rows > 1 else 1
    schema = {f"column_{place}": pl.String() for place in range(len(cells[0]))}
    header = tuple(cells[:height])
    if lines.len() == height:
        return DelimitedRows(header, pl.DataFrame(schema=schema), delimiter)
    del lines  # as large as the file
    body = text[sum(len(line) + 1 for line in first[:height]) :]
    del text
    try:
        frame = pl.read_csv(io.StringIO(body), separator=delimiter, has_header=False, schema=schema)
    except pl.exceptions.PolarsError as error:  # what is written above leaves none that we know of
        raise SourceError(
            f"{origin}",
            expected="delimited text",
            found=f"{str(error).splitlines()[0][:200]}",
            action="save the file again from its source",
        ) from error
    return DelimitedRows(header, frame, delimiter)


def _require_rows(origin: str, lines: pl.Series, delimiter: str, *, quoted: bool) -> None:
    """Refuse lines that have not as many cells as the header, or of which quotes cut cells in two."""
    first_page = pl.col("text").str.starts_with("<")
    if _ANGLE_NAMES.match(lines[0]):  # a header of <TICKER>,<DATE>,... and no page
        first_page = first_page & (pl.col("text") != lines[0])
    whole = pl.DataFrame({"text": lines})
    if quoted:  # cells in quotes may hold the delimiter; they count as one cell
        plain, cell = f'[^{delimiter}"]*', r'"(?:[^"]|"")*"'
        well = rf"^(?:{plain}|{cell})(?:[{delimiter}](?:{plain}|{cell}))*$"
        has_quote = pl.col("text").str.contains('"', literal=True)
        stray = first_page | (has_quote & ~pl.col("text").str.contains(well))
        bare = pl.col("text").str.replace_all(r'"[^"]*"', "q")
    else:
        stray, bare = first_page, pl.col("text")
    whole = whole.with_columns(cells=bare.str.count_matches(delimiter, literal=True) + 1, stray=stray)
    n_cells = int(whole["cells"][0])
    junk = (
        whole.with_row_index("line", offset=1)
        .filter((pl.col("cells") != n_cells) | pl.col("stray"))
        .select("line", "text", "cells")
    )
    if junk.height:
        raise _junk_error(origin, junk, n_lines=lines.len(), n_cells=n_cells)


def _require_narrow(origin: str, lines: pl.Series, delimiter: str) -> None:
    """Refuse lines and headers that no table of bars has, before a parser makes room for them."""
    longest = int(lines.str.len_bytes().arg_max() or 0)
    n_columns = lines[0].count(delimiter) + 1
    if len(lines[longest]) > MAX_LINE_CHARACTERS or n_columns > MAX_COLUMNS:
        long = f"line {longest + 1} of {len(lines[longest])} characters"
        raise SourceError(
            f"{origin}",
            expected=f"lines of at most {MAX_LINE_CHARACTERS} characters and {MAX_COLUMNS} columns",
            found=long if n_columns <= MAX_COLUMNS else f"{n_columns} columns",
            action="save only the columns of the bars, a line for each bar",
        )


def _junk_error(origin: str, junk: pl.DataFrame, *, n_lines: int, n_cells: int) -> BarContractError:
    shown = [
        f"line {line} has {cells}: {text[:_SHOWN_CHARACTERS]!r}"
        for line, text, cells in junk.head(MAX_OFFENDERS_SHOWN).iter_rows()
    ]
    rest = junk.height - len(shown)
    columns = (junk[name].to_list() for name in ("line", "text", "cells"))
    cause, action = line_cause(*columns, n_lines=n_lines, n_cells=n_cells)
    return BarContractError(
        f"{origin}: {junk.height} of {n_lines} lines",
        expected=f"{n_cells} cells in each line, as in the header",
        found=f"{cause}: " + "; ".join(shown) + (f"; and {rest} more" if rest else ""),
        action=action,
    )
