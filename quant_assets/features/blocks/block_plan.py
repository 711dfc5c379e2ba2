"""How a universe in Parquet files is cut into blocks: contiguous symbols, contiguous sessions, runs of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError, SourceError
from quant_assets.features.computation import COLUMNS, frame_of

# Reading bars straight from their files decodes row groups that blocks share several times. From this many
# times the rows on, sorting the rows into blocks on disk first is cheaper.
MAX_ROWS_DECODED = 2.0


@dataclass(frozen=True)
class Block:
    """Symbols ``first`` to ``last`` in byte order, and the number of bars they have."""

    first: str
    last: str
    rows: int


@dataclass(frozen=True)
class Piece:
    """``rows`` consecutive rows of a file from ``offset`` on."""

    file: Path
    offset: int
    rows: int


@dataclass(frozen=True)
class Plan:
    """Blocks of a universe.

    Parameters
    ----------
    files : tuple of Path
        In name order; none is empty.
    blocks : tuple of Block
        In symbol order.
    reads : tuple of tuple of Path, or None
        Files of each block when they are read as they are; None when the rows are sorted into blocks first.
    pieces : tuple of tuple of Piece
        What each task of that sorting reads, about as many rows as a block.
    session_firsts : tuple of int
        First session of each block of sessions, as the integer behind the date. Empty without a cross-section.
    """

    files: tuple[Path, ...]
    blocks: tuple[Block, ...]
    reads: tuple[tuple[Path, ...], ...] | None
    pieces: tuple[tuple[Piece, ...], ...]
    session_firsts: tuple[int, ...]


@dataclass(frozen=True)
class _Group:
    """A row group: its rows, and the symbols between which it lies, None where the file does not say."""

    file: Path
    offset: int
    rows: int
    span: tuple[str, str] | None


def bar_files(source: str | Path) -> tuple[Path, ...]:
    """Parquet files of a path: the file, those in a folder (at any depth, none hidden), or those of a glob.

    Raises
    ------
    SourceError
        When there are none.
    """
    path = Path(source).absolute()
    if path.is_file():
        return (path,)
    if path.is_dir():
        found = [f for f in path.rglob("*.parquet") if not _hidden(f.relative_to(path))]
    else:
        anchor = Path(path.anchor)
        found = [f for f in anchor.glob(str(path.relative_to(anchor))) if f.is_file()]
    if not found:
        raise SourceError(
            f"bars {source}",
            expected="a Parquet file, a folder of them or a glob",
            found="no such file",
            action="correct the path",
        )
    return tuple(sorted(found))


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def plan_blocks(files: Sequence[Path], block_rows: int, *, sessions: bool) -> Plan:
    """Read footers and keys, and cut the universe into blocks of at most ``block_rows`` rows.

    A symbol, or a session, with more rows than that is a block of its own.

    Raises
    ------
    FeatureError
        When a file breaks the contract of bars, or there is no row at all.
    SourceError
        When a file cannot be read.
    """
    symbols: list[pl.DataFrame] = []
    days: list[pl.DataFrame] = []
    groups: list[_Group] = []
    kind: tuple[pl.DataType, Path] | None = None
    for file in files:
        try:
            held = row_groups(file)
            if not held:
                continue
            kind = _same_sessions(file, kind)
            symbols.append(_counts(file, pl.col("symbol").cast(pl.String)))
            if sessions:
                days.append(_counts(file, pl.col("session").to_physical()).drop_nulls())
        except (OSError, pl.exceptions.PolarsError) as error:
            raise unreadable(file, error) from error
        if symbols[-1]["symbol"].null_count() > 0:
            raise FeatureError(
                f"column 'symbol' of bars in {file}",
                expected="a value in every row",
                found="null",
                action="correct or quarantine these bars first",
            )
        groups += held
    if not groups:
        raise FeatureError(
            "bars",
            expected="at least one row",
            found=f"none in {len(files)} files, the first {files[0]}",
            action="check the source",
        )
    by_symbol = pl.concat(symbols).group_by("symbol").agg(pl.col("len").sum()).sort("symbol")
    names = by_symbol["symbol"]
    blocks = tuple(
        Block(names[a], names[b - 1], int(by_symbol["len"][a:b].sum()))
        for a, b in _cuts(by_symbol["len"].to_numpy(), block_rows)
    )
    firsts: tuple[int, ...] = ()
    if sessions and any(part.height for part in days):
        by_day = pl.concat(days).group_by("session").agg(pl.col("len").sum()).sort("session")
        firsts = tuple(int(by_day["session"][a]) for a, _ in _cuts(by_day["len"].to_numpy(), block_rows))
    reads = _direct_reads(groups, blocks)
    used = tuple(dict.fromkeys(group.file for group in groups))
    return Plan(used, blocks, reads, _pieces(groups, block_rows) if reads is None else (), firsts)


def unreadable(file: Path | str, error: Exception) -> SourceError:
    """The one error for a file of bars that cannot be read."""
    return SourceError(
        f"bars {file}",
        expected="a readable Parquet file, there until the end",
        found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        action="restore or correct the file, then run again",
    )


def row_groups(file: Path) -> list[_Group]:
    """Row groups of a file from its footer, empty ones left out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(file)
    except pa.ArrowException as error:
        raise unreadable(file, error) from error
    found, offset = [], 0
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        columns = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
        stats = columns["symbol"].statistics if "symbol" in columns else None
        known = stats is not None and stats.has_min_max and isinstance(stats.min, str)
        if group.num_rows:
            span = (stats.min, stats.max) if known and stats is not None else None
            found.append(_Group(file, offset, group.num_rows, span))
        offset += group.num_rows
    return found


def _same_sessions(file: Path, kind: tuple[pl.DataType, Path] | None) -> tuple[pl.DataType, Path]:
    """Check columns and types by the first row; sessions of all files are of one type."""
    head = pl.read_parquet(file, n_rows=1, use_statistics=False)
    try:
        frame_of(head)
    except FeatureError as error:
        raise FeatureError(
            f"{error.what} in {file}", expected=error.expected, found=error.found, action=error.action
        ) from error
    mine = head.schema["session"]
    if kind is not None and kind[0] != mine:
        raise FeatureError(
            f"column 'session' of bars in {file}",
            expected=f"{kind[0]}, as in {kind[1]}",
            found=str(mine),
            action="store the sessions of all files in one type",
        )
    return kind or (mine, file)


def _counts(file: Path, key: pl.Expr) -> pl.DataFrame:
    return pl.scan_parquet(file).select(key).group_by(pl.all()).len().collect(engine="streaming")


def _cuts(rows: NDArray[Any], limit: int) -> list[tuple[int, int]]:
    """Contiguous runs whose rows together stay within the limit; one item alone may exceed it."""
    ends = np.cumsum(rows, dtype=np.int64)
    found, first = [], 0
    while first < len(rows):
        before = int(ends[first - 1]) if first else 0
        last = max(int(np.searchsorted(ends, before + limit, side="right")), first + 1)
        found.append((first, last))
        first = last
    return found


def _direct_reads(groups: Sequence[_Group], blocks: Sequence[Block]) -> tuple[tuple[Path, ...], ...] | None:
    """Files of each block, or None when too much would be decoded more than once."""
    decoded, reads = 0, []
    for block in blocks:
        files: dict[Path, None] = {}
        for group in groups:
            if group.span is None:
                return None if len(blocks) > 1 else (tuple(dict.fromkeys(g.file for g in groups)),)
            if group.span[0] <= block.last and group.span[1] >= block.first:
                decoded += group.rows
                files[group.file] = None
        reads.append(tuple(files))
    return tuple(reads) if decoded <= MAX_ROWS_DECODED * sum(g.rows for g in groups) else None


def _pieces(groups: Sequence[_Group], block_rows: int) -> tuple[tuple[Piece, ...], ...]:
    """Whole row groups together up to the limit; larger ones in parts."""
    parts = [
        Piece(group.file, group.offset + at, min(block_rows, group.rows - at))
        for group in groups
        for at in range(0, group.rows, block_rows)
    ]
    return tuple(tuple(parts[a:b]) for a, b in _cuts(np.array([p.rows for p in parts]), block_rows))


def wanted(file: Path) -> pl.LazyFrame:
    """The columns of the contract of one file."""
    return pl.scan_parquet(file).select(COLUMNS)
