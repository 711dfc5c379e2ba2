"""Range and direction (Wilder 1978): ATR, directional indicators, ADX, with TA-Lib's seeds."""

from typing import Any

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector
from quant_assets.features.kernels.workspace import HISTORY


@kernel
def true_range(high: Vector, low: Vector, close: Vector, n: int, out: Vector) -> None:
    """The range of the bar, extended to the close before."""
    top, bottom, before, spread = high[HISTORY:], low[HISTORY:], close[HISTORY - 1 :], out[HISTORY:]
    for i in range(n):
        above, below, within = abs(top[i] - before[i]), abs(bottom[i] - before[i]), top[i] - bottom[i]
        reach = above if above > below else below
        spread[i] = within if within > reach else reach


@kernel
def moves(high: Vector, low: Vector, n: int, rise: Vector, fall: Vector) -> None:
    """The part of the range that lies above or below the bar before, where it is the larger one."""
    top, top_before, bottom, bottom_before = (
        high[HISTORY:],
        high[HISTORY - 1 :],
        low[HISTORY:],
        low[HISTORY - 1 :],
    )
    up, down = rise[HISTORY:], fall[HISTORY:]
    for i in range(n):
        above = top[i] - top_before[i]
        below = bottom_before[i] - bottom[i]
        up[i] = above if above > below and above > 0.0 else 0.0
        down[i] = below if below > above and below > 0.0 else 0.0


@kernel
def directional_indicators(
    total: Vector, risen: Vector, fallen: Vector, n: int, plus_di: Any, minus_di: Any
) -> None:
    """+DI and -DI, 0 to 100; both 0 without any range, as in TA-Lib."""
    span, up, down = total[HISTORY:], risen[HISTORY:], fallen[HISTORY:]
    for i in range(n):
        scale = span[i] if span[i] > 0.0 else 1.0
        plus, minus = 100.0 * (up[i] / scale), 100.0 * (down[i] / scale)
        plus_di[i] = plus if span[i] > 0.0 else 0.0
        minus_di[i] = minus if span[i] > 0.0 else 0.0


@kernel
def directional_index(
    total: Vector, risen: Vector, fallen: Vector, n: int, keep: float, index: Vector, index_keep: Vector
) -> None:
    """DX, and how much of ADX it leaves: without movement ADX stays where it was (as in TA-Lib)."""
    span, up, down, dx, kept = (
        total[HISTORY:],
        risen[HISTORY:],
        fallen[HISTORY:],
        index[HISTORY:],
        index_keep[HISTORY:],
    )
    for i in range(n):
        both = up[i] + down[i] if span[i] > 0.0 else 0.0
        relative = 100.0 * (abs(up[i] - down[i]) / (both if both > 0.0 else 1.0))
        dx[i] = relative if both > 0.0 else 0.0
        kept[i] = keep if both > 0.0 else 1.0


@kernel
def mean_range(range_14: Vector, per_close: Vector, n: int, atr: Any) -> None:
    """ATR over the close, from Wilder's sum of 14 true ranges."""
    total, share = range_14[HISTORY:], per_close[HISTORY:]
    for i in range(n):
        atr[i] = total[i] * (1.0 / 14.0) * share[i]
