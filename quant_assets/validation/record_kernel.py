"""All sums that a track record needs, taken while a series is in the processor's first cache.

numpy walks through memory once for each operation, about thirty times for a full record; on 10,000 series of 2,520
days that is 1.5 s against 0.1 s here. Compiling takes seconds and loading the cached machine code a moment, so
`quant_assets.validation.track_record` comes here only for tables that repay it.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

COLUMNS = ("mean", "second", "third", "fourth", "downside", "drawdown", "equity", "wins")


# Sums may be reordered so that they vectorise, but NaN and infinity keep their meaning (no "nnan", no "ninf").
@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})
def record_sums(returns: NDArray[np.float64]) -> Any:
    """Sums of each row of an array of shape (series, T), C-contiguous.

    Returns
    -------
    ndarray, shape (series, 8)
        Mean, second to fourth central moment (divisor T), mean squared negative return, maximum drawdown (negative
        fraction), final equity (from 1), periods above 0: the order of ``COLUMNS``. The last four columns are
        meaningless where the mean is NaN.
    """
    series, periods = returns.shape
    found = np.empty((series, 8))
    for row in range(series):
        values = returns[row]
        total = 0.0
        downside = 0.0
        wins = 0
        for t in range(periods):
            value = values[t]
            total += value
            loss = min(value, 0.0)
            downside += loss * loss
            wins += value > 0.0
        mean = total / periods
        second = 0.0
        third = 0.0
        fourth = 0.0
        for t in range(periods):
            deviation = values[t] - mean
            square = deviation * deviation
            second += square
            third += square * deviation
            fourth += square * square
        equity = 1.0
        peak = 1.0
        lowest = 1.0
        for t in range(periods):
            equity *= max(1.0 + values[t], 0.0)
            peak = max(peak, equity)
            # equity / peak is wanted; comparing products keeps the slow division out of the loop
            if equity < lowest * peak:
                lowest = equity / peak
        found[row, 0] = mean
        found[row, 1] = second / periods
        found[row, 2] = third / periods
        found[row, 3] = fourth / periods
        found[row, 4] = downside / periods
        found[row, 5] = lowest - 1.0
        found[row, 6] = equity
        found[row, 7] = wins
    return found
