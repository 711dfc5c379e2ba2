"""Indicators of ``technical_v1``: recursive and rolling averages, spread, flow, momentum, direction."""

from math import sqrt
from typing import Any

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import HISTORY, Vector

# --------------------------------------------------------------------- recursive averages with TA-Lib's seeds

# These are the only parts that look further back than a window. One chain alone waits for its own previous value
# (a multiply and an add) in every bar, so chains are advanced together, in two passes: ADX needs the directional
# index, which needs the sums of the first pass.
#
# Wilder's averages are kept as sums, ``sum = sum (1 - 1 / period) + value``: the mean is that over the period, and
# in a ratio of two of them the period cancels.


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


# ------------------------------------------------------------ features of the close's rolling mean and spread


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


# --------------------------------------------------------------------------------- spread over 20 and 50 bars


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


# ------------------------------------------------------------------------------------------------ volume flow


@kernel
def signed_volume(close: Vector, volume: Vector, n: int, signed: Vector) -> None:
    """Volume with the sign of the close's change."""
    new, old, traded, out = close[HISTORY:], close[HISTORY - 1 :], volume[HISTORY:], signed[HISTORY:]
    for i in range(n):
        up = traded[i] if new[i] > old[i] else 0.0
        down = traded[i] if new[i] < old[i] else 0.0
        out[i] = up - down


@kernel
def balance(signed_4: Vector, volume_4: Vector, volume_16: Vector, n: int, share: Vector, obv: Any) -> None:
    """Signed volume of the last 20 bars over their volume.

    On-balance volume itself (Granville 1963) depends on where the history starts and on the unit of volume;
    its change over 20 bars divided by the volume of those bars does not. 0 when nothing was traded.
    """
    a, b, c = signed_4[HISTORY:], signed_4[HISTORY - 4 :], signed_4[HISTORY - 8 :]
    d, e = signed_4[HISTORY - 12 :], signed_4[HISTORY - 16 :]
    newer, older, ratio = volume_16[HISTORY:], volume_4[HISTORY - 16 :], share[HISTORY:]
    for i in range(n):
        # in the order of the volumes' sum, so that 20 rising closes give exactly 1
        net = ((a[i] + b[i]) + (c[i] + d[i])) + e[i]
        gross = newer[i] + older[i]
        value = net / (gross if gross > 0.0 else 1.0)
        ratio[i] = value
        obv[i] = value


# --------------------------------------------------------------------------------------------------- momentum


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


# -------------------------------------------------------------------------- range and direction (Wilder 1978)


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
