"""Bars from files: finding them, reading each by its format and layout, one file for all or one of each symbol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import polars as pl

from quant_assets.common.errors import BarContractError, SourceError, closest
from quant_assets.common.settings import BokehSource, CsvSource, UniverseConfig
from quant_assets.market.parsing import has_time_of_day, session_reading
from quant_assets.market.set_aside import Terms
from quant_assets.market.sources.bar_source import Holdings, SourceRead, State, holdings_of
from quant_assets.market.sources.contract import (
    Parted,
    conform,
    part_bars,
    settled,
    unreadable,
)
from quant_assets.market.sources.frequency import daily_rows
from quant_assets.market.sources.layouts import long_form, with_time_of_day
from quant_assets.market.sources.number_marks import Style, plain_numbers
from quant_assets.market.sources.session_marks import plain_sessions
from quant_assets.market.sources.tables import SUFFIXES, FileSource, RawTable, open_table

# -------------------------------------------------------------------------------------------------- bar files


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
    """As `BarFile`, with the rows that are no bars beside the others.

    ``instants`` has ``symbol`` and ``instant`` (UTC) of tables whose times have a zone: which day that is, the
    exchange says.
    """

    rows: Parted
    column_mapping: dict[str, str]
    notes: tuple[str, ...]
    reading: "Reading"
    instants: pl.DataFrame | None = None


@dataclass(frozen=True)
class Reading:
    """How a file was read.

    Attributes
    ----------
    table : RawTable
        Format, packing, encoding, delimiter and header rows; its cells are dropped.
    layout, dates, numbers, together : str
        In words; empty where there was nothing to decide.
    """

    table: RawTable
    layout: str
    dates: str
    numbers: str
    together: str


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
    table = open_table(file, source)
    mapping = {} if isinstance(source, BokehSource) else source.columns
    long = long_form(table.frame, table.header, origin=str(file), columns=mapping, symbol=stem_of(file))
    frame = with_time_of_day(long.frame, mapping)
    conformed = conform(frame, origin=str(file), mapping=mapping, symbol=stem_of(file))
    notes = list(long.notes)
    if conformed.ignored_columns:
        notes.append(
            f"{len(conformed.ignored_columns)} columns ignored: {', '.join(conformed.ignored_columns)}"
        )
    if "symbol" not in conformed.column_mapping:
        notes.append("no symbol column: each file is one symbol, named by its stem")
    if table.encoding == "Windows-1252":
        notes.append("read as Windows-1252: the bytes are no UTF-8")
    dates = plain_sessions(
        conformed.bars,
        origin=str(file),
        date_format=None if isinstance(source, BokehSource) else source.date_format,
        time_zone=None if isinstance(source, BokehSource) else source.time_zone,
        calendar=terms.calendar,
    )
    bars, numbers = plain_numbers(dates.rows, _style_of(source))
    daily = daily_rows(
        bars,
        origin=str(file),
        resample=not isinstance(source, BokehSource) and source.resample is not None,
        calendar=terms.calendar,
    )
    notes += [told for told in (dates.told, numbers, daily.told) if told]
    bars = daily.rows
    if bars.select(has_time_of_day("session", bars.schema["session"])).item():
        notes.append("session: the time of day was dropped")
    if told := session_reading(bars["session"]):
        notes.append(told)
    rows = part_bars(bars, origin=str(file), terms=terms)
    reading = Reading(
        replace(table, frame=table.frame.clear()), long.layout, dates.told, numbers or "", daily.told
    )
    instants = None
    if dates.instants is not None:
        instants = pl.DataFrame({"symbol": conformed.bars["symbol"], "instant": dates.instants})
    named = {ours: long.names.get(theirs, theirs) for ours, theirs in conformed.column_mapping.items()}
    return PartedFile(rows, named, tuple(notes), reading, instants)


def _style_of(source: FileSource) -> Style | None:
    if isinstance(source, CsvSource) and (source.decimal, source.thousands) != (None, None):
        return Style(source.decimal or ".", source.thousands or "")
    return None


def stem_of(file: Path) -> str:
    """What a file is called without the endings of its format: ``BRK.B.csv.gz`` is BRK.B."""
    name = file.name
    while (ending := Path(name).suffix.lower()) in SUFFIXES:
        name = name[: -len(ending)]
    return name


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
        held = {*read.bars["symbol"].unique(), *read.aside["symbol"].drop_nulls()}
        if strangers := sorted(set(universe.exclude) - held):
            near = closest(strangers[0], sorted(held), cutoff=0.6)
            note = f"exclude: there was no bar of {', '.join(strangers[:5])}{f' ({near})' if near else ''}"
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
        return read_files(self.config, Terms() if terms is None else terms)[0]

    def holdings(self, universe: UniverseConfig) -> Holdings:
        """Symbols and dates of all rows."""
        return holdings_of(self.read_everything().bars)


def read_files(source: FileSource, terms: Terms) -> tuple[SourceRead, dict[Path, PartedFile]]:
    """All bars of all files of a source, and how each file was read.

    Raises
    ------
    SourceError, BarContractError
        As `FileBars.read_everything`.
    """
    paths = files_of(source)
    files, failed = _readable(paths, source, terms)
    whole = settled([*(file.rows for file in files.values()), *failed], terms)
    _refuse_overlap(files, terms)
    mapping: dict[str, str] = {}
    notes: dict[str, None] = {}  # a set in order of appearance
    for path, file in files.items():
        notes.update(dict.fromkeys(file.notes))
        for ours, theirs in file.column_mapping.items():
            if mapping.setdefault(ours, theirs) != theirs:
                notes[f"{path.name}: {ours} is {theirs!r}, elsewhere {mapping[ours]!r}"] = None
    provider = FileBars(source).provider
    return SourceRead(whole.bars, provider, mapping, tuple(notes), len(paths), aside=whole.aside), files


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
    asked = {path: error for path, error in failed.items() if terms.asks_for(stem_of(path))}
    most = terms.most.most_symbols(sum(terms.asks_for(stem_of(path)) for path in paths))
    for told in (failed if terms.strict or not named_by_stem else asked).values():
        if terms.strict or not named_by_stem or len(asked) > most:
            raise told
    return files, [unreadable(stem_of(path), str(path), told.found) for path, told in asked.items()]


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
