"""Decisions of exported graphs against the native models, on real rows and on every split threshold.

``python -m quant_assets_tests.benchmarks.parity_rows BARS.parquet`` reads daily bars (``symbol``, ``session`` or
``date``, ``open, high, low, close, volume``), computes the pack technical_v1 and the label of the shipped
configuration, fits that configuration as LightGBM alone, XGBoost alone and the stack of both, exports each to ONNX
and counts the decisions that differ. ``strict`` counts every row on different sides of zero or of the median;
``flips`` is what the parity gate counts, which leaves out rows closer to the cutoff than float32 resolves.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.artifacts.onnx.export import export_onnx
from quant_assets.artifacts.onnx.parity import Decisions, on_threshold_rows
from quant_assets.artifacts.onnx.scoring import open_session, score
from quant_assets.common.settings import LabelConfig, LightGBMConfig, ModelsConfig, XGBoostConfig
from quant_assets.datasets.labels import forward_return_labels
from quant_assets.datasets.training_set import assemble_training_set, feature_names_of
from quant_assets.features import compute, packs
from quant_assets.market.calendar import session_times
from quant_assets.models.ensemble import Ensemble, fit_ensemble
from quant_assets_tests.benchmarks.contest import circumstances, show

PACK = "technical_v1"
EMBARGO_SESSIONS = 5
SHIPPED = {
    "return": ModelsConfig(),
    # The shipped numbers with the objectives of a direction. A row's second derivative is a quarter at most,
    # so a quarter of the sum asks for the same number of rows in a leaf.
    "direction": ModelsConfig(
        lightgbm=LightGBMConfig(objective="binary"),
        xgboost=XGBoostConfig(objective="binary:logistic", min_child_weight=50.0),
    ),
}


def training_rows(bars: pl.DataFrame, calendar: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The training set of these bars, nothing held out, and the names of its features."""
    first, last = bars["session"].min(), bars["session"].max()
    times = session_times(calendar, first, last)  # type: ignore[arg-type]
    labels = forward_return_labels(bars, times, horizon_sessions=LabelConfig().horizon_sessions)
    table = assemble_training_set(
        compute(bars, PACK, threads=2),
        labels,
        packs()[PACK].names,
        known_by=labels["known_at"].max(),  # type: ignore[arg-type]
        manifest={},
    )
    return table.frame, feature_names_of(table)


def thinned(rows: NDArray[np.float32], number: int) -> NDArray[np.float32]:
    """That many rows, evenly spaced; all of them when there are fewer."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(number, len(rows))).astype(np.int64))]


def compared(name: str, ensemble: Ensemble, rows: NDArray[np.float32]) -> Iterator[str]:
    """A line of the table for each set of rows."""
    session = open_session(export_onnx(ensemble, subject="benchmark"))
    trees = chain.from_iterable(learner.trees() for learner in ensemble.learners)
    probes = np.concatenate(list(on_threshold_rows(trees, rows)))
    decisions = Decisions.of(ensemble, rows, ensemble.predict(rows))
    for label, matrix in (("real", rows), ("on threshold", probes)):
        native, graph = ensemble.predict(matrix), score(session, matrix)
        found = decisions.compare(native, graph)
        strict = replace(decisions, resolution=0.0).compare(native, graph)
        yield (
            f"  {name:9} {label:12} {found.rows:8,} {found.flipped_decisions:6} {strict.flipped_decisions:7} "
            f"{found.undecided_rows:10} {found.max_error_over_sd:14.2e}"
        )


def main() -> None:
    """Fit, export, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bars", type=Path, help="parquet file of daily bars")
    parser.add_argument("--calendar", default="XNYS")
    parser.add_argument("--rows", type=int, default=100_000, help="real rows, evenly thinned")
    parser.add_argument("--kind", choices=sorted(SHIPPED), default="return", help="what is learnt")
    asked = parser.parse_args()
    bars = pl.read_parquet(asked.bars)
    if "date" in bars.columns:
        bars = bars.rename({"date": "session"})
    bars = bars.with_columns(
        pl.col("session").cast(pl.Date), pl.col("open", "high", "low", "close", "volume").cast(pl.Float64)
    )
    frame, names = training_rows(bars, asked.calendar)
    rows = thinned(np.ascontiguousarray(frame.select(names).to_numpy()), asked.rows)
    show(
        [
            circumstances("lightgbm", "xgboost", "onnxmltools", "onnxruntime"),
            f"{bars['symbol'].n_unique()} symbols, {frame.height:,} training rows, {len(names)} features, "
            f"label.kind: {asked.kind}",
            "  model     rows              n  flips  strict  undecided  max error / sd",
        ]
    )
    shipped = SHIPPED[asked.kind]
    contestants = {
        "lightgbm": shipped.model_copy(update={"xgboost": None}),
        "xgboost": shipped.model_copy(update={"lightgbm": None}),
        "stack": shipped,
    }
    for name, models in contestants.items():
        began = time.process_time()
        ensemble = fit_ensemble(
            frame, names, models, seed=7, embargo_sessions=EMBARGO_SESSIONS, recipe="benchmark", n_jobs=2
        )
        spent = time.process_time() - began
        show([*compared(name, ensemble, rows), f"  {name:9} fitted in {spent:.0f} s of processor time"])


if __name__ == "__main__":
    main()
