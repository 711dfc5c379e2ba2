"""Rolling windows by doubling: sums, central moments and extremes of the last ``2^k`` bars.

A window of 2h bars is the window of h bars at t joined with the window of h bars at t-h. Any length is a join
of powers of two (200 = 128 + 64 + 8). Each value is thus a fixed expression of its own window and of nothing
older: no running sum that drifts, and the same bits wherever the history starts. The loops run along time
without a carried dependency, so they vectorise.

Arrays are one symbol's bars in time order; entries before the first full window are not written.
"""

from numpy import float64
from numpy.typing import NDArray

from quant_assets.features.kernels.compilation import kernel

Vector = NDArray[float64]


@kernel
def join_sums(newer: Vector, a: int, older: Vector, b: int, joined: Vector) -> None:
    """Sums over ``a + b`` bars from sums over the newest ``a`` and the ``b`` before them."""
    first = a + b - 1
    span = newer.size - first
    if span <= 0:
        return
    new, old, out = newer[first:], older[b - 1 : b - 1 + span], joined[first:]
    for i in range(span):
        out[i] = new[i] + old[i]


@kernel
def join_moments(
    newer: Vector, newer_m2: Vector, a: int,
    older: Vector, older_m2: Vector, b: int,
    joined: Vector, joined_m2: Vector,
) -> None:  # fmt: skip
    """Sums and summed squared deviations over ``a + b`` bars; ``a`` must be a multiple of ``b``.

    Chan, Golub and LeVeque (1983), eq. 2.1. Every term is a square, so nothing cancels: volumes near 1e9
    lose no digits, and a flat window gives exactly zero (``a / b`` copies of the older sum round alike).
    """
    first = a + b - 1
    span = newer.size - first
    if span <= 0:
        return
    ratio = float(a // b)
    weight = b / (a * float(a + b))
    new, old, out = newer[first:], older[b - 1 : b - 1 + span], joined[first:]
    new_m2, old_m2, out_m2 = newer_m2[first:], older_m2[b - 1 : b - 1 + span], joined_m2[first:]
    for i in range(span):
        gap = new[i] - ratio * old[i]
        out_m2[i] = (new_m2[i] + old_m2[i]) + gap * gap * weight
        out[i] = new[i] + old[i]
