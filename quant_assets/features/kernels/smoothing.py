"""Recursive averages with TA-Lib's seeds: Wilder's average and the exponential average.

These are the only parts that look further back than a window. Chains are advanced three or four at a time,
because one chain alone waits for its own previous value (a multiply and an add) in every bar.
"""

from numpy import float64
from numpy.typing import NDArray

from quant_assets.features.kernels.compilation import kernel

Vector = NDArray[float64]


@kernel
def wilder_means(
    x: Vector, y: Vector, short: int, long: int,
    x_short: Vector, y_short: Vector, x_long: Vector, y_long: Vector,
) -> None:  # fmt: skip
    """Wilder's averages of two series over two periods, written from bar ``short`` and ``long`` on.

    Seed: the mean of bars 1..period (bar 0 has no change); then ``mean += (value - mean) / period``.
    """
    n = x.size
    keep, take = (short - 1.0) / short, 1.0 / short
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    for t in range(1, min(short + 1, n)):
        a += x[t]
        b += y[t]
    c, d = a, b
    a, b = a / short, b / short
    if n > short:
        x_short[short], y_short[short] = a, b
    for t in range(short + 1, min(long + 1, n)):
        a = a * keep + x[t] * take
        b = b * keep + y[t] * take
        x_short[t], y_short[t] = a, b
        c += x[t]
        d += y[t]
    c, d = c / long, d / long
    if n > long:
        x_long[long], y_long[long] = c, d
    keep_long, take_long = (long - 1.0) / long, 1.0 / long
    for t in range(long + 1, n):
        a = a * keep + x[t] * take
        b = b * keep + y[t] * take
        c = c * keep_long + x[t] * take_long
        d = d * keep_long + y[t] * take_long
        x_short[t], y_short[t], x_long[t], y_long[t] = a, b, c, d


@kernel
def wilder_directional(
    true_range: Vector, rise: Vector, fall: Vector, period: int,
    range_mean: Vector, range_sum: Vector, rise_sum: Vector, fall_sum: Vector,
) -> None:  # fmt: skip
    """Wilder's mean of the true range (for ATR) and Wilder's sums of range and moves (for DI and ADX).

    TA-Lib seeds them differently. The mean starts at bar ``period`` with the mean of bars 1..period; the sums
    start with the plain sum of bars 1..period-1 and go on with ``sum = sum - sum / period + value``.
    """
    n = true_range.size
    if n <= period:
        return
    keep, take = (period - 1.0) / period, 1.0 / period
    a, b, c = 0.0, 0.0, 0.0
    for t in range(1, period):
        a += true_range[t]
        b += rise[t]
        c += fall[t]
    mean = (a + true_range[period]) / period
    a = a * keep + true_range[period]
    b = b * keep + rise[period]
    c = c * keep + fall[period]
    range_mean[period], range_sum[period], rise_sum[period], fall_sum[period] = mean, a, b, c
    for t in range(period + 1, n):
        mean = mean * keep + true_range[t] * take
        a = a * keep + true_range[t]
        b = b * keep + rise[t]
        c = c * keep + fall[t]
        range_mean[t], range_sum[t], rise_sum[t], fall_sum[t] = mean, a, b, c


@kernel
def exponential_difference(x: Vector, fast: int, slow: int, span: int, line: Vector, signal: Vector) -> None:
    """Fast minus slow exponential average (MACD line), and its own exponential average (signal).

    As in TA-Lib both averages start at bar ``slow - 1``, the fast one with the mean of the last ``fast`` bars;
    the signal starts with the mean of the first ``span`` values of the line.
    """
    n = x.size
    seed = slow + span - 2
    if n <= seed:
        return
    take_fast, take_slow, take = 2.0 / (fast + 1.0), 2.0 / (slow + 1.0), 2.0 / (span + 1.0)
    keep_fast, keep_slow, keep = 1.0 - take_fast, 1.0 - take_slow, 1.0 - take
    a, b = 0.0, 0.0
    for t in range(slow):
        b += x[t]
        if t >= slow - fast:
            a += x[t]
    a, b = a / fast, b / slow
    mean = a - b
    line[slow - 1] = a - b
    for t in range(slow, seed + 1):
        a = a * keep_fast + x[t] * take_fast
        b = b * keep_slow + x[t] * take_slow
        line[t] = a - b
        mean += a - b
    mean /= span
    signal[seed] = mean
    for t in range(seed + 1, n):
        a = a * keep_fast + x[t] * take_fast
        b = b * keep_slow + x[t] * take_slow
        mean = mean * keep + (a - b) * take
        line[t], signal[t] = a - b, mean


@kernel
def wilder_from(x: Vector, first: int, period: int, x_mean: Vector) -> None:
    """Wilder's average seeded with the mean of ``period`` bars from ``first``; a negative value is skipped.

    Negative marks "not defined at this bar" (a directional index without movement): TA-Lib leaves the
    average where it was, and adds nothing while seeding.
    """
    n = x.size
    seed = first + period - 1
    if n <= seed:
        return
    keep, take = (period - 1.0) / period, 1.0 / period
    a = 0.0
    for t in range(first, seed + 1):
        a += max(x[t], 0.0)
    a /= period
    x_mean[seed] = a
    for t in range(seed + 1, n):
        if x[t] >= 0.0:
            a = a * keep + x[t] * take
        x_mean[t] = a


@kernel
def exponential(x: Vector, first: int, span: int, x_mean: Vector) -> None:
    """Exponential average, weight 2 / (span + 1), seeded with the mean of ``span`` bars from ``first``."""
    n = x.size
    seed = first + span - 1
    if n <= seed:
        return
    take = 2.0 / (span + 1.0)
    keep = 1.0 - take
    a = 0.0
    for t in range(first, seed + 1):
        a += x[t]
    a /= span
    x_mean[seed] = a
    for t in range(seed + 1, n):
        a = a * keep + x[t] * take
        x_mean[t] = a
