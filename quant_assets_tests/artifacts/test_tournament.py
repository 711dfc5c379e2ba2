import importlib.metadata
import importlib.util
import json
import math

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import numpy_helper

from quant_assets.artifacts.onnx.scoring import Scorer, open_session, score
from quant_assets.artifacts.onnx.student import student_record
from quant_assets.artifacts.runtimes.contestants import (
    DESCRIPTIONS,
    open_contestant,
    prepare,
    single_row_scorer,
)
from quant_assets.artifacts.runtimes.latency import compare_runtimes, measure
from quant_assets.artifacts.runtimes.tournament import (
    Plan,
    contestant_table,
    decide,
    latency_plot,
    latency_table,
    pair_table,
    run_tournament,
    summary,
    winners,
)
from quant_assets.common.errors import ArtifactError, EvidenceError
from quant_assets.gates.limits import GatesConfig
from quant_assets_tests.artifacts.conftest import SUBJECT

LIMITS = GatesConfig()
QUICK = Plan({1: 60, 32: 10, 1_000: 3}, cold_starts=False)


def test_the_fastest_that_passes_wins_and_the_others_are_told_why():
    decision = decide(
        {"onnx": 5.0, "native": 170.0, "student": 2.0}, {"student": "flips 9"}, {"tl2cgen": "no gcc"}
    )
    assert decision.winner == "onnx"
    assert decision.reason == "fastest of 2 that pass parity: 5.0 us"
    assert decision.others == {
        "tl2cgen": "not measured: no gcc",
        "native": "34.00 times slower (170.0 us)",
        "student": "disqualified, though faster: flips 9",
    }


def test_of_equally_fast_runtimes_the_first_in_order_of_preference_wins():
    assert decide({"onnx": 7.0, "native": 7.0}, {}, {}).winner == "onnx"
    tied = decide({"native": 7.0, "onnx": 7.0}, {}, {})
    assert tied.winner == "native"
    assert tied.others == {"onnx": "as fast, and later in the order of preference"}


def test_a_disqualified_runtime_that_is_slower_too_is_only_disqualified():
    decision = decide({"onnx": 5.0, "student": 8.0}, {"student": "flips 9"}, {})
    assert decision.others == {"student": "disqualified: flips 9"}
    assert decision.reason == "the only one that passes parity: 5.0 us"


@pytest.mark.parametrize("invalid", [math.nan, math.inf, 0.0, -1.0])
def test_a_time_that_is_not_a_positive_number_never_wins(invalid):
    decision = decide({"broken": invalid, "native": 9.0}, {}, {})
    assert decision.winner == "native"
    assert decision.others == {"broken": "not measured: no valid time"}


def test_nobody_wins_when_nobody_passes():
    decision = decide({"onnx": 5.0}, {"onnx": "flips 1"}, {"native": "absent"})
    assert decision.winner is None
    assert decision.reason == "no runtime was measured that passes parity"
    assert decision.others == {"native": "not measured: absent", "onnx": "disqualified: flips 1"}


@pytest.fixture(scope="module")
def record(ensemble, graph, student, training_data):
    return run_tournament(
        ensemble, graph, student.to_json(), subject=SUBJECT, rows=training_data.features, limits=LIMITS,
        plan=Plan(QUICK.repetitions, cold_starts=True),
    )  # fmt: skip


def test_a_real_tournament_leaves_a_complete_record(record):
    json.dumps(record, allow_nan=False)
    assert list(record["contestants"]) == list(DESCRIPTIONS)
    present = {name for name, found in record["contestants"].items() if found["missing"] is None}
    installed = all(importlib.util.find_spec(name) for name in ("treelite", "tl2cgen"))
    assert present == set(DESCRIPTIONS) - (set() if installed else {"compiled"})
    assert set(record["latency"]) == set(record["decisions"]) == {"1", "32", "1000"}
    assert set(record["latency"]["1"]) == present
    assert set(record["latency"]["32"]) == present - {"native_single_row"}
    for batch, times in record["latency"].items():
        for found in times.values():
            assert 0 < found["p50_us"] <= found["p99_us"]
            assert found["repetitions"] == QUICK.repetitions[int(batch)]
            assert found["rows_per_second"] == pytest.approx(int(batch) / found["p50_us"] * 1e6)
    for name in present:
        start = record["contestants"][name]["cold_start"]
        assert start["total_seconds"] == start["load_seconds"] + start["first_prediction_seconds"] > 0
        assert start["memory_bytes"] > 1_000_000  # a library and a model are more than a page or two
    assert {"processor", "cores", "load_1_minute", "python"} <= set(record["machine"])
    assert record["machine"]["libraries"]["onnxruntime"] == importlib.metadata.version("onnxruntime")


def test_the_winner_is_the_fastest_of_the_recorded_times_that_pass(record):
    for batch, decision in record["decisions"].items():
        eligible = {
            name: times["p50_us"]
            for name, times in record["latency"][batch].items()
            if record["contestants"][name]["disqualified"] is None
        }
        assert decision["winner"] == min(eligible, key=eligible.__getitem__)
        assert set(decision["others"]) == set(DESCRIPTIONS) - {decision["winner"]} - (
            {"native_single_row"} if batch != "1" else set()
        )


def test_every_runtime_of_the_model_passes_on_every_kind_of_row(record):
    for name in ("onnx_fp32", "native", "native_single_row"):
        found = record["parity"][name]
        assert record["contestants"][name]["disqualified"] is None
        assert found["flipped_decisions"] == found["not_finite_answered"] == 0
        assert found["max_error_over_sd"] < 1e-5
    assert set(record["parity"]["onnx_fp32"]["row_sets"]) == {
        "one_at_a_time",
        "real",
        "on_threshold",
        "extreme",
    }
    assert record["parity"]["onnx_fp32"]["row_sets"]["real"]["rows"] == 1200


def test_the_student_is_disqualified_and_its_loss_is_told(record, student, ensemble, training_data):
    assert record["contestants"]["student_int8"]["disqualified"] is not None
    assert "student_int8" not in winners(record).values()
    int8 = record["int8"]
    assert int8["size_ratio_fp32_student"] == len(student.fp32) / len(student.int8)
    assert set(int8["speed_ratio"]) == {"1", "32", "1000"}
    times = record["latency"]["32"]
    assert int8["speed_ratio"]["32"]["fp32_student"] == (
        times["student_fp32"]["p50_us"] / times["student_int8"]["p50_us"]
    )
    scores = score(open_session(student.int8), training_data.features)
    native = ensemble.predict(training_data.features)
    median = np.median(native)
    different = ((native > 0) != (scores > 0)) | ((native > median) != (scores > median))
    assert int8["flipped_decisions_on_real_rows"] == pytest.approx(int(different.sum()), abs=2)
    assert int8["against_ensemble"]["flipped_decisions"] > 0
    assert 0.9 < int8["against_fp32_student"]["rank_correlation"] < 1


def test_a_graph_that_is_fast_and_wrong_never_wins(ensemble, graph, training_data):
    """A tenth of a spread on the intercept: ranks and speed are untouched, decisions at zero are not."""
    model = onnx.load_from_string(graph)
    tensor = next(i for i in model.graph.initializer if i.name == "stacker/intercept")
    moved = numpy_helper.to_array(tensor) + np.float32(0.1 * ensemble.predict(training_data.features).std())
    tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    record = run_tournament(
        ensemble, model.SerializeToString(), None, subject=SUBJECT, rows=training_data.features, limits=LIMITS,
        plan=QUICK,
    )  # fmt: skip
    assert record["latency"]["1"]["onnx_fp32"]["p50_us"] < record["latency"]["1"]["native"]["p50_us"]
    assert "onnx_fp32" not in winners(record).values()
    assert None not in winners(record).values()
    assert record["decisions"]["1"]["others"]["onnx_fp32"].startswith(
        "disqualified, though faster: largest error 0.1 spreads"
    )
    assert "flipped decisions" in record["contestants"]["onnx_fp32"]["disqualified"]


def test_a_runtime_that_answers_rows_that_are_not_finite_is_disqualified(ensemble, training_data):
    def careless(batch):
        return lambda rows: ensemble.stacker.combine(ensemble.base_predictions(rows))

    parity = compare_runtimes(ensemble, {"careless": careless}, training_data.features).native["careless"]
    assert parity.max_error_over_sd < 1e-6
    assert parity.not_finite_answered == 3 * 8
    assert parity.disqualified(LIMITS) == "24 flipped decisions, at most 0"


def test_a_runtime_that_is_wrong_for_single_rows_only_is_disqualified(ensemble, training_data):
    def batch_only(batch):
        return (lambda rows: -ensemble.predict(rows)) if batch == 1 else ensemble.predict

    parity = compare_runtimes(ensemble, {"batch_only": batch_only}, training_data.features).native[
        "batch_only"
    ]
    assert parity.row_sets["real"].flipped_decisions == 0
    assert parity.disqualified(LIMITS) is not None


def test_without_a_student_there_is_a_reason(ensemble, graph, training_data):
    none = student_record(ensemble.to_json(), training_data.features, subject=SUBJECT, wanted=False, seed=7)
    record = run_tournament(
        ensemble, graph, none, subject=SUBJECT, rows=training_data.features, limits=LIMITS,
        plan=Plan({1: 10}, cold_starts=False),
    )  # fmt: skip
    assert record["int8"]["student"] is False
    assert "leaves a tree ensemble as it is" in record["contestants"]["student_int8"]["missing"]
    assert record["decisions"]["1"]["others"]["student_int8"].startswith("not measured: ")
    assert "INT8: the graph is made of trees" in summary(record)


def test_rows_that_are_not_finite_are_refused(ensemble, graph, training_data):
    rows = training_data.features.copy()
    rows[3, 2] = np.nan
    with pytest.raises(EvidenceError, match="1 of them not finite"):
        run_tournament(ensemble, graph, None, subject=SUBJECT, rows=rows, limits=LIMITS, plan=QUICK)


def test_a_scorer_gives_the_bits_of_the_session_and_keeps_none_of_them(graph, training_data):
    session, rows = open_session(graph), training_data.features
    for batch in (1, 32, 1200):
        scorer = Scorer(session, batch)
        first = scorer(rows[:batch])
        assert first.tobytes() == session.run(["score"], {"features": rows[:batch]})[0].tobytes()
        before = first.copy()
        scorer(rows[-batch:] + 1)
        assert first.tobytes() == before.tobytes()
    assert np.isnan(Scorer(session, 1)(np.full((1, 8), np.nan, dtype=np.float32))).all()


def test_a_scorer_refuses_another_shape_and_another_type(graph):
    scorer = Scorer(open_session(graph), 2)
    for wrong in (np.zeros((1, 8), np.float32), np.zeros((2, 8), np.float64), np.zeros((2, 7), np.float32)):
        with pytest.raises(ArtifactError, match=r"float32 of shape \(2, 8\)"):
            scorer(wrong)
    with pytest.raises(ArtifactError, match="at least one row"):
        Scorer(open_session(graph), 0)


def test_single_rows_through_the_fast_paths_have_the_bits_of_the_ensemble(ensemble, training_data):
    fast = single_row_scorer(ensemble)
    rows = training_data.features[:50]
    one_by_one = np.concatenate([fast(rows[k : k + 1]) for k in range(len(rows))])
    assert one_by_one.tobytes() == ensemble.predict(rows).tobytes()


def test_measuring_calls_every_contestant_equally_often_with_matrices_of_the_batch():
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    shapes = {"a": [], "b": []}
    scorers = {
        name: lambda x, seen=seen: seen.append((x.shape, x.flags.c_contiguous))
        for name, seen in shapes.items()
    }
    found = measure(scorers, rows, 4, 5)
    assert {name: latency.repetitions for name, latency in found.items()} == {"a": 5, "b": 5}
    assert shapes["a"] == shapes["b"] == [((4, 2), True)] * 6  # once to warm up


def test_an_unknown_runtime_is_refused_by_name(tmp_path):
    with pytest.raises(ArtifactError, match="runtime 'gpu'"):
        open_contestant("gpu", tmp_path)


@pytest.mark.parametrize("name", ["onnx_fp32", "native", "student_fp32", "student_int8"])
def test_a_runtime_is_opened_from_its_files_alone(name, ensemble, graph, student, training_data, tmp_path):
    prepared = prepare(ensemble, graph, student.to_json(), tmp_path)[name]
    assert prepared.bytes_on_disk == sum((prepared.folder / f).stat().st_size for f in prepared.files) > 0
    expected = {
        "onnx_fp32": lambda x: score(open_session(graph), x),
        "native": ensemble.predict,
        "student_fp32": lambda x: score(open_session(student.fp32), x),
        "student_int8": lambda x: score(open_session(student.int8), x),
    }[name]
    rows = training_data.features[:40]
    assert open_contestant(name, prepared.folder)(40)(rows).tobytes() == expected(rows).tobytes()


def test_the_tables_of_a_record_that_was_stored_are_in_the_order_of_batches_and_preference(record):
    stored = json.loads(json.dumps(record, sort_keys=True))  # the store sorts keys: "1", "1000", "32"
    assert latency_table(stored).equals(latency_table(record))
    assert latency_table(stored)["batch"].unique(maintain_order=True).to_list() == [1, 32, 1_000]
    assert contestant_table(stored).equals(contestant_table(record))
    assert list(winners(stored)) == ["1", "32", "1000"]
    assert summary(stored) == summary(record)


def test_the_tables_and_the_plot_show_everybody(record):
    latency, contestants = latency_table(record), contestant_table(record)
    for value in latency["p50_us"]:
        assert value == float(f"{value:.3g}")  # a measurement of this machine has no more digits
    assert latency.height == sum(len(times) for times in record["latency"].values())
    assert latency.filter(pl.col("outcome").str.starts_with("winner")).height == 3
    assert latency["outcome"].str.len_chars().min() > 0
    assert contestants["runtime"].to_list() == list(DESCRIPTIONS)
    present = (
        sum(found["missing"] is None for found in record["contestants"].values()) - 1
    )  # not the single-row one
    assert pair_table(record).height == present * (present - 1) // 2
    assert latency_plot(record).startswith("data:image/png;base64,")
    text = summary(record)
    assert all(f"batch {batch}" in text for batch in ("1:", "32:", "1,000:"))
    assert "times smaller than its FP32 form" in text
