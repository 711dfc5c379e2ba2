"""The working memory of ``technical_v1``: one row per intermediate series, one stretch of bars at a time.

A symbol is worked through in stretches of at most `STRETCH` bars. Column ``HISTORY + i`` of a row belongs to
bar i of the stretch; the `HISTORY` columns before it hold the last bars of the stretch before, so a window
reaches back without a special case. Every loop runs along time over a few rows that stay in the second-level
cache, however long the history is, and memory does not grow with it. Where a stretch begins changes no bit: a
windowed value is a fixed expression of its window, a recursive one hands on its exact state.
"""

from typing import Any

from quant_assets.features.kernels.compilation import kernel
from quant_assets.features.kernels.windows import Vector

# Measured over 500 x 2,520 bars: 38 ms with 128 bars, 33 with 256, 28 with 512, 26 with 1,024 and more. The
# rows of 2,048 bars take 0.8 MB.
STRETCH = 2048
# The longest reach into a row is 72 bars; a multiple of 8 keeps columns aligned.
HISTORY = 72
WIDTH = HISTORY + STRETCH

# Rows that are read with a lag, and so carried from stretch to stretch. `X_4` is over the last 4 bars of X.
CARRIED = 26
(
    HIGH, LOW, CLOSE, VOLUME, PER_CLOSE, DAILY, SIGNED,
    CLOSE_4, CLOSE_4_M2, CLOSE_16, CLOSE_16_M2, CLOSE_32, CLOSE_64, CLOSE_128,
    VOLUME_4, VOLUME_4_M2, VOLUME_16, VOLUME_16_M2,
    DAILY_4, DAILY_4_M2, DAILY_16, DAILY_16_M2,
    SIGNED_4, HIGH_4, LOW_4, PERCENT_K,
) = range(CARRIED)  # fmt: skip
# Rows that are read at the bar itself only.
ROWS = CARRIED + 20
(
    GAIN, MOVE, TRUE_RANGE, RISE, FALL, HIGH_14, LOW_14,
    RANGE_14, RANGE_SUM, RISE_SUM, FALL_SUM, INDEX, INDEX_KEEP, SHARE,
    GAIN_14, MOVE_14, GAIN_21, MOVE_21, LINE, SIGNAL,
) = range(CARRIED, ROWS)  # fmt: skip


@kernel
def begin(work: Any, high: float, low: float, close: float, volume: float) -> None:
    """Before its first bar a symbol is taken to have stood still: finite, and no feature shows it."""
    for k in range(CARRIED):
        work[k, :HISTORY] = 0.0
    work[HIGH, :HISTORY] = high
    work[LOW, :HISTORY] = low
    work[CLOSE, :HISTORY] = close
    work[VOLUME, :HISTORY] = volume
    work[PER_CLOSE, :HISTORY] = 1.0 / close


@kernel
def carry(work: Any) -> None:
    """Put the last bars of a full stretch in front of the next one."""
    for k in range(CARRIED):
        row = work[k]
        last = row[STRETCH:]
        for i in range(HISTORY):
            row[i] = last[i]


@kernel
def place(row: Vector, values: Vector) -> None:
    """Copy the bars of a stretch into a row (input arrays may be read-only views; rows never alias them)."""
    bars = row[HISTORY:]
    for i in range(values.size):
        bars[i] = values[i]
