"""The tasks of a computation in blocks and the files between them: rows in blocks, scratch folder, output."""

import contextlib
import fcntl
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError, QuantAssetsError, SourceError
from quant_assets.features.computation import (
    COLUMNS,
    FIELDS,
    Precision,
    across_symbols,
    compute,
    panel_of,
    symbol_inputs,
)
from quant_assets.features.pack import Pack


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


def unreadable(file: Path | str, error: Exception) -> SourceError:
    """The one error for a file of bars that cannot be read."""
    return SourceError(
        f"bars {file}",
        expected="a readable Parquet file, there until the end",
        found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        action="restore or correct the file, then run again",
    )


def wanted(file: Path) -> pl.LazyFrame:
    """The columns of the contract of one file."""
    return pl.scan_parquet(file).select(COLUMNS)


# --------------------------------------------------------------------------- files of a computation in blocks


ROWS_PER_GROUP = 250_000


def write_split(frame: pl.DataFrame, block: NDArray[Any], n_blocks: int, target: Path) -> None:
    """Write rows as one Arrow file with a record batch per block, empty ones too.

    One file per writer, whatever the number of blocks: n writers and m readers make n files, not n times m.

    Parameters
    ----------
    frame : polars.DataFrame
    block : integer array, shape (rows,)
        Block of each row, 0 to ``n_blocks - 1``.
    n_blocks : int
    target : Path
    """
    import pyarrow as pa

    if np.any(block[1:] < block[:-1]):
        order = np.argsort(block, kind="stable")
        frame, block = frame[order], block[order]
    edges = np.searchsorted(block, np.arange(n_blocks + 1)).tolist()
    schema = frame.clear().to_arrow().schema
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.OSFile(str(target), "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as writer:
        for first, last in pairwise(edges):
            batches = frame[first:last].rechunk().to_arrow().to_batches()
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema))


def read_block(files: Sequence[Path], block: int) -> pl.DataFrame:
    """The rows of one block from all files that `write_split` wrote."""
    import pyarrow as pa

    batches = []
    for file in files:
        with pa.OSFile(str(file), "rb") as source:
            batches.append(pa.ipc.open_file(source).get_batch(block))
    return pl.DataFrame(pa.Table.from_batches(batches))


def write_part(frame: pl.DataFrame, target: Path, *, final: bool) -> None:
    """Write a block of features: compressed for keeping, or lightly when it is only to be joined."""
    frame.write_parquet(target, compression="zstd" if final else "lz4", row_group_size=ROWS_PER_GROUP)


def join_parts(parts: Sequence[Path], target: Path) -> None:
    """Append parts to one Parquet file, a row group at a time."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(parts[0])
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for part in parts:
            with pq.ParquetFile(part) as held:
                for group in range(held.num_row_groups):
                    writer.write_table(held.read_row_group(group))


def check_output(out: Path, sources: Sequence[Path]) -> None:
    """Refuse an output that cannot be written, or that would replace something other than features.

    Raises
    ------
    FeatureError
        When the parent folder does not exist, the output is one of the sources or holds one, or it is a folder
        with anything in it but the parts of an earlier output.
    """
    if not out.parent.is_dir():
        raise FeatureError(
            f"output {out}", expected="a folder to write it in", found="none", action=f"create {out.parent}"
        )
    inside = [file for file in sources if file == out or out in file.parents]
    if inside:
        raise FeatureError(
            f"output {out}",
            expected="a place away from the bars",
            found=f"the bars {inside[0]}",
            action="choose another output",
        )
    if out.is_dir():
        if is_single_file(out):
            raise FeatureError(
                f"output {out}",
                expected="a file, by its name",
                found="a folder",
                action="choose a name without .parquet to write a folder of parts",
            )
        other = sorted(p.name for p in out.iterdir() if not (p.is_file() and p.match("part-*.parquet")))
        if other:
            raise FeatureError(
                f"output {out}",
                expected="a new folder, or one of part-*.parquet to replace",
                found=f"{other[0]} in it",
                action="choose another folder; nothing of others is removed",
            )
    elif out.exists() and not is_single_file(out):
        raise FeatureError(
            f"output {out}",
            expected="a new folder, or one of part-*.parquet to replace",
            found="a file",
            action="choose another folder, or a name that ends with .parquet",
        )


def is_single_file(out: Path) -> bool:
    """Whether the name asks for one file; any other is a folder of parts."""
    return out.suffix == ".parquet"


@contextlib.contextmanager
def scratch_folder(out: Path, parent: Path) -> Iterator[Path]:
    """A hidden folder for the blocks, removed at the end; first remove those of runs that were killed.

    The lock on a file in it tells a folder in use from one left behind: it ends with its process.
    """
    prefix = f".{out.name}.blocks-"
    for left in parent.glob(f"{prefix}*/lock"):
        with left.open("wb") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # in use by another run
            shutil.rmtree(left.parent)
    # An error of the run must reach the reader, not one of clearing up after it
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / "lock").open("wb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield folder


def publish(parts: Sequence[Path], out: Path) -> None:
    """Put finished parts in the place of the output: joined into one file, or as a folder.

    A file is replaced in one step. A folder takes two renames: if the second fails, the old one is put back.
    """
    with tempfile.TemporaryDirectory(
        prefix=f".{out.name}.incoming-", dir=out.parent, ignore_cleanup_errors=True
    ) as name:
        ready, old = Path(name) / "ready", Path(name) / "old"
        if is_single_file(out):
            join_parts(parts, ready)
            ready.replace(out)
            return
        ready.mkdir()
        for part in parts:
            shutil.move(part, ready / part.name)
        if not out.exists():
            ready.rename(out)
            return
        out.rename(old)
        try:
            ready.rename(out)
        except OSError:
            old.rename(out)
            raise


# ----------------------------------------------------------------------- the tasks of a computation in blocks


STOP = "stop"


@dataclass(frozen=True)
class Failure:
    """Why a task has no result, as data: the others are told to stop and the block is named before it is raised."""

    kind: type[QuantAssetsError]
    what: str
    expected: str
    found: str
    action: str

    def error(self) -> QuantAssetsError:
        """The error to raise."""
        return self.kind(self.what, expected=self.expected, found=self.found, action=self.action)


@dataclass(frozen=True)
class Bars:
    """Where the bars of one block are: in files of the universe, or sorted into blocks in the scratch folder."""

    index: int
    block: Block
    files: tuple[Path, ...]
    sorted_first: bool

    def read(self) -> pl.DataFrame:
        """All bars of the block."""
        if self.sorted_first:
            frame = read_block(self.files, self.index)
        else:
            # one file after the other: all at once hold their row groups in memory together
            frame = pl.concat(
                [_of_symbols(file, self.block).collect(engine="streaming") for file in self.files]
            )
        if frame.height != self.block.rows:
            raise SourceError(
                f"bars of symbols {self.block.first!r} to {self.block.last!r}",
                expected=f"{self.block.rows:,} rows, as counted at the start",
                found=f"{frame.height:,}",
                action="leave the files alone while they are read, then run again",
            )
        return frame


@dataclass(frozen=True)
class Chosen:
    """What every task has to know."""

    pack: Pack
    precision: Precision
    mask: bool
    threads: int | None
    folder: Path
    final: bool


def sort_into_blocks(
    chosen: Chosen, index: int, pieces: Sequence[Piece], firsts: Sequence[str]
) -> Failure | None:
    """Write some rows of the universe by block of symbols."""

    def work() -> None:
        parts = []
        for piece in pieces:
            rows = wanted(piece.file).slice(piece.offset, piece.rows)
            parts.append(_read(piece.file, lambda rows=rows: _contract(rows).collect()))  # type: ignore[misc]
        frame = pl.concat(parts)
        write_split(frame, _block_of(frame, firsts), len(firsts), sorted_file(chosen.folder, index))

    return _guarded(chosen, work)


def features_of_block(chosen: Chosen, bars: Bars) -> Failure | None:
    """Write the features of a block of symbols, for a pack that is computed per symbol."""

    def work() -> None:
        got = compute(
            bars.read(), chosen.pack, precision=chosen.precision, mask=chosen.mask, threads=chosen.threads
        )
        write_part(got, part_file(chosen.folder, bars.index), final=chosen.final)

    return _guarded(chosen, work)


def inputs_of_block(chosen: Chosen, bars: Bars, session_firsts: Sequence[int]) -> Failure | None:
    """First stage of a cross-section: write the inputs of a block of symbols by block of sessions."""

    def work() -> None:
        got = symbol_inputs(bars.read(), chosen.pack, mask=chosen.mask, threads=chosen.threads)
        block = np.searchsorted(session_firsts, got["session"].to_physical().to_numpy(), side="right") - 1
        write_split(got, block, len(session_firsts), inputs_file(chosen.folder, bars.index))

    return _guarded(chosen, work)


def across_block(chosen: Chosen, index: int, n_symbol_blocks: int, firsts: Sequence[str]) -> Failure | None:
    """Second stage: write the features of a block of sessions by block of symbols."""

    def work() -> None:
        held = read_block([inputs_file(chosen.folder, k) for k in range(n_symbol_blocks)], index)
        got = across_symbols(held, chosen.pack, precision=chosen.precision, threads=chosen.threads)
        write_split(got, _block_of(got, firsts), len(firsts), across_file(chosen.folder, index))

    return _guarded(chosen, work)


def collect_block(chosen: Chosen, index: int, n_session_blocks: int) -> Failure | None:
    """Bring the sessions of a block of symbols together again, in the order of `compute`."""

    def work() -> None:
        got = read_block([across_file(chosen.folder, k) for k in range(n_session_blocks)], index)
        write_part(got.sort("symbol", "session"), part_file(chosen.folder, index), final=chosen.final)

    return _guarded(chosen, work)


def sorted_file(folder: Path, index: int) -> Path:
    """Rows of one task of `sort_into_blocks`."""
    return folder / f"bars-{index:05d}.arrow"


def inputs_file(folder: Path, index: int) -> Path:
    """Inputs of one block of symbols."""
    return folder / f"inputs-{index:05d}.arrow"


def across_file(folder: Path, index: int) -> Path:
    """Features of one block of sessions."""
    return folder / f"across-{index:05d}.arrow"


def part_file(folder: Path, index: int) -> Path:
    """Features of one block of symbols."""
    return folder / f"part-{index:05d}.parquet"


def located(failure: Failure, bars: Bars, files: Sequence[Path], n_blocks: int) -> Failure:
    """The failure of a block of bars with its block and file named; the bars are read again to find the file."""
    place = f"block {bars.index + 1} of {n_blocks} (symbols {bars.block.first!r} to {bars.block.last!r})"
    if failure.kind is FeatureError:
        for file in files:
            rows = _read(file, lambda file=file: _of_symbols(file, bars.block).collect())  # type: ignore[misc]
            try:
                if not rows.is_empty():
                    panel_of(rows)
            except FeatureError as error:
                # the number of the row counts within the block: symbol and session name the bar
                found = re.sub(r" \(row \d+\)", "", error.found)
                what = f"{error.what} in {file}, {place}"
                return Failure(FeatureError, what, error.expected, found, error.action)
    named = ", ".join(map(str, files[:3])) + (f" and {len(files) - 3} more files" if len(files) > 3 else "")
    what = f"{failure.what} in {named}, {place}"
    return Failure(failure.kind, what, failure.expected, failure.found, failure.action)


def _guarded(chosen: Chosen, work: Callable[[], None]) -> Failure | None:
    """Do the work unless a task before has failed; give the failure back as data."""
    if (chosen.folder / STOP).exists():
        return None
    import pyarrow as pa

    try:
        work()
    except QuantAssetsError as error:
        return Failure(type(error), error.what, error.expected, error.found, error.action)
    except (OSError, pl.exceptions.PolarsError, pa.ArrowException) as error:
        return scratch_failure(chosen.folder, error)
    return None


def scratch_failure(folder: Path, error: Exception) -> Failure:
    """The failure of a file on the way: a full disk, a lost folder."""
    return Failure(
        FeatureError,
        f"blocks of features in {folder}",
        "files that can be written and read until the end",
        f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        "free the disk or choose another scratch folder, then run again; the output is as it was",
    )


def _read(file: Path, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    try:
        return read()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise unreadable(file, error) from error


def _contract(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Types of the contract, so that files with float32 prices or categories of their own join the others."""
    return rows.with_columns(pl.col("symbol").cast(pl.String), pl.col(FIELDS).cast(pl.Float64))


def _of_symbols(file: Path, block: Block) -> pl.LazyFrame:
    rows = wanted(file)
    symbol = (
        pl.col("symbol") if rows.collect_schema()["symbol"] == pl.String else pl.col("symbol").cast(pl.String)
    )
    return _contract(rows.filter(symbol >= block.first, symbol <= block.last))


def _block_of(frame: pl.DataFrame, firsts: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Block of symbols of each row."""
    names = frame["symbol"].unique().sort()
    at = pl.Series(firsts, dtype=pl.String).search_sorted(names, side="right").cast(pl.Int64) - 1
    ranks = frame["symbol"].cast(pl.Enum(names)).to_physical().to_numpy()
    found: np.ndarray[tuple[int], np.dtype[np.int64]] = at.to_numpy()[ranks]
    return found
