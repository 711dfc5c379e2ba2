"""Rules about the values of one bar: impossible ones, and those that are suspicious against the bars around them.

Prices of raw rows are compared after adjustment for the corporate actions that are known, so that a split is no
spike; the evidence shows them as the source wrote them.

The defaults were tried on 482,800 bars of 100 large US stocks, 2005 to 2024, crises included: one close (BK on
2009-01-20, a day of panic that really was) leapt by 20 % and ten usual moves and came back, no high or low was
twice away from everything around it, no volume exceeded 18 times the median around it.
"""

import math

import polars as pl

from quant_assets.market.calendar import session_shares
from quant_assets.market.parsing import PRICES, sentence
from quant_assets.market.rules.bar_rule import (
    FEWEST_FOR_USUAL,
    USUAL_SESSIONS,
    BarRule,
    Judged,
    Limit,
    register,
)

FEWEST_AROUND = 5
ALWAYS_A_SPIKE = math.log(1.5)  # however wild the market: none of those closes did this and came back
LEVEL_KEPT = 0.5  # back at the old level: at most half of the leap is left
CALM_MOVES = 3.0  # a huge volume is news when the price moved more than this many usual moves
LARGEST_DECIMAL_SLIP = 4
RARE_FRACTION = 0.05


def _two(value: pl.Expr) -> pl.Expr:
    return value.round_sig_figs(4)


# ------------------------------------------------------------------- A price that is not where the others are


SLIP_TOLERANCE = Limit("decimal_slip_tolerance", 0.25, "around 10, 100, 1000", above=0, at_most=0.5)


def _decimal_slip(judged: Judged) -> pl.DataFrame:
    """Bars of which a price is a power of ten times the mean of the closes around, which agree."""
    around = (pl.col("before") * pl.col("after")).sqrt()
    agree = (pl.col("before") / pl.col("after")).log().abs() < ALWAYS_A_SPIKE
    powers = {name: (pl.col(name) / around).log10() for name in PRICES}
    width = math.log10(1 + judged.limit(SLIP_TOLERANCE))

    def slipped(name: str) -> pl.Expr:
        power = powers[name]
        whole = power.round()
        return (whole.abs().is_between(1, LARGEST_DECIMAL_SLIP)) & ((power - whole).abs() <= width)

    # The close first: where it slipped, the others are read beside it.
    order = ("close", "open", "high", "low")
    factor = pl.coalesce(pl.when(slipped(n)).then(10.0 ** powers[n].round()) for n in order)
    written = pl.coalesce(pl.when(slipped(n)).then(sentence(n + " {}", f"written.{n}")) for n in order)
    # One mask and no new column: of three million bars hardly any is left to write about.
    rows = judged.bars.filter(agree & factor.is_not_null()).with_columns(observed=factor)
    return rows.with_columns(
        which=written,
        around=_two(around / pl.col("price_factor")),
        limit=pl.when(pl.col("observed") > 1).then(10.0).otherwise(0.1),
    )


register(
    BarRule(
        name="decimal_slip",
        judged_on="rows",
        rank=50,
        severity="QUARANTINE",
        description="One bar's price is 10, 100 or 1000 times its neighbours', or such a part "
        "(observed: the factor).",
        measure=_decimal_slip,
        evidence="{which} is about {observed} times the closes around it ({around}): the decimal point slipped",
        limits=(SLIP_TOLERANCE,),
        # The closes around confirm it, but the close before tells it at once: no market makes such a step in a night.
        # Where the level stays, what is wrong is the feed: a split never re-based, another unit, and both block.
        later_bars=0,
        may_be=("QUARANTINE", "ERROR"),
        acceptable=True,
    )
)


OHLC_TOLERANCE = Limit("ohlc_tolerance_fraction", 1e-4, "of the close", at_least=0, at_most=0.01)
OUTSIDE_RANGE = "Open or close lies outside low to high by more than a fraction of the close."


def _ohlc_consistency(judged: Judged) -> pl.DataFrame:
    """Bars whose open or close lies outside low to high, or whose low lies above high."""
    top, bottom = pl.max_horizontal("open", "close", "low"), pl.min_horizontal("open", "close", "high")
    # By how much open, close or low exceed high, or low exceeds them, over the close.
    excess = pl.max_horizontal(top - pl.col("high"), pl.col("low") - bottom) / pl.col("close").abs()
    limit = judged.limit(OHLC_TOLERANCE)
    return judged.bars.with_columns(observed=excess, limit=pl.lit(limit)).filter(pl.col("observed") > limit)


register(
    BarRule(
        name="ohlc_consistency",
        judged_on="rows",
        rank=60,
        severity="QUARANTINE",
        description=OUTSIDE_RANGE,
        measure=_ohlc_consistency,
        evidence="open {written.open} or close {written.close} lies outside low {written.low} "
        "to high {written.high}",
        limits=(OHLC_TOLERANCE,),
        may_be=("QUARANTINE", "ERROR"),
        acceptable=True,
    )
)
# Suspicious raw rows are gone by then: what is still inconsistent blocks, whatever a universe says of raw rows.
register(
    BarRule(
        name="ohlc_consistency",
        judged_on="panel",
        rank=30,
        severity="SET_ASIDE",
        description=OUTSIDE_RANGE,
        measure=_ohlc_consistency,
        limits=(OHLC_TOLERANCE,),
        acceptable=True,
    )
)


RANGE_FACTOR = Limit("range_factor", 2.0, "high or low over everything around it", at_least=1.2)


def _range_spike(judged: Judged) -> pl.DataFrame:
    """Bars whose high or low alone is far from open, close and the closes around."""
    anchors = ("open", "close", "before", "after")
    above = pl.col("high") / pl.max_horizontal(anchors)
    below = pl.min_horizontal(anchors) / pl.col("low")
    limit = judged.limit(RANGE_FACTOR)
    rows = judged.bars.with_columns(
        observed=pl.max_horizontal(above, below), limit=pl.lit(limit), above=above, below=below
    ).filter(pl.col("observed") > limit)
    which = (
        pl.when(pl.col("above") >= pl.col("below"))
        .then(sentence("high {}", "written.high"))
        .otherwise(sentence("low {}", "written.low"))
    )
    return rows.with_columns(which=which, times=_two(pl.col("observed")))


register(
    BarRule(
        name="range_spike",
        judged_on="rows",
        rank=70,
        severity="QUARANTINE",
        description="High or low is so many times away from the bar's open and close and both closes around it.",
        measure=_range_spike,
        evidence="{which} is {times} times away from open {written.open}, close {written.close} "
        "and the closes around",
        limits=(RANGE_FACTOR,),
        later_bars=1,
        may_be=("QUARANTINE", "ERROR", "WARN"),
        acceptable=True,
    )
)


SPIKE_FRACTION = Limit("spike_fraction", 0.2, "move away and back of a spike", at_least=0.05, at_most=1)
SPIKE_MULTIPLE = Limit("spike_multiple", 10.0, "of the usual move, for a spike below 50 %", at_least=3)


def _price_spike(judged: Judged) -> pl.DataFrame:
    """Bars whose close leaps away from both neighbours to the same side while these agree."""
    up, down = (pl.col("close") / pl.col("before")).log(), (pl.col("close") / pl.col("after")).log()
    leap = pl.min_horizontal(up.abs(), down.abs())
    calm = pl.max_horizontal(
        pl.lit(math.log1p(judged.limit(SPIKE_FRACTION))), judged.limit(SPIKE_MULTIPLE) * pl.col("usual_move")
    )
    limit = pl.min_horizontal(pl.max_horizontal(calm, pl.lit(0.0)), pl.lit(ALWAYS_A_SPIKE))
    # Without a month of history nothing is usual yet: only the largest leaps are told.
    limit = pl.when(pl.col("usual_move").is_null()).then(ALWAYS_A_SPIKE).otherwise(limit)
    rows = judged.bars.with_columns(
        observed=leap, limit=limit, same_side=up * down > 0, left=(up - down).abs()
    ).filter(
        pl.col("same_side")
        & (pl.col("observed") >= pl.col("limit"))
        & (pl.col("left") <= LEVEL_KEPT * pl.col("observed"))
    )
    return rows.with_columns(
        earlier=_two(pl.col("before") / pl.col("price_factor")),
        later=_two(pl.col("after") / pl.col("price_factor")),
    )


register(
    BarRule(
        name="price_spike",
        judged_on="rows",
        rank=80,
        severity="QUARANTINE",
        description="The close leaps for one session and comes back (observed: the smaller leap, in logarithms).",
        measure=_price_spike,
        evidence="close {written.close} stands between {earlier} and {later}: a leap for one session only",
        limits=(SPIKE_FRACTION, SPIKE_MULTIPLE),
        later_bars=1,
        may_be=("QUARANTINE", "ERROR", "WARN"),
        acceptable=True,
    )
)


# ----------------------------------------------------------------------- A volume that is not like the others


VOLUME_FACTOR = Limit("volume_spike_factor", 100.0, "of the usual volume", at_least=20)


def _volume_spike(judged: Judged) -> pl.DataFrame:
    """Bars with a huge volume between usual ones while the price hardly moves."""
    volume = pl.col("volume")
    usual = volume.rolling_median(USUAL_SESSIONS, center=True, min_samples=2 * FEWEST_AROUND + 1).over(
        "symbol"
    )
    beside = pl.max_horizontal(volume.shift().over("symbol"), volume.shift(-1).over("symbol"))
    move = (pl.col("close") / pl.col("before")).log().abs()
    limit = judged.limit(VOLUME_FACTOR)
    alone = judged.bars.with_columns(beside=beside, move=move).with_columns(
        alone=(
            (volume >= 10 * pl.col("beside")) & (pl.col("move") <= CALM_MOVES * pl.col("usual_move"))
        ).fill_null(value=False)
    )
    names = alone.filter("alone")["symbol"].unique()
    rows = (
        alone.filter(pl.col("symbol").is_in(names.implode()))
        .with_columns(usual=usual, limit=pl.lit(limit))
        .filter(pl.col("alone") & (volume >= limit * pl.col("usual")) & (pl.col("usual") > 0))
    )
    times = volume / pl.col("usual")
    return rows.with_columns(observed=times, times=_two(times), move=_two(pl.col("move")))


register(
    BarRule(
        name="volume_spike",
        judged_on="rows",
        rank=90,
        severity="QUARANTINE",
        description="One session's volume is a huge multiple of those around it, and the price hardly moves.",
        measure=_volume_spike,
        evidence="volume {written.volume} is {times} times the median around it, and the close moved by {move} only",
        limits=(VOLUME_FACTOR,),
        later_bars=USUAL_SESSIONS // 2,  # half of the centred window
        may_be=("QUARANTINE", "ERROR", "WARN"),
        acceptable=True,
    )
)


PARTIAL_FRACTION = Limit("partial_volume_fraction", 0.2, "of the usual volume", at_least=0, at_most=0.5)


def _partial_last_bar(judged: Judged) -> pl.DataFrame:
    """The feed's last session where a symbol's bar has little volume and a small range for that session."""
    volume, width = pl.col("volume"), (pl.col("high") / pl.col("low")).log()
    usual = {
        name: value.rolling_median(USUAL_SESSIONS, min_samples=FEWEST_FOR_USUAL).shift().over("symbol")
        for name, value in (("usual_volume", volume), ("usual_width", width))
    }
    recent = pl.int_range(pl.len(), 0, -1).over("symbol") <= USUAL_SESSIONS + 1
    last = (
        judged.bars.filter(recent)
        .with_columns(**usual, width=width)
        .filter(pl.col("session") == pl.col("session").max())
        .join(session_shares(judged.bars["session"], judged.calendar), on="session")
        # A half day has half the volume by right.
        .with_columns(observed=volume / (pl.col("usual_volume") * pl.col("share")))
    )
    limit = judged.limit(PARTIAL_FRACTION)
    rows = last.filter((pl.col("observed") < limit) & (pl.col("width") < pl.col("usual_width")))
    return rows.with_columns(
        limit=pl.lit(limit),
        part=_two(pl.col("observed")),
        narrow=_two(pl.col("width") / pl.col("usual_width")),
    )


register(
    BarRule(
        name="partial_last_bar",
        judged_on="rows",
        rank=100,
        severity="QUARANTINE",
        description="The feed's last bar has a small part of the usual volume and less than the usual range.",
        measure=_partial_last_bar,
        evidence="the last bar has {part} of the usual volume and {narrow} of the usual range: "
        "taken before the session's end",
        limits=(PARTIAL_FRACTION,),
        may_be=("QUARANTINE", "ERROR", "WARN"),
        acceptable=True,
    )
)


def _fractional_volume(judged: Judged) -> pl.DataFrame:
    """Volumes that are no whole number in a feed whose volumes nearly all are."""
    written = pl.col("written.volume")
    fractional = (written != written.round()).fill_null(value=False)
    rows = judged.bars.with_columns(part=fractional.mean().over("symbol")).filter(
        fractional & (pl.col("part") < RARE_FRACTION)
    )
    return rows.with_columns(observed=(written - written.round()).abs(), limit=pl.lit(0.0))


register(
    BarRule(
        name="fractional_volume",
        judged_on="rows",
        rank=110,
        severity="WARN",
        description="One of a symbol's rare volumes that are no whole number.",
        measure=_fractional_volume,
        evidence="volume {written.volume} is no whole number, the others are",
        may_be=("WARN", "QUARANTINE", "ERROR"),
        acceptable=True,
    )
)


def _zero_volume(judged: Judged) -> pl.DataFrame:
    return judged.bars.with_columns(observed=pl.col("volume"), limit=0.0).filter(pl.col("volume") <= 0)


register(
    BarRule(
        name="zero_volume",
        judged_on="panel",
        rank=130,
        severity="WARN",
        description="A bar says that nothing was traded.",
        measure=_zero_volume,
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)


# -------------------------------------------------------------------------------- values that no bar can have


def _nulls(judged: Judged) -> pl.DataFrame:
    absent = pl.sum_horizontal(
        (~pl.col(name).is_finite()).fill_null(value=True) for name in (*PRICES, "volume")
    )
    return judged.bars.with_columns(observed=absent, limit=0).filter(pl.col("observed") > 0)


register(
    BarRule(
        name="nulls",
        judged_on="panel",
        rank=10,
        severity="SET_ASIDE",
        description="A bar has a price or volume that is null, NaN or infinite (observed: how many).",
        measure=_nulls,
    )
)


def _non_positive_prices(judged: Judged) -> pl.DataFrame:
    lowest = judged.bars.with_columns(observed=pl.min_horizontal(PRICES), limit=0.0)
    return lowest.filter(pl.col("observed") <= 0)


register(
    BarRule(
        name="non_positive_prices",
        judged_on="panel",
        rank=20,
        severity="SET_ASIDE",
        description="A bar's lowest price is zero or less.",
        measure=_non_positive_prices,
    )
)
