"""The block kernel of ``technical_v1``: the 29 features of a run of symbols, in one pass."""

from typing import Any

import numpy as np
from numpy import int64
from numpy.typing import NDArray

from quant_assets.features.kernels.averages import price_averages
from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.directional import directional_movement
from quant_assets.features.kernels.dispersion import volatility, volume_surprise
from quant_assets.features.kernels.flow import balance
from quant_assets.features.kernels.momentum import (
    convergence,
    relative_strength,
    return_and_rate,
    simple_return,
    stochastic,
)
from quant_assets.features.kernels.windows import Vector


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
        not written.
    """
    for s in range(first, last):
        a, b = starts[s], starts[s + 1]
        n = b - a
        h, lo, c, v = high[a:b], low[a:b], close[a:b], volume[a:b]
        price_averages(c, out[0, a:b], out[1, a:b], out[2, a:b], out[3, a:b], out[4, a:b], out[5, a:b])
        volume_surprise(v, out[6, a:b], out[7, a:b])
        relative_strength(c, out[8, a:b], out[9, a:b])
        convergence(c, out[12, a:b], out[13, a:b], out[14, a:b])
        directional_movement(h, lo, c, out[15, a:b], out[16, a:b], out[17, a:b], out[18, a:b])
        daily = np.empty(n)
        simple_return(c, 1, daily)
        for t in range(1, n):
            out[25, a + t] = daily[t]
        volatility(daily[1:], out[19, a + 1 : b], out[20, a + 1 : b])
        stochastic(h, lo, c, out[21, a:b], out[22, a:b])
        balance(c, v, out[23, a:b], out[24, a:b])
        simple_return(c, 5, out[26, a:b])
        return_and_rate(c, 10, out[27, a:b], out[10, a:b])
        return_and_rate(c, 20, out[28, a:b], out[11, a:b])
