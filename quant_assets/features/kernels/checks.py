"""Checks of whole columns in one pass."""

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector


@kernel
def all_between(x: Vector, low: float, high: float) -> bool:
    """Whether every value lies between two numbers (NaN does not). Counts, because a count vectorises."""
    outside = 0
    for i in range(x.size):
        outside += not (x[i] >= low and x[i] <= high)
    return outside == 0
