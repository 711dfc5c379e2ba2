"""A session with its input and output bound once, for batches of one size: the fast way to a single row."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.artifacts.onnx_graph import INPUT, SCORE
from quant_assets.common.errors import ArtifactError


class Scorer:
    """Scores of batches of one fixed size, through buffers that are allocated once.

    At one row, most of what `quant_assets.artifacts.runtime.score` takes goes into names, dictionaries and new
    arrays around the graph: 12 us, of which the shipped graph itself needs about 4.

    Parameters
    ----------
    session : onnxruntime.InferenceSession
        As given by `quant_assets.artifacts.runtime.open_session`.
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
