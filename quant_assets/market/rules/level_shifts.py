"""Steps of the price level that are no trading: splits that a feed never re-based, and changes of unit.

A split that was not re-based shows four things at once: the overnight gap is a usual n:m within the noise of a
night, the price was at the old level and stays at the new one, and neither the range nor the volume (in shares of
either side) is that of a day with news. News that halves a price in a night brings several times the usual range
and volume.
"""

from fractions import Fraction

import polars as pl

from quant_assets.common.settings import QualityConfig
from quant_assets.market.sources.parsing import sentence

# New shares per old of forward splits; reverse splits are their inverses. 5:4 and 4:3 are left out: a fall by a
# fifth or a quarter in a night is usual news, and an unadjusted 5:4 shows in no other way.
SPLIT_RATIOS = (
    1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 75.0, 100.0,
)  # fmt: skip
UNITS = (10.0, 100.0, 1000.0)
USUAL_SESSIONS = 21
FEWEST_FOR_USUAL = 10
LEVEL_SESSIONS = 5
LEVEL_SHARE = (
    0.3  # of the gap, in logarithms, that the closes before and after may differ from their own level
)
NEWS_COULD_BE = (
    4.0  # above this ratio the gap alone is proof: no night of the reference bars halved a price twice
)


SHIFTS: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    "limit": pl.Float64,
    "unit_change": pl.Boolean,
    "observed": pl.Float64,
    "evidence": pl.String,
}


def level_shifts(bars: pl.DataFrame, limits: QualityConfig) -> pl.DataFrame:
    """Find overnight steps of the level by a usual ratio.

    Parameters
    ----------
    bars : polars.DataFrame
        Adjusted bars sorted by symbol and session: steps that known actions explain are gone.
    limits : QualityConfig
        ``split_tolerance`` (relative distance of the gap to the ratio) and ``split_max_activity`` (range, and
        volume after allowing for the ratio, over their medians of the month before).

    Returns
    -------
    polars.DataFrame
        symbol, session, ``observed`` (open over the close before), ``limit`` (the ratio it is taken for, on the
        same scale), ``unit_change`` (the ratio is 10, 100 or 1000 and the volume did not follow it), ``evidence``.
    """
    close, volume = pl.col("close"), pl.col("volume")
    width = (pl.col("high") / pl.col("low")).log()

    def usual(value: pl.Expr) -> pl.Expr:
        return value.rolling_median(USUAL_SESSIONS, min_samples=FEWEST_FOR_USUAL).shift().over("symbol")

    # The median of this session and the next four; of fewer at the end of the feed.
    following = close.reverse().rolling_median(LEVEL_SESSIONS, min_samples=1).reverse().over("symbol")
    preceding = close.rolling_median(LEVEL_SESSIONS, min_samples=1).shift().over("symbol")
    volume_after = volume.reverse().rolling_median(LEVEL_SESSIONS, min_samples=1).reverse().over("symbol")
    gap = (pl.col("open") / close.shift()).over("symbol")
    steps = (
        bars.with_columns(
            gap=gap,
            following=following,
            preceding=preceding,
            volume_after=volume_after,
            volume_before=usual(volume),
            width=width,
            width_before=usual(width),
        )
        .with_columns(size=pl.max_horizontal(pl.col("gap"), 1 / pl.col("gap")))
        .filter(
            pl.col("size").is_finite() & (pl.col("size") > SPLIT_RATIOS[0] * (1 - limits.split_tolerance))
        )
    )
    usual_ratios = sorted({*SPLIT_RATIOS, *UNITS})
    shares = [Fraction(ratio).as_integer_ratio() for ratio in usual_ratios]
    ratios = pl.DataFrame(
        {"ratio": usual_ratios, "new": [new for new, _ in shares], "old": [old for _, old in shares]}
    )
    nearest = (
        steps.join(ratios, how="cross")
        .with_columns(distance=(pl.col("size") / pl.col("ratio") - 1).abs())
        .filter(pl.col("distance") <= limits.split_tolerance)
        .sort("symbol", "session", "distance")
        .unique(["symbol", "session"], keep="first", maintain_order=True)
    )
    ratio, forward = pl.col("ratio"), pl.col("gap") < 1
    # On both sides: a leap of two sessions steps back to a level that stays, and is no split either way.
    drifts = (
        (pl.col("following") / pl.col("open")).log(),
        (pl.col("preceding") * pl.col("gap") / pl.col("open")).log(),
    )
    kept_level = pl.all_horizontal(drift.abs() <= LEVEL_SHARE * ratio.log() for drift in drifts)
    most = limits.split_max_activity
    # Shares are worth less after a forward split, so more of them trade; a re-based volume does not move.
    traded = volume / pl.col("volume_before") / pl.when(forward).then(ratio).otherwise(1.0)
    calm = (traded <= most) & (pl.col("width") <= most * pl.col("width_before"))
    followed = (pl.col("volume_after") / pl.col("volume_before")).log() * pl.when(forward).then(1).otherwise(
        -1
    )
    unit_change = ratio.is_in(UNITS) & (followed < 0.5 * ratio.log())
    shifts = nearest.filter(kept_level & ((ratio >= NEWS_COULD_BE) | calm.fill_null(value=False)))
    if shifts.is_empty():
        return pl.DataFrame(schema=SHIFTS)
    return shifts.with_columns(
        unit_change=unit_change.fill_null(value=False) | (ratio > max(SPLIT_RATIOS)),
        limit=pl.when(forward).then(1 / ratio).otherwise(ratio),
        before=pl.col("open") / pl.col("gap"),
    ).select(
        "symbol",
        "session",
        "limit",
        "unit_change",
        observed=pl.col("gap"),
        evidence=sentence(
            "the close before was {}, the open is {} and the price stays: {}",
            pl.col("before").round_sig_figs(6),
            pl.col("open").round_sig_figs(6),
            pl.when("unit_change")
            .then(sentence("another unit, x {}", pl.col("limit").round_sig_figs(6)))
            .otherwise(
                sentence(
                    "a split {} never re-based",
                    pl.when(forward)
                    .then(sentence("{}:{}", "new", "old"))
                    .otherwise(sentence("{}:{}", "old", "new")),
                )
            ),
        ),
    )
