"""Spread over 20 and 50 bars: volatility of returns, z-score of volume."""

from math import sqrt
from typing import Any

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector
from quant_assets.features.kernels.workspace import HISTORY


@kernel
def moments_20(newer: float, newer_m2: float, older: float, older_m2: float) -> tuple[float, float]:
    """Sum and summed squared deviations over 20 = 16 + 4 bars."""
    gap = newer - 4.0 * older
    return newer + older, (newer_m2 + older_m2) + gap * gap * (1.0 / 80.0)


@kernel
def moments_50(
    a: float, a_m2: float, b: float, b_m2: float, c: float, c_m2: float, y: float, z: float
) -> tuple[float, float]:
    """The same over 50 = (16 + 16) + 16 + 2 bars, ``a`` the newest."""
    gap = a - b
    two, two_m2 = a + b, (a_m2 + b_m2) + gap * gap * (1.0 / 32.0)
    gap = two - 2.0 * c
    three, three_m2 = two + c, (two_m2 + c_m2) + gap * gap * (1.0 / 96.0)
    gap = y - z
    pair, pair_m2 = y + z, 0.5 * (gap * gap)
    gap = three - 24.0 * pair
    return three + pair, (three_m2 + pair_m2) + gap * gap * (1.0 / 1200.0)


@kernel
def volatility(
    x: Vector, x_4: Vector, m2_4: Vector, x_16: Vector, m2_16: Vector, n: int, sigma_20: Any, sigma_50: Any
) -> None:
    """Population standard deviation of the last 20 and 50 values; exactly 0 in a flat window."""
    y, z, d, d_m2 = x[HISTORY - 48 :], x[HISTORY - 49 :], x_4[HISTORY - 16 :], m2_4[HISTORY - 16 :]
    a, b, c = x_16[HISTORY:], x_16[HISTORY - 16 :], x_16[HISTORY - 32 :]
    a_m2, b_m2, c_m2 = m2_16[HISTORY:], m2_16[HISTORY - 16 :], m2_16[HISTORY - 32 :]
    for i in range(n):
        _, short = moments_20(a[i], a_m2[i], d[i], d_m2[i])
        _, long = moments_50(a[i], a_m2[i], b[i], b_m2[i], c[i], c_m2[i], y[i], z[i])
        sigma_20[i] = sqrt(short * 0.05)
        sigma_50[i] = sqrt(long * 0.02)


@kernel
def surprise(
    x: Vector, x_4: Vector, m2_4: Vector, x_16: Vector, m2_16: Vector, n: int, z_20: Any, z_50: Any
) -> None:
    """``(x - mean) / sd`` over 20 and 50 with the population sd; 0 in a flat window: nothing is unusual."""
    now, y, z, d, d_m2 = (
        x[HISTORY:],
        x[HISTORY - 48 :],
        x[HISTORY - 49 :],
        x_4[HISTORY - 16 :],
        m2_4[HISTORY - 16 :],
    )
    a, b, c = x_16[HISTORY:], x_16[HISTORY - 16 :], x_16[HISTORY - 32 :]
    a_m2, b_m2, c_m2 = m2_16[HISTORY:], m2_16[HISTORY - 16 :], m2_16[HISTORY - 32 :]
    for i in range(n):
        total, squares = moments_20(a[i], a_m2[i], d[i], d_m2[i])
        sd = sqrt(squares * 0.05)
        score = (now[i] - total * 0.05) / (sd if sd > 0.0 else 1.0)
        z_20[i] = score if sd > 0.0 else 0.0
        total, squares = moments_50(a[i], a_m2[i], b[i], b_m2[i], c[i], c_m2[i], y[i], z[i])
        sd = sqrt(squares * 0.02)
        score = (now[i] - total * 0.02) / (sd if sd > 0.0 else 1.0)
        z_50[i] = score if sd > 0.0 else 0.0
