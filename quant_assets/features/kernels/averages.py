"""Features of the close's rolling mean and spread: distance to the mean, Bollinger bands."""

from math import sqrt
from typing import Any

import numpy as np

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector, double_moments, join_moments, join_sums


@kernel
def distance_to_mean(close: Vector, total: Vector, window: int, out: Any) -> None:
    """``close / mean - 1``, as a difference over the mean so that small distances keep their digits."""
    first = window - 1
    span = close.size - first
    if span <= 0:
        return
    price, summed, written = close[first:], total[first:], out[first:]
    share = 1.0 / window
    for i in range(span):
        mean = summed[i] * share
        written[i] = (price[i] - mean) / mean


@kernel
def bollinger_20(close: Vector, total: Vector, m2: Vector, bb_pct: Any, bb_width: Any) -> None:
    """Position in the band mean +- 2 sd (population) of 20 closes, and its width over the mean.

    A flat window has no band: the close sits in its middle (0.5) and the width is 0.
    """
    span = close.size - 19
    if span <= 0:
        return
    price, summed, squares = close[19:], total[19:], m2[19:]
    position, width = bb_pct[19:], bb_width[19:]
    for i in range(span):
        mean = summed[i] * 0.05
        band = 4.0 * sqrt(squares[i] * 0.05)
        inside = 0.5 + (price[i] - mean) / (band if band > 0.0 else 1.0)
        position[i] = inside if band > 0.0 else 0.5
        width[i] = band / mean


@kernel
def price_averages(
    close: Vector, nma_9: Any, nma_20: Any, nma_50: Any, nma_200: Any, bb_pct: Any, bb_width: Any
) -> None:
    """NMA 9, 20, 50, 200 and Bollinger (20, 2) from one ladder of doubled windows."""
    n = close.size
    sums, m2 = np.empty((8, n)), np.empty((5, n))
    double_moments(close, 4, sums, m2)
    for k in range(4, 7):
        join_sums(sums[k], 1 << k, sums[k], 1 << k, sums[k + 1])
    total, partial, squares = np.empty(n), np.empty(n), np.empty(n)

    join_sums(sums[3], 8, sums[0], 1, total)
    distance_to_mean(close, total, 9, nma_9)
    join_moments(sums[4], m2[4], 16, sums[2], m2[2], 4, total, squares)
    distance_to_mean(close, total, 20, nma_20)
    bollinger_20(close, total, squares, bb_pct, bb_width)
    join_sums(sums[5], 32, sums[4], 16, partial)
    join_sums(partial, 48, sums[1], 2, total)
    distance_to_mean(close, total, 50, nma_50)
    join_sums(sums[7], 128, sums[6], 64, partial)
    join_sums(partial, 192, sums[3], 8, total)
    distance_to_mean(close, total, 200, nma_200)
