"""Volume flow: on-balance volume as a share of what was traded."""

from typing import Any

import numpy as np

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.smoothing import exponential
from quant_assets.features.kernels.windows import Vector, double_sums, join_sums


@kernel
def balance(close: Vector, volume: Vector, obv: Any, obv_ema: Any) -> None:
    """Signed volume of the last 20 bars over their volume, and its exponential average over 20.

    On-balance volume itself (Granville 1963) depends on where the history starts and on the unit of volume;
    its change over 20 bars divided by the volume of those bars does not. 0 when nothing was traded.
    """
    n = close.size
    if n < 21:
        return
    signed = np.empty(n)
    signed[0] = 0.0
    new, old, traded, out = close[1:], close[: n - 1], volume[1:], signed[1:]
    for i in range(n - 1):
        up = traded[i] if new[i] > old[i] else 0.0
        down = traded[i] if new[i] < old[i] else 0.0
        out[i] = up - down
    sums, net, gross = np.empty((5, n)), np.empty(n), np.empty(n)
    double_sums(signed, 4, sums)
    join_sums(sums[4], 16, sums[2], 4, net)
    double_sums(volume, 4, sums)
    join_sums(sums[4], 16, sums[2], 4, gross)
    share = np.empty(n)
    flow, total, ratio, written = net[20:], gross[20:], share[20:], obv[20:]
    for i in range(n - 20):
        value = flow[i] / (total[i] if total[i] > 0.0 else 1.0)
        ratio[i] = value
        written[i] = value
    smooth = np.empty(n)
    exponential(share, 20, 20, smooth)
    for t in range(39, n):
        obv_ema[t] = smooth[t]
