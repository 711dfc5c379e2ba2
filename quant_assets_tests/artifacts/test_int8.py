import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from quant_assets.artifacts.onnx.scoring import metadata_of, open_session, score
from quant_assets.artifacts.onnx.student import (
    Student,
    distil,
    make_student,
    quantise,
    spaced,
    student_record,
)
from quant_assets.common.errors import ArtifactError, EvidenceError
from quant_assets.common.hashing import bytes_digest, canonical_json
from quant_assets.gates.limits import GatesConfig
from quant_assets_tests.artifacts.conftest import SUBJECT, int8_verdict

LIMITS = GatesConfig()


def test_int8_does_not_apply_to_a_graph_of_trees_and_says_why(ensemble, training_data):
    verdict, details = int8_verdict(ensemble, None, SUBJECT, training_data.features, LIMITS)
    assert (verdict.gate, verdict.status, verdict.observed) == ("int8_parity", "not_applicable", None)
    assert "onnxruntime#11436" in verdict.reason
    assert "int8_student" in verdict.remedy
    assert details == {"student": False}
    record = student_record(None, training_data.features, subject=SUBJECT, wanted=False, seed=7)
    assert Student.from_record(record) is None
    assert record["reason"] == verdict.reason


def test_a_student_is_judged_against_its_own_fp32_form_and_its_loss_against_the_ensemble_is_told(
    ensemble, student, training_data
):
    rows = training_data.features
    verdict, details = int8_verdict(ensemble, student, SUBJECT, rows, LIMITS)
    assert verdict.status == "pass"
    assert verdict.required == LIMITS.int8_min_rank_correlation
    assert verdict.observed == details["rank_correlation_int8_fp32"]
    assert details["rank_correlation_fp32_ensemble"] < details["rank_correlation_int8_fp32"]
    assert details["size_ratio_fp32_over_int8"] == pytest.approx(len(student.fp32) / len(student.int8))
    assert details["size_ratio_fp32_over_int8"] > 2
    json.dumps(details, allow_nan=False)


def test_the_student_has_learned_from_the_ensemble_in_its_units(ensemble, student, training_data):
    teacher = ensemble.predict(training_data.features)
    scores = score(open_session(student.fp32), training_data.features)
    assert np.corrcoef(teacher, scores)[0, 1] > 0.8
    assert scores.mean() == pytest.approx(teacher.mean(), abs=0.2 * teacher.std())


def test_hidden_layers_are_eight_bits_wide_and_nothing_else_is(student):
    nodes = onnx.load_from_string(student.int8).graph.node
    weights = {i.name: i for i in onnx.load_from_string(student.int8).graph.initializer}
    quantised = [w for w in weights.values() if w.data_type == onnx.TensorProto.INT8 and len(w.dims) == 2]
    assert sorted(tuple(w.dims) for w in quantised) == [(8, 128), (128, 64)]
    floats = [
        tuple(w.dims) for w in weights.values() if w.data_type == onnx.TensorProto.FLOAT and len(w.dims) == 2
    ]
    assert (64, 1) in floats
    assert {n.domain for n in nodes} == {""}
    assert not {"DynamicQuantizeLinear", "MatMulInteger"} & {n.op_type for n in nodes}


def test_a_students_score_does_not_depend_on_the_rows_beside_it(student, training_data):
    """What dynamic quantisation would break: its ranges come from the batch."""
    session = open_session(student.int8)
    rows = training_data.features[:40].copy()
    rows[0] *= 1000
    whole = score(session, rows)
    alone = np.concatenate([score(session, rows[n : n + 1]) for n in range(40)])
    assert whole == pytest.approx(alone, abs=1e-6 * float(whole.std()))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_student_has_no_score_for_a_row_without_all_of_its_features(student, training_data, precision):
    session = open_session(getattr(student, precision))
    for value in (np.nan, np.inf, -np.inf):
        rows = training_data.features[:5].copy()
        rows[2, 3] = value
        assert np.isnan(score(session, rows)).tolist() == [n == 2 for n in range(5)]


def test_inputs_beyond_the_training_range_are_clipped_inside_the_graph(student, training_data):
    session = open_session(student.fp32)
    rows = np.repeat(training_data.features[:1], 2, axis=0)
    rows[:, 0] = 1e6, 1e30
    far, farther = score(session, rows)
    assert far == farther


def test_the_same_input_gives_the_same_bytes_here_and_in_another_process(
    ensemble, student, training_data, tmp_path
):
    assert make_student(ensemble, training_data.features, subject=SUBJECT, seed=7) == student
    assert make_student(ensemble, training_data.features, subject=SUBJECT, seed=8).fp32 != student.fp32
    (tmp_path / "ensemble.json").write_bytes(canonical_json(ensemble.to_json()))
    np.save(tmp_path / "rows.npy", np.asfortranarray(training_data.features))
    code = (
        "import json, pathlib, numpy\n"
        "from quant_assets.artifacts.onnx.student import student_record\n"
        "from quant_assets.common.hashing import json_digest\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "ensemble = json.loads((folder / 'ensemble.json').read_text())\n"
        f"print(json_digest(student_record(ensemble, numpy.load(folder / 'rows.npy'), subject={SUBJECT!r},"
        " wanted=True, seed=7)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip().splitlines()[-1] == bytes_digest(canonical_json(student.to_json()))


def test_a_student_that_quantisation_has_ruined_fails(ensemble, student, training_data):
    # Calibrated on one constant row, every activation range collapses.
    constant = np.repeat(training_data.features[:1], 50, axis=0)
    ruined = replace(student, int8=quantise(student.fp32, constant))
    verdict, _ = int8_verdict(ensemble, ruined, SUBJECT, training_data.features, LIMITS)
    assert verdict.status == "fail"
    assert verdict.observed is None or verdict.observed < 0.99


def test_a_student_of_a_constant_teacher_fails_closed(constant_ensemble, training_data):
    student = make_student(constant_ensemble, training_data.features, subject=SUBJECT, seed=7)
    verdict, details = int8_verdict(constant_ensemble, student, SUBJECT, training_data.features, LIMITS)
    assert verdict.status == "fail"
    assert details["rank_correlation_int8_fp32"] is None


def test_a_student_of_another_subject_or_with_its_forms_swapped_is_refused(ensemble, student, training_data):
    for foreign, subject in (
        (student, "6" * 64),
        (replace(student, int8=student.fp32), SUBJECT),
        (replace(student, fp32=student.int8), SUBJECT),
    ):
        with pytest.raises(EvidenceError, match="subject"):
            int8_verdict(ensemble, foreign, subject, training_data.features, LIMITS)
    assert metadata_of(open_session(student.int8))["student"] == "int8"


def test_a_stored_student_comes_back(student):
    assert Student.from_record(json.loads(canonical_json(student.to_json()))) == student


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"int8": "not base64!"},
        {"int8": "AAAA"},
        {"fp32": None},
        {"fp32_bytes": 3},
    ],
)
def test_a_damaged_student_record_is_refused(student, change):
    with pytest.raises(ArtifactError, match="stored student"):
        Student.from_record({**student.to_json(), **change})
    with pytest.raises(ArtifactError, match="stored student"):
        Student.from_record({})


def test_a_tree_graph_is_not_quantised(graph, training_data):
    with pytest.raises(ArtifactError, match="INT8 does nothing to a tree graph"):
        quantise(graph, training_data.features)


def test_rows_that_are_missing_or_not_finite_are_refused(ensemble, training_data):
    holed = training_data.features.copy()
    holed[3, 3] = np.nan
    for rows, found in ((holed, "1 of them not finite"), (holed[:0], "0 rows")):
        with pytest.raises(ArtifactError, match=found):
            distil(ensemble, rows, subject=SUBJECT, seed=7)


def test_a_feature_that_never_varies_does_not_break_the_student(ensemble, training_data):
    rows = training_data.features.copy()
    rows[:, 5] = 2.5
    scores = score(open_session(distil(ensemble, rows, subject=SUBJECT, seed=7)), rows)
    assert np.isfinite(scores).all()


def test_quantisation_logs_nothing_because_the_root_logger_would_then_configure_itself(
    student, training_data, caplog, capfd
):
    assert quantise(student.fp32, training_data.features) == student.int8
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_rows_are_spaced_evenly():
    rows = np.arange(10, dtype=np.float32)[:, None]
    assert spaced(rows, 10).ravel().tolist() == list(range(10))
    assert spaced(rows, 9).ravel().tolist() == [0, 2, 4, 6, 8]
    assert spaced(rows, 3).ravel().tolist() == [0, 4, 8]
