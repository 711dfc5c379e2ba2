"""Do the controls hold on other seeds: the planted edge opens every gate, the pure noise never does.

The shipped configurations at their full size; nothing but the market's seed is replaced. Run it from the root:

    python -m quant_assets_tests.benchmarks.control_seeds --seeds 1-10
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from quant_assets.artifacts.onnx.export import export_onnx
from quant_assets.artifacts.onnx.parity import parity_report
from quant_assets.artifacts.onnx.student import student_record
from quant_assets.common.hashing import frame_digest, json_digest
from quant_assets.common.settings import StrategyConfig, SyntheticSource, UniverseConfig
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import DriftConfig, GatesConfig
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.lineage.settings import load_settings
from quant_assets.models.ensemble import Ensemble, fit_ensemble
from quant_assets.monitoring.baseline import fit_baseline
from quant_assets.monitoring.drift_report import judge_drift
from quant_assets.studies.calibration.pipeline import (
    Lineage,
    judge_predictions,
    lineage_of,
    predict_paths,
)

CONTROLS = ("planted_edge", "pure_noise")
MAX_PARITY_ROWS = 100_000


def with_seed(universe: UniverseConfig, seed: int) -> UniverseConfig:
    """The same universe, drawn anew."""
    if not isinstance(universe.source, SyntheticSource):
        raise TypeError(f"{universe.name} is not synthetic: it has no seed")
    return universe.model_copy(update={"source": universe.source.model_copy(update={"seed": seed})})


def judge_all(
    universe: UniverseConfig, strategy: StrategyConfig, limits: GatesConfig, drift: DriftConfig
) -> tuple[Verdict, ...]:
    """Every verdict that promotion asks for, about one candidate."""
    lineage = lineage_of(universe, strategy)
    predictions = predict_paths(lineage.training_set, strategy, n_jobs=None)
    validation = judge_predictions(predictions, lineage.bars, universe, strategy, limits)
    names = feature_names_of(lineage.training_set)
    ensemble = fit_ensemble(
        lineage.training_set.frame,
        names,
        strategy.models,
        seed=strategy.seed,
        embargo_sessions=strategy.validation.embargo_sessions,
        recipe=predictions.metadata["recipe"],
        n_jobs=2,
    )
    parity = judged_parity(ensemble, lineage, strategy, limits)
    drifted = judged_drift(lineage, names, drift, json_digest(ensemble.to_json()))
    return (*validation.verdicts, *parity.verdicts, *drifted.verdicts)


def judged_parity(
    ensemble: Ensemble, lineage: Lineage, strategy: StrategyConfig, limits: GatesConfig
) -> GateReport:
    """The exported graph, and the student where the strategy wants one, against the ensemble."""
    subject = json_digest(ensemble.to_json())
    frame = lineage.training_set.frame
    thinned = frame.select(list(ensemble.feature_names)).gather_every(-(-frame.height // MAX_PARITY_ROWS))
    rows: np.ndarray[tuple[int, int], np.dtype[np.float32]] = thinned.to_numpy()
    student = student_record(
        ensemble.to_json(), rows, subject=subject, wanted=strategy.artifacts.int8_student, seed=strategy.seed
    )
    graph = export_onnx(ensemble, subject=subject, metadata={"strategy": strategy.name})
    return parity_report(ensemble, graph, student, subject=subject, rows=rows, limits=limits)


def judged_drift(lineage: Lineage, names: Sequence[str], drift: DriftConfig, subject: str) -> GateReport:
    """The held-out window against the training window."""
    frame = lineage.training_set.frame
    baseline = fit_baseline(
        frame.select("symbol", "session", *names), names, drift, training_set_version=frame_digest(frame)
    )
    newest = lineage.features.drop_nulls(list(names)).filter(pl.col("session") > frame["session"].max())
    return judge_drift(baseline, newest, subject=subject)


def row_of(strategy: str, seed: int, verdicts: Sequence[Verdict]) -> str:
    """One line: each gate's status and observed value, and whether all of them open."""
    by_gate = {v.gate: v for v in verdicts}
    cells = []
    for gate in gate_names():
        v = by_gate[gate]
        closed = closed_reasons(v.subject, [v], [gate])
        value = "-" if v.observed is None else f"{v.observed:.3g}"
        cells.append(f"{'n/a' if v.status == 'not_applicable' else v.status}{'!' if closed else ''} {value}")
    opened = all("!" not in cell for cell in cells)
    return f"| {strategy} | {seed} | {'open' if opened else 'shut'} | " + " | ".join(cells) + " |"


def main(write: Callable[[str], object] = sys.stdout.write) -> None:
    """Judge both controls on each seed and print a table; an exclamation mark shows what keeps the way shut."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="1-10", help="first-last, or one number")
    parser.add_argument("--strategy", action="append", choices=CONTROLS, help="both when not given")
    asked = parser.parse_args()
    first, _, last = asked.seeds.partition("-")
    settings = load_settings()
    write("| strategy | seed | way | " + " | ".join(gate_names()) + " |\n")
    write("|" + "---|" * (3 + len(gate_names())) + "\n")
    began = time.process_time()
    for name in asked.strategy or CONTROLS:
        strategy = settings.strategies[name]
        limits = settings.gates.for_strategy(strategy.gates)
        for seed in range(int(first), int(last or first) + 1):
            universe = with_seed(settings.universe_of(strategy), seed)
            verdicts = judge_all(universe, strategy, limits, settings.monitoring.drift)
            write(row_of(name, seed, verdicts) + "\n")
            sys.stdout.flush()
    write(f"\n{time.process_time() - began:.0f} s of processor time\n")


if __name__ == "__main__":
    main()
