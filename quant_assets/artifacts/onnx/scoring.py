"""ONNX Runtime on one thread, behind checks that run before anything is loaded: what scores rows with a graph."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ArtifactError
from quant_assets.models.graph_building import INPUT, SCORE
from quant_assets.models.graphs import checked_model, one_thread_session, refused_graph, runtime_reported

_ROWS_PER_RUN = 100_000  # bounds the memory of intermediate values


def open_session(data: bytes) -> Any:
    """A single-threaded ONNX Runtime session over checked bytes.

    One thread, because a row costs microseconds: a second thread costs more than it saves, and several
    processes serve better than one process with several threads.

    Raises
    ------
    ArtifactError
        As `checked_model`, and when the graph has another input or output than ``features`` and ``score``.
    """
    model = checked_model(data)
    inputs, outputs = [i.name for i in model.graph.input], [o.name for o in model.graph.output]
    if inputs != [INPUT] or SCORE not in outputs:
        raise refused_graph(f"input {INPUT!r} and output {SCORE!r}", f"inputs {inputs}, outputs {outputs}")
    return one_thread_session(data)


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
        with runtime_reported():
            scores = session.run([SCORE], {INPUT: rows})[0]
        if scores.dtype != np.float32 or scores.size != len(rows):
            raise refused_graph(
                f"a float32 score for each of {len(rows)} rows", f"{scores.dtype} of shape {scores.shape}"
            )
        result[first : first + len(rows)] = scores.ravel()
    return result


def metadata_of(session: Any) -> dict[str, str]:
    """What the graph says about itself (subject, feature names, recipe)."""
    return dict(session.get_modelmeta().custom_metadata_map)


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
