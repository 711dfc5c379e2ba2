"""Volume flow: on-balance volume as a share of what was traded."""

from typing import Any

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector
from quant_assets.features.kernels.workspace import HISTORY


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
