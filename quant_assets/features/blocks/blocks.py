"""Features of a universe larger than memory: blocks of symbols, on this machine or on a Dask cluster."""

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from quant_assets.common.errors import FeatureError
from quant_assets.common.parallel import run_tasks
from quant_assets.features.blocks.block_plan import Plan, bar_files, plan_blocks
from quant_assets.features.blocks.block_tasks import (
    STOP,
    Bars,
    Chosen,
    Failure,
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
)
from quant_assets.features.computation import Precision, check_precision
from quant_assets.features.pack import Pack, find_pack

Progress = Callable[[int, int], None]
BLOCK_ROWS = 1_000_000


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
