"""The leading rows of each symbol (blank values, validity bits), and checks of whole columns in one pass."""

from typing import Any

import numpy as np
from numpy import int64, uint8
from numpy.typing import NDArray

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector

# ------------------------------------------------------------------------ checks of whole columns in one pass


@kernel
def all_between(x: Vector, low: float, high: float) -> bool:
    """Whether every value lies between two numbers (NaN does not). Counts, because a count vectorises."""
    outside = 0
    for i in range(x.size):
        outside += not (x[i] >= low and x[i] <= high)
    return outside == 0


# ---------------------------------------------------------------------------- the leading rows of each symbol


@kernel
def blank_leading(out: Any, starts: NDArray[int64], counts: NDArray[int64]) -> None:
    """Put NaN into the first ``counts[f]`` rows of each symbol in row f of ``out``."""
    for f in range(out.shape[0]):
        for s in range(starts.size - 1):
            for t in range(starts[s], min(starts[s] + counts[f], starts[s + 1])):
                out[f, t] = np.nan


@kernel
def validity_bits(starts: NDArray[int64], count: int, bits: NDArray[uint8]) -> None:
    """Clear the bits (least significant first, as in Arrow) of the first ``count`` rows of each symbol."""
    for s in range(starts.size - 1):
        for t in range(starts[s], min(starts[s] + count, starts[s + 1])):
            bits[t >> 3] &= uint8(255 ^ (1 << (t & 7)))
