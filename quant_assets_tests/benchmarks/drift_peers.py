"""The drift report against Evidently's: ``python -m quant_assets_tests.benchmarks.drift_peers [--python PATH]``.

29 AR(1) features of 10 and of 100 symbols, a baseline of 2,400 sessions, the window of 63 after it. Ours reads a
frozen baseline, which is fitted once for each model; Evidently reads the rows of the baseline each time, as it has no
other way. The time of fitting stands beside. Evidently gets an environment of its own, unless ``--python`` names an
interpreter that has it. Target: 70 times.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from quant_assets.gates.limits import DriftConfig
from quant_assets.monitoring.baseline import fit_baseline
from quant_assets.monitoring.drift_report import judge_drift
from quant_assets_tests.benchmarks.contest import circumstances, medians, ratios, show, timed
from quant_assets_tests.benchmarks.validation import environment, run_quietly

FEATURES, BASELINE, WINDOW = 29, 2400, 63

EVIDENTLY = """
import json, sys, time
import pandas as pd
from importlib.metadata import version
from evidently import Report
from evidently.presets import DataDriftPreset
before, now = (pd.read_parquet(file) for file in sys.argv[1:3])
times = []
for _ in range(int(sys.argv[3]) + 1):
    wall, cpu = time.perf_counter(), time.process_time()
    Report([DataDriftPreset()]).run(now, before).dict()
    times.append([time.process_time() - cpu, time.perf_counter() - wall])
print(json.dumps([times[1:], version("evidently")]))
"""


def features(symbols: int) -> tuple[pl.DataFrame, list[str]]:
    """Sessions by symbols, AR(1) of .9, unit variance."""
    rng = np.random.default_rng(1)
    n = BASELINE + WINDOW
    values = rng.standard_normal((n, symbols, FEATURES))
    for t in range(1, n):
        values[t] = 0.9 * values[t - 1] + np.sqrt(1 - 0.81) * values[t]
    names = [f"f{i}" for i in range(FEATURES)]
    days = [date(2010, 1, 4) + timedelta(i) for i in range(n)]
    frame = pl.DataFrame(values.reshape(-1, FEATURES).astype(np.float32), schema=names).with_columns(
        pl.Series("session", np.repeat(np.array(days, dtype="datetime64[D]"), symbols)),
        pl.Series("symbol", [f"S{i:03}" for i in range(symbols)] * n),
    )
    return frame, names


def against(symbols: int, rounds: int, python: str) -> list[str]:
    """One size."""
    frame, names = features(symbols)
    first = frame["session"].unique().sort()[BASELINE]
    before, now = frame.filter(pl.col("session") < first), frame.filter(pl.col("session") >= first)
    drift = DriftConfig()
    fitted = timed(lambda: fit_baseline(before, names, drift, training_set_version="a" * 64))
    baseline = fit_baseline(before, names, drift, training_set_version="a" * 64)
    judge_drift(baseline, now, subject="b" * 64)
    ours = [timed(lambda: judge_drift(baseline, now, subject="b" * 64)) for _ in range(rounds)]
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("before.parquet", "now.parquet")]
        for part, file in zip((before, now), files, strict=True):
            part.select(names).write_parquet(file)
        times, version = json.loads(run_quietly([python, "-c", EVIDENTLY, *files, str(rounds)]))
    peer, theirs = f"Evidently {version}", [(cpu, wall) for cpu, wall in times]
    return [
        f"Drift of {FEATURES} features, {before.height:,} rows before, {now.height:,} now",
        medians("quant_assets, a report", ours),
        medians("quant_assets, fitting the baseline", [fitted]),
        medians(peer, theirs),
        ratios("quant_assets", ours, peer, theirs),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--python", help="an interpreter that has Evidently")
    asked = parser.parse_args(arguments)
    show([circumstances("numpy", "polars", "scipy")])
    with tempfile.TemporaryDirectory() as folder:
        try:
            python = asked.python or environment(Path(folder) / "peers", ["evidently", "pandas<3", "pyarrow"])
        except (OSError, subprocess.CalledProcessError) as error:
            show([f"Evidently could not be installed: {error}"])
            return
        for symbols in (10, 100):
            show(against(symbols, asked.rounds, python))


if __name__ == "__main__":
    main()
