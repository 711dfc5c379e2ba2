"""ONNX Runtime on one thread, behind checks that run before anything is loaded: what scores rows with a graph."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx.export import INPUT, SCORE
from quant_assets.common.errors import ArtifactError

_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_ROWS_PER_RUN = 100_000  # bounds the memory of intermediate values


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
        raise _refused("a file with content", "0 bytes")
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        raise _refused(
            "an ONNX graph", f"a pickle (protocol {data[1]}), which can run code when it is loaded"
        )
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        raise _refused("an ONNX graph", "a zip archive")
    try:
        model = onnx.load_from_string(data)
    except DecodeError as error:
        raise _refused(
            "an ONNX graph", f"{len(data)} bytes that are not ONNX, or not all of it ({error})"
        ) from error
    if model.training_info:
        raise _refused("a graph for inference", f"{len(model.training_info)} graphs for training beside it")
    external = sorted(
        f"{t.name} in {_location(t)}"
        for t in _tensors(model)
        if t.data_location == onnx.TensorProto.EXTERNAL or t.external_data
    )
    if external:
        raise _refused("all tensors inside the file", f"external data for {', '.join(external[:3])}")
    domains = {o.domain for o in model.opset_import} | {n.domain for n in _nodes(model.graph)}
    foreign = sorted(domains - _DOMAINS)
    if foreign or model.functions:
        raise _refused(
            "standard ONNX operators only",
            f"operators of domain {', '.join(foreign) or 'of the file itself'}, which load foreign code",
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        # The checker's own message may hold a damaged name, which is then no text: a UnicodeDecodeError.
        first = (str(error).splitlines() or [""])[0]
        raise _refused("a graph that the ONNX checker accepts", first[:200]) from error
    return model


def _location(tensor: Any) -> str:
    """The file that a tensor asks for; it may name any file of the host."""
    return next((repr(e.value) for e in tensor.external_data if e.key == "location"), "a file without a name")


def open_session(data: bytes) -> Any:
    """A single-threaded ONNX Runtime session over checked bytes.

    One thread, because a row costs microseconds: a second thread costs more than it saves, and several
    processes serve better than one process with several threads.

    Raises
    ------
    ArtifactError
        As `checked_model`, and when the graph has another input or output than ``features`` and ``score``.
    """
    import onnxruntime

    model = checked_model(data)
    inputs, outputs = [i.name for i in model.graph.input], [o.name for o in model.graph.output]
    if inputs != [INPUT] or SCORE not in outputs:
        raise _refused(f"input {INPUT!r} and output {SCORE!r}", f"inputs {inputs}, outputs {outputs}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    with _runtime_reported():
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


@contextmanager
def _runtime_reported() -> Iterator[None]:
    """ONNX Runtime's errors, which have no root of their own, as one of ours."""
    from onnxruntime.capi import onnxruntime_pybind11_state as runtime

    try:
        yield
    except Exception as error:
        if type(error).__module__ != runtime.__name__:
            raise
        first = (str(error).splitlines() or [""])[0]
        raise _refused("a graph that ONNX Runtime runs", first[:200]) from error


def score(session: Any, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores of a session.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        As given by `open_session`.
    features : ndarray of float32, shape (n, f)

    Returns
    -------
    ndarray of float32, shape (n,)
        NaN for rows that are not finite.

    Raises
    ------
    ArtifactError
        When the matrix is not float32 or not as wide as the graph.
    """
    width = session.get_inputs()[0].shape[1]
    if features.ndim != 2 or features.dtype != np.float32 or features.shape[1] != width:
        raise ArtifactError(
            "input of the graph",
            expected=f"float32 of shape (n, {width})",
            found=f"{features.dtype} of shape {features.shape}",
            action="select the model's features in order and cast them to float32",
        )
    result = np.empty(len(features), dtype=np.float32)
    for first in range(0, len(features), _ROWS_PER_RUN):
        rows = np.ascontiguousarray(features[first : first + _ROWS_PER_RUN])
        with _runtime_reported():
            scores = session.run([SCORE], {INPUT: rows})[0]
        if scores.dtype != np.float32 or scores.size != len(rows):
            raise _refused(
                f"a float32 score for each of {len(rows)} rows", f"{scores.dtype} of shape {scores.shape}"
            )
        result[first : first + len(rows)] = scores.ravel()
    return result


def metadata_of(session: Any) -> dict[str, str]:
    """What the graph says about itself (subject, feature names, recipe)."""
    return dict(session.get_modelmeta().custom_metadata_map)


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


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


def _refused(expected: str, found: str) -> ArtifactError:
    return ArtifactError(
        "model graph",
        expected=expected,
        found=found,
        action="do not load this file; materialise the artifact again from its ensemble",
    )


# ---------------------------------------------------------------------------------------- batches of one size


class Scorer:
    """Scores of batches of one fixed size, through buffers that are allocated once.

    At one row, most of what `score` takes goes into names, dictionaries and new arrays around
    the graph: 12 us, of which the shipped graph itself needs about 4.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        As given by `quant_assets.artifacts.onnx.scoring.open_session`.
    batch : int
        Rows of every call, at least one.

    Notes
    -----
    Not for use by several threads at once: the buffers are shared. Same scores as `score`, bit for bit.
    """

    def __init__(self, session: Any, batch: int) -> None:
        width = int(session.get_inputs()[0].shape[1])
        if batch < 1:
            raise ArtifactError(
                "batch of a scorer", expected="at least one row", found=str(batch), action="pass its rows"
            )
        self._shape = (batch, width)
        self._rows = np.zeros(self._shape, dtype=np.float32)
        self._scores = np.zeros((batch, 1), dtype=np.float32)
        self._binding = session.io_binding()
        self._binding.bind_input(INPUT, "cpu", 0, np.float32, self._shape, self._rows.ctypes.data)
        self._binding.bind_output(SCORE, "cpu", 0, np.float32, self._scores.shape, self._scores.ctypes.data)
        self._run = session.run_with_iobinding

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of one batch.

        Parameters
        ----------
        features : ndarray of float32, shape (batch, f)

        Returns
        -------
        ndarray of float32, shape (batch,)
            NaN for rows that are not finite. The caller's own: the next call does not change it.

        Raises
        ------
        ArtifactError
            When the matrix is not float32 or of another shape.
        """
        if features.shape != self._shape or features.dtype != np.float32:
            raise ArtifactError(
                "input of the scorer",
                expected=f"float32 of shape {self._shape}",
                found=f"{features.dtype} of shape {features.shape}",
                action="make a scorer for this batch, or cast the features to float32",
            )
        self._rows[...] = features
        self._run(self._binding)
        return self._scores[:, 0].copy()


def spread_of(scores: NDArray[np.float64]) -> float:
    """Standard deviation of scores; 0 when they are constant but for rounding."""
    spread = float(scores.std())
    return spread if spread > 1e-12 * float(np.abs(scores).max(initial=0.0)) else 0.0
