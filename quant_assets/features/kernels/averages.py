"""Features of the close's rolling mean and spread: distance to the mean, Bollinger bands."""

from math import sqrt
from typing import Any

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector
from quant_assets.features.kernels.workspace import HISTORY


@kernel
def bollinger_20(
    close: Vector, close_4: Vector, m2_4: Vector, close_16: Vector, m2_16: Vector,
    n: int, nma_20: Any, bb_pct: Any, bb_width: Any,
) -> None:  # fmt: skip
    """Distance to the mean of 20 = 16 + 4 closes, position in the band mean +- 2 sd (population), its width.

    A flat window has no band: the close sits in its middle (0.5) and the width is 0. The mean and the band
    share one division.
    """
    price, newer, newer_m2 = close[HISTORY:], close_16[HISTORY:], m2_16[HISTORY:]
    older, older_m2 = close_4[HISTORY - 16 :], m2_4[HISTORY - 16 :]
    for i in range(n):
        mean = (newer[i] + older[i]) * 0.05
        gap = newer[i] - 4.0 * older[i]
        squares = (newer_m2[i] + older_m2[i]) + gap * gap * (1.0 / 80.0)
        band = 4.0 * sqrt(squares * 0.05)
        scale = band if band > 0.0 else 1.0
        both = 1.0 / (mean * scale)
        distance = price[i] - mean
        inside = 0.5 + distance * (mean * both)
        nma_20[i] = distance * (scale * both)
        bb_pct[i] = inside if band > 0.0 else 0.5
        bb_width[i] = band * (scale * both)


@kernel
def distance_9(close: Vector, close_4: Vector, n: int, nma_9: Any) -> None:
    """``close / mean - 1`` over 9 = 4 + 4 + 1 bars, as a difference over the mean: small ones keep their digits."""
    price, oldest = close[HISTORY:], close[HISTORY - 8 :]
    newer, older = close_4[HISTORY:], close_4[HISTORY - 4 :]
    for i in range(n):
        mean = ((newer[i] + older[i]) + oldest[i]) * (1.0 / 9.0)
        nma_9[i] = (price[i] - mean) / mean


@kernel
def distance_50(close: Vector, close_16: Vector, n: int, close_32: Vector, nma_50: Any) -> None:
    """The same over 50 = 32 + 16 + 2 bars; leaves the sums over 32."""
    price, last_but_one, last = close[HISTORY:], close[HISTORY - 48 :], close[HISTORY - 49 :]
    a, b, c, sums = close_16[HISTORY:], close_16[HISTORY - 16 :], close_16[HISTORY - 32 :], close_32[HISTORY:]
    for i in range(n):
        total = a[i] + b[i]
        sums[i] = total
        mean = ((total + c[i]) + (last_but_one[i] + last[i])) * 0.02
        nma_50[i] = (price[i] - mean) / mean


@kernel
def double_sums(half: Vector, window: int, n: int, whole: Vector) -> None:
    """Sums over twice the window of ``half``."""
    newer, older, out = half[HISTORY:], half[HISTORY - window :], whole[HISTORY:]
    for i in range(n):
        out[i] = newer[i] + older[i]


@kernel
def distance_200(
    close: Vector, close_4: Vector, close_64: Vector, close_128: Vector, n: int, nma_200: Any
) -> None:
    """The same over 200 = 4 + 4 + 64 + 128 bars."""
    price, a, b = close[HISTORY:], close_4[HISTORY:], close_4[HISTORY - 4 :]
    c, d = close_64[HISTORY - 8 :], close_128[HISTORY - 72 :]
    for i in range(n):
        mean = ((a[i] + b[i]) + (c[i] + d[i])) * 0.005
        nma_200[i] = (price[i] - mean) / mean
