import json

import lightgbm
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quant_assets.artifacts.onnx.export import export_onnx
from quant_assets.artifacts.onnx.parity import parity_report
from quant_assets.artifacts.onnx.scoring import open_session, score
from quant_assets.artifacts.onnx.student import student_record
from quant_assets.common.errors import ArtifactError, EvidenceError
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.gate import gate_names, register, unregister
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.models.ensemble import fit_ensemble
from quant_assets.models.lightgbm_learner import exact_thresholds
from quant_assets_tests.artifacts.conftest import SUBJECT, judge_parity
from quant_assets_tests.gates.extra_gates import GRAPH_ROWS
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

LIMITS = GatesConfig()


def edited(graph, change):
    model = onnx.load_from_string(graph)
    change(model)
    return model.SerializeToString()


def attribute(model, learner, name):
    node = next(
        n for n in model.graph.node if n.op_type == "TreeEnsembleRegressor" and n.name.startswith(learner)
    )
    return next(a for a in node.attribute if a.name == name)


def constant(model, name):
    return next(i for i in model.graph.initializer if i.name == name)


def replaced(model, name, change):
    tensor = constant(model, name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))


def test_the_exported_graph_passes_on_every_kind_of_row(ensemble, graph, training_data):
    verdict, details = judge_parity(ensemble, graph, SUBJECT, training_data.features, LIMITS)
    assert verdict.status == "pass"
    assert (verdict.gate, verdict.subject, verdict.comparison) == ("onnx_parity", SUBJECT, "<=")
    assert verdict.required == LIMITS.parity_max_error_over_sd
    assert verdict.observed < 1e-5
    assert not closed_reasons(SUBJECT, [verdict], ["onnx_parity"])
    splits = sum(tree.n_splits for learner in ensemble.learners for tree in learner.trees())
    assert {name: found["rows"] for name, found in details["row_sets"].items()} == {
        "real": 1200, "on_threshold": 3 * splits, "extreme": 8 * 8 + 8,
    }  # fmt: skip
    assert all(found["flipped_decisions"] == 0 for found in details["row_sets"].values())
    assert details["not_finite_rows"] == {"rows": 24, "answered_with_a_number": 0}
    assert min(details["rank_correlation"].values()) > 0.999999
    json.dumps(details, allow_nan=False)


def thresholds_before_flooring(training_data):
    """Float64 thresholds of the booster that LightGBM grew, before the learner floored them."""
    parameters = {
        "objective": "regression", "learning_rate": 0.05, "num_leaves": 7, "min_data_in_leaf": 20,
        "feature_fraction": 0.6, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 1.0, "seed": 7,
        "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbose": -1,
    }  # fmt: skip
    data = lightgbm.Dataset(training_data.features, training_data.target, params=parameters)
    text = lightgbm.train(parameters, data, 12).model_to_string()
    lines = [line[10:].split() for line in text.split("\n") if line.startswith("threshold=")]
    return np.array([t for line in lines for t in line], dtype=np.float64)


def test_a_converter_that_rounds_thresholds_to_the_nearest_float32_is_caught(ensemble, graph, training_data):
    """The planted bug: what plain conversion of a LightGBM model does."""
    exact = thresholds_before_flooring(training_data)
    nearest = dict(zip(exact_thresholds(exact).tolist(), exact.astype(np.float32).tolist(), strict=True))
    assert any(floored != near for floored, near in nearest.items())

    def round_to_nearest(model):
        values = attribute(model, "lightgbm", "nodes_values").floats
        assert set(nearest) <= set(values)  # the very thresholds of this graph
        values[:] = [nearest.get(value, value) for value in values]

    broken = edited(graph, round_to_nearest)
    verdict, details = judge_parity(ensemble, broken, SUBJECT, training_data.features, LIMITS)
    assert verdict.status == "fail"
    assert "score error" in verdict.reason
    assert details["row_sets"]["on_threshold"]["max_error_over_sd"] > LIMITS.parity_max_error_over_sd
    # 20,000 random rows see nothing: that is why rows on thresholds are part of the gate
    random = np.random.default_rng(0).standard_t(4, (20_000, 8)).astype(np.float32)
    native = ensemble.predict(random)
    error = np.abs(score(open_session(broken), random) - native).max()
    assert error / native.std() < LIMITS.parity_max_error_over_sd


def test_a_converter_that_sends_equal_values_down_the_wrong_branch_is_caught(ensemble, graph, training_data):
    def branch_wrongly(model):
        modes = attribute(model, "xgboost", "nodes_modes").strings
        assert set(modes) == {b"BRANCH_LT", b"LEAF"}
        modes[:] = [b"BRANCH_LEQ" if mode == b"BRANCH_LT" else mode for mode in modes]

    verdict, details = judge_parity(
        ensemble, edited(graph, branch_wrongly), SUBJECT, training_data.features, LIMITS
    )
    assert verdict.status == "fail"
    assert details["row_sets"]["on_threshold"]["max_error_over_sd"] > LIMITS.parity_max_error_over_sd


def test_a_graph_that_answers_zero_to_everything_fails_though_its_absolute_error_is_small(
    ensemble, graph, training_data
):
    def forget(model):
        replaced(model, "stacker/weights", np.zeros_like)
        replaced(model, "stacker/intercept", np.zeros_like)

    verdict, details = judge_parity(ensemble, edited(graph, forget), SUBJECT, training_data.features, LIMITS)
    assert verdict.status == "fail"
    assert details["row_sets"]["real"]["max_error"] < 0.02
    assert details["rank_correlation"]["real"] is None
    assert all(
        word in verdict.reason for word in ("score error", "rank correlation", "decisions that differ")
    )


def test_a_shift_that_leaves_the_ranks_alone_flips_decisions_and_fails(ensemble, graph, training_data):
    # Half of the error limit: only the decisions near zero see it.
    shift = 0.5 * LIMITS.parity_max_error_over_sd * ensemble.predict(training_data.features).std()
    rows = training_data.features
    near_zero = np.sort(np.abs(ensemble.predict(rows)))[0]
    assert near_zero > 0
    strict = GatesConfig(parity_max_error_over_sd=1.0, parity_min_rank_correlation=0.0)
    moved = edited(
        graph, lambda m: replaced(m, "stacker/intercept", lambda v: v + np.float32(2 * near_zero + shift))
    )
    verdict, details = judge_parity(ensemble, moved, SUBJECT, rows, strict)
    assert details["row_sets"]["real"]["flipped_decisions"] > 0
    assert verdict.status == "fail"
    assert verdict.observed >= 1
    assert verdict.required == 0
    assert "decisions that differ" in verdict.reason


def test_a_graph_that_answers_rows_without_all_features_is_caught(ensemble, graph, training_data):
    """Without its guard the graph sends a NaN down a branch, and the two libraries disagree on which."""

    def unguard(model):
        score_node = next(n for n in model.graph.node if n.name == "score")
        score_node.input[1] = "stacker/zero"
        model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, dtype=np.float32), "stacker/zero"))

    verdict, details = judge_parity(ensemble, edited(graph, unguard), SUBJECT, training_data.features, LIMITS)
    assert details["not_finite_rows"]["answered_with_a_number"] > 0
    assert verdict.status == "fail"
    assert "decisions that differ" in verdict.reason


def test_a_graph_that_answers_nothing_is_caught(ensemble, graph, training_data):
    silent = edited(graph, lambda m: replaced(m, "stacker/intercept", lambda v: np.full_like(v, np.nan)))
    verdict, _ = judge_parity(ensemble, silent, SUBJECT, training_data.features, LIMITS)
    assert verdict.status == "fail"
    assert verdict.observed is None
    assert "not a finite number" in verdict.reason


def test_a_model_without_spread_has_nothing_to_measure_an_error_against_and_fails(
    constant_ensemble, training_data
):
    graph = export_onnx(constant_ensemble, subject=SUBJECT)
    verdict, details = judge_parity(constant_ensemble, graph, SUBJECT, training_data.features, LIMITS)
    assert verdict.status == "fail"
    assert details["score_spread"] == 0.0
    json.dumps(details, allow_nan=False)


def test_a_graph_is_only_judged_for_the_subject_the_recipe_and_the_features_it_names(
    ensemble, graph, training_data
):
    rows = training_data.features
    with pytest.raises(EvidenceError, match="subject of the ONNX graph"):
        judge_parity(ensemble, graph, "6" * 64, rows, LIMITS)
    other = fit_ensemble(training_frame(), FEATURES, SMALL_MODELS, seed=7, embargo_sessions=2, recipe="r2")
    with pytest.raises(EvidenceError, match="recipe of the ONNX graph"):
        judge_parity(other, graph, SUBJECT, rows, LIMITS)

    def rename(model):
        fact = next(p for p in model.metadata_props if p.key == "feature_names")
        fact.value = json.dumps(list(FEATURES[::-1]))

    with pytest.raises(EvidenceError, match="feature_names of the ONNX graph"):
        judge_parity(ensemble, edited(graph, rename), SUBJECT, rows, LIMITS)
    anonymous = edited(graph, lambda m: m.metadata_props.pop(0) and m.ClearField("metadata_props"))
    with pytest.raises(EvidenceError, match="found nothing"):
        judge_parity(ensemble, anonymous, SUBJECT, rows, LIMITS)


def test_parity_without_real_rows_is_refused(ensemble, graph, training_data):
    holed = training_data.features.copy()
    holed[3, 3] = np.nan
    for rows, found in ((holed, "1 of them not finite"), (holed[:0], "0 rows"), (holed[:1], "1 rows")):
        with pytest.raises(EvidenceError, match=found):
            judge_parity(ensemble, graph, SUBJECT, rows, LIMITS)


def test_a_graph_that_is_not_safe_is_refused_not_failed(ensemble, training_data):
    with pytest.raises(ArtifactError):
        judge_parity(ensemble, b"\x80\x04N.", SUBJECT, training_data.features, LIMITS)


def test_the_report_holds_exactly_the_two_parity_verdicts_and_survives_storage(
    ensemble, graph, student, training_data
):
    rows = training_data.features
    none = student_record(ensemble.to_json(), rows, subject=SUBJECT, wanted=False, seed=7)
    for record, int8_status in (
        (None, "not_applicable"),
        (none, "not_applicable"),
        (student.to_json(), "pass"),
    ):
        report = parity_report(ensemble, graph, record, subject=SUBJECT, rows=rows, limits=LIMITS)
        assert (report.kind, report.subject) == ("parity", SUBJECT)
        assert tuple(v.gate for v in report.verdicts) == gate_names("parity")
        assert tuple(v.status for v in report.verdicts) == ("pass", int8_status)
        assert report.limits == LIMITS.model_dump(mode="json")
        assert not closed_reasons(SUBJECT, report.verdicts, gate_names("parity"))
        assert GateReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report


def test_a_gate_of_another_package_is_judged_in_the_same_report(ensemble, graph, training_data):
    def report_by(limits):
        return parity_report(
            ensemble, graph, None, subject=SUBJECT, rows=training_data.features, limits=limits
        )

    register(GRAPH_ROWS)
    try:
        report = report_by(GatesConfig())
        assert tuple(v.gate for v in report.verdicts) == ("onnx_parity", "int8_parity", "graph_rows")
        assert report.limits["parity_min_rows"] == 50
        rows = sum(found["rows"] for found in report.details["onnx"]["row_sets"].values())
        assert (report.verdicts[2].status, report.verdicts[2].observed) == ("pass", rows)
        strict = report_by(GatesConfig(parity_min_rows=rows + 1)).verdicts[2]
        assert (strict.status, strict.required) == ("fail", rows + 1)
    finally:
        unregister(GRAPH_ROWS.name)
