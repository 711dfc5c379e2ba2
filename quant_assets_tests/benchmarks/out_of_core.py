"""Peak memory of features in blocks against the whole panel: ``python -m quant_assets_tests.benchmarks.out_of_core``.

Random walks go to a Parquet file part by part, so that this process never holds them all. Then blocks of several
sizes, and `compute` over the whole panel, each in a process of its own: largest resident memory (mapped files
included), wall and processor time, and a digest of every bit of the features.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from quant_assets.features import compute
from quant_assets.features.blocks import BLOCK_ROWS, compute_in_blocks
from quant_assets_tests.benchmarks.contest import circumstances, show
from quant_assets_tests.benchmarks.features import SESSIONS, resident

PART_ROWS = 250_000
MODULE = "quant_assets_tests.benchmarks.out_of_core"


def parts_of_walks(symbols: int, sessions: int, order: str) -> Iterator[pl.DataFrame]:
    """Random walks in parts of about 250,000 rows, ordered by symbol or by session."""
    rng = np.random.default_rng(0)
    level = np.full((symbols, 1), np.log(50.0))
    if order == "symbol":
        step = max(1, PART_ROWS // sessions)
        for first in range(0, symbols, step):
            names = np.arange(first, min(first + step, symbols))
            yield _bars(rng, level[names], names, np.arange(sessions))[0]
        return
    step = max(1, PART_ROWS // symbols)
    for first in range(0, sessions, step):
        bars, level = _bars(rng, level, np.arange(symbols), np.arange(first, min(first + step, sessions)))
        yield bars.sort("session", "symbol")


def _bars(
    rng: np.random.Generator, level: np.ndarray, names: np.ndarray, days: np.ndarray
) -> tuple[pl.DataFrame, np.ndarray]:
    """Bars of some symbols in some sessions, and the logarithms of their last closes."""
    steps = rng.normal(0, 0.015, (len(names), len(days)))
    log_close = level + np.cumsum(steps, axis=1)
    close = np.exp(log_close)
    labels = pl.Series([f"S{k:05d}" for k in names])
    frame = pl.DataFrame(
        {
            "symbol": labels.gather(np.repeat(np.arange(len(names)), len(days))),
            "session": np.tile(days.astype(np.int32), len(names)),
            "open": (close * (1 - 0.3 * steps)).ravel(),
            "high": (close * (1.01 + np.abs(steps))).ravel(),
            "low": (close * (0.99 - np.abs(steps))).ravel(),
            "close": close.ravel(),
            "volume": np.floor(1e6 * rng.lognormal(0, 0.5, close.shape)).ravel(),
        }
    )
    return frame.with_columns(pl.col("session").cast(pl.Date)), log_close[:, -1:]


def write_bars(parts: Iterable[pl.DataFrame], target: Path) -> int:
    """Append parts to one Parquet file, a row group each; the number of rows."""
    rows, writer = 0, None
    for part in parts:
        table = part.to_arrow()
        if writer is None:
            writer = pq.ParquetWriter(target, table.schema, compression="zstd")
        writer.write_table(table)
        rows += part.height
    if writer is None:
        raise ValueError("no bars")
    writer.close()
    return rows


def digest_of(parts: Iterable[pl.DataFrame]) -> str:
    """Digest of keys, validity and bits, whatever the parts: one running digest per column."""
    columns: dict[str, tuple[hashlib._Hash, hashlib._Hash]] = {}
    for part in parts:
        for column in part.get_columns():
            valid, bits = columns.setdefault(column.name, (hashlib.sha256(), hashlib.sha256()))
            valid.update(column.is_not_null().to_numpy().tobytes())
            if column.dtype == pl.String:
                bits.update(";".join(column.to_list()).encode() + b";")
            else:
                bits.update(column.to_physical().fill_null(0).to_numpy().tobytes())
    each = [f"{name}:{valid.hexdigest()}:{bits.hexdigest()}" for name, (valid, bits) in columns.items()]
    return hashlib.sha256("\n".join(each).encode()).hexdigest()


def parts_of_file(file: Path) -> Iterator[pl.DataFrame]:
    """A Parquet file, a row group at a time."""
    with pq.ParquetFile(file) as held:
        for group in range(held.num_row_groups):
            yield pl.DataFrame(held.read_row_group(group))


def measure(bars: str, out: str, pack: str, block_rows: int, workers: int, threads: int) -> dict[str, float]:
    """Compute in this process, in blocks or (``block_rows`` 0) as a whole. To be run in a fresh process."""
    wall, cpu = time.perf_counter(), time.process_time()
    blocks = 1
    if block_rows:
        run = compute_in_blocks(
            bars, out, pack, block_rows=block_rows, workers=workers, threads=max(1, threads // workers)
        )
        blocks = run.blocks
    else:
        compute(pl.read_parquet(bars), pack, threads=threads).write_parquet(
            out, compression="zstd", row_group_size=PART_ROWS
        )
    return {
        "wall": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak": resident("VmHWM"),
        "blocks": blocks,
    }


def measured(
    bars: Path, out: Path, pack: str, block_rows: int, workers: int, threads: int
) -> dict[str, float]:
    """`measure` in a process of its own."""
    asked = (str(bars), str(out), pack, block_rows, workers, threads)
    script = f"import json\nfrom {MODULE} import measure\nprint(json.dumps(measure(*{asked!r})))"
    run = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(run.stdout)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print peak memory, times and whether all bits are those of the whole panel."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=1000)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--orders", nargs="*", choices=("symbol", "session"), default=["symbol", "session"])
    parser.add_argument("--packs", nargs="*", default=["technical_v1"])
    parser.add_argument("--block-rows", type=int, nargs="*", default=[BLOCK_ROWS])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="in all, over the workers")
    parser.add_argument("--folder", help="where to put bars and features; default: the system's")
    asked = parser.parse_args(arguments)
    show([circumstances("numba", "numpy", "polars", "pyarrow")])
    with tempfile.TemporaryDirectory(prefix="out-of-core-", dir=asked.folder) as name:
        bars, out = Path(name) / "bars.parquet", Path(name) / "features.parquet"
        for order in asked.orders:
            rows = write_bars(parts_of_walks(asked.symbols, asked.sessions, order), bars)
            show([f"{rows:,} bars by {order}, {bars.stat().st_size / 1e6:,.0f} MB of Parquet"])
            for pack in asked.packs:
                digests = set()
                for block_rows in (0, *asked.block_rows):
                    found = measured(bars, out, pack, block_rows, asked.workers, asked.threads)
                    digests.add(digest := digest_of(parts_of_file(out)))
                    label = f"blocks of {block_rows:,} ({found['blocks']})" if block_rows else "whole panel"
                    show(
                        [
                            f"  {pack:20} {label:28} peak {found['peak'] / 1e6:8,.0f} MB"
                            f"  wall {found['wall']:6.1f} s  cpu {found['cpu']:6.1f} s  bits {digest[:16]}"
                        ]
                    )
                show([f"  {pack:20} {'same bits' if len(digests) == 1 else 'OTHER BITS'}"])


if __name__ == "__main__":
    main()
