"""Delimited files as frames of text, with every line that is no row found before anything is parsed.

Downloaded CSVs carry error pages, cut lines and appended headers. A lenient parser turns those into nulls; here they
are refused by line number. Numbers are read with the marks that a whole file proves.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.files import control_character
from quant_assets.market.parsing import PRICES, bytes_cause, line_cause
from quant_assets.market.sources.contract import MAX_OFFENDERS_SHOWN

_SHOWN_CHARACTERS = 60
_ANGLE_NAMES = re.compile(r"<\w+>(?:[,;\t|]<\w+>){5,}$")
# 25 million bars of 20 bytes; a bar has 8 columns, and feature files of vendors some hundreds.
MAX_TEXT_BYTES = 512 << 20
MAX_LINE_CHARACTERS = 64 << 10
MAX_COLUMNS = 1000
MAX_SHOWN_HEADER = 200


def read_delimited(path: Path, *, delimiter: str) -> pl.DataFrame:
    """Read a delimited file (plain or gzip, UTF-8) with a header line; every column is text.

    Raises
    ------
    SourceError
        When the bytes are no UTF-8 text, the gzip stream is damaged, or the file is empty.
    BarContractError
        When a line has not as many cells as the header (an HTML page, a cut line, a note); names the lines.
    """
    text = decode_text(path).rstrip("\r\n").replace("\r\n", "\n")
    if "\r" in text:
        raise SourceError(
            f"{path}, line {text.count(chr(10), 0, text.index(chr(13))) + 1}",
            expected="lines that end with a line feed",
            found="a carriage return inside a line",
            action="save the file again with the line ends of Unix or Windows",
        )
    lines = pl.Series("text", text.split("\n"))
    header = lines[0]
    if not header.strip():
        raise SourceError(
            f"{path}",
            expected="a header line, then one row per symbol and session",
            found="an empty first line" if lines.len() > 1 else "an empty file",
            action="download the file again",
        )
    _require_narrow(path, lines, delimiter)
    first_page = pl.col("text").str.starts_with("<")
    if _ANGLE_NAMES.match(header):  # a header of <TICKER>,<DATE>,... and no page
        first_page = first_page & (pl.col("text") != header)
    whole = pl.DataFrame({"text": lines})
    quoted = '"' in text
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
        raise _junk_error(path, junk, n_lines=lines.len(), n_cells=n_cells)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter))]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BarContractError(
            f"{path}, line 1",
            expected="each column once",
            found=f"repeated names {repeated} in {header[:MAX_SHOWN_HEADER]!r}",
            action="rename the columns in the file",
        )
    schema = dict.fromkeys(names, pl.String())
    if lines.len() == 1:
        return pl.DataFrame(schema=schema)
    del lines, whole, junk  # each of them is as large as the file
    body = text[len(header) + 1 :]
    del text
    try:
        frame = pl.read_csv(io.StringIO(body), separator=delimiter, has_header=False, schema=schema)
    except pl.exceptions.PolarsError as error:  # what is written above leaves none that we know of
        raise SourceError(
            f"{path}",
            expected="delimited text",
            found=f"{str(error).splitlines()[0][:200]}",
            action="save the file again from its source",
        ) from error
    return frame


def _require_narrow(path: Path, lines: pl.Series, delimiter: str) -> None:
    """Refuse lines and headers that no table of bars has, before a parser makes room for them."""
    longest = int(lines.str.len_bytes().arg_max() or 0)
    n_columns = lines[0].count(delimiter) + 1
    if len(lines[longest]) > MAX_LINE_CHARACTERS or n_columns > MAX_COLUMNS:
        long = f"line {longest + 1} of {len(lines[longest])} characters"
        raise SourceError(
            f"{path}",
            expected=f"lines of at most {MAX_LINE_CHARACTERS} characters and {MAX_COLUMNS} columns",
            found=long if n_columns <= MAX_COLUMNS else f"{n_columns} columns",
            action="save only the columns of the bars, a line for each bar",
        )


def decode_text(path: Path) -> str:
    """The text of a file (plain or gzip, UTF-8), bounded before it is unpacked.

    Raises
    ------
    SourceError
        When it is no such text, larger than `MAX_TEXT_BYTES`, or holds control characters.
    """
    with path.open("rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
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
    if len(plain) > MAX_TEXT_BYTES:
        raise SourceError(
            f"{path}",
            expected=f"text of at most {MAX_TEXT_BYTES} bytes",
            found=f"more{', unpacked' if zipped else ''}",
            action="split the file by year, or write it as Parquet",
        )
    try:
        text = plain.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path}",
            expected="UTF-8 text",
            found=f"byte 0x{plain[error.start]:02x} at offset {error.start}"
            + ("" if (kind := bytes_cause(plain[:4], len(plain))) is None else f": {kind}"),
            action="save the file as UTF-8 (it may be another format: set the right `kind:`)",
        ) from error
    if problem := control_character(text):
        raise SourceError(
            f"{path}",
            expected="text without control characters",
            found=problem,
            action="download the file again, or remove them at its source",
        )
    return text


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


# ------------------------------------------------------------------------------------- numbers as vendors write them

# 1.234 is a thousand or one and a bit, and no cell says which. A style counts only when some cell can be read in no
# other way, all columns with such marks fit it, and nothing speaks for another one. Otherwise the universe says it.


COLUMNS = (*PRICES, "volume", "adj_close")
MOSTLY = 0.98  # of a column's cells fit its style; the rest is broken
_SPACES = "[ \u00a0\u202f]"


@dataclass(frozen=True)
class Style:
    """A decimal mark and a mark of thousands (empty: none)."""

    decimal: str
    thousands: str

    def __str__(self) -> str:
        parts = f", thousands parted by {self.thousands!r}" if self.thousands else ""
        return f"decimal {'comma' if self.decimal == ',' else 'point'}{parts}"

    @property
    def _mark(self) -> str:
        return _SPACES if self.thousands == " " else re.escape(self.thousands)

    @property
    def _rest(self) -> str:
        return rf"(?:{re.escape(self.decimal)}[0-9]+)?$"

    @property
    def grouped(self) -> str:
        """Numbers of which every thousand is parted, as a regular expression."""
        return (
            rf"^[+-]?[0-9]{{1,3}}(?:{self._mark}[0-9]{{3}})*{self._rest}" if self.thousands else self.number
        )

    @property
    def number(self) -> str:
        """Every number of this style, parted or not."""
        parted = rf"|[0-9]{{1,3}}(?:{self._mark}[0-9]{{3}})+" if self.thousands else ""
        return rf"^[+-]?(?:[0-9]+{parted}){self._rest}"

    @property
    def proof(self) -> str:
        """Numbers that can be read with this decimal mark alone."""
        decimal = re.escape(self.decimal)
        told = [
            rf"^[+-]?[0-9]+{decimal}(?:[0-9]{{1,2}}|[0-9]{{4,}})$",
            rf"^[+-]?(?:0|[0-9]{{4,}}){decimal}[0-9]+$",
        ]
        if self.thousands:
            parted = rf"[0-9]{{1,3}}(?:{self._mark}[0-9]{{3}})"
            told += [rf"^[+-]?{parted}+{decimal}[0-9]+$", rf"^[+-]?{parted}{{2,}}$"]
        return "|".join(told)

    def plain(self, name: str) -> pl.Expr:
        """The column with every number of this style as a program writes it, other cells as they are."""
        text = pl.col(name)
        bare = text.str.replace_all(self._mark, "") if self.thousands else text
        return (
            pl.when(text.str.contains(self.number))
            .then(bare.str.replace(self.decimal, ".", literal=True))
            .otherwise(text)
        )


STYLES = tuple(
    Style(decimal, thousands)
    for decimal, others in ((".", (",", " ", "'")), (",", (".", " ", "'", "")))
    for thousands in others
)


def plain_numbers(frame: pl.DataFrame, said: Style | None) -> tuple[pl.DataFrame, str | None]:
    """Conformed rows of text with plain numbers, and a note where that took a reading.

    Parameters
    ----------
    frame : polars.DataFrame
        Under our names. Columns that are no text are left alone, and text that no style reads.
    said : Style, optional
        What the universe says of the file; then nothing is guessed.
    """
    named = [name for name in COLUMNS if frame.schema.get(name) == pl.String]
    marked = [name for name in named if frame[name].str.contains("[, '\u00a0\u202f]|[.][0-9]+[.]").any()]
    if said is None and not marked:
        return frame, None
    frame = frame.with_columns(pl.col(name).str.strip_chars() for name in named)
    style = said if said is not None else _only(_proven(frame, named, marked))
    if style is None:
        return frame, None
    # A style that was found is of the whole file: where the comma is decimal, 1.234 is a thousand.
    changed = frame.with_columns(style.plain(name) for name in named)
    how = (
        "as the universe says" if said is not None else f"told from {', '.join(marked)} and the other columns"
    )
    return changed, f"numbers read with {style}, {how}"


def _proven(frame: pl.DataFrame, named: list[str], marked: list[str]) -> Iterator[Style]:
    """Styles that nearly every cell fits, the marked columns throughout, and that some cell proves."""
    cells = {name: frame[name].drop_nulls() for name in named}
    for style in STYLES:
        fits = all(
            _share(cell, style.grouped if name in marked else style.number) >= MOSTLY
            for name, cell in cells.items()
        )
        if fits and any(cell.str.contains(style.proof).any() for cell in cells.values()):
            yield style


def _share(cells: pl.Series, pattern: str) -> float:
    """Fraction of cells that are written so; 1 of none."""
    return int(cells.str.contains(pattern).sum()) / cells.len() if cells.len() else 1.0


def _only(styles: Iterable[Style]) -> Style | None:
    """The style, when all that are left have one decimal mark."""
    found = list(styles)
    return found[0] if len({style.decimal for style in found}) == 1 else None
