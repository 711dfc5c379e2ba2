"""Windows of 4 and 16 bars of a workspace row: the first steps of every longer window.

As in `quant_assets.features.kernels.windows` a value is a fixed expression of its own window: two doublings at a
time, so that a row is read and written half as often.
"""

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector
from quant_assets.features.kernels.workspace import HISTORY


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
