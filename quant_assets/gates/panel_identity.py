"""What tells one panel of bars from another, whatever it is called: for counting looks at the same history."""

from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.hashing import frame_digest, json_digest
from quant_assets.market.listings import ends_known

PRICES = ("open", "high", "low", "close")
SKETCH_SHARE = 32
RATIO_DECIMALS = 6  # a later dividend or split rescales the adjusted history, and moves a ratio by 1e-16


def panel_digest(bars: pl.DataFrame, until: date, members: pl.DataFrame | None = None) -> str:
    """Digest of an adjusted panel's history up to a session: it stays when bars are added, or earlier ones rescaled.

    Each bar counts as its prices over the symbol's close before and its volume over the volume before, to six
    decimals; the first bar of a symbol as its name and session. How names ended counts as it was known by then.

    Parameters
    ----------
    bars : polars.DataFrame
    until : date
    members : polars.DataFrame, optional
        ``symbol, session`` of the bars at which a name was in the group: another membership is another history.
    """
    before = pl.col("close").shift(1).over("symbol")
    ratios = [(pl.col(name) / before).round(RATIO_DECIMALS) for name in PRICES if name in bars.columns]
    volume = pl.col("volume").cast(pl.Float64)
    grown = (volume / volume.shift(1).over("symbol")).log().round(RATIO_DECIMALS).fill_nan(None)
    history = bars.filter(pl.col("session") <= until).sort("symbol", "session")
    digest = frame_digest(history.select("symbol", "session", *ratios, grown))
    ends = ends_known(history)
    parts = [digest, *([frame_digest(ends)] if ends.height else [])]
    if members is not None:
        then = members.filter(pl.col("session") <= until).select("symbol", "session")
        parts.append(f"members {frame_digest(then.sort('symbol', 'session'))}")
    return json_digest(parts) if parts[1:] else digest


def panel_sketch(bars: pl.DataFrame) -> NDArray[np.uint64]:
    """A sample of a panel's bars that finds the same bars again, whatever the universe, the symbols or the file is
    called.

    One bar in `SKETCH_SHARE`, chosen by its hash, so two panels choose the same ones (Broder 1997; the share of the
    smaller sketch that is in the other estimates the share of bars). A bar is its session and its return to six
    decimals, 0 left out.
    """
    ratio = pl.col("close") / pl.col("close").shift(1).over("symbol") - 1.0
    moves = (
        bars.sort("symbol", "session")
        .select(day=pl.col("session").cast(pl.Int32), move=(ratio * 10**RATIO_DECIMALS).round())
        .filter(pl.col("move").is_finite() & (pl.col("move").abs() >= 1.0))
    )
    # The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit of the input moves half of the output's.
    mixed = moves["day"].to_numpy().astype(np.uint64) << np.uint64(40)
    mixed ^= moves["move"].cast(pl.Int64).to_numpy().astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return np.unique(mixed[mixed < np.uint64(2**64 // SKETCH_SHARE)])
