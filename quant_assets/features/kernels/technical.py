"""The block kernel of ``technical_v1``: the 29 features of a run of symbols, in one pass."""

from typing import Any

import numpy as np
from numpy import int64
from numpy.typing import NDArray

from quant_assets.features.kernels import windows as w
from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.indicators import (
    KEEP_14,
    STATES,
    balance,
    bollinger_20,
    changes,
    convergence,
    directional_index,
    directional_indicators,
    distance_9,
    distance_50,
    distance_200,
    double_sums,
    exponential_averages,
    highest,
    lagged_return,
    lowest,
    mean_range,
    moves,
    return_and_rate,
    signed_volume,
    stochastic,
    strength,
    surprise,
    true_range,
    volatility,
    wilder_sums,
)
from quant_assets.features.kernels.windows import (
    ROWS,
    STRETCH,
    WIDTH,
    Vector,
    begin,
    carry,
    four_moments,
    four_sums,
    place,
    sixteen_moments,
)


@kernel
def technical_v1(
    open_: Vector, high: Vector, low: Vector, close: Vector, volume: Vector,
    starts: NDArray[int64], first: int, last: int, out: Any,
) -> None:  # fmt: skip
    """Write the features of symbols ``first`` to ``last - 1`` into their rows of ``out``.

    Parameters
    ----------
    open_, high, low, close, volume : float64 array, shape (rows,)
        Bars ordered by symbol and session. A symbol's rows are its own consecutive bars; holes are not
        filled. The pack does not read ``open_``.
    starts : int64 array, shape (symbols + 1,)
        First row of each symbol, then the number of rows.
    first, last : int
        Half-open range of symbols.
    out : float32 or float64 array, shape (29, rows)
        One row of the matrix per feature, in the order of the pack. Entries within a feature's lookback are
        finite, but mean nothing.
    """
    work, state = np.zeros((ROWS, WIDTH)), np.zeros(STATES)
    h, lo, c, v = work[w.HIGH], work[w.LOW], work[w.CLOSE], work[w.VOLUME]
    per_close, daily, gain, move = work[w.PER_CLOSE], work[w.DAILY], work[w.GAIN], work[w.MOVE]
    spread, rise, fall = work[w.TRUE_RANGE], work[w.RISE], work[w.FALL]
    total, risen, fallen = work[w.RANGE_SUM], work[w.RISE_SUM], work[w.FALL_SUM]
    index, index_keep, line, signal = work[w.INDEX], work[w.INDEX_KEEP], work[w.LINE], work[w.SIGNAL]
    for s in range(first, last):
        state[:] = 0.0
        for p in range(starts[s], starts[s + 1], STRETCH):
            q, bar = min(p + STRETCH, starts[s + 1]), p - starts[s]
            n = q - p
            if bar == 0:
                begin(work, high[p], low[p], close[p], volume[p])
            else:
                carry(work)
            place(h, high[p:q])
            place(lo, low[p:q])
            place(c, close[p:q])
            place(v, volume[p:q])

            changes(c, n, per_close, gain, move, daily, out[25, p:q])
            lagged_return(c, per_close, 5, n, out[26, p:q])
            return_and_rate(c, per_close, 10, n, out[27, p:q], out[10, p:q])
            return_and_rate(c, per_close, 20, n, out[28, p:q], out[11, p:q])

            x_4, m2_4, x_16, m2_16 = (
                work[w.CLOSE_4],
                work[w.CLOSE_4_M2],
                work[w.CLOSE_16],
                work[w.CLOSE_16_M2],
            )
            four_moments(c, n, x_4, m2_4)
            sixteen_moments(x_4, m2_4, n, x_16, m2_16)
            distance_9(c, x_4, n, out[0, p:q])
            bollinger_20(c, x_4, m2_4, x_16, m2_16, n, out[1, p:q], out[4, p:q], out[5, p:q])
            distance_50(c, x_16, n, work[w.CLOSE_32], out[2, p:q])
            double_sums(work[w.CLOSE_32], 32, n, work[w.CLOSE_64])
            double_sums(work[w.CLOSE_64], 64, n, work[w.CLOSE_128])
            distance_200(c, x_4, work[w.CLOSE_64], work[w.CLOSE_128], n, out[3, p:q])

            x_4, m2_4, x_16, m2_16 = (
                work[w.DAILY_4],
                work[w.DAILY_4_M2],
                work[w.DAILY_16],
                work[w.DAILY_16_M2],
            )
            four_moments(daily, n, x_4, m2_4)
            sixteen_moments(x_4, m2_4, n, x_16, m2_16)
            volatility(daily, x_4, m2_4, x_16, m2_16, n, out[19, p:q], out[20, p:q])

            x_4, m2_4 = work[w.VOLUME_4], work[w.VOLUME_4_M2]
            x_16, m2_16 = work[w.VOLUME_16], work[w.VOLUME_16_M2]
            four_moments(v, n, x_4, m2_4)
            sixteen_moments(x_4, m2_4, n, x_16, m2_16)
            surprise(v, x_4, m2_4, x_16, m2_16, n, out[6, p:q], out[7, p:q])
            signed_volume(c, v, n, work[w.SIGNED])
            four_sums(work[w.SIGNED], n, work[w.SIGNED_4])
            balance(work[w.SIGNED_4], x_4, x_16, n, work[w.SHARE], out[23, p:q])

            highest(h, 1, 2, 3, n, work[w.HIGH_4])
            highest(work[w.HIGH_4], 4, 6, 10, n, work[w.HIGH_14])
            lowest(lo, 1, 2, 3, n, work[w.LOW_4])
            lowest(work[w.LOW_4], 4, 6, 10, n, work[w.LOW_14])
            stochastic(c, work[w.HIGH_14], work[w.LOW_14], n, work[w.PERCENT_K], out[21, p:q], out[22, p:q])

            true_range(h, lo, c, n, spread)
            moves(h, lo, n, rise, fall)
            wilder_sums(
                bar, n, spread, rise, fall, gain, move, state, work[w.RANGE_14], total, risen, fallen,
                work[w.GAIN_14], work[w.MOVE_14], work[w.GAIN_21], work[w.MOVE_21],
            )  # fmt: skip
            mean_range(work[w.RANGE_14], per_close, n, out[18, p:q])
            strength(work[w.GAIN_14], work[w.MOVE_14], n, out[8, p:q])
            strength(work[w.GAIN_21], work[w.MOVE_21], n, out[9, p:q])
            directional_indicators(total, risen, fallen, n, out[16, p:q], out[17, p:q])
            directional_index(total, risen, fallen, n, KEEP_14, index, index_keep)
            exponential_averages(
                bar, n, c, index, index_keep, work[w.SHARE], state, line, signal, out[15, p:q], out[24, p:q]
            )
            convergence(line, signal, per_close, n, out[12, p:q], out[13, p:q], out[14, p:q])
