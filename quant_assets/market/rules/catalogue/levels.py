"""Rules about prices over many sessions: that stand still where a market would move, or step without trading.

A split that was not re-based shows four things at once: the overnight gap is a usual n:m within the noise of a
night, the price was at the old level and stays at the new one, and neither the range nor the volume (in shares of
either side) is that of a day with news. News that halves a price in a night brings several times the usual range
and volume.
"""

from fractions import Fraction

import polars as pl

from quant_assets.market.parsing import PRICES, sentence
from quant_assets.market.rules.bar_rule import (
    FEWEST_FOR_USUAL,
    KEY,
    USUAL_SESSIONS,
    BarRule,
    Judged,
    Limit,
    register,
)

# ------------------------------------------------------------------------------------ prices that stand still


STALE_SESSIONS = Limit("stale_sessions", 5, "unchanged OHLC in a row", at_least=2, whole=True)


def _padding(judged: Judged, *, leading: bool) -> pl.DataFrame:
    traded = (pl.col("volume") > 0).fill_null(value=True)
    same = pl.all_horizontal(pl.col(name) == pl.col("close") for name in ("open", "high", "low"))
    outside = (traded.cum_sum(reverse=not leading) == 0).over("symbol")
    fewest = judged.limit(STALE_SESSIONS)
    padding = judged.bars.filter(outside & same).with_columns(observed=pl.len().over("symbol"))
    return padding.filter(pl.col("observed") >= fewest).with_columns(limit=pl.lit(float(fewest)))


def _padded_before_listing(judged: Judged) -> pl.DataFrame:
    """Bars without volume or range before a symbol's first trade."""
    return _padding(judged, leading=True)


def _padded_after_delisting(judged: Judged) -> pl.DataFrame:
    """Bars without volume or range after a symbol's last trade."""
    return _padding(judged, leading=False)


# A bar in which nothing was traded is told from a market's at its own close. Whether trading ever begins, or goes on,
# only says what the padding is called.
register(
    BarRule(
        name="padded_before_listing",
        judged_on="rows",
        rank=20,
        severity="QUARANTINE",
        description="Before a symbol's first trade the feed repeats one price without volume (observed: bars).",
        measure=_padded_before_listing,
        evidence="{observed} bars before the first trade of {symbol} hold one price ({written.close}) and no volume",
        limits=(STALE_SESSIONS,),
        may_be=("QUARANTINE", "ERROR", "WARN"),
        acceptable=True,
    )
)
register(
    BarRule(
        name="padded_after_delisting",
        judged_on="rows",
        rank=30,
        severity="QUARANTINE",
        description="After a symbol's last trade the feed repeats one price without volume (observed: bars).",
        measure=_padded_after_delisting,
        evidence="{observed} bars after the last trade of {symbol} hold one price ({written.close}) and no volume",
        limits=(STALE_SESSIONS,),
        may_be=("QUARANTINE", "ERROR", "WARN"),
        acceptable=True,
    )
)


def _repeated_bar(judged: Judged) -> pl.DataFrame:
    """Bars equal to the one before in all five values, with a range and a volume (so that it is no halt)."""
    names = [f"written.{name}" for name in (*PRICES, "volume")]
    equal = pl.all_horizontal((pl.col(name) == pl.col(name).shift()).over("symbol") for name in names)
    earlier = judged.bars.with_columns(earlier=pl.col("session").shift().over("symbol"))
    rows = earlier.filter(equal & (pl.col("high") > pl.col("low")) & (pl.col("volume") > 0))
    return rows.with_columns(observed=pl.lit(5.0), limit=pl.lit(5.0))


register(
    BarRule(
        name="repeated_bar",
        judged_on="rows",
        rank=40,
        severity="QUARANTINE",
        description="All prices and the volume are those of the bar before (observed: equal values).",
        measure=_repeated_bar,
        evidence="all five values are those of {earlier}: that row was written again",
        may_be=("QUARANTINE", "ERROR", "WARN"),
        acceptable=True,
    )
)


def _stale_prices(judged: Judged) -> pl.DataFrame:
    changed = pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift()) for name in PRICES)
    limit = judged.limit(STALE_SESSIONS)
    runs = (
        judged.bars.with_columns(run=changed.cum_sum().over("symbol"))
        .group_by("symbol", "run")
        .agg(session=pl.col("session").first(), observed=pl.len(), limit=limit)
    )
    return runs.filter(pl.col("observed") >= limit)


register(
    BarRule(
        name="stale_prices",
        judged_on="panel",
        rank=100,
        severity="WARN",
        description="Open, high, low, close stay the same for so many sessions (observed: the run).",
        measure=_stale_prices,
        limits=(STALE_SESSIONS,),
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)


FLAT_SESSIONS = Limit("flat_sessions", 5, "bars in a row whose high is their low", at_least=2, whole=True)


def _flat_bars(judged: Judged) -> pl.DataFrame:
    flat = pl.col("high") == pl.col("low")
    limit = judged.limit(FLAT_SESSIONS)
    runs = (
        judged.bars.with_columns(flat=flat, run=flat.rle_id().over("symbol"))
        .filter("flat")
        .group_by("symbol", "run")
        .agg(
            session=pl.col("session").first(),
            observed=pl.len(),
            n_prices=pl.col("close").n_unique(),
            limit=limit,
        )
    )
    # One price all along is stale, not flat.
    return runs.filter((pl.col("observed") >= limit) & (pl.col("n_prices") > 1))


register(
    BarRule(
        name="flat_bars",
        judged_on="panel",
        rank=110,
        severity="WARN",
        description="High equals low for so many sessions while the price moves: closes only (observed: the run).",
        measure=_flat_bars,
        limits=(FLAT_SESSIONS,),
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)


# --------------------------------------------------------------------- steps of the level that are no trading


# New shares per old of forward splits; reverse splits are their inverses. 5:4 and 4:3 are left out: a fall by a
# fifth or a quarter in a night is usual news, and an unadjusted 5:4 shows in no other way.
SPLIT_RATIOS = (
    1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 12.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 75.0, 100.0,
)  # fmt: skip
UNITS = (10.0, 100.0, 1000.0)
LEVEL_SESSIONS = 5
LEVEL_SHARE = (
    0.3  # of the gap, in logarithms, that the closes before and after may differ from their own level
)
NEWS_COULD_BE = (
    4.0  # above this ratio the gap alone is proof: no night of the reference bars halved a price twice
)

SPLIT_TOLERANCE = Limit("split_tolerance", 0.04, "of the overnight gap to n:m", above=0, at_most=0.1)
SPLIT_ACTIVITY = Limit("split_max_activity", 3.0, "volume and range over their usual", at_least=1)


def _level_shifts(judged: Judged) -> pl.DataFrame:
    """Overnight steps of the level by a usual ratio; steps that known actions explain are gone from the bars.

    `SPLIT_TOLERANCE` is the relative distance of the gap to the ratio, `SPLIT_ACTIVITY` bounds the range, and the
    volume after allowing for the ratio, over their medians of the month before.

    Returns
    -------
    polars.DataFrame
        symbol, session, ``observed`` (open over the close before), ``limit`` (the ratio it is taken for, on the
        same scale), ``unit_change`` (the ratio is 10, 100 or 1000 and the volume did not follow it); ``earlier``
        (the close before), ``opened``, ``factor`` and ``split`` (as in 2:1) for the evidence.
    """
    tolerance, most = judged.limit(SPLIT_TOLERANCE), judged.limit(SPLIT_ACTIVITY)
    close, volume = pl.col("close"), pl.col("volume")
    width = (pl.col("high") / pl.col("low")).log()

    def usual(value: pl.Expr) -> pl.Expr:
        return value.rolling_median(USUAL_SESSIONS, min_samples=FEWEST_FOR_USUAL).shift().over("symbol")

    # The median of this session and the next four; of fewer at the end of the feed.
    following = close.reverse().rolling_median(LEVEL_SESSIONS, min_samples=1).reverse().over("symbol")
    preceding = close.rolling_median(LEVEL_SESSIONS, min_samples=1).shift().over("symbol")
    volume_after = volume.reverse().rolling_median(LEVEL_SESSIONS, min_samples=1).reverse().over("symbol")
    gap = (pl.col("open") / close.shift()).over("symbol")
    sized = judged.bars.with_columns(gap=gap).with_columns(
        size=pl.max_horizontal(pl.col("gap"), 1 / pl.col("gap"))
    )
    a_step = pl.col("size").is_finite() & (pl.col("size") > SPLIT_RATIOS[0] * (1 - tolerance))
    # What is usual is asked of names that have such a step at all: few of them do.
    names = sized.filter(a_step)["symbol"].unique()
    steps = (
        sized.filter(pl.col("symbol").is_in(names.implode()))
        .with_columns(
            following=following,
            preceding=preceding,
            volume_after=volume_after,
            volume_before=usual(volume),
            width=width,
            width_before=usual(width),
        )
        .filter(a_step)
    )
    usual_ratios = sorted({*SPLIT_RATIOS, *UNITS})
    shares = [Fraction(ratio).as_integer_ratio() for ratio in usual_ratios]
    ratios = pl.DataFrame(
        {"ratio": usual_ratios, "new": [new for new, _ in shares], "old": [old for _, old in shares]}
    )
    nearest = (
        steps.join(ratios, how="cross")
        .with_columns(distance=(pl.col("size") / pl.col("ratio") - 1).abs())
        .filter(pl.col("distance") <= tolerance)
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
    # Shares are worth less after a forward split, so more of them trade; a re-based volume does not move.
    traded = volume / pl.col("volume_before") / pl.when(forward).then(ratio).otherwise(1.0)
    calm = (traded <= most) & (pl.col("width") <= most * pl.col("width_before"))
    followed = (pl.col("volume_after") / pl.col("volume_before")).log() * pl.when(forward).then(1).otherwise(
        -1
    )
    unit_change = ratio.is_in(UNITS) & (followed < 0.5 * ratio.log())
    shifts = nearest.filter(kept_level & ((ratio >= NEWS_COULD_BE) | calm.fill_null(value=False)))
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
        earlier=pl.col("before").round_sig_figs(6),
        opened=pl.col("open").round_sig_figs(6),
        factor=pl.col("limit").round_sig_figs(6),
        split=pl.when(forward)
        .then(sentence("{}:{}", "new", "old"))
        .otherwise(sentence("{}:{}", "old", "new")),
    )


def _split_never_rebased(judged: Judged) -> pl.DataFrame:
    return judged.once("level shifts", _level_shifts).filter(~pl.col("unit_change"))


register(
    BarRule(
        name="split_never_rebased",
        judged_on="panel",
        rank=60,
        severity="SET_ASIDE",
        description="Overnight the price steps to an n:m of itself on usual trading and stays (observed: the gap).",
        measure=_split_never_rebased,
        evidence="the close before was {earlier}, the open is {opened} and the price stays: "
        "a split {split} never re-based",
        limits=(SPLIT_TOLERANCE, SPLIT_ACTIVITY),
        may_be=("SET_ASIDE", "ERROR", "WARN"),
        acceptable=True,
    )
)


def _price_unit_change(judged: Judged) -> pl.DataFrame:
    return judged.once("level shifts", _level_shifts).filter("unit_change")


register(
    BarRule(
        name="price_unit_change",
        judged_on="panel",
        rank=70,
        severity="SET_ASIDE",
        description="Overnight the price steps by 10, 100 or 1000 and stays, the volume does not "
        "(observed: the gap).",
        measure=_price_unit_change,
        evidence="the close before was {earlier}, the open is {opened} and the price stays: another unit, x {factor}",
        limits=(SPLIT_TOLERANCE, SPLIT_ACTIVITY),
        may_be=("SET_ASIDE", "ERROR", "WARN"),
        acceptable=True,
    )
)


JUMP_FRACTION = Limit("jump_fraction", 0.4, "|close to close| that is a jump", above=0, at_most=1)


def _unexplained_jumps(judged: Judged) -> pl.DataFrame:
    # Bars are adjusted, so a split that is known leaves no jump; what still jumps, nothing explains. A jump that
    # looks like a split or a change of unit is named so instead.
    move = (pl.col("close") / pl.col("close").shift() - 1).over("symbol")
    limit = judged.limit(JUMP_FRACTION)
    jumps = judged.bars.with_columns(observed=move, limit=limit).filter(pl.col("observed").abs() >= limit)
    return jumps.join(judged.once("level shifts", _level_shifts), on=KEY, how="anti")


register(
    BarRule(
        name="unexplained_jumps",
        judged_on="panel",
        rank=120,
        severity="WARN",
        description="The close moves by such a fraction of the one before, adjusted for corporate actions.",
        measure=_unexplained_jumps,
        limits=(JUMP_FRACTION, SPLIT_TOLERANCE, SPLIT_ACTIVITY),
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)
