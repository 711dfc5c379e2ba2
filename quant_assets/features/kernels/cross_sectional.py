"""``cross_sectional_v1``: the block kernel of its inputs, and the step across the symbols of a session."""

from math import sqrt
from typing import Any

import numpy as np
from numpy import float64, int64
from numpy.typing import NDArray

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.stationary import below_high, lagged_return, traded_score
from quant_assets.features.kernels.windows import (
    Vector,
    log2_traded,
    moments_20_60,
    sums_20_60,
    traded_moments_20_60,
)

# 1 / (third quartile of the standard normal): makes the median absolute deviation of a normal its sd.
NORMAL_MAD = 1.482602218505602
# Scores beyond this many robust sd say "extreme", not how extreme.
SCORE_LIMIT = 3.0


@kernel
def skipped_momentum(close: Vector, skip: int, window: int, out: Any) -> None:
    """Return from ``window`` bars ago to ``skip`` bars ago."""
    for t in range(window, close.size):
        out[t] = (close[t - skip] - close[t - window]) / close[t - window]


@kernel
def cross_sectional_v1_inputs(
    open_: Vector, high: Vector, low: Vector, close: Vector, volume: Vector,
    starts: NDArray[int64], first: int, last: int, out: Any,
) -> None:  # fmt: skip
    """Write the 8 inputs of symbols ``first`` to ``last - 1``; parameters as in `technical.technical_v1`."""
    for s in range(first, last):
        a, b = starts[s], starts[s + 1]
        n = b - a
        c = close[a:b]
        lagged_return(c, 1, out[0, a + 1 : b])
        lagged_return(c, 5, out[1, a + 5 : b])
        lagged_return(c, 20, out[2, a + 20 : b])
        skipped_momentum(c, 21, 252, out[3, a:b])

        daily, sums, m2 = np.empty(n - 1), np.empty((2, n - 1)), np.empty((2, n - 1))
        lagged_return(c, 1, daily)
        moments_20_60(daily, sums[0], m2[0], sums[1], m2[1])
        for t in range(59, n - 1):
            out[4, a + 1 + t] = sqrt(m2[1, t] / 60.0)

        logarithm, traded, sum_20, sum_60 = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
        over_20, over_60 = np.empty((3, n)), np.empty((3, n))
        log2_traded(volume[a:b], logarithm, traded)
        traded_moments_20_60(logarithm, traded, over_20, over_60)
        traded_score(logarithm, traded, over_20, 20, out[5, a:b])

        sums_20_60(c, sum_20, sum_60)
        for t in range(59, n):
            mean = sum_60[t] / 60.0
            out[6, a + t] = (c[t] - mean) / mean
        below_high(high[a:b], c, out[7, a:b])


@kernel
def middle(ordered: Vector, count: int) -> float:
    """Median of ascending values."""
    half = count // 2
    if count % 2 == 1:
        return float(ordered[half])
    return float(ordered[half - 1] + ordered[half]) / 2.0


@kernel
def absolute_deviations(ordered: Vector, count: int, centre: float, deviations: Vector) -> None:
    """Distances from the centre, ascending, by merging the values below it with those above it."""
    right = count // 2
    left = right - 1
    for k in range(count):
        below = centre - ordered[left] if left >= 0 else np.inf
        above = ordered[right] - centre if right < count else np.inf
        if above <= below:
            deviations[k] = above
            right += 1
        else:
            deviations[k] = below
            left -= 1


@kernel
def rank_and_score(
    values: NDArray[float64], starts: NDArray[int64], first: int, last: int, minimum: int, out: Any
) -> None:
    """Write rank and robust score of each input within sessions ``first`` to ``last - 1``.

    Parameters
    ----------
    values : float64 array, shape (inputs, rows)
        Rows ordered by session. NaN takes no part.
    starts : int64 array, shape (sessions + 1,)
        First row of each session, then the number of rows.
    minimum : int
        A session in which fewer symbols take part is not written.
    out : float32 or float64 array, shape (2 inputs, rows)
        Ranks of all inputs, then scores of all inputs. Rows that take no part are not written.
    """
    inputs = values.shape[0]
    for s in range(first, last):
        a, b = starts[s], starts[s + 1]
        given, rows = np.empty(b - a), np.empty(b - a, dtype=int64)
        ordered, deviations = np.empty(b - a), np.empty(b - a)
        for j in range(inputs):
            count = 0
            for t in range(a, b):
                if not np.isnan(values[j, t]):
                    # Adding zero turns -0 into 0: they tie, and which one is the median must not matter.
                    given[count], rows[count] = values[j, t] + 0.0, t
                    count += 1
            if count < minimum:
                continue
            order = np.argsort(given[:count])
            for k in range(count):
                ordered[k] = given[order[k]]
            low = 0
            while low < count:
                high = low + 1
                while high < count and ordered[high] == ordered[low]:
                    high += 1
                # Tied ranks low + 1 to high have the mean (low + 1 + high) / 2; centred by (count + 1) / 2.
                rank = (low + high - count) / (2.0 * (count - 1)) if count > 1 else 0.0
                for k in range(low, high):
                    out[j, rows[order[k]]] = rank
                low = high
            centre = middle(ordered, count)
            absolute_deviations(ordered, count, centre, deviations)
            spread = NORMAL_MAD * middle(deviations, count)
            for k in range(count):
                score = (given[k] - centre) / spread if spread > 0.0 else 0.0
                out[inputs + j, rows[k]] = min(max(score, -SCORE_LIMIT), SCORE_LIMIT)
