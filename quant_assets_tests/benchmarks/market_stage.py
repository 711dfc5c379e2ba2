"""The market stage on three million rows: processor seconds of all threads, and peak memory. From the root:

    python -m quant_assets_tests.benchmarks.market_stage                  # Parquet, 1,200 names of 2,500 sessions
    python -m quant_assets_tests.benchmarks.market_stage --format csv

The bars are synthetic and good; with ``--broken N`` so many rows are not, to see what looking at them costs. Every
asset is made by the function of its stage, from versions held in this process. The peak is the process's, the bars'
own making not in it: they are written by a process that has ended.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from quant_assets.common.settings import SyntheticSource, UniverseConfig
from quant_assets.lineage.artifact import Held, Partitions
from quant_assets.lineage.scope import NoHistory
from quant_assets.lineage.stages.bar_stages import (
    bar_rule_findings,
    bars,
    corporate_actions,
    quarantined_bars,
    raw_bars,
    raw_rule_findings,
)
from quant_assets.market.synthetic import generate
from quant_assets_tests.benchmarks.contest import show

FIRST = date(2012, 1, 3)


def write_bars(file: Path, n_symbols: int, n_sessions: int, broken: int) -> None:
    """Synthetic bars in a file, shuffled as no feed is: sorted by session, then by symbol."""
    years = n_sessions / 252
    last = date(FIRST.year + int(years), 12, 31)
    source = SyntheticSource(kind="synthetic", seed=1, n_symbols=n_symbols)
    feed = generate(source, "XNYS", FIRST, last)
    kept = feed["session"].unique().sort().head(n_sessions)
    feed = feed.filter(pl.col("session").is_in(kept.implode())).sort("session", "symbol")
    at = pl.int_range(pl.len()) % (feed.height // broken) == 7 if broken else pl.lit(value=False)
    feed = feed.with_columns(close=pl.when(at).then(-1.0).otherwise("close"))
    if file.suffix == ".csv":
        feed.write_csv(file)
    else:
        feed.write_parquet(file)


def spent() -> tuple[float, float]:
    """Processor seconds of all threads so far, and the peak of resident memory in GB."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def main(arguments: list[str] | None = None) -> None:
    """Print one line for each asset and the sum, then the checks of both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=1200)
    parser.add_argument("--sessions", type=int, default=2500)
    parser.add_argument("--broken", type=int, default=0)
    parser.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    told = parser.parse_args(arguments)
    if told.write is not None:
        write_bars(told.write, told.symbols, told.sessions, told.broken)
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"bars.{told.format}"
        given = [f"--{name}={getattr(told, name)}" for name in ("symbols", "sessions", "broken", "format")]
        subprocess.run([sys.executable, "-m", __spec__.name, *given, f"--write={file}"], check=True)
        measure(file)


def measure(file: Path) -> None:
    """Make the four assets of a file of bars."""
    universe = UniverseConfig.model_validate(
        {
            "name": "bench",
            "source": {"kind": file.suffix.removeprefix("."), "path": str(file)},
            "start": FIRST,
            "end": date(2022, 12, 31),
        }
    )
    before, held = spent()
    show([f"{'':24}  cpu s  wall s  peak GB (at the start {held:.2f})"])

    def step(name: str, make: Callable[[], Any]) -> Any:
        (cpu, _), wall = spent(), time.perf_counter()
        made = make()
        show([f"{name:24} {spent()[0] - cpu:6.1f}  {time.perf_counter() - wall:6.1f}  {spent()[1]:7.2f}"])
        return made

    def of_years() -> Partitions:
        tables = {
            year: raw_bars(universe=universe, partition=year, history=NoHistory()).value
            for year in universe.years
        }
        return Partitions({year: Held("raw_bars", table) for year, table in tables.items()})

    panel = step("raw_bars", of_years)
    known = step("corporate_actions", lambda: corporate_actions(panel, actions=universe.actions))
    actions = Held("corporate_actions", known.value)
    aside = step("quarantined_bars", lambda: quarantined_bars(panel, actions, universe=universe))
    left_out = Held("quarantined_bars", aside.value)
    kept = step("bars", lambda: bars(panel, actions, left_out, calendar=universe.calendar, multipliers={}))
    n_rows = sum(part.table().frame.height for part in panel)
    show([f"{n_rows:,} rows: {spent()[0] - before:.1f} cpu s, peak {spent()[1]:.2f} GB"])
    step("its checks: raw rows", lambda: list(raw_rule_findings(panel, actions, universe=universe)))
    adjusted = Held("bars", kept.value)
    step(
        "its checks: the panel",
        lambda: list(bar_rule_findings(adjusted, actions, left_out, universe=universe)),
    )


if __name__ == "__main__":
    main()
