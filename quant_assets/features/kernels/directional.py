"""Range and direction (Wilder 1978): ATR, directional indicators, ADX, with TA-Lib's seeds."""

from typing import Any

import numpy as np

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.smoothing import wilder_directional, wilder_from
from quant_assets.features.kernels.windows import Vector

NOT_DEFINED = -1.0


@kernel
def ranges_and_moves(
    high: Vector, low: Vector, close: Vector, true_range: Vector, rise: Vector, fall: Vector
) -> None:
    """True range, and the part of the range that lies above or below the bar before. Bar 0 has none."""
    n = close.size
    true_range[0], rise[0], fall[0] = 0.0, 0.0, 0.0
    span = n - 1
    top, top_before = high[1:], high[:span]
    bottom, bottom_before = low[1:], low[:span]
    before, spread, up, down = close[:span], true_range[1:], rise[1:], fall[1:]
    for i in range(span):
        reach = max(abs(top[i] - before[i]), abs(bottom[i] - before[i]))
        spread[i] = max(top[i] - bottom[i], reach)
    for i in range(span):
        above = top[i] - top_before[i]
        below = bottom_before[i] - bottom[i]
        up[i] = above if above > below and above > 0.0 else 0.0
        down[i] = below if below > above and below > 0.0 else 0.0


@kernel
def directional_movement(
    high: Vector, low: Vector, close: Vector, adx_14: Any, plus_di_14: Any, minus_di_14: Any, atr_14: Any
) -> None:
    """ADX, +DI, -DI (0 to 100) and ATR over the close, all over 14 bars.

    Without any range both DI are 0; without movement ADX stays where it was (both as in TA-Lib).
    """
    n = close.size
    if n < 15:
        return
    true_range, rise, fall = np.empty(n), np.empty(n), np.empty(n)
    ranges_and_moves(high, low, close, true_range, rise, fall)
    mean_range, sum_range, sum_rise, sum_fall = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    wilder_directional(true_range, rise, fall, 14, mean_range, sum_range, sum_rise, sum_fall)
    price, spread, out_range = close[14:], mean_range[14:], atr_14[14:]
    for i in range(n - 14):
        out_range[i] = spread[i] / price[i]

    index = np.empty(n)
    total, risen, fallen, dx = sum_range[14:], sum_rise[14:], sum_fall[14:], index[14:]
    out_plus, out_minus = plus_di_14[14:], minus_di_14[14:]
    for i in range(n - 14):
        scale = total[i] if total[i] > 0.0 else 1.0
        plus = 100.0 * (risen[i] / scale) if total[i] > 0.0 else 0.0
        minus = 100.0 * (fallen[i] / scale) if total[i] > 0.0 else 0.0
        out_plus[i] = plus
        out_minus[i] = minus
        both = plus + minus
        relative = 100.0 * (abs(minus - plus) / (both if both > 0.0 else 1.0))
        dx[i] = relative if both > 0.0 else NOT_DEFINED
    strength = np.empty(n)
    wilder_from(index, 14, 14, strength)
    for t in range(27, n):
        adx_14[t] = strength[t]
