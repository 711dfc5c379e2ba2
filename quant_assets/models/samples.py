"""What every library's fit is given, and the one refusal they share."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.models.shared_bins import BinnedRows


@dataclass(frozen=True)
class Samples:
    """Checked rows of a fit.

    Attributes
    ----------
    features : ndarray of float32, shape (n, f)
    target : ndarray of float64, shape (n,)
    weights : ndarray of float64, shape (n,), or None
    binned : BinnedRows or None
        The same rows in a matrix whose bins are shared; CatBoost, which cannot, bins ``features``.
    """

    features: NDArray[np.float32]
    target: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    binned: BinnedRows | None = None


def cuda_refused(learner: str, found: str) -> ModelError:
    """The error of a library that was asked for CUDA and has none, to be raised."""
    return ModelError(
        f"device of learner {learner!r}",
        expected="a CUDA device, and a build of the library that uses it",
        found=" ".join(found.split()),
        action="set models.device: cpu in the strategy, or fit on a machine with CUDA",
    )
