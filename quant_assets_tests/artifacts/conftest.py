import pytest

from quant_assets.artifacts.onnx.export import export_onnx
from quant_assets.artifacts.onnx.parity import compare_graph, compare_student
from quant_assets.artifacts.onnx.student import NOT_APPLICABLE, make_student
from quant_assets.gates.cases import GraphParity, ParityCase
from quant_assets.gates.gate import find_gate
from quant_assets.models.ensemble import fit_ensemble
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

SUBJECT = "5" * 64
SOUND = GraphParity(rows=100, max_error_over_sd=0.0, rank_correlation=1.0, flipped_decisions=0)


def judge_parity(ensemble, graph, subject, rows, limits):
    """Compare a graph with its ensemble, and ask the gate."""
    found, details = compare_graph(ensemble, graph, subject, rows)
    return find_gate("onnx_parity").judge(ParityCase(subject, limits, found)), details


def int8_verdict(ensemble, student, subject, rows, limits):
    """Compare a student with its FP32 form, and ask the gate."""
    found, details = compare_student(ensemble, student, subject, rows)
    case = ParityCase(subject, limits, SOUND, found, no_student=NOT_APPLICABLE)
    return find_gate("int8_parity").judge(case), details


@pytest.fixture(scope="session")
def training_data():
    return training_arrays(training_frame(), FEATURES)


@pytest.fixture(scope="session")
def ensemble():
    return fit_ensemble(training_frame(), FEATURES, SMALL_MODELS, seed=7, embargo_sessions=2, recipe="r1")


@pytest.fixture(scope="session")
def constant_ensemble():
    models = SMALL_MODELS.model_copy(
        update={
            "lightgbm": SMALL_MODELS.lightgbm.model_copy(update={"min_data_in_leaf": 10**6}),
            "xgboost": SMALL_MODELS.xgboost.model_copy(update={"min_child_weight": 1e9}),
        }
    )
    return fit_ensemble(training_frame(), FEATURES, models, seed=7, embargo_sessions=2, recipe="r0")


@pytest.fixture(scope="session")
def graph(ensemble):
    return export_onnx(ensemble, subject=SUBJECT, metadata={"strategy": "small"})


@pytest.fixture(scope="session")
def student(ensemble, training_data):
    return make_student(ensemble, training_data.features, subject=SUBJECT, seed=7)
