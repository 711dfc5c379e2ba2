"""The runtime tournament on two sizes of ensemble: ``python -m quant_assets_tests.benchmarks.inference``.

The shipped one (80 trees of 15 leaves, 80 of depth 4, ridge) and a larger one (300 trees of 63 leaves, 300 of depth
6), trained on random rows of 29 features with an edge. Runtimes are called in turn on one thread; times are wall
times. At one row the fused graph is to take at most 60 microseconds and an eighth of what the native members take one
after another; at other batch sizes what is chosen is to be the fastest measured of those that pass parity.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from quant_assets.artifacts.onnx.export import export_onnx
from quant_assets.artifacts.onnx.student import student_record
from quant_assets.artifacts.runtimes.contestants import NATIVE, NATIVE_ROW, ONNX
from quant_assets.artifacts.runtimes.tournament import run_tournament, summary
from quant_assets.common.settings import LightGBMConfig, ModelsConfig, XGBoostConfig
from quant_assets.gates.limits import GatesConfig
from quant_assets.models.ensemble import fit_ensemble
from quant_assets_tests.benchmarks.contest import circumstances, show

FEATURES = tuple(f"feature_{n}" for n in range(29))
SYMBOLS = 20
P50_US, TIMES_FASTER = 60.0, 8.0

SIZES: Mapping[str, ModelsConfig] = {
    "shipped": ModelsConfig(),
    "large": ModelsConfig(
        lightgbm=LightGBMConfig(n_estimators=300, num_leaves=63, min_data_in_leaf=20),
        xgboost=XGBoostConfig(n_estimators=300, max_depth=6, min_child_weight=20),
    ),
}


def training_set(rows: int) -> pl.DataFrame:
    """Random features with fat tails, and a forward return that two of them drive."""
    rng = np.random.default_rng(0)
    features = rng.standard_t(4, (rows, len(FEATURES))).astype(np.float32)
    session = np.arange(rows) // SYMBOLS
    t0 = np.datetime64("1990-01-01T21:00", "us") + session * np.timedelta64(1, "D")
    t1 = t0 + np.timedelta64(6, "D")
    return pl.DataFrame(
        {
            "symbol": [f"S{row % SYMBOLS:02d}" for row in range(rows)],
            "session": t0.astype("datetime64[D]"),
            "t0": t0,
            "t1": t1,
            "known_at": t1,
            **{name: features[:, column] for column, name in enumerate(FEATURES)},
            "target": 0.01 * (np.tanh(features[:, 0] * features[:, 1]) + rng.standard_normal(rows)),
        }
    ).with_columns(pl.col("t0", "t1", "known_at").dt.replace_time_zone("UTC"))


def tournament(models: ModelsConfig, rows: int) -> dict[str, Any]:
    """Fit, export, distil, and measure."""
    frame = training_set(rows)
    ensemble = fit_ensemble(frame, FEATURES, models, seed=7, embargo_sessions=2, recipe="benchmark", n_jobs=2)
    matrix = frame.select(FEATURES).to_numpy()
    student = student_record(ensemble.to_json(), matrix, subject="benchmark", wanted=True, seed=7)
    graph = export_onnx(ensemble, subject="benchmark")
    return run_tournament(ensemble, graph, student, subject="benchmark", rows=matrix, limits=GatesConfig())


def lines(title: str, record: Mapping[str, Any]) -> list[str]:
    """The times, what is promised of them, and the outcome."""
    found = [title]
    for batch, times in record["latency"].items():
        for name, taken in times.items():
            found.append(
                f"  batch {int(batch):7,}  {name:18} p50 {taken['p50_us']:12,.1f} us  p99 {taken['p99_us']:12,.1f} us"
                f"  {taken['rows_per_second']:12,.0f} rows/s"
            )
    single = {name: taken["p50_us"] for name, taken in record["latency"]["1"].items()}
    found.append(
        f"  one row, fused graph: {single[ONNX]:.1f} us, {kept(single[ONNX] <= P50_US)} ({P50_US:.0f})"
    )
    for name in (NATIVE, NATIVE_ROW):
        ratio = single[name] / single[ONNX]
        found.append(
            f"  ratio {ratio:8.1f}: {name} / {ONNX}, {kept(ratio >= TIMES_FASTER)} ({TIMES_FASTER:.0f})"
        )
    for batch, decision in record["decisions"].items():
        passing = sorted(
            (taken["p50_us"], name)
            for name, taken in record["latency"][batch].items()
            if record["contestants"][name]["disqualified"] is None
        )
        (best, fastest), (next_best, runner_up) = passing[:2]
        found.append(
            f"  batch {int(batch):7,}: chosen {decision['winner']}, {kept(decision['winner'] == fastest)};"
            f" next {runner_up}, {next_best / best:.2f} times slower"
        )
    for name, facts in record["contestants"].items():
        start = facts["cold_start"]
        if start is not None:
            found.append(
                f"  {name:18} {facts['bytes_on_disk']:10,} bytes, {start['memory_bytes'] / 1e6:6.1f} MB,"
                f" cold start {start['total_seconds']:.2f} s, compiled in {facts['prepare_seconds']:.1f} s"
            )
    return [*found, *summary(record).splitlines()]


def kept(promise: bool) -> str:
    """Whether a promise was kept."""
    return "kept" if promise else "NOT KEPT"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tournament of each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="of the training set")
    parser.add_argument("--sizes", nargs="*", choices=list(SIZES), default=list(SIZES))
    asked = parser.parse_args(arguments)
    show([circumstances("onnxruntime", "lightgbm", "xgboost", "numpy")])
    for size in asked.sizes:
        show(lines(f"Inference, {size} ensemble", tournament(SIZES[size], asked.rows)))


if __name__ == "__main__":
    main()
