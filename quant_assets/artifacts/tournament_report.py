"""The tournament's record as tables and a plot."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from quant_assets.artifacts.contestants import (
    COMPILED,
    DESCRIPTIONS,
    NATIVE,
    NATIVE_ROW,
    ONNX,
    STUDENT,
    STUDENT_INT8,
)

# One colour and mark per runtime, whoever takes part.
_STYLES: Mapping[str, tuple[str, str]] = {
    ONNX: ("#1f5fbf", "o"),
    NATIVE: ("#1d2733", "s"),
    NATIVE_ROW: ("#66758a", "D"),
    COMPILED: ("#1a7f4b", "^"),
    STUDENT: ("#c9a35c", "v"),
    STUDENT_INT8: ("#9a6700", "P"),
}


def latency_table(record: Mapping[str, Any]) -> pl.DataFrame:
    """One row per batch size and runtime: times in microseconds, rows per second, and how it fared."""
    rows = []
    for batch, times in _by_batch(record["latency"]):
        decision = record["decisions"][batch]
        for name, found in _in_order(times):
            won = name == decision["winner"]
            rows.append(
                {
                    "batch": int(batch),
                    "runtime": name,
                    "p50_us": found["p50_us"],
                    "p99_us": found["p99_us"],
                    "rows_per_second": found["rows_per_second"],
                    "calls": found["repetitions"],
                    "outcome": f"winner: {decision['reason']}" if won else decision["others"].get(name, ""),
                }
            )
    schema = {
        "batch": pl.Int64, "runtime": pl.String, "p50_us": pl.Float64, "p99_us": pl.Float64,
        "rows_per_second": pl.Float64, "calls": pl.Int64, "outcome": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def contestant_table(record: Mapping[str, Any]) -> pl.DataFrame:
    """One row per runtime: size, memory, cold start, parity with the native model, or why it is missing."""
    rows = []
    for name, found in _in_order(record["contestants"]):
        parity = record["parity"].get(name, {})
        start = found["cold_start"] or {}
        memory = start.get("memory_bytes")
        present = found["missing"] is None
        rows.append(
            {
                "runtime": name,
                "bytes_on_disk": found["bytes_on_disk"] if present else None,
                "memory_mb": None if memory is None else memory / 1e6,
                "cold_start_s": start.get("total_seconds"),
                "compile_s": found["prepare_seconds"] or None,
                "max_error_over_sd": parity.get("max_error_over_sd"),
                "rank_correlation": parity.get("rank_correlation"),
                "flipped_decisions": parity.get("flipped_decisions"),
                "verdict": _verdict(found),
            }
        )
    schema = {
        "runtime": pl.String, "bytes_on_disk": pl.Int64, "memory_mb": pl.Float64, "cold_start_s": pl.Float64,
        "compile_s": pl.Float64, "max_error_over_sd": pl.Float64, "rank_correlation": pl.Float64,
        "flipped_decisions": pl.Int64, "verdict": pl.String,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def pair_table(record: Mapping[str, Any]) -> pl.DataFrame:
    """One row per two runtimes: how far apart their scores are on the rows of the parity gate."""
    schema = {
        "left": pl.String, "right": pl.String, "rows": pl.Int64, "max_error_over_sd": pl.Float64,
        "rank_correlation": pl.Float64, "flipped_decisions": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(record["pairs"], schema=schema)


def winners(record: Mapping[str, Any]) -> dict[str, str | None]:
    """Batch size to the runtime that serving loads for it."""
    return {batch: decision["winner"] for batch, decision in _by_batch(record["decisions"])}


def summary(record: Mapping[str, Any]) -> str:
    """Who won, why, and why the others did not, in Markdown."""
    lines = []
    for batch, decision in _by_batch(record["decisions"]):
        lines.append(f"- **batch {int(batch):,}: {decision['winner'] or 'none'}** ({decision['reason']})")
        lines += [f"    - {name}: {why}" for name, why in _in_order(decision["others"])]
    int8 = record["int8"]
    if not int8["student"]:
        return "\n".join([*lines, "", f"INT8: {int8['reason']}."])
    own, model = int8["against_fp32_student"], int8["against_ensemble"]
    speeds = "; ".join(
        f"batch {int(batch):,}: {ratio['fp32_student']:.2f} times its FP32, {ratio['ensemble_graph']:.2f} times "
        "the ensemble's graph"
        for batch, ratio in _by_batch(int8["speed_ratio"])
    )
    lines += [
        "",
        f"INT8 student: {int8['size_ratio_fp32_student']:.2f} times smaller than its FP32 form. Speed at {speeds}. "
        f"Against its FP32 form: rank correlation {_number(own['rank_correlation'])}, "
        f"{own['flipped_decisions']} of {own['rows']} decisions differ. Against the ensemble: "
        f"rank correlation {_number(model['rank_correlation'])}, {model['flipped_decisions']} of {model['rows']} "
        f"differ, {int8['flipped_decisions_on_real_rows']} of {int8['real_rows']} on real rows.",
    ]
    return "\n".join(lines)


def latency_plot(record: Mapping[str, Any]) -> str:
    """Median time of a call by batch size, both logarithmic; the winner ringed. A PNG as a ``data:`` address."""
    from quant_assets.common.plotting import INK, figure_png, png_data_uri, themed_figure

    with themed_figure(7.2, 4.0) as (figure, axes):
        for name, (colour, mark) in _STYLES.items():
            times = {int(b): t[name]["p50_us"] for b, t in _by_batch(record["latency"]) if name in t}
            if times:
                out = record["contestants"][name]["disqualified"] is not None
                axes.plot(
                    list(times), list(times.values()), color=colour, marker=mark, markersize=5,
                    linestyle="--" if out else "-", label=f"{name} (disqualified)" if out else name,
                )  # fmt: skip
        for batch, winner in winners(record).items():
            if winner is not None:
                axes.plot(
                    int(batch), record["latency"][batch][winner]["p50_us"], marker="o", markersize=13,
                    color="none", markeredgecolor=INK, markeredgewidth=1.2,
                )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("rows of a call")
        axes.set_ylabel("median time of a call, microseconds")
        axes.set_title("Latency by batch size, one thread (winner ringed)")
        axes.legend()
        return png_data_uri(figure_png(figure))


def _by_batch(entries: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """By number of rows: the store sorts keys as text."""
    return sorted(entries.items(), key=lambda entry: int(entry[0]))


def _in_order(entries: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """By preference."""
    return [(name, entries[name]) for name in DESCRIPTIONS if name in entries]


def _verdict(found: Mapping[str, Any]) -> str:
    if found["missing"] is not None:
        return f"missing: {found['missing']}"
    return f"disqualified: {found['disqualified']}" if found["disqualified"] else "passes parity"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"
