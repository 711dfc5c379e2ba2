"""Features of a universe larger than memory: blocks of symbols, on this machine or on a Dask cluster."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError, SourceError
from quant_assets.common.processes import run_tasks
from quant_assets.features.block_tasks import (
    STOP,
    Bars,
    Block,
    Chosen,
    Failure,
    Piece,
    across_block,
    across_file,
    check_output,
    collect_block,
    features_of_block,
    inputs_file,
    inputs_of_block,
    is_single_file,
    located,
    part_file,
    publish,
    scratch_failure,
    scratch_folder,
    sort_into_blocks,
    sorted_file,
    unreadable,
)
from quant_assets.features.computation import Precision, check_precision, frame_of
from quant_assets.features.pack import Pack, find_pack

Progress = Callable[[int, int], None]
BLOCK_ROWS = 1_000_000

# ------------------------------------------------------------------------- how a universe is cut into blocks

# Reading bars straight from their files decodes row groups that blocks share several times. From this many
# times the rows on, sorting the rows into blocks on disk first is cheaper.
MAX_ROWS_DECODED = 2.0


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


# ------------------------------------------------------------------------------------ the passes over the plan


@dataclass(frozen=True)
class BlockRun:
    """What was written.

    Parameters
    ----------
    out : Path
        The file, or the folder of parts in order.
    rows : int
    blocks : int
        Blocks of symbols.
    session_blocks : int
        Blocks of sessions; 0 for a pack without a cross-section.
    sorted_first : bool
        Whether the bars had to be sorted into blocks on disk.
    """

    out: Path
    rows: int
    blocks: int
    session_blocks: int
    sorted_first: bool


def compute_in_blocks(
    bars: str | Path,
    out: str | Path,
    pack: str | Pack = "technical_v1",
    *,
    block_rows: int = BLOCK_ROWS,
    precision: Precision = "float32",
    mask: bool = True,
    workers: int = 1,
    threads: int | None = None,
    processes: bool = False,
    scratch: str | Path | None = None,
    progress: Progress | None = None,
) -> BlockRun:
    """Compute a feature pack over Parquet files, a block of symbols at a time.

    The values have the bits of `quant_assets.features.compute` over the whole panel, whatever the size of the
    blocks, the order of the rows in the files and the workers. Bars that are ordered by symbol are read where
    they are; others are first sorted into blocks on disk.

    Parameters
    ----------
    bars : path
        A Parquet file, a folder of them or a glob; together one panel, as `compute` takes it.
    out : path
        With the suffix ``.parquet`` one file, else a folder of ``part-*.parquet``, one per block. Rows are sorted
        by (symbol, session), over the parts in the order of their names. What is there is replaced at the end.
    pack : str or Pack
        Registered name, or a pack itself, also with a cross-section.
    block_rows : int
        Bars in memory per worker, apart from a symbol (or session) that alone has more.
    precision, mask, threads
        As for `compute`; ``threads`` is per worker.
    workers : int
        Blocks at the same time on this machine. A Dask cluster, if one is configured, has its own number; it must
        see the bars and the scratch folder under the same paths.
    processes : bool
        Local workers are processes instead of threads.
    scratch : path, optional
        Where to put the blocks on the way; default: beside the output. Removed at the end.
    progress : callable, optional
        Called in this thread with (tasks done, tasks in all).

    Returns
    -------
    BlockRun

    Raises
    ------
    FeatureError
        When the bars break their contract (with block and file), or a block cannot be written. What was at
        ``out`` before is still there then, and nothing else.
    SourceError
        When a file of bars cannot be read, or changes meanwhile.
    ComputeError
        When the configured cluster cannot be used.
    """
    chosen_pack = find_pack(pack)
    if chosen_pack.recipe is not None:
        if chosen_pack.across:
            raise FeatureError(
                f"feature pack {chosen_pack.name!r} in blocks",
                expected="a pack that is computed per symbol, or one whose cross-section is a kernel",
                found="expressions or a function across the symbols of a session",
                action="compute it over the whole panel with quant_assets.features.compute",
            )
        processes = False  # its functions may be made anywhere, and need not travel
    for name, value in (("block_rows", block_rows), ("workers", workers)):
        if value < 1:
            raise FeatureError(name, expected="1 or more", found=str(value), action="correct it")
    check_precision(precision)
    target = Path(out).absolute()
    files = bar_files(bars)
    check_output(target, files)
    plan = plan_blocks(files, block_rows, sessions=chosen_pack.cross_section is not None)
    parent = target.parent if scratch is None else Path(scratch).absolute()
    if not parent.is_dir():
        raise FeatureError(
            f"scratch folder {parent}",
            expected="a folder",
            found="none",
            action="create it, or choose another",
        )
    try:
        with scratch_folder(target, parent) as folder:
            final = not is_single_file(target)
            chosen = Chosen(chosen_pack, precision, mask, threads, folder, final)
            run = _Run(plan, chosen, workers, processes, progress)
            run.all_passes()
            publish([part_file(folder, k) for k in range(len(plan.blocks))], target)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise scratch_failure(parent, error).error() from error
    return BlockRun(
        out=target,
        rows=sum(block.rows for block in plan.blocks),
        blocks=len(plan.blocks),
        session_blocks=len(plan.session_firsts),
        sorted_first=plan.reads is None,
    )


class _Run:
    """The passes over one plan."""

    def __init__(
        self, plan: Plan, chosen: Chosen, workers: int, processes: bool, progress: Progress | None
    ) -> None:
        self.plan, self.chosen, self.workers, self.progress = plan, chosen, workers, progress
        self.locally = "processes" if processes else "threads"
        self.done = 0
        sessions = len(plan.session_firsts)
        self.total = len(plan.pieces) + len(plan.blocks) * (2 if sessions else 1) + sessions

    def all_passes(self) -> None:
        """Sort if needed, then one pass for packs per symbol and three for those with a cross-section."""
        plan, chosen, folder = self.plan, self.chosen, self.chosen.folder
        n, m = len(plan.blocks), len(plan.session_firsts)
        firsts = [block.first for block in plan.blocks]
        if plan.reads is None:
            self._each(sort_into_blocks, ((chosen, k, p, firsts) for k, p in enumerate(plan.pieces)))
        held = tuple(sorted_file(folder, k) for k in range(len(plan.pieces)))
        where = [
            Bars(k, block, held if plan.reads is None else plan.reads[k], plan.reads is None)
            for k, block in enumerate(plan.blocks)
        ]
        if chosen.pack.cross_section is None:
            self._each(features_of_block, ((chosen, bars) for bars in where), where)
            return
        self._each(inputs_of_block, ((chosen, bars, plan.session_firsts) for bars in where), where)
        self._clear(held)
        self._each(across_block, ((chosen, j, n, firsts) for j in range(m)))
        self._clear(inputs_file(folder, k) for k in range(n))
        self._each(collect_block, ((chosen, k, m) for k in range(n)))
        self._clear(across_file(folder, j) for j in range(m))

    def _each(
        self,
        task: Callable[..., Failure | None],
        arguments: Iterable[tuple[object, ...]],
        where: list[Bars] | None = None,
    ) -> None:
        """Run the tasks; after a failure those that have not begun do nothing, and the first is raised."""
        first: tuple[int, Failure] | None = None
        tasks = run_tasks(task, arguments, workers=self.workers, locally=self.locally)  # type: ignore[arg-type]
        with closing(tasks):  # type: ignore[type-var]
            for index, failure in enumerate(tasks):
                if failure is not None and first is None:
                    first = (index, failure)
                    (self.chosen.folder / STOP).touch()
                self.done += 1
                if first is None and self.progress is not None:
                    self.progress(self.done, self.total)
        if first is not None:
            index, failure = first
            if where is not None:
                files = self.plan.files if self.plan.reads is None else self.plan.reads[index]
                failure = located(failure, where[index], files, len(where))
            raise failure.error()

    @staticmethod
    def _clear(files: Iterable[Path]) -> None:
        for file in files:
            file.unlink()
