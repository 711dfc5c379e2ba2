"""The block kernel of ``stationary_v1``: what a symbol did against its own recent past."""

from math import sqrt
from typing import Any

import numpy as np
from numpy import int64
from numpy.typing import NDArray

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import (
    Vector,
    log2_traded,
    moments_20_60,
    moments_250,
    sums_20_60,
    traded_moments_20_60,
    widen_moments,
)


@kernel
def lagged_return(close: Vector, lag: int, out: Vector) -> None:
    """``(close - close[-lag]) / close[-lag]``; entry i belongs to bar ``lag + i``."""
    for i in range(close.size - lag):
        out[i] = (close[lag + i] - close[i]) / close[i]


@kernel
def standardise(x: Vector, total: Vector, m2: Vector, window: int, width: float, out: Any) -> None:
    """``(x - mean) / (width sd)`` with the population sd; 0 in a flat window."""
    share = 1.0 / window
    for t in range(window - 1, x.size):
        band = width * sqrt(m2[t] * share)
        score = (x[t] - total[t] * share) / (band if band > 0.0 else 1.0)
        out[t] = score if band > 0.0 else 0.0


@kernel
def traded_score(logarithm: Vector, traded: Vector, moments: Any, window: int, out: Any) -> None:
    """``(log volume - mean) / sd`` over the traded bars; 0 without volume or without spread.

    As ``(count x - sum) / sqrt(count m2)``: the numerator is exact.
    """
    for t in range(window - 1, logarithm.size):
        count, total = moments[0, t], moments[1, t]
        spread = sqrt(count * moments[2, t])
        defined = spread > 0.0 and traded[t] > 0.0
        out[t] = (count * logarithm[t] - total) / spread if defined else 0.0


@kernel
def log_volume_surprise(volume: Vector, z_20: Any, z_60: Any) -> None:
    """How unusual the volume is, on a logarithmic scale."""
    n = volume.size
    logarithm, traded = np.empty(n), np.empty(n)
    over_20, over_60 = np.empty((3, n)), np.empty((3, n))
    log2_traded(volume, logarithm, traded)
    traded_moments_20_60(logarithm, traded, over_20, over_60)
    traded_score(logarithm, traded, over_20, 20, z_20)
    traded_score(logarithm, traded, over_60, 60, z_60)


@kernel
def daily_returns(close: Vector, ret_1_z_60: Any, ratio_20_120: Any) -> None:
    """Standardised daily return over 60, and the volatility of 20 returns over that of 120.

    Outputs start at the symbol's second bar: the first has no return.
    """
    n = close.size - 1
    daily = np.empty(n)
    lagged_return(close, 1, daily)
    sums, m2 = np.empty((3, n)), np.empty((3, n))
    moments_20_60(daily, sums[0], m2[0], sums[1], m2[1])
    widen_moments(sums[1], m2[1], 60, 2, sums[2], m2[2])
    standardise(daily, sums[1], m2[1], 60, 1.0, ret_1_z_60)
    for t in range(119, n):
        short, long = m2[0, t] / 20.0, m2[2, t] / 120.0
        ratio_20_120[t] = sqrt(short / long) if long > 0.0 else 1.0


@kernel
def standardised_return(close: Vector, lag: int, out: Any) -> None:
    """Standardised return over ``lag`` bars, against the 250 such returns that end with it."""
    n = max(close.size - lag, 0)
    change, total, m2 = np.empty(n), np.empty(n), np.empty(n)
    lagged_return(close, lag, change)
    moments_250(change, total, m2)
    standardise(change, total, m2, 250, 1.0, out[lag:])


@kernel
def mean_true_range(high: Vector, low: Vector, close: Vector, out: Vector) -> None:
    """Plain mean of the last 20 true ranges, from bar 20 on."""
    n = close.size
    true_range, sum_20, sum_60 = np.empty(n), np.empty(n), np.empty(n)
    true_range[0] = 0.0
    for t in range(1, n):
        reach = max(abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
        true_range[t] = max(high[t] - low[t], reach)
    sums_20_60(true_range, sum_20, sum_60)
    for t in range(20, n):
        out[t] = sum_20[t] / 20.0


@kernel
def over_range(x: Vector, mean_range: Vector, first: int, out: Any) -> None:
    """``x`` in mean true ranges, from bar ``first`` on; 0 without any range."""
    for t in range(first, x.size):
        out[t] = x[t] / mean_range[t] if mean_range[t] > 0.0 else 0.0


@kernel
def line_residual(close: Vector, window: int, out: Vector) -> None:
    """Close less the end of the least-squares line through the last ``window`` closes.

    The end of the line is a weighted mean of the closes, with weight ``(4 w - 2 - 6 age) / (w (w + 1))``.
    Differences to the newest close are summed, so a flat window gives exactly 0.
    """
    n = close.size
    out[:] = 0.0
    for age in range(1, window):
        weight = (4.0 * window - 2.0 - 6.0 * age) / (window * (window + 1.0))
        for t in range(window - 1, n):
            out[t] += weight * (close[t] - close[t - age])


@kernel
def price_position(
    open_: Vector, high: Vector, low: Vector, close: Vector,
    detrended_20: Any, detrended_60: Any, band_20: Any, gap_20: Any,
) -> None:  # fmt: skip
    """Close against its line and its band, and the opening gap."""
    n = close.size
    mean_range, residual = np.empty(n), np.empty(n)
    mean_true_range(high, low, close, mean_range)
    line_residual(close, 20, residual)
    over_range(residual, mean_range, 20, detrended_20)
    line_residual(close, 60, residual)
    over_range(residual, mean_range, 59, detrended_60)
    sums, m2 = np.empty((2, n)), np.empty((2, n))
    moments_20_60(close, sums[0], m2[0], sums[1], m2[1])
    standardise(close, sums[0], m2[0], 20, 2.0, band_20)
    for t in range(1, n):
        residual[t] = open_[t] - close[t - 1]
    over_range(residual, mean_range, 20, gap_20)


@kernel
def weighted_by_volume(
    high: Vector, low: Vector, close: Vector, volume: Vector, momentum_20: Any, momentum_60: Any, flow_20: Any
) -> None:
    """Mean return and mean close location, weighted by volume; 0 when nothing was traded."""
    n = close.size
    moved, located = np.empty(n), np.empty(n)
    moved[0] = 0.0
    for t in range(1, n):
        moved[t] = (close[t] - close[t - 1]) / close[t - 1] * volume[t]
    for t in range(n):
        spread = high[t] - low[t]
        location = ((close[t] - low[t]) - (high[t] - close[t])) / (spread if spread > 0.0 else 1.0)
        located[t] = min(max(location, -1.0), 1.0) * volume[t] if spread > 0.0 else 0.0
    traded, sums, flow = np.empty((2, n)), np.empty((2, n)), np.empty((2, n))
    sums_20_60(volume, traded[0], traded[1])
    sums_20_60(moved, sums[0], sums[1])
    sums_20_60(located, flow[0], flow[1])
    for t in range(19, n):
        flow_20[t] = flow[0, t] / traded[0, t] if traded[0, t] > 0.0 else 0.0
    for t in range(20, n):
        momentum_20[t] = sums[0, t] / traded[0, t] if traded[0, t] > 0.0 else 0.0
    for t in range(60, n):
        momentum_60[t] = sums[1, t] / traded[1, t] if traded[1, t] > 0.0 else 0.0


@kernel
def join_highest(newer: Vector, a: int, shift: int, joined: Vector) -> None:
    """Highest over ``a + shift`` bars from windows of ``a`` that overlap (``shift <= a``)."""
    for t in range(a + shift - 1, newer.size):
        joined[t] = max(newer[t], newer[t - shift])


@kernel
def below_high(high: Vector, close: Vector, out: Any) -> None:
    """Close over the highest high of 252 bars, less 1."""
    ladder = np.empty((9, high.size))
    ladder[0] = high
    for k in range(7):
        join_highest(ladder[k], 1 << k, 1 << k, ladder[k + 1])
    join_highest(ladder[7], 128, 124, ladder[8])
    for t in range(251, high.size):
        out[t] = (close[t] - ladder[8, t]) / ladder[8, t]


@kernel
def stationary_v1(
    open_: Vector, high: Vector, low: Vector, close: Vector, volume: Vector,
    starts: NDArray[int64], first: int, last: int, out: Any,
) -> None:  # fmt: skip
    """Write the 14 features of symbols ``first`` to ``last - 1``; parameters as in `technical.technical_v1`."""
    for s in range(first, last):
        a, b = starts[s], starts[s + 1]
        o, h, lo, c, v = open_[a:b], high[a:b], low[a:b], close[a:b], volume[a:b]
        log_volume_surprise(v, out[0, a:b], out[1, a:b])
        daily_returns(c, out[2, a + 1 : b], out[10, a + 1 : b])
        standardised_return(c, 5, out[3, a:b])
        standardised_return(c, 20, out[4, a:b])
        price_position(o, h, lo, c, out[5, a:b], out[6, a:b], out[7, a:b], out[11, a:b])
        weighted_by_volume(h, lo, c, v, out[8, a:b], out[9, a:b], out[12, a:b])
        below_high(h, c, out[13, a:b])
