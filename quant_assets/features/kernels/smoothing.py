"""Recursive averages with TA-Lib's seeds: Wilder's average and the exponential average.

These are the only parts that look further back than a window. One chain alone waits for its own previous value
(a multiply and an add) in every bar, so chains are advanced together, in two passes: ADX needs the directional
index, which needs the sums of the first pass.

Wilder's averages are kept as sums, ``sum = sum (1 - 1 / period) + value``: the mean is that over the period, and
in a ratio of two of them the period cancels.
"""

from typing import Any

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector
from quant_assets.features.kernels.workspace import HISTORY

# From this bar on no chain is in its seed any more (the average of the flow is the last, seeded at bar 39).
SEEDED = 40
STATES = 13

KEEP_14, KEEP_21 = 13.0 / 14.0, 20.0 / 21.0
TAKE_FAST, TAKE_SLOW, TAKE_SIGNAL, TAKE_FLOW = 2.0 / 13.0, 2.0 / 27.0, 2.0 / 10.0, 2.0 / 21.0
KEEP_FAST, KEEP_SLOW = 1.0 - TAKE_FAST, 1.0 - TAKE_SLOW
KEEP_SIGNAL, KEEP_FLOW = 1.0 - TAKE_SIGNAL, 1.0 - TAKE_FLOW


@kernel
def wilder_sums(
    bar: int, n: int, true_range: Vector, rise: Vector, fall: Vector, gain: Vector, move: Vector, state: Vector,
    range_14: Vector, range_sum: Vector, rise_sum: Vector, fall_sum: Vector,
    gain_14: Vector, move_14: Vector, gain_21: Vector, move_21: Vector,
) -> None:  # fmt: skip
    """Wilder's sums of range and moves over 14 (ATR, DI), of gains and all changes over 14 and 21 (RSI).

    TA-Lib seeds them differently: those for DI with bars 1..13, all others with bars 1..period. Bar 0 has no
    change and no true range.

    Parameters
    ----------
    bar : int
        Number of the stretch's first bar within the symbol.
    state : float64 array, shape (13,)
        Where the chains stand; entries 0 to 7 belong to this function.
    """
    ranged, rose, fell = true_range[HISTORY:], rise[HISTORY:], fall[HISTORY:]
    up, size = gain[HISTORY:], move[HISTORY:]
    out_a, out_b, out_c, out_d = (
        range_14[HISTORY:], range_sum[HISTORY:], rise_sum[HISTORY:], fall_sum[HISTORY:],
    )  # fmt: skip
    out_e, out_f, out_g, out_h = (
        gain_14[HISTORY:], move_14[HISTORY:], gain_21[HISTORY:], move_21[HISTORY:],
    )  # fmt: skip
    a, b, c, d = state[0], state[1], state[2], state[3]
    e, f, g, h = state[4], state[5], state[6], state[7]
    first = max(0, min(n, SEEDED - bar))
    for i in range(first):
        t = bar + i
        value = ranged[i] if t > 0 else 0.0
        keep = KEEP_14 if t > 13 else 1.0
        b, c, d = b * keep + value, c * keep + rose[i], d * keep + fell[i]
        keep = KEEP_14 if t > 14 else 1.0
        a, e, f = a * keep + value, e * keep + up[i], f * keep + size[i]
        keep = KEEP_21 if t > 21 else 1.0
        g, h = g * keep + up[i], h * keep + size[i]
        out_a[i], out_b[i], out_c[i], out_d[i] = a, b, c, d
        out_e[i], out_f[i], out_g[i], out_h[i] = e, f, g, h
    for i in range(first, n):
        a = a * KEEP_14 + ranged[i]
        b = b * KEEP_14 + ranged[i]
        c = c * KEEP_14 + rose[i]
        d = d * KEEP_14 + fell[i]
        e = e * KEEP_14 + up[i]
        f = f * KEEP_14 + size[i]
        g = g * KEEP_21 + up[i]
        h = h * KEEP_21 + size[i]
        out_a[i], out_b[i], out_c[i], out_d[i] = a, b, c, d
        out_e[i], out_f[i], out_g[i], out_h[i] = e, f, g, h
    state[0], state[1], state[2], state[3] = a, b, c, d
    state[4], state[5], state[6], state[7] = e, f, g, h


@kernel
def exponential_averages(
    bar: int, n: int, close: Vector, index: Vector, index_keep: Vector, share: Vector, state: Vector,
    line: Vector, signal: Vector, adx_14: Any, obv_ema: Any,
) -> None:  # fmt: skip
    """Exponential averages of the close (MACD) and of the flow, and Wilder's of the directional index (ADX).

    As in TA-Lib both averages of the close start at bar 25, the fast one with the mean of the last 12 bars; the
    signal starts with the mean of the first 9 differences (bar 33), ADX with that of 14 indices (bar 27). The
    flow's starts at bar 39 with the mean of the first 20. ``state[8:]`` belongs to this function.
    """
    price, raw, smoothed = close[HISTORY:], line[HISTORY:], signal[HISTORY:]
    dx, kept, flow = index[HISTORY:], index_keep[HISTORY:], share[HISTORY:]
    fast, slow, mean, adx, ema = state[8], state[9], state[10], state[11], state[12]
    first = max(0, min(n, SEEDED - bar))
    for i in range(first):
        t = bar + i
        if t <= 25:
            slow += price[i]
            fast += price[i] if t >= 14 else 0.0
            if t == 25:
                fast, slow = fast / 12.0, slow / 26.0
        else:
            fast = fast * KEEP_FAST + price[i] * TAKE_FAST
            slow = slow * KEEP_SLOW + price[i] * TAKE_SLOW
        if 25 <= t <= 33:
            mean += fast - slow
            if t == 33:
                mean /= 9.0
        elif t > 33:
            mean = mean * KEEP_SIGNAL + (fast - slow) * TAKE_SIGNAL
        if t >= 14:
            adx = adx * (kept[i] if t > 27 else 1.0) + dx[i]
        if t >= 20:
            ema += flow[i]
            if t == 39:
                ema /= 20.0
        raw[i], smoothed[i] = fast - slow, mean
        adx_14[i], obv_ema[i] = adx * (1.0 / 14.0), ema
    for i in range(first, n):
        fast = fast * KEEP_FAST + price[i] * TAKE_FAST
        slow = slow * KEEP_SLOW + price[i] * TAKE_SLOW
        gap = fast - slow
        mean = mean * KEEP_SIGNAL + gap * TAKE_SIGNAL
        adx = adx * kept[i] + dx[i]
        ema = ema * KEEP_FLOW + flow[i] * TAKE_FLOW
        raw[i], smoothed[i] = gap, mean
        adx_14[i], obv_ema[i] = adx * (1.0 / 14.0), ema
    state[8], state[9], state[10], state[11], state[12] = fast, slow, mean, adx, ema
