"""The leading rows of each symbol: blank values and validity bits."""

from typing import Any

import numpy as np
from numpy import int64, uint8
from numpy.typing import NDArray

from quant_assets.features.kernels.compilation import kernel


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
