"""Window sums and moments of any length made of 2, 3 and 5, and moments of log volume.

A window of 250 bars grows as 5, 25, 125, 250. Each join is of two windows whose lengths differ by a power of
two, so equal values round alike and a flat window has exactly zero spread; 250 put together from its six
binary digits has not. As in `windows`, a value is a fixed expression of its own window and of nothing older.
"""

from math import floor, frexp

import numpy as np
from numpy import float64
from numpy.typing import NDArray

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector, join_moments, join_sums

Matrix = NDArray[float64]

# log2(m) = LOG2_SCALE * atanh((m - 1) / (m + 1)); ten terms leave 3e-17 on [sqrt(1/2), sqrt(2)).
LOG2_SCALE = 2.8853900817779268
SQRT_HALF = 0.7071067811865476
# Logarithms are rounded to 2^-34: sums of 60 of them, times 60, are then exact in float64 (exponent 6 bits,
# fraction 34, count 12), and a volume in another unit shifts them by a whole number without a trace.
LOG2_GRID = 17179869184.0


@kernel
def widen_sums(total: Vector, length: int, factor: int, wider: Vector) -> None:
    """Sums over ``factor * length`` bars (factor 2, 3 or 5) from sums over ``length``."""
    if factor == 2:
        join_sums(total, length, total, length, wider)
        return
    double = np.empty(total.size)
    join_sums(total, length, total, length, double)
    if factor == 3:
        join_sums(double, 2 * length, total, length, wider)
        return
    fourfold = np.empty(total.size)
    join_sums(double, 2 * length, double, 2 * length, fourfold)
    join_sums(fourfold, 4 * length, total, length, wider)


@kernel
def widen_moments(
    total: Vector, m2: Vector, length: int, factor: int, wider: Vector, wider_m2: Vector
) -> None:
    """As `widen_sums`, with the summed squared deviations from each window's own mean."""
    if factor == 2:
        join_moments(total, m2, length, total, m2, length, wider, wider_m2)
        return
    double, double_m2 = np.empty(total.size), np.empty(total.size)
    join_moments(total, m2, length, total, m2, length, double, double_m2)
    if factor == 3:
        join_moments(double, double_m2, 2 * length, total, m2, length, wider, wider_m2)
        return
    fourfold, fourfold_m2 = np.empty(total.size), np.empty(total.size)
    join_moments(double, double_m2, 2 * length, double, double_m2, 2 * length, fourfold, fourfold_m2)
    join_moments(fourfold, fourfold_m2, 4 * length, total, m2, length, wider, wider_m2)


@kernel
def sums_20_60(x: Vector, sum_20: Vector, sum_60: Vector) -> None:
    """Sums over 20 = 5 2 2 and 60 = 20 3 bars."""
    five, ten = np.empty(x.size), np.empty(x.size)
    widen_sums(x, 1, 5, five)
    widen_sums(five, 5, 2, ten)
    widen_sums(ten, 10, 2, sum_20)
    widen_sums(sum_20, 20, 3, sum_60)


@kernel
def moments_20_60(x: Vector, sum_20: Vector, m2_20: Vector, sum_60: Vector, m2_60: Vector) -> None:
    """Sums and summed squared deviations over 20 and 60 bars."""
    n = x.size
    sums, m2 = np.empty((2, n)), np.empty((2, n))
    widen_moments(x, np.zeros(n), 1, 5, sums[0], m2[0])
    widen_moments(sums[0], m2[0], 5, 2, sums[1], m2[1])
    widen_moments(sums[1], m2[1], 10, 2, sum_20, m2_20)
    widen_moments(sum_20, m2_20, 20, 3, sum_60, m2_60)


@kernel
def moments_250(x: Vector, sum_250: Vector, m2_250: Vector) -> None:
    """Sums and summed squared deviations over 250 = 5 5 5 2 bars."""
    n = x.size
    sums, m2 = np.empty((3, n)), np.empty((3, n))
    widen_moments(x, np.zeros(n), 1, 5, sums[0], m2[0])
    widen_moments(sums[0], m2[0], 5, 5, sums[1], m2[1])
    widen_moments(sums[1], m2[1], 25, 5, sums[2], m2[2])
    widen_moments(sums[2], m2[2], 125, 2, sum_250, m2_250)


@kernel
def log2_traded(volume: Vector, logarithm: Vector, traded: Vector) -> None:
    """Binary logarithm of each volume, and 1 where there is one; 0 and 0 in a bar without volume.

    By arithmetic alone, no library function: the bits are the same on every platform.
    """
    for t in range(volume.size):
        if volume[t] <= 0.0:
            logarithm[t], traded[t] = 0.0, 0.0
            continue
        mantissa, exponent = frexp(volume[t])
        if mantissa < SQRT_HALF:
            mantissa *= 2.0
            exponent -= 1
        s = (mantissa - 1.0) / (mantissa + 1.0)
        q = s * s
        series = 0.0
        for k in range(9, -1, -1):
            series = series * q + 1.0 / (2.0 * k + 1.0)
        logarithm[t] = exponent + floor(LOG2_SCALE * s * series * LOG2_GRID + 0.5) / LOG2_GRID
        traded[t] = 1.0


@kernel
def join_traded(newer: Matrix, a: int, older: Matrix, b: int, joined: Matrix) -> None:
    """Count, sum and summed squared deviations of traded bars over ``a + b`` bars, rows 0 to 2.

    Chan, Golub and LeVeque (1983), eq. 1.5b, for two parts of any sizes, also empty ones.
    """
    first = a + b - 1
    span = newer.shape[1] - first
    if span <= 0:
        return
    new, old, out = newer[:, first:], older[:, b - 1 : b - 1 + span], joined[:, first:]
    for i in range(span):
        m, n = new[0, i], old[0, i]
        gap = n * new[1, i] - m * old[1, i]
        parts = m * n * (m + n)
        out[2, i] = (new[2, i] + old[2, i]) + gap * gap / (parts if parts > 0.0 else 1.0)
        out[1, i] = new[1, i] + old[1, i]
        out[0, i] = m + n


@kernel
def traded_moments_20_60(logarithm: Vector, traded: Vector, over_20: Matrix, over_60: Matrix) -> None:
    """Count, sum and summed squared deviations of log volume over the traded ones of 20 and 60 bars."""
    n = logarithm.size
    one, two, other = np.zeros((3, n)), np.empty((3, n)), np.empty((3, n))
    one[0], one[1] = traded, logarithm
    join_traded(one, 1, one, 1, two)
    join_traded(two, 2, two, 2, other)
    join_traded(other, 4, one, 1, two)  # 5 bars
    join_traded(two, 5, two, 5, other)
    join_traded(other, 10, other, 10, over_20)
    join_traded(over_20, 20, over_20, 20, other)
    join_traded(other, 40, over_20, 20, over_60)
