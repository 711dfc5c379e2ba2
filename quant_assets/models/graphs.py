"""ONNX graphs before they are loaded, and the one way in which they are run: checked bytes, one thread.

Nothing that a graph names outside of itself is followed: no external tensors, no operators of foreign code.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quant_assets.common.errors import ArtifactError

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})


def checked_model(data: bytes) -> Any:
    """Parse ONNX bytes that are safe to load.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ArtifactError
        Each with its own message: empty file, pickle, zip archive, not ONNX, tensors outside the file (by location),
        operators that need foreign code, graphs for training, graph that the checker refuses.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if not data:
        raise refused_graph("a file with content", "0 bytes")
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        raise refused_graph(
            "an ONNX graph", f"a pickle (protocol {data[1]}), which can run code when it is loaded"
        )
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        raise refused_graph("an ONNX graph", "a zip archive")
    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:
        raise refused_graph(
            "an ONNX graph", f"{len(data)} bytes that are not ONNX, or not all of it ({error})"
        ) from error
    if model.training_info:
        raise refused_graph(
            "a graph for inference", f"{len(model.training_info)} graphs for training beside it"
        )
    external = sorted(
        f"{t.name} in {_location(t)}"
        for t in _tensors(model)
        if t.data_location == onnx.TensorProto.EXTERNAL or t.external_data
    )
    if external:
        raise refused_graph("all tensors inside the file", f"external data for {', '.join(external[:3])}")
    domains = {o.domain for o in model.opset_import} | {n.domain for n in nodes_of(model.graph)}
    foreign = sorted(domains - _DOMAINS)
    if foreign or model.functions:
        raise refused_graph(
            "standard ONNX operators only",
            f"operators of domain {', '.join(foreign) or 'of the file itself'}, which load foreign code",
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        # The checker's own message may hold a damaged name, which is then no text: a UnicodeDecodeError.
        first = (str(error).splitlines() or [""])[0]
        raise refused_graph("a graph that the ONNX checker accepts", first[:200]) from error
    return model


def _location(tensor: Any) -> str:
    """The file that a tensor asks for; it may name any file of the host."""
    return next((repr(e.value) for e in tensor.external_data if e.key == "location"), "a file without a name")


def one_thread_session(data: bytes) -> Any:
    """A single-threaded, deterministic ONNX Runtime session over bytes that `checked_model` has accepted.

    Raises
    ------
    ArtifactError
        When ONNX Runtime does not load the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    with runtime_reported():
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@contextmanager
def runtime_reported() -> Iterator[None]:
    """ONNX Runtime's errors, which have no root of their own, as one of ours."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    try:
        yield
    except Exception as error:
        if type(error).__module__ != runtime.__name__:
            raise
        first = (str(error).splitlines() or [""])[0]
        raise refused_graph("a graph that ONNX Runtime runs", first[:200]) from error


def nodes_of(graph: Any) -> Iterator[Any]:
    """Every node of a graph and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes_of(inner)


def _tensors(model: Any) -> Iterator[Any]:
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        yield from graph.initializer
        sparse = list(graph.sparse_initializer)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                sparse += (attribute.sparse_tensor, *attribute.sparse_tensors)
                graphs.extend(attribute.graphs)
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
        for tensor in sparse:
            yield from (tensor.values, tensor.indices)


def refused_graph(expected: str, found: str) -> ArtifactError:
    """The error of a graph that is not to be loaded, to be raised."""
    return ArtifactError(
        "model graph",
        expected=expected,
        found=found,
        action="do not load this file; materialise the artifact again from its ensemble",
    )
