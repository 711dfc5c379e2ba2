"""Rolling windows of any length, and the memory they are built up in: sums, moments and extremes by doubling.

And what blanks their leading rows: values, validity bits, and the check of a whole column in one pass.
"""

from math import floor, frexp
from typing import Any

import numpy as np
from numpy import float64, int64, uint8
from numpy.typing import NDArray

from quant_assets.features.kernels.compilation import kernel

Vector = NDArray[float64]

# ------------------------------------------------------------------------- the working memory of technical_v1

# A symbol is worked through in stretches of at most `STRETCH` bars. Column ``HISTORY + i`` of a row belongs to
# bar i of the stretch; the `HISTORY` columns before it hold the last bars of the stretch before, so a window
# reaches back without a special case. Every loop runs along time over a few rows that stay in the second-level
# cache, however long the history is, and memory does not grow with it. Where a stretch begins changes no bit: a
# windowed value is a fixed expression of its window, a recursive one hands on its exact state.


# Measured over 500 x 2,520 bars: 38 ms with 128 bars, 33 with 256, 28 with 512, 26 with 1,024 and more. The
# rows of 2,048 bars take 0.8 MB.
STRETCH = 2048
# The longest reach into a row is 72 bars; a multiple of 8 keeps columns aligned.
HISTORY = 72
WIDTH = HISTORY + STRETCH

# Rows that are read with a lag, and so carried from stretch to stretch. `X_4` is over the last 4 bars of X.
CARRIED = 26
(
    HIGH, LOW, CLOSE, VOLUME, PER_CLOSE, DAILY, SIGNED,
    CLOSE_4, CLOSE_4_M2, CLOSE_16, CLOSE_16_M2, CLOSE_32, CLOSE_64, CLOSE_128,
    VOLUME_4, VOLUME_4_M2, VOLUME_16, VOLUME_16_M2,
    DAILY_4, DAILY_4_M2, DAILY_16, DAILY_16_M2,
    SIGNED_4, HIGH_4, LOW_4, PERCENT_K,
) = range(CARRIED)  # fmt: skip
# Rows that are read at the bar itself only.
ROWS = CARRIED + 20
(
    GAIN, MOVE, TRUE_RANGE, RISE, FALL, HIGH_14, LOW_14,
    RANGE_14, RANGE_SUM, RISE_SUM, FALL_SUM, INDEX, INDEX_KEEP, SHARE,
    GAIN_14, MOVE_14, GAIN_21, MOVE_21, LINE, SIGNAL,
) = range(CARRIED, ROWS)  # fmt: skip


@kernel
def begin(work: Any, high: float, low: float, close: float, volume: float) -> None:
    """Before its first bar a symbol is taken to have stood still: finite, and no feature shows it."""
    for k in range(CARRIED):
        work[k, :HISTORY] = 0.0
    work[HIGH, :HISTORY] = high
    work[LOW, :HISTORY] = low
    work[CLOSE, :HISTORY] = close
    work[VOLUME, :HISTORY] = volume
    work[PER_CLOSE, :HISTORY] = 1.0 / close


@kernel
def carry(work: Any) -> None:
    """Put the last bars of a full stretch in front of the next one."""
    for k in range(CARRIED):
        row = work[k]
        last = row[STRETCH:]
        for i in range(HISTORY):
            row[i] = last[i]


@kernel
def place(row: Vector, values: Vector) -> None:
    """Copy the bars of a stretch into a row (input arrays may be read-only views; rows never alias them)."""
    bars = row[HISTORY:]
    for i in range(values.size):
        bars[i] = values[i]


# -------------------------------------------------------------------------------- rolling windows by doubling

# A window of 2h bars is the window of h bars at t joined with the window of h bars at t-h. Any length is a join
# of powers of two (200 = 128 + 64 + 8). Each value is thus a fixed expression of its own window and of nothing
# older: no running sum that drifts, and the same bits wherever the history starts. The loops run along time
# without a carried dependency, so they vectorise.
#
# Arrays are one symbol's bars in time order; entries before the first full window are not written.


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


# ---------------------------------------------------------------- windows of 4 and 16 bars of a workspace row

# As in `quant_assets.features.kernels.windows` a value is a fixed expression of its own window: two doublings at a
# time, so that a row is read and written half as often.


@kernel
def four_sums(x: Vector, n: int, x_4: Vector) -> None:
    """Sums over the last 4 bars, pairs first."""
    a, b, c, d = x[HISTORY:], x[HISTORY - 1 :], x[HISTORY - 2 :], x[HISTORY - 3 :]
    out = x_4[HISTORY:]
    for i in range(n):
        out[i] = (a[i] + b[i]) + (c[i] + d[i])


@kernel
def four_moments(x: Vector, n: int, x_4: Vector, m2_4: Vector) -> None:
    """Sums and summed squared deviations over the last 4 bars (Chan, Golub and LeVeque 1983, eq. 2.1)."""
    a, b, c, d = x[HISTORY:], x[HISTORY - 1 :], x[HISTORY - 2 :], x[HISTORY - 3 :]
    out, out_m2 = x_4[HISTORY:], m2_4[HISTORY:]
    for i in range(n):
        new, old = a[i] + b[i], c[i] + d[i]
        gap_new, gap_old, gap = a[i] - b[i], c[i] - d[i], new - old
        out[i] = new + old
        out_m2[i] = (0.5 * (gap_new * gap_new) + 0.5 * (gap_old * gap_old)) + 0.25 * (gap * gap)


@kernel
def sixteen_moments(x_4: Vector, m2_4: Vector, n: int, x_16: Vector, m2_16: Vector) -> None:
    """The same over 16 bars, from windows of 4."""
    a, b, c, d = x_4[HISTORY:], x_4[HISTORY - 4 :], x_4[HISTORY - 8 :], x_4[HISTORY - 12 :]
    e, f, g, h = m2_4[HISTORY:], m2_4[HISTORY - 4 :], m2_4[HISTORY - 8 :], m2_4[HISTORY - 12 :]
    out, out_m2 = x_16[HISTORY:], m2_16[HISTORY:]
    for i in range(n):
        new, old = a[i] + b[i], c[i] + d[i]
        gap_new, gap_old, gap = a[i] - b[i], c[i] - d[i], new - old
        new_m2 = (e[i] + f[i]) + 0.125 * (gap_new * gap_new)
        old_m2 = (g[i] + h[i]) + 0.125 * (gap_old * gap_old)
        out[i] = new + old
        out_m2[i] = (new_m2 + old_m2) + 0.0625 * (gap * gap)


# ------------------------------------------------------------ window sums and moments of any length made of 2

# A window of 250 bars grows as 5, 25, 125, 250. Each join is of two windows whose lengths differ by a power of
# two, so equal values round alike and a flat window has exactly zero spread; 250 put together from its six
# binary digits has not. As in `windows`, a value is a fixed expression of its own window and of nothing older.


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
