"""Spread over 20 and 50 bars: volatility of returns, z-score of volume."""

from math import sqrt
from typing import Any

import numpy as np

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector, double_moments, join_moments


@kernel
def moments_20_50(x: Vector, sum_20: Vector, m2_20: Vector, sum_50: Vector, m2_50: Vector) -> None:
    """Sums and summed squared deviations over 20 = 16 + 4 and 50 = 32 + 16 + 2 bars."""
    n = x.size
    sums, m2 = np.empty((6, n)), np.empty((6, n))
    double_moments(x, 5, sums, m2)
    join_moments(sums[4], m2[4], 16, sums[2], m2[2], 4, sum_20, m2_20)
    partial, partial_m2 = np.empty(n), np.empty(n)
    join_moments(sums[5], m2[5], 32, sums[4], m2[4], 16, partial, partial_m2)
    join_moments(partial, partial_m2, 48, sums[1], m2[1], 2, sum_50, m2_50)


@kernel
def standard_deviation(m2: Vector, window: int, out: Any) -> None:
    """Population standard deviation; exactly 0 in a flat window."""
    first = window - 1
    span = m2.size - first
    if span <= 0:
        return
    squares, written = m2[first:], out[first:]
    share = 1.0 / window
    for i in range(span):
        written[i] = sqrt(squares[i] * share)


@kernel
def z_score(x: Vector, total: Vector, m2: Vector, window: int, out: Any) -> None:
    """``(x - mean) / sd`` with the population sd; 0 in a flat window, where nothing is unusual."""
    first = window - 1
    span = x.size - first
    if span <= 0:
        return
    value, summed, squares, written = x[first:], total[first:], m2[first:], out[first:]
    share = 1.0 / window
    for i in range(span):
        sd = sqrt(squares[i] * share)
        score = (value[i] - summed[i] * share) / (sd if sd > 0.0 else 1.0)
        written[i] = score if sd > 0.0 else 0.0


@kernel
def volume_surprise(volume: Vector, volume_z_20: Any, volume_z_50: Any) -> None:
    """How unusual the volume is against its last 20 and 50 bars (itself among them)."""
    n = volume.size
    sum_20, m2_20, sum_50, m2_50 = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    moments_20_50(volume, sum_20, m2_20, sum_50, m2_50)
    z_score(volume, sum_20, m2_20, 20, volume_z_20)
    z_score(volume, sum_50, m2_50, 50, volume_z_50)


@kernel
def volatility(daily_return: Vector, sigma_20: Any, sigma_50: Any) -> None:
    """Standard deviation of the last 20 and 50 daily returns.

    ``daily_return`` starts at the symbol's second bar (the first has none), and so must both outputs.
    """
    n = daily_return.size
    sum_20, m2_20, sum_50, m2_50 = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    moments_20_50(daily_return, sum_20, m2_20, sum_50, m2_50)
    standard_deviation(m2_20, 20, sigma_20)
    standard_deviation(m2_50, 50, sigma_50)
