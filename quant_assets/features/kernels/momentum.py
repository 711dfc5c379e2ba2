"""Momentum: returns, relative strength, convergence of averages, position in the range."""

from typing import Any

import numpy as np

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.smoothing import exponential_difference, wilder_means
from quant_assets.features.kernels.windows import Vector, join_extremes


@kernel
def simple_return(close: Vector, lag: int, out: Any) -> None:
    """``(close - close[-lag]) / close[-lag]``: the difference first, so that small returns keep their digits."""
    span = close.size - lag
    if span <= 0:
        return
    new, old, written = close[lag:], close[:span], out[lag:]
    for i in range(span):
        written[i] = (new[i] - old[i]) / old[i]


@kernel
def return_and_rate(close: Vector, lag: int, fraction: Any, percent: Any) -> None:
    """The same return twice: as a fraction and in percent (rate of change)."""
    span = close.size - lag
    if span <= 0:
        return
    new, old, small, large = close[lag:], close[:span], fraction[lag:], percent[lag:]
    for i in range(span):
        change = (new[i] - old[i]) / old[i]
        small[i] = change
        large[i] = 100.0 * change


@kernel
def strength(gain: Vector, loss: Vector, period: int, out: Any) -> None:
    """``100 gain / (gain + loss)``; 0 without any movement, as in TA-Lib."""
    span = gain.size - period
    if span <= 0:
        return
    up, down, written = gain[period:], loss[period:], out[period:]
    for i in range(span):
        total = up[i] + down[i]
        written[i] = 100.0 * (up[i] / (total if total > 0.0 else 1.0))


@kernel
def relative_strength(close: Vector, rsi_14: Any, rsi_21: Any) -> None:
    """RSI over 14 and 21 bars (Wilder 1978), seeded as in TA-Lib."""
    n = close.size
    gain, loss = np.empty(n), np.empty(n)
    gain[0], loss[0] = 0.0, 0.0
    new, old, up, down = close[1:], close[: n - 1], gain[1:], loss[1:]
    for i in range(n - 1):
        change = new[i] - old[i]
        up[i] = max(change, 0.0)
        down[i] = max(-change, 0.0)
    gain_14, loss_14, gain_21, loss_21 = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    wilder_means(gain, loss, 14, 21, gain_14, loss_14, gain_21, loss_21)
    strength(gain_14, loss_14, 14, rsi_14)
    strength(gain_21, loss_21, 21, rsi_21)


@kernel
def convergence(close: Vector, macd: Any, macd_signal: Any, macd_hist: Any) -> None:
    """MACD 12/26/9 over the close."""
    n = close.size
    if n < 34:
        return
    line, signal = np.empty(n), np.empty(n)
    exponential_difference(close, 12, 26, 9, line, signal)
    raw, smooth, price = line[33:], signal[33:], close[33:]
    out_line, out_signal, out_hist = macd[33:], macd_signal[33:], macd_hist[33:]
    for i in range(n - 33):
        out_line[i] = raw[i] / price[i]
        out_signal[i] = smooth[i] / price[i]
        out_hist[i] = (raw[i] - smooth[i]) / price[i]


@kernel
def stochastic(high: Vector, low: Vector, close: Vector, stoch_k: Any, stoch_d: Any) -> None:
    """Fast %K over 14 bars and %D, its mean over 3. Without a range %K is 0, as in TA-Lib."""
    n = close.size
    if n < 14:
        return
    top, bottom = np.empty((3, n)), np.empty((3, n))
    join_extremes(high, low, 1, 1, top[0], bottom[0])
    join_extremes(top[0], bottom[0], 2, 2, top[1], bottom[1])
    join_extremes(top[1], bottom[1], 4, 4, top[2], bottom[2])
    join_extremes(top[2], bottom[2], 8, 6, top[0], bottom[0])
    percent = np.empty(n)
    price, highest, lowest, k, written = close[13:], top[0, 13:], bottom[0, 13:], percent[13:], stoch_k[13:]
    for i in range(n - 13):
        spread = highest[i] - lowest[i]
        value = 100.0 * ((price[i] - lowest[i]) / (spread if spread > 0.0 else 1.0))
        k[i] = value if spread > 0.0 else 0.0
        written[i] = value if spread > 0.0 else 0.0
    if n < 16:
        return
    today, yesterday, before, smooth = percent[15:], percent[14 : n - 1], percent[13 : n - 2], stoch_d[15:]
    for i in range(n - 15):
        smooth[i] = (before[i] + yesterday[i] + today[i]) / 3.0
