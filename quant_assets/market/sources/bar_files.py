"""Bars from files: finding them, CSV and Parquet, with every line that is no row found before anything is parsed."""

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.files import control_character
from quant_assets.common.settings import BokehSource, CsvSource, ParquetSource, UniverseConfig
from quant_assets.market.parsing import bytes_cause, has_time_of_day, line_cause
from quant_assets.market.sources.bar_source import Holdings, SourceRead, State, holdings_of
from quant_assets.market.sources.contract import MAX_OFFENDERS_SHOWN, conform, validate_bars

# ----------------------------------------------------------------------------------- CSV files as text frames

# Downloaded CSVs carry error pages, cut lines and appended headers. A lenient parser turns those into nulls;
# here they are refused by line number.


_SHOWN_CHARACTERS = 60
# 25 million bars of 20 bytes; a bar has 8 columns, and feature files of vendors some hundreds.
MAX_TEXT_BYTES = 512 << 20
MAX_LINE_CHARACTERS = 64 << 10
MAX_COLUMNS = 1000
MAX_SHOWN_HEADER = 200
MAX_PARQUET_BYTES = 8 << 30
MAX_FOOTER_BYTES = 16 << 20


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
    # Quoted cells may hold the delimiter; they count as one cell.
    cells = lines.str.replace_all(r'"[^"]*"', "q").str.count_matches(delimiter, literal=True) + 1
    plain = f'[^{delimiter}"]*'
    quoted = rf'^(?:{plain}|"(?:[^"]|"")*")(?:[{delimiter}](?:{plain}|"(?:[^"]|"")*"))*$'
    stray = lines.str.contains('"', literal=True) & ~lines.str.contains(quoted)
    junk = pl.DataFrame({"line": range(1, lines.len() + 1), "text": lines, "cells": cells}).filter(
        (pl.col("cells") != cells[0]) | pl.col("text").str.starts_with("<") | stray
    )
    if junk.height:
        raise _junk_error(path, junk, n_lines=lines.len(), n_cells=int(cells[0]))
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
    body = "\n".join(lines[1:].to_list())
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


# -------------------------------------------------------------------------------------------------- bar files


FileSource = BokehSource | ParquetSource | CsvSource

_GLOB_CHARACTERS = frozenset("*?[")


@dataclass(frozen=True)
class BarFile:
    """One file's validated bars, its column mapping (ours to the file's), and notes about the reading."""

    bars: pl.DataFrame
    column_mapping: dict[str, str]
    notes: tuple[str, ...]


def files_of(source: FileSource) -> list[Path]:
    """The files that a source names, in order of their path.

    Raises
    ------
    SourceError
        When there is none.
    """
    return [_bokeh_file()] if isinstance(source, BokehSource) else _expand(source.path)


def read_bar_file(file: Path, source: FileSource) -> BarFile:
    """Read one file, map its columns and refuse rows that are no bars.

    Raises
    ------
    SourceError
        When the bytes are not what the source's kind says.
    BarContractError
        When a column is missing or ambiguous, or a row breaks the contract.
    """
    match source:
        case ParquetSource():
            frame, mapping = read_parquet(file), source.columns
        case CsvSource():
            frame, mapping = read_delimited(file, delimiter=source.delimiter), source.columns
        case BokehSource():
            frame, mapping = read_delimited(file, delimiter=","), {}
    conformed = conform(frame, origin=str(file), mapping=mapping, symbol=_stem(file))
    notes = []
    if conformed.ignored_columns:
        notes.append(
            f"{len(conformed.ignored_columns)} columns ignored: {', '.join(conformed.ignored_columns)}"
        )
    if "symbol" not in conformed.column_mapping:
        notes.append("no symbol column: each file is one symbol, named by its stem")
    if conformed.bars.select(has_time_of_day("session", conformed.bars.schema["session"])).item():
        notes.append("session: the time of day was dropped, in the column's own time zone")
    bars = validate_bars(conformed.bars, origin=str(file))
    return BarFile(bars, conformed.column_mapping, tuple(notes))


def _stem(file: Path) -> str:
    return file.name.removesuffix(".gz").removesuffix(".csv").removesuffix(".parquet")


def read_parquet(file: Path) -> pl.DataFrame:
    """The table of a Parquet file, checked cell by cell before polars sees it.

    Read by pyarrow: of 2,000 damaged files polars 2.1.0 panics on some, and takes what is in a cut page of others.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        limit = {
            "thrift_string_size_limit": MAX_FOOTER_BYTES,
            "thrift_container_size_limit": MAX_FOOTER_BYTES,
        }
        with pyarrow.parquet.ParquetFile(file, page_checksum_verification=True, **limit) as parquet:
            claimed = parquet.metadata
            size = sum(claimed.row_group(n).total_byte_size for n in range(claimed.num_row_groups))
            if claimed.num_columns > MAX_COLUMNS or not 0 <= size <= MAX_PARQUET_BYTES:
                raise SourceError(
                    f"{file}",
                    expected=f"at most {MAX_COLUMNS} columns and {MAX_PARQUET_BYTES} bytes when unpacked",
                    found=f"{claimed.num_columns} columns and {size} bytes",
                    action="write only the columns of the bars, or split the file by year",
                )
            table = parquet.read()
        table.validate(full=True)
        frame = pl.from_arrow(table)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        raise SourceError(
            f"{file}",
            expected="a complete Parquet file",
            found=f"{_what_it_is(file)} ({' '.join(str(error).split())[:200]})",
            action="write the file again (it may be truncated), or set the right `kind:`",
        ) from error
    if problem := control_character("".join(pl.DataFrame(frame).columns)):
        raise SourceError(
            f"{file}", expected="plain names of columns", found=problem, action="rename them at the source"
        )
    return pl.DataFrame(frame)


def _what_it_is(file: Path) -> str:
    with file.open("rb") as stream:
        cause = bytes_cause(stream.read(200), file.stat().st_size)
    if cause is None:
        return "bytes that are not"
    return f"{cause}, cut off or damaged" if "Parquet" in cause else cause


def _bokeh_file() -> Path:
    spec = find_spec("bokeh_sampledata")  # located, not imported: the package's modules parse their data
    folder = Path(spec.origin).parent if spec is not None and spec.origin else Path("bokeh_sampledata")
    file = folder / "_data" / "stocks.csv.gz"
    if not file.exists():
        raise SourceError(
            "source bokeh_sampledata",
            expected=f"the package's data file {file}",
            found="nothing there",
            action="install bokeh_sampledata>=2026.1 (`make setup`)",
        )
    return file


def _expand(path: str) -> list[Path]:
    pattern = Path(path)
    depth = next((n for n, part in enumerate(pattern.parts) if _GLOB_CHARACTERS & set(part)), None)
    if depth is None:
        files = [pattern] if pattern.is_file() else []
    else:
        found = Path(*pattern.parts[:depth]).glob(str(Path(*pattern.parts[depth:])))
        files = sorted(file for file in found if file.is_file())
    if not files:
        raise SourceError(
            f"source {path}",
            expected="at least one file",
            found=f"none (relative paths count from {Path.cwd()})",
            action="correct `path:` in the universe YAML",
        )
    return files


# ---------------------------------------------------- bars from files of the file system and of the installed


@dataclass(frozen=True)
class FileBars:
    """Every file that a source names, as one feed."""

    config: FileSource

    @property
    def provider(self) -> str:
        """Package and version, or kind and path."""
        if isinstance(self.config, BokehSource):
            return f"bokeh_sampledata {version('bokeh_sampledata')}"
        return f"{self.config.kind} {self.config.path}"

    def state(self, universe: UniverseConfig) -> State:
        """Path, inode, size and times of every file as it is now."""
        states = []
        for file in files_of(self.config):
            stat = file.stat()
            states.append(
                (str(file.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            )
        return tuple(states)

    def read(self, universe: UniverseConfig) -> SourceRead:
        """All rows of all files: also what lies outside the universe is judged."""
        return self.read_everything()

    def read_everything(self) -> SourceRead:
        """All rows of all files.

        Raises
        ------
        SourceError, BarContractError
            As `quant_assets.market.sources.bar_files.read_bar_file`; when two files have the same bar.
        """
        paths = files_of(self.config)
        files = [read_bar_file(path, self.config) for path in paths]
        _refuse_overlap(files, [path.name for path in paths])
        mapping: dict[str, str] = {}
        notes: dict[str, None] = {}  # a set in order of appearance
        for path, file in zip(paths, files, strict=True):
            notes.update(dict.fromkeys(file.notes))
            for ours, theirs in file.column_mapping.items():
                if mapping.setdefault(ours, theirs) != theirs:
                    notes[f"{path.name}: {ours} is {theirs!r}, elsewhere {mapping[ours]!r}"] = None
        bars = pl.concat(file.bars for file in files).sort("symbol", "session")
        return SourceRead(bars, self.provider, mapping, tuple(notes), len(files))

    def holdings(self, universe: UniverseConfig) -> Holdings:
        """Symbols and dates of all rows."""
        return holdings_of(self.read_everything().bars)


def _refuse_overlap(files: Sequence[BarFile], names: Sequence[str]) -> None:
    """Refuse a bar that two files have (within one file the contract has done so already)."""
    if len(files) == 1:
        return
    key = ["symbol", "session"]
    numbered = pl.concat(
        file.bars.select(*key, file=pl.lit(number, dtype=pl.UInt32)) for number, file in enumerate(files)
    )
    repeated = (
        numbered.group_by(key).agg(pl.col("file").sort()).filter(pl.col("file").list.len() > 1).sort(key)
    )
    if repeated.height:
        shown = "; ".join(
            f"{symbol} {session} in {' and '.join(names[number] for number in numbers)}"
            for symbol, session, numbers in repeated.head(5).iter_rows()
        )
        raise BarContractError(
            f"{repeated.height} bars in {len(files)} files",
            expected="one row for each symbol and session over all files",
            found=shown,
            action="let `path:` match only one of the overlapping files",
        )
