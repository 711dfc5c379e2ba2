"""Panels with enough symbols for a cross-section."""

import numpy as np
import polars as pl

from quant_assets.common.hashing import frame_digest
from quant_assets.features import compute
from quant_assets_tests.features.panels import irregular_bars


def wide_irregular(copies: int = 5) -> pl.DataFrame:
    """45 symbols of 1 to 900 bars that start late, end early and have holes: 8 to 25 bars in a session."""
    parts = [
        irregular_bars(seed).with_columns(pl.col("symbol").str.replace("S", f"{chr(65 + k)}"))
        for k, seed in enumerate(range(5, 5 + copies))
    ]
    return pl.concat(parts)


def counted_bars(symbols: int = 12, sessions: int = 330) -> pl.DataFrame:
    """Bars made by integer arithmetic alone (a linear congruential generator): the same bits everywhere."""
    state, draws = 20, []
    for _ in range(5 * symbols * sessions):
        state = (6364136223846793005 * state + 1442695040888963407) % 2**64  # Knuth's MMIX
        draws.append(state >> 33)
    draw = np.array(draws, dtype=np.int64).reshape(5, symbols, sessions)
    close = np.maximum(20_000 + np.cumsum(draw[0] % 401 - 200, axis=1), 100)
    open_ = np.maximum(close + draw[1] % 101 - 50, 50)
    high, low = np.maximum(open_, close) + draw[2] % 80, np.minimum(open_, close) - draw[3] % 40
    volume = draw[4] % 1_000_000 * (draw[4] % 50 > 0)  # one bar in fifty has no volume
    return pl.DataFrame(
        {
            "symbol": np.repeat([f"C{k:02d}" for k in range(symbols)], sessions),
            "session": np.tile(np.arange(sessions, dtype=np.int32), symbols),
            "open": open_.ravel() / 64,
            "high": high.ravel() / 64,
            "low": low.ravel() / 64,
            "close": close.ravel() / 64,
            "volume": volume.ravel().astype(float),
        }
    ).with_columns(pl.col("session").cast(pl.Date))


def values_digest(pack: str) -> str:
    """Digest of every bit of a pack over `counted_bars`."""
    return frame_digest(compute(counted_bars(), pack, precision="float64"))
