"""Files of a computation in blocks: sorting rows into blocks on disk, the scratch folder, and the output."""

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError

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
