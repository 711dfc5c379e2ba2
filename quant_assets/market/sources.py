"""Bar sources: what a universe says about its data, turned into validated raw bars.

Every source ends in the same place: `quant_assets.market.contract` maps its columns and judges its rows. What
was read, from where and with which column mapping travels along, so that the lineage can show it.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import polars as pl

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.settings import (
    BokehSource,
    CsvSource,
    ParquetSource,
    SyntheticSource,
    UniverseConfig,
)
from quant_assets.market.contract import validate_bars
from quant_assets.market.files import BarFile, FileSource, files_of, read_bar_file
from quant_assets.market.synthetic import generate

_SYMBOLS_SHOWN = 20

FileState = tuple[str, int, int, int, int]


@dataclass(frozen=True)
class SourceRead:
    """Raw bars of one universe, and what is worth knowing about how they were read.

    ``bars`` has `quant_assets.market.contract.RAW_SCHEMA`, sorted by symbol and session. ``column_mapping`` maps
    our names to the source's; ``notes`` are sentences for people.
    """

    bars: pl.DataFrame
    provider: str
    column_mapping: dict[str, str]
    notes: tuple[str, ...]
    n_files: int


@dataclass(frozen=True)
class FileSummary:
    """What a bar file holds: enough to make a universe of it."""

    symbols: tuple[str, ...]
    start: date
    end: date
    n_rows: int
    columns: dict[str, str]


def read_bars(universe: UniverseConfig) -> SourceRead:
    """Read, map, validate and filter the bars of a universe.

    Returns
    -------
    SourceRead
        Only the universe's symbols and dates. Relative paths count from the current directory.

    Raises
    ------
    SourceError
        When nothing is there, a configured symbol is missing, or no row is left.
    BarContractError
        When a column is missing or ambiguous, or any row of any file (also outside the dates) is no bar.
    """
    match universe.source:
        case SyntheticSource():
            whole = _read_synthetic(universe, universe.source)
        case BokehSource() | ParquetSource() | CsvSource():
            whole = _read_files(universe.source)
    return _restrict(whole, universe)


def read_year(universe: UniverseConfig, year: str) -> SourceRead:
    """Bars of one calendar year of a universe: one partition. A year without bars gives an empty frame.

    The universe is read once per process for as long as its configuration and its files stay the same.

    Raises
    ------
    SourceError
        When the universe does not touch that year, or as `read_bars`.
    BarContractError
        As `read_bars`.
    """
    if year not in universe.years:
        raise SourceError(
            f"universe {universe.name}, year {year!r}",
            expected=f"one of {universe.years[0]} to {universe.years[-1]}",
            found="another year",
            action="choose one of them, or widen `start:` and `end:` in the universe YAML",
        )
    whole = _read_remembered(universe.model_dump_json(), _state_of_files(universe))
    bars = whole.bars.filter(pl.col("session").dt.year() == int(year))
    note = f"{year}: {bars.height} of {whole.bars.height} rows"
    return replace(whole, bars=bars, notes=(*whole.notes, note))


def describe_file(path: str | Path) -> FileSummary:
    """Symbols, dates and columns of one Parquet or CSV file, fully validated. Usual column names are known.

    Raises
    ------
    SourceError, BarContractError
        As `read_bars`.
    """
    parquet = Path(path).suffix == ".parquet"
    source = (
        ParquetSource(kind="parquet", path=str(path)) if parquet else CsvSource(kind="csv", path=str(path))
    )
    whole = _read_files(source)
    if whole.bars.is_empty():
        raise SourceError(
            f"{path}", expected="at least one row", found="a header only", action="download the file again"
        )
    first, last = whole.bars.select(
        pl.col("session").min().alias("a"), pl.col("session").max().alias("b")
    ).row(0)
    symbols = tuple(whole.bars["symbol"].unique().sort())
    return FileSummary(symbols, first, last, whole.bars.height, whole.column_mapping)


def _state_of_files(universe: UniverseConfig) -> tuple[FileState, ...]:
    """Identity of every file as it is now: inode, size and times say whether it must be read again."""
    if isinstance(universe.source, SyntheticSource):
        return ()
    states = []
    for file in files_of(universe.source):
        stat = file.stat()
        states.append((str(file.resolve()), stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(states)


@lru_cache(maxsize=4)
def _read_remembered(universe_json: str, _state: tuple[FileState, ...]) -> SourceRead:
    # A configuration holds dictionaries and so cannot be a key itself; the state of the files is only a key.
    return read_bars(UniverseConfig.model_validate_json(universe_json))


def _read_synthetic(universe: UniverseConfig, source: SyntheticSource) -> SourceRead:
    feed = generate(source, universe.calendar, universe.start, universe.end)
    provider = f"synthetic seed {source.seed}"
    notes = []
    if source.edge is not None:
        notes.append(
            f"planted edge: transient sd {source.edge.transient_sd}, "
            f"half-life {source.edge.half_life_sessions} sessions"
        )
    if source.drift is not None:
        notes.append(
            f"planted drift from {source.drift.start}: volatility x {source.drift.volatility_factor}, "
            f"volume x {source.drift.volume_factor}"
        )
    notes.extend(f"planted defect: {d.kind}, symbol {d.symbol}, session {d.session}" for d in source.defects)
    bars = validate_bars(feed, origin=f"{provider} (universe {universe.name})")
    return SourceRead(bars, provider, {name: name for name in feed.columns}, tuple(notes), n_files=0)


def _read_files(source: FileSource) -> SourceRead:
    paths = files_of(source)
    files = [read_bar_file(path, source) for path in paths]
    _refuse_overlap(files, [path.name for path in paths])
    mapping: dict[str, str] = {}
    notes: dict[str, None] = {}  # a set in order of appearance
    for path, file in zip(paths, files, strict=True):
        notes.update(dict.fromkeys(file.notes))
        for ours, theirs in file.column_mapping.items():
            if mapping.setdefault(ours, theirs) != theirs:
                notes[f"{path.name}: {ours} is {theirs!r}, elsewhere {mapping[ours]!r}"] = None
    bars = pl.concat(file.bars for file in files).sort("symbol", "session")
    return SourceRead(bars, _provider(source), mapping, tuple(notes), len(files))


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


def _provider(source: FileSource) -> str:
    if isinstance(source, BokehSource):
        return f"bokeh_sampledata {version('bokeh_sampledata')}"
    return f"{source.kind} {source.path}"


def _restrict(whole: SourceRead, universe: UniverseConfig) -> SourceRead:
    bars = whole.bars
    if universe.symbols is not None:
        available = sorted(bars["symbol"].unique())
        absent = [symbol for symbol in universe.symbols if symbol not in set(available)]
        if absent:
            raise _absent_symbols(universe, absent, available, whole.provider)
        bars = bars.filter(pl.col("symbol").is_in(universe.symbols))
    bars = bars.filter(pl.col("session").is_between(universe.start, universe.end))
    if bars.is_empty():
        first, last = whole.bars.select(
            pl.col("session").min().alias("first"), pl.col("session").max().alias("last")
        ).row(0)
        raise SourceError(
            f"universe {universe.name}",
            expected=f"bars from {universe.start} to {universe.end}",
            found=f"none; {whole.provider} "
            + ("has no rows at all" if whole.bars.is_empty() else f"spans {first} to {last}"),
            action="correct `start:` and `end:` in the universe YAML",
        )
    note = f"kept {bars.height} of {whole.bars.height} rows (symbols and dates of the universe)"
    return replace(whole, bars=bars, notes=(*whole.notes, note))


def _absent_symbols(
    universe: UniverseConfig, absent: Sequence[str], available: Sequence[str], provider: str
) -> SourceError:
    by_upper = {name.upper(): name for name in available}
    close = difflib.get_close_matches(absent[0].upper(), by_upper, n=1, cutoff=0.0)
    guess = f"did you mean {by_upper[close[0]]!r}? " if close else ""
    more = len(available) - _SYMBOLS_SHOWN
    return SourceError(
        f"universe {universe.name}, symbols {', '.join(absent)}",
        expected=f"symbols that {provider} has",
        found=f"only {', '.join(available[:_SYMBOLS_SHOWN])}" + (f" and {more} more" if more > 0 else ""),
        action=f"{guess}correct `symbols:` in the universe YAML",
    )
