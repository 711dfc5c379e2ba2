"""Momentum: returns, relative strength, convergence of averages, position in the range."""

from typing import Any

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector
from quant_assets.features.kernels.workspace import HISTORY


@kernel
def changes(
    close: Vector, n: int, per_close: Vector, gain: Vector, move: Vector, daily: Vector, ret_1: Any
) -> None:
    """Reciprocal of the close; rise and absolute size of its change; the change over the close before."""
    new, old, share, before = (
        close[HISTORY:],
        close[HISTORY - 1 :],
        per_close[HISTORY:],
        per_close[HISTORY - 1 :],
    )
    up, size, fraction = gain[HISTORY:], move[HISTORY:], daily[HISTORY:]
    for i in range(n):
        share[i] = 1.0 / new[i]
    for i in range(n):
        change = new[i] - old[i]
        up[i] = change if change > 0.0 else 0.0
        size[i] = abs(change)
    for i in range(n):
        value = (new[i] - old[i]) * before[i]
        fraction[i] = value
        ret_1[i] = value


@kernel
def lagged_return(close: Vector, per_close: Vector, lag: int, n: int, fraction: Any) -> None:
    """``(close - close[-lag]) / close[-lag]``: the difference first, so that small returns keep their digits."""
    new, old, share = close[HISTORY:], close[HISTORY - lag :], per_close[HISTORY - lag :]
    for i in range(n):
        fraction[i] = (new[i] - old[i]) * share[i]


@kernel
def return_and_rate(close: Vector, per_close: Vector, lag: int, n: int, fraction: Any, percent: Any) -> None:
    """The same return twice: as a fraction and in percent (rate of change)."""
    new, old, share = close[HISTORY:], close[HISTORY - lag :], per_close[HISTORY - lag :]
    for i in range(n):
        change = (new[i] - old[i]) * share[i]
        fraction[i] = change
        percent[i] = 100.0 * change


@kernel
def strength(gain: Vector, move: Vector, n: int, rsi: Any) -> None:
    """RSI (Wilder 1978) from Wilder's sums of gains and of all moves; 0 without any movement, as in TA-Lib."""
    up, both = gain[HISTORY:], move[HISTORY:]
    for i in range(n):
        rsi[i] = 100.0 * (up[i] / (both[i] if both[i] > 0.0 else 1.0))


@kernel
def convergence(
    line: Vector, signal: Vector, per_close: Vector, n: int, macd: Any, macd_signal: Any, macd_hist: Any
) -> None:
    """MACD 12/26/9 over the close."""
    raw, smooth, share = line[HISTORY:], signal[HISTORY:], per_close[HISTORY:]
    for i in range(n):
        macd[i] = raw[i] * share[i]
        macd_signal[i] = smooth[i] * share[i]
        macd_hist[i] = (raw[i] - smooth[i]) * share[i]


@kernel
def highest(x: Vector, a: int, b: int, c: int, n: int, out: Vector) -> None:
    """The largest of the values now and ``a``, ``b`` and ``c`` bars ago."""
    w, x_a, x_b, x_c = x[HISTORY:], x[HISTORY - a :], x[HISTORY - b :], x[HISTORY - c :]
    written = out[HISTORY:]
    for i in range(n):
        newer = w[i] if w[i] > x_a[i] else x_a[i]
        older = x_b[i] if x_b[i] > x_c[i] else x_c[i]
        written[i] = newer if newer > older else older


@kernel
def lowest(x: Vector, a: int, b: int, c: int, n: int, out: Vector) -> None:
    """The smallest of the values now and ``a``, ``b`` and ``c`` bars ago."""
    w, x_a, x_b, x_c = x[HISTORY:], x[HISTORY - a :], x[HISTORY - b :], x[HISTORY - c :]
    written = out[HISTORY:]
    for i in range(n):
        newer = w[i] if w[i] < x_a[i] else x_a[i]
        older = x_b[i] if x_b[i] < x_c[i] else x_c[i]
        written[i] = newer if newer < older else older


@kernel
def stochastic(
    close: Vector, top: Vector, bottom: Vector, n: int, percent_k: Vector, stoch_k: Any, stoch_d: Any
) -> None:
    """Fast %K in the range of ``bottom`` to ``top`` and %D, its mean over 3. Without a range %K is 0."""
    price, high, low, k = close[HISTORY:], top[HISTORY:], bottom[HISTORY:], percent_k[HISTORY:]
    for i in range(n):
        spread = high[i] - low[i]
        value = 100.0 * ((price[i] - low[i]) / (spread if spread > 0.0 else 1.0))
        k[i] = value if spread > 0.0 else 0.0
        stoch_k[i] = value if spread > 0.0 else 0.0
    yesterday, before = percent_k[HISTORY - 1 :], percent_k[HISTORY - 2 :]
    for i in range(n):
        stoch_d[i] = (before[i] + yesterday[i] + k[i]) * (1.0 / 3.0)
