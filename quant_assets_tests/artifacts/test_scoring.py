import io
import pickle
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quant_assets.artifacts.onnx import scoring
from quant_assets.artifacts.onnx.scoring import open_session, score
from quant_assets.common.errors import ArtifactError


def edited(data, change):
    model = onnx.load_from_string(data)
    change(model)
    return model.SerializeToString()


def with_external_data(model):
    constant = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(constant, location="../../etc/passwd")
    constant.ClearField("raw_data")


def with_external_data_in_a_subgraph(model):
    constant = numpy_helper.from_array(np.ones(1, dtype=np.float32), "hidden")
    constant.data_location = TensorProto.EXTERNAL
    inner = helper.make_graph([], "inner", [], [helper.make_tensor_value_info("hidden", 1, [1])], [constant])
    true = numpy_helper.from_array(np.array(True), "true")
    model.graph.initializer.append(true)
    model.graph.node.append(
        helper.make_node("If", ["true"], ["unused"], then_branch=inner, else_branch=inner)
    )


def with_foreign_operator(model):
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    model.graph.node.append(helper.make_node("RunCode", ["features"], ["unused"], domain="com.example"))


def with_a_function_of_its_own(model):
    model.functions.append(
        helper.make_function("", "Own", ["x"], ["y"], [helper.make_node("Identity", ["x"], ["y"])], [])
    )


def with_a_missing_value(model):
    model.graph.node[0].input[0] = "nowhere"


def with_another_input(model):
    model.graph.input[0].name = "rows"
    for node in model.graph.node:
        node.input[:] = ["rows" if name == "features" else name for name in node.input]


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.onnx", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "0 bytes"),
        (pickle.dumps({"model": 1}), "pickle"),
        (pickle.dumps([1], protocol=2), "pickle"),
        (zipped(), "zip archive"),
        (b"not a graph at all, but long enough to look like one", "not ONNX"),
    ],
)
def test_a_file_that_is_not_a_graph_is_refused_before_anything_is_loaded(data, found):
    with pytest.raises(ArtifactError, match=found):
        open_session(data)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (with_external_data, "external data for"),
        (with_external_data_in_a_subgraph, "external data for hidden"),
        (with_foreign_operator, "com.example"),
        (with_a_function_of_its_own, "of the file itself"),
        (with_a_missing_value, "checker accepts"),
        (with_another_input, r"inputs \['rows'\]"),
    ],
)
def test_a_graph_that_is_not_safe_to_load_is_refused(graph, change, found):
    with pytest.raises(ArtifactError, match=found):
        open_session(edited(graph, change))


@pytest.mark.parametrize("kept", [0.25, 0.5, 0.999])
def test_a_truncated_graph_is_refused(graph, kept):
    with pytest.raises(ArtifactError):
        open_session(graph[: int(kept * len(graph))])


def test_each_refusal_of_a_file_has_its_own_message(graph):
    messages = set()
    cases = [b"", pickle.dumps(1), zipped(), b"garbage" * 9, edited(graph, with_external_data)]
    for data in cases:
        with pytest.raises(ArtifactError) as refusal:
            open_session(data)
        messages.add(str(refusal.value))
    assert len(messages) == len(cases)


def test_a_session_runs_on_one_thread(graph):
    options = open_session(graph).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_scores_are_the_same_in_pieces_and_whole(graph, training_data, monkeypatch):
    session = open_session(graph)
    whole = score(session, training_data.features)
    assert whole.shape == (1200,)
    assert whole.dtype == np.float32
    monkeypatch.setattr(scoring, "_ROWS_PER_RUN", 101)
    assert score(session, training_data.features).tobytes() == whole.tobytes()
    assert score(session, np.asfortranarray(training_data.features)).tobytes() == whole.tobytes()
    assert score(session, training_data.features[:0]).shape == (0,)


def test_scores_of_another_type_or_width_are_refused_instead_of_converted(graph, training_data):
    session = open_session(graph)
    rows = training_data.features
    for broken in (rows.astype(np.float64), rows[:, :7], rows[0]):
        with pytest.raises(ArtifactError, match=r"float32 of shape \(n, 8\)"):
            score(session, broken)
