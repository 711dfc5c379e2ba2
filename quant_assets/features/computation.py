"""From bars to features: one pass over the panel, blocks of symbols in parallel."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy import int64
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError
from quant_assets.features.pack import Pack, find_pack
from quant_assets.features.panel import Panel, panel_of

Precision = Literal["float32", "float64"]

# Below this many rows one thread finishes before a second one has started (about 0.2 ms).
ROWS_PER_THREAD = 5_000
# More blocks than threads, so that a thread that was held up does not hold up the rest.
BLOCKS_PER_THREAD = 4


def compute(
    bars: pl.DataFrame,
    pack: str | Pack = "technical_v1",
    *,
    precision: Precision = "float32",
    mask: bool = True,
    threads: int | None = None,
) -> pl.DataFrame:
    """Compute a feature pack over a panel of bars.

    A symbol's features depend on its own consecutive bars only (sessions without a bar are not filled), and
    their bits on nothing else: not on the other symbols, the row order, the block or the number of threads.
    In a pack with a cross-section they also depend on the other symbols of the same session.

    Parameters
    ----------
    bars : polars.DataFrame
        Columns ``symbol, session, open, high, low, close, volume`` in any row order; others are ignored.
        Prices above 0 in one currency, adjusted for splits and dividends; volume at least 0.
    pack : str or Pack
        Registered name, or a pack itself.
    precision : {"float32", "float64"}
        Type of the feature columns. The arithmetic is float64 either way.
    mask : bool
        Null the rows of each feature's declared warm-up. False nulls only the rows for which the formula has
        no value (its lookback).
    threads : int, optional
        Upper limit; default: the processors this process may use.

    Returns
    -------
    polars.DataFrame
        ``symbol``, ``session`` and the features in the order of the pack, sorted by (symbol, session).
        Masked values are null; no other value is null, NaN or infinite. In a pack with a cross-section a
        session with fewer symbols than it declares is null too.

    Raises
    ------
    FeatureError
        When the pack is unknown, or the bars break the contract above.
    """
    chosen = find_pack(pack)
    if precision not in ("float32", "float64"):
        raise FeatureError(
            f"precision {precision!r}",
            expected="'float32' or 'float64'",
            found=repr(precision),
            action="choose one of the two",
        )
    if chosen.cross_section is not None:
        from quant_assets.features.cross_section import compute_across

        return compute_across(bars, chosen, precision=precision, mask=mask, threads=threads)
    panel = panel_of(bars)
    out = np.empty((len(chosen.features), panel.height), dtype=precision)
    kernel = chosen.block_kernel()

    def run(first: int, last: int) -> None:
        kernel(*panel.fields, panel.starts, first, last, out)

    in_blocks(run, panel.starts, threads)
    return _frame(panel, chosen, out, mask=mask)


def in_blocks(run: Callable[[int, int], None], starts: NDArray[int64], threads: int | None) -> None:
    """Run symbols in contiguous blocks of about equal rows.

    Threads of our own around kernels that release the interpreter lock, not numba's `prange`: its OpenMP
    layer aborts a forked process and its workqueue layer aborts when two threads compute at once.
    """
    rows, symbols = int(starts[-1]), len(starts) - 1
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(threads or available, symbols, max(1, rows // ROWS_PER_THREAD))
    if workers == 1:
        run(0, symbols)
        return
    targets = np.linspace(0, rows, workers * BLOCKS_PER_THREAD + 1)
    edges = np.unique(np.searchsorted(starts, targets)).tolist()
    with ThreadPoolExecutor(workers, thread_name_prefix="features") as pool:
        for done in [pool.submit(run, a, b) for a, b in pairwise(edges)]:
            done.result()


def _frame(panel: Panel, pack: Pack, out: NDArray[Any], *, mask: bool) -> pl.DataFrame:
    """Wrap the matrix as columns without copying it; features with the same margin share their validity bits."""
    import pyarrow as pa

    from quant_assets.features.kernels.margins import blank_leading, validity_bits

    lookbacks = np.array([feature.lookback for feature in pack.features], dtype=int64)
    blank_leading(out, panel.starts, lookbacks)
    kind = pa.float32() if out.dtype == np.float32 else pa.float64()
    validity: dict[int, Any] = {}
    columns = [panel.symbol, panel.session]
    for feature, values in zip(pack.features, out, strict=True):
        margin = feature.warm_up if mask else feature.lookback
        if margin not in validity:
            bits = np.full((panel.height + 7) // 8, 255, dtype=np.uint8)
            validity_bits(panel.starts, margin, bits)
            validity[margin] = pa.py_buffer(bits)
        array = pa.Array.from_buffers(kind, panel.height, [validity[margin], pa.py_buffer(values)])
        columns.append(pl.Series(feature.name, array))
    return pl.DataFrame(columns)
