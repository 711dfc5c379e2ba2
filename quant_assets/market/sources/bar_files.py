"""Bars from files: finding them, CSV and Parquet, one or one of each symbol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.files import control_character
from quant_assets.common.settings import BokehSource, CsvSource, ParquetSource, UniverseConfig
from quant_assets.market.parsing import bytes_cause, has_time_of_day, session_reading
from quant_assets.market.set_aside import Terms
from quant_assets.market.sources.bar_source import Holdings, SourceRead, State, holdings_of
from quant_assets.market.sources.contract import (
    Parted,
    conform,
    part_bars,
    settled,
    unreadable,
)
from quant_assets.market.sources.delimited import MAX_COLUMNS, Style, plain_numbers, read_delimited

# -------------------------------------------------------------------------------------------------- bar files


FileSource = BokehSource | ParquetSource | CsvSource

MAX_PARQUET_BYTES = 8 << 30
MAX_FOOTER_BYTES = 16 << 20

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


@dataclass(frozen=True)
class PartedFile:
    """As `BarFile`, with the rows that are no bars beside the others."""

    rows: Parted
    column_mapping: dict[str, str]
    notes: tuple[str, ...]


def read_bar_file(file: Path, source: FileSource) -> BarFile:
    """Read one file, map its columns and refuse it when a row is no bar.

    Raises
    ------
    SourceError
        When the bytes are not what the source's kind says.
    BarContractError
        When a column is missing or ambiguous, or a row breaks the contract.
    """
    terms = Terms(strict=True)
    parted = part_bar_file(file, source, terms)
    return BarFile(settled([parted.rows], terms).bars, parted.column_mapping, parted.notes)


def part_bar_file(file: Path, source: FileSource, terms: Terms) -> PartedFile:
    """Read one file, map its columns and part its bars from rows that are none.

    Raises
    ------
    SourceError
        When the bytes are not what the source's kind says.
    BarContractError
        When a column is missing, ambiguous, exchanged or of another type.
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
    if told := session_reading(conformed.bars["session"]):
        notes.append(told)
    said = None
    if isinstance(source, CsvSource) and (source.decimal, source.thousands) != (None, None):
        said = Style(source.decimal or ".", source.thousands or "")
    bars, told = plain_numbers(conformed.bars, said)
    if told:
        notes.append(told)
    rows = part_bars(bars, origin=str(file), terms=terms)
    return PartedFile(rows, conformed.column_mapping, tuple(notes))


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
        """All bars of all files; what is broken counts where the universe asks for it."""
        read = self.read_everything(Terms.of(universe))
        if strangers := sorted(set(universe.exclude) - set(read.bars["symbol"].unique())):
            note = f"exclude: there was no bar of {', '.join(strangers[:5])}"
            return replace(read, notes=(*read.notes, note))
        return read

    def read_everything(self, terms: Terms | None = None) -> SourceRead:
        """All bars of all files, on the usual terms unless others are given.

        Raises
        ------
        SourceError, BarContractError
            As `part_bar_file` and `quant_assets.market.sources.contract.settled`; when two files have the same bar.
            Where each file is one symbol, one that cannot be read is that symbol set aside.
        """
        terms = Terms() if terms is None else terms
        paths = files_of(self.config)
        files, failed = _readable(paths, self.config, terms)
        whole = settled([*(file.rows for file in files.values()), *failed], terms)
        _refuse_overlap(files, terms)
        mapping: dict[str, str] = {}
        notes: dict[str, None] = {}  # a set in order of appearance
        for path, file in files.items():
            notes.update(dict.fromkeys(file.notes))
            for ours, theirs in file.column_mapping.items():
                if mapping.setdefault(ours, theirs) != theirs:
                    notes[f"{path.name}: {ours} is {theirs!r}, elsewhere {mapping[ours]!r}"] = None
        return SourceRead(whole.bars, self.provider, mapping, tuple(notes), len(paths), aside=whole.aside)

    def holdings(self, universe: UniverseConfig) -> Holdings:
        """Symbols and dates of all rows."""
        return holdings_of(self.read_everything().bars)


def _readable(
    paths: Sequence[Path], source: FileSource, terms: Terms
) -> tuple[dict[Path, PartedFile], list[Parted]]:
    """The files that can be read; where each is one symbol, those that cannot, as symbols that are broken."""
    files: dict[Path, PartedFile] = {}
    failed: dict[Path, SourceError | BarContractError] = {}
    for path in paths:
        try:
            files[path] = part_bar_file(path, source, terms)
        except (SourceError, BarContractError) as error:
            failed[path] = error
    named_by_stem = bool(files) and all("symbol" not in file.column_mapping for file in files.values())
    asked = {path: error for path, error in failed.items() if terms.asks_for(_stem(path))}
    most = terms.most.most_symbols(sum(terms.asks_for(_stem(path)) for path in paths))
    for told in (failed if terms.strict or not named_by_stem else asked).values():
        if terms.strict or not named_by_stem or len(asked) > most:
            raise told
    return files, [unreadable(_stem(path), str(path), told.found) for path, told in asked.items()]


def _refuse_overlap(files: Mapping[Path, PartedFile], terms: Terms) -> None:
    """Refuse a bar that two files have (within one file the contract has told of it already)."""
    if len(files) == 1:
        return
    key, names = ["symbol", "session"], [path.name for path in files]
    numbered = pl.concat(
        (file.rows.bars if terms.strict else file.rows.bars.filter(terms.asked)).select(
            *key, file=pl.lit(number, dtype=pl.UInt32)
        )
        for number, file in enumerate(files.values())
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
