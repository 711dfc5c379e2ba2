"""`compute` against other ways to the same 29 features: ``python -m quant_assets_tests.benchmarks.features``.

Long polars frame in, long polars frame of 29 float32 columns out, for each. Contestants run in turn. Ratios are of
processor time; TA-Lib's loop has one thread, so ours is also timed with one. Then the cost per row from a hundred
thousand to twelve million rows, and the largest memory of a process of its own.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import polars as pl

from quant_assets.features import compute
from quant_assets_tests.benchmarks.contest import Contestant, circumstances, contest, show, timed
from quant_assets_tests.benchmarks.feature_peers import installed, polars_expressions, ta_pandas, talib_loop

FIELDS = ("open", "high", "low", "close", "volume")
SESSIONS = 2520


def walks(symbols: int, sessions: int) -> pl.DataFrame:
    """Random walks, ordered by symbol and session."""
    rng = np.random.default_rng(0)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.015, (symbols, sessions)), axis=1))
    labels = pl.Series([f"S{k:05d}" for k in range(symbols)])
    return pl.DataFrame(
        {
            "symbol": labels.gather(np.repeat(np.arange(symbols), sessions)),
            "session": np.tile(np.arange(sessions, dtype=np.int32), symbols),
            "open": close.ravel(),
            "high": (close * (1 + np.abs(rng.normal(0, 0.01, close.shape)))).ravel(),
            "low": (close * (1 - np.abs(rng.normal(0, 0.01, close.shape)))).ravel(),
            "close": close.ravel(),
            "volume": np.floor(1e6 * rng.lognormal(0, 0.5, close.shape)).ravel(),
        }
    ).with_columns(pl.col("session").cast(pl.Date))


def stored(path: str) -> pl.DataFrame:
    """Bars of a parquet file, ordered."""
    bars = pl.read_parquet(path)
    if "date" in bars.columns:
        bars = bars.rename({"date": "session"})
    bars = bars.select("symbol", "session", pl.col(FIELDS).cast(pl.Float64))
    return bars.sort("symbol", "session").rechunk()


def against_peers(title: str, bars: pl.DataFrame, rounds: int, with_ta: bool) -> list[str]:
    """Ratios of processor time, interleaved."""
    ours: dict[str, Contestant] = {
        "quant_assets, one thread": lambda: compute(bars, threads=1),
        "quant_assets": lambda: compute(bars),
    }
    lines = []
    # One peer at a time: polars gives its memory back, and who comes next pays for getting it again
    for name, run in (("TA-Lib, a call per symbol", talib_loop), ("polars expressions", polars_expressions)):
        run(bars)  # page in
        peer: dict[str, Contestant] = {name: lambda run=run: run(bars)}  # type: ignore[misc]
        lines += contest(f"{title}: {bars.height:,} rows x 29 features", ours, peer, rounds=rounds)
    if with_ta:
        with ExitStack() as stack:
            version = stack.enter_context(installed("ta"))
            lines += contest(
                f"{title}: ta {version}", ours, {"ta (pandas)": lambda: ta_pandas(bars)}, rounds=1
            )
    return lines


def cost_per_row(symbols: Sequence[int], rounds: int) -> list[str]:
    """Nanoseconds of processor time per row, for panels of growing size."""
    lines = ["Cost per row, one thread (random walks of 2,520 sessions)"]
    for count in symbols:
        bars = walks(count, SESSIONS)
        compute(bars, threads=1)
        taken = [timed(lambda bars=bars: compute(bars, threads=1))[0] for _ in range(rounds)]  # type: ignore[misc]
        per_row = sorted(seconds / bars.height * 1e9 for seconds in taken)
        lines.append(
            f"  {bars.height:12,} rows  {statistics.median(per_row):6.1f} ns/row"
            f" ({per_row[0]:.1f} to {per_row[-1]:.1f})"
        )
    return lines


def resident(field: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most since the mark was reset (Linux)."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{field}:"))


def measure_memory(symbols: int) -> dict[str, int]:
    """Input, output and growth of resident memory while computing, in bytes. To be run in a fresh process."""
    compute(walks(2, 300))  # imports and machine code are not working memory
    bars = walks(symbols, SESSIONS)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    features = compute(bars)
    return {
        "rows": bars.height,
        "input": int(bars.estimated_size()),
        "output": int(features.estimated_size()),
        "growth": resident("VmHWM") - before,
    }


def memory(symbols: Sequence[int]) -> list[str]:
    """Largest resident memory over input plus output, each in a process of its own."""
    lines = ["Peak memory (input and all that grew while computing) over input plus output"]
    for count in symbols:
        module = "quant_assets_tests.benchmarks.features"
        script = (
            f"import json\nfrom {module} import measure_memory\nprint(json.dumps(measure_memory({count})))"
        )
        run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        found = json.loads(run.stdout)
        peak = found["input"] + found["growth"]
        both = found["input"] + found["output"]
        lines.append(
            f"  {found['rows']:12,} rows  peak {peak / 1e6:8.1f} MB, input {found['input'] / 1e6:.1f},"
            f" output {found['output'] / 1e6:.1f}: {peak / both:.2f} times"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Print ratios, cost per row and memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--parquet", help="bars to measure in addition to random walks")
    parser.add_argument(
        "--with-ta", action="store_true", help="install and run the pandas package `ta` (minutes)"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="*", default=[40, 500, 5000], help="symbols of the cost per row"
    )
    asked = parser.parse_args(arguments)
    show([circumstances("numba", "numpy", "polars", "ta-lib")])
    bars = walks(asked.symbols, asked.sessions)
    show(against_peers("Random walks", bars, asked.rounds, asked.with_ta))
    if asked.parquet:
        show(against_peers(Path(asked.parquet).stem, stored(asked.parquet), asked.rounds, asked.with_ta))
    show(cost_per_row(asked.sizes, asked.rounds))
    show(memory(asked.sizes))


if __name__ == "__main__":
    main()
