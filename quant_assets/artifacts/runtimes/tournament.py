"""Which runtime serves which batch size: the fastest one measured that decides as the native model does.

What is measured says something about this machine at this hour, so nothing may be derived from it that gates,
bundles or other data depend on.
"""

import importlib.metadata
import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.artifacts.runtimes.contestants import (
    COMPILED,
    DESCRIPTIONS,
    NATIVE,
    NATIVE_ROW,
    ONNX,
    STUDENT,
    STUDENT_INT8,
    Prepared,
    open_contestant,
    prepare,
    takes,
)
from quant_assets.artifacts.runtimes.latency import (
    BATCHES,
    Agreement,
    Latency,
    cold_start,
    compare_runtimes,
    measure,
)
from quant_assets.common.errors import EvidenceError
from quant_assets.gates.limits import GatesConfig
from quant_assets.models.ensemble import Ensemble

# --------------------------------------------------------------------------------------------- the tournament


_LIBRARIES = ("lightgbm", "xgboost", "onnxruntime", "numpy", "treelite", "tl2cgen")


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes
    ----------
    repetitions : mapping of int to int
        Batch size to calls of each contestant. A 99th percentile wants 2,000.
    cold_starts : bool
        Whether each contestant is also loaded in a process of its own, one to three seconds each.
    """

    repetitions: Mapping[int, int] = field(
        default_factory=lambda: dict(zip(BATCHES, (2_000, 200, 15, 5), strict=True))
    )
    cold_starts: bool = True


@dataclass(frozen=True)
class Decision:
    """The outcome at one batch size.

    Attributes
    ----------
    winner : str or None
        None when no runtime was measured that may stand for the model.
    reason : str
    others : mapping of str to str
        Why each of the others is not it.
    """

    winner: str | None
    reason: str
    others: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {"winner": self.winner, "reason": self.reason, "others": dict(self.others)}


def decide(
    p50_us: Mapping[str, float], disqualified: Mapping[str, str], missing: Mapping[str, str]
) -> Decision:
    """Choose the runtime of one batch size from measured tables.

    Parameters
    ----------
    p50_us : mapping of str to float
        Median time of a call, microseconds, in order of preference.
    disqualified : mapping of str to str
        Runtimes that do not pass parity, and why.
    missing : mapping of str to str
        Runtimes that were not measured, and why.

    Returns
    -------
    Decision
        The lowest time among those that pass; of equals the first. A time that is not a positive number is none.
    """
    measured = {name: us for name, us in p50_us.items() if us > 0 and np.isfinite(us)}
    eligible = {name: us for name, us in measured.items() if name not in disqualified}
    winner = min(eligible, key=eligible.__getitem__, default=None)
    others = {name: f"not measured: {why}" for name, why in missing.items()}
    for name in p50_us:
        if name not in measured:
            others[name] = "not measured: no valid time"
        elif name in disqualified:
            faster = winner is not None and measured[name] < measured[winner]
            others[name] = f"disqualified{', though faster' if faster else ''}: {disqualified[name]}"
        elif winner is not None and name != winner:
            ratio = measured[name] / measured[winner]
            others[name] = "as fast, and later in the order of preference" if ratio == 1 else (
                f"{ratio:.2f} times slower ({measured[name]:.1f} us)"
            )  # fmt: skip
    if winner is None:
        return Decision(None, "no runtime was measured that passes parity", others)
    rivals = len(eligible) - 1
    return Decision(
        winner,
        f"fastest of {rivals + 1} that pass parity: {eligible[winner]:.1f} us"
        if rivals
        else f"the only one that passes parity: {eligible[winner]:.1f} us",
        others,
    )


def run_tournament(
    ensemble: Ensemble,
    onnx: bytes,
    int8: Mapping[str, Any] | None,
    *,
    subject: str,
    rows: NDArray[np.float32],
    limits: GatesConfig,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """Compare, measure and decide.

    Parameters
    ----------
    ensemble : Ensemble
        The native model, which is what the others are compared with.
    onnx : bytes
        Its fused graph.
    int8 : mapping or None
        The record of `quant_assets.artifacts.onnx.student.student_record`.
    subject : str
        Data version of the ensemble.
    rows : ndarray of float32, shape (n, f)
        Real rows, finite.
    limits : GatesConfig
        Of the parity gate, which decides who is disqualified.
    plan : Plan, optional

    Returns
    -------
    dict
        The record, plain JSON data: machine, contestants, latency, parity, pairs, decisions, and the INT8
        student's size, speed and loss.

    Raises
    ------
    EvidenceError
        When there are less than two rows, or one of them is not finite.
    """
    plan = plan or Plan()
    if len(rows) < 2 or not np.isfinite(rows).all():
        raise EvidenceError(
            "rows for the tournament",
            expected="at least two real rows, every feature finite",
            found=f"{len(rows)} rows, {int((~np.isfinite(rows)).any(axis=1).sum())} of them not finite",
            action="pass rows of the training set",
        )
    machine = machine_facts()
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(ensemble, onnx, int8, Path(folder))
        present = {name: found for name, found in prepared.items() if found.missing is None}
        opened = {name: open_contestant(name, found.folder) for name, found in present.items()}
        agreement = compare_runtimes(ensemble, opened, rows)
        latency = {
            batch: measure(
                {name: runtime(batch) for name, runtime in opened.items() if takes(name, batch)},
                rows, batch, repetitions,
            )
            for batch, repetitions in plan.repetitions.items()
        }  # fmt: skip
        starts = {
            name: cold_start(name, found.folder, rows[:1]).to_json() if plan.cold_starts else None
            for name, found in present.items()
        }
    disqualified = {
        name: reason
        for name, parity in agreement.native.items()
        if name != NATIVE and (reason := parity.disqualified(limits)) is not None
    }
    missing = {name: found.missing for name, found in prepared.items() if found.missing is not None}
    return {
        "kind": "inference_benchmark",
        "subject": subject,
        "machine": machine,
        "rows": len(rows),
        "contestants": {
            name: _contestant(found, starts.get(name), disqualified.get(name))
            for name, found in prepared.items()
        },
        "latency": {str(b): {n: t.to_json() for n, t in times.items()} for b, times in latency.items()},
        "parity": {name: parity.to_json() for name, parity in agreement.native.items()},
        "pairs": list(agreement.pairs),
        "decisions": {
            str(batch): decide({n: t.p50_us for n, t in times.items()}, disqualified, missing).to_json()
            for batch, times in latency.items()
        },
        "int8": _int8(prepared, latency, agreement),
    }


def _contestant(found: Prepared, start: Mapping[str, Any] | None, disqualified: str | None) -> dict[str, Any]:
    return {
        "description": DESCRIPTIONS[found.name],
        "missing": found.missing,
        "disqualified": disqualified,
        "bytes_on_disk": found.bytes_on_disk,
        "prepare_seconds": found.prepare_seconds,
        "cold_start": None if start is None else dict(start),
    }


def _int8(
    prepared: Mapping[str, Prepared], latency: Mapping[int, Mapping[str, Latency]], agreement: Agreement
) -> dict[str, Any]:
    """What INT8 gains on its own FP32 form and on the ensemble's graph (ratios above 1), and what it loses."""
    if prepared[STUDENT_INT8].missing is not None:
        return {"student": False, "reason": prepared[STUDENT_INT8].missing}

    def pair(left: str, right: str) -> dict[str, Any]:
        found = next(p for p in agreement.pairs if {p["left"], p["right"]} == {left, right})
        return {k: found[k] for k in ("rank_correlation", "flipped_decisions", "rows", "max_error_over_sd")}

    real = agreement.native[STUDENT_INT8].row_sets["real"]
    return {
        "student": True,
        "size_ratio_fp32_student": prepared[STUDENT].bytes_on_disk / prepared[STUDENT_INT8].bytes_on_disk,
        "size_ratio_ensemble_graph": prepared[ONNX].bytes_on_disk / prepared[STUDENT_INT8].bytes_on_disk,
        "speed_ratio": {
            str(batch): {
                "fp32_student": times[STUDENT].p50_us / times[STUDENT_INT8].p50_us,
                "ensemble_graph": times[ONNX].p50_us / times[STUDENT_INT8].p50_us,
            }
            for batch, times in latency.items()
        },
        "against_fp32_student": pair(STUDENT, STUDENT_INT8),
        "against_ensemble": pair(NATIVE, STUDENT_INT8),
        "flipped_decisions_on_real_rows": real.flipped_decisions,
        "real_rows": real.rows,
    }


def machine_facts(libraries: Sequence[str] = _LIBRARIES) -> dict[str, Any]:
    """What the times depend on: processor, cores, load, versions of those libraries that are installed."""
    installed = {}
    for name in libraries:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "not installed"
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "load_1_minute": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": installed,
        "threads": 1,
    }


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    if facts.exists():
        for line in facts.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


# ------------------------------------------------------------------------------------------ tables and a plot


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
    return _readable(pl.DataFrame(rows, schema=schema))


def _readable(measured: pl.DataFrame) -> pl.DataFrame:
    """Times to three significant digits: a measurement of this machine has no more."""
    return measured.with_columns(pl.col(pl.Float64).round_sig_figs(3))


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
    from quant_assets.common.pages import INK, figure_png, png_data_uri, themed_figure

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
