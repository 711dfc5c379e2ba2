"""Measures of the row rules: which single bars are suspicious against the bars around them, and why.

Each takes `prepared` bars and the universe and returns the offending rows: ``row`` (position in the source),
``observed``, ``limit`` and ``evidence``, a sentence for a person. Prices are compared after adjustment for the
corporate actions that are known, so that a split is no spike; the evidence shows them as the source wrote them.

The defaults were tried on 482,800 bars of 100 large US stocks, 2005 to 2024, crises included: one close (BK on
2009-01-20, a day of panic that really was) leapt by 20 % and ten usual moves and came back, no high or low was
twice away from everything around it, no volume exceeded 18 times the median around it.
"""

import math
from collections.abc import Callable

import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.market.calendar import session_times
from quant_assets.market.rules.prepared_bars import FEWEST_FOR_USUAL, PRICES, USUAL_SESSIONS, found
from quant_assets.market.sources.parsing import sentence

FEWEST_AROUND = 5
ALWAYS_A_SPIKE = math.log(1.5)  # however wild the market: none of those closes did this and came back
LEVEL_KEPT = 0.5  # back at the old level: at most half of the leap is left
CALM_MOVES = 3.0  # a huge volume is news when the price moved more than this many usual moves
LARGEST_DECIMAL_SLIP = 4
RARE_FRACTION = 0.05

Measure = Callable[[pl.DataFrame, UniverseConfig], pl.DataFrame]


def _two(value: pl.Expr) -> pl.Expr:
    return value.round_sig_figs(4)


def outside_calendar(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Bars on days without a session."""
    strangers = off_calendar(bars, universe)
    day = pl.col("session").dt.strftime("%A")
    closed = (
        pl.when(pl.col("session").dt.weekday() > 5).then(pl.lit("a weekend")).otherwise(pl.lit("a holiday"))
    )
    told = sentence("{} {} is {}: no session of {}", day, "session", closed, pl.lit(universe.calendar))
    return found(strangers, pl.lit(0.0), 1.0, told)


def off_calendar(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Those of the bars whose day is no session of the universe's calendar."""
    return bars.join(_session_shares(bars, universe), on="session", how="anti", maintain_order="left")


def _session_shares(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Sessions from the first to the last bar, and how long each was as a share of the usual one."""
    first, last = bars.select(pl.col("session").min().alias("a"), pl.col("session").max().alias("b")).row(0)
    length = (pl.col("close_at") - pl.col("open_at")).dt.total_seconds()
    times = session_times(universe.calendar, first, last)
    return times.select("session", share=length / length.median())


def _padding(bars: pl.DataFrame, universe: UniverseConfig, *, leading: bool) -> pl.DataFrame:
    traded = (pl.col("volume") > 0).fill_null(value=True)
    same = pl.all_horizontal(pl.col(name) == pl.col("close") for name in ("open", "high", "low"))
    outside = (traded.cum_sum(reverse=not leading) == 0).over("symbol")
    padding = bars.filter(outside & same).with_columns(run=pl.len().over("symbol"))
    few = padding.filter(pl.col("run") >= universe.quality.stale_sessions)
    side = "before the first trade of" if leading else "after the last trade of"
    told = sentence(
        "{} bars " + side + " {} hold one price ({}) and no volume", "run", "symbol", "written.close"
    )
    return found(few, pl.col("run"), float(universe.quality.stale_sessions), told)


def padded_before_listing(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Bars without volume or range before a symbol's first trade."""
    return _padding(bars, universe, leading=True)


def padded_after_delisting(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Bars without volume or range after a symbol's last trade."""
    return _padding(bars, universe, leading=False)


def repeated_bar(bars: pl.DataFrame, _universe: UniverseConfig) -> pl.DataFrame:
    """Bars equal to the one before in all five values, with a range and a volume (so that it is no halt)."""
    names = [f"written.{name}" for name in (*PRICES, "volume")]
    equal = pl.all_horizontal((pl.col(name) == pl.col(name).shift()).over("symbol") for name in names)
    earlier = bars.with_columns(earlier=pl.col("session").shift().over("symbol"))
    rows = earlier.filter(equal & (pl.col("high") > pl.col("low")) & (pl.col("volume") > 0))
    told = sentence("all five values are those of {}: that row was written again", "earlier")
    return found(rows, pl.lit(5.0), 5.0, told)


def decimal_slip(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Bars of which a price is a power of ten times the mean of the closes around, which agree."""
    around = (pl.col("before") * pl.col("after")).sqrt()
    agree = (pl.col("before") / pl.col("after")).log().abs() < ALWAYS_A_SPIKE
    powers = {name: (pl.col(name) / around).log10() for name in PRICES}
    width = math.log10(1 + universe.quality.decimal_slip_tolerance)

    def slipped(name: str) -> pl.Expr:
        power = powers[name]
        whole = power.round()
        return (whole.abs().is_between(1, LARGEST_DECIMAL_SLIP)) & ((power - whole).abs() <= width)

    # The close first: where it slipped, the others are read beside it.
    order = ("close", "open", "high", "low")
    factor = pl.coalesce(pl.when(slipped(n)).then(10.0 ** powers[n].round()) for n in order)
    written = pl.coalesce(pl.when(slipped(n)).then(sentence(n + " {}", f"written.{n}")) for n in order)
    rows = bars.with_columns(factor=factor, which=written, around=around / pl.col("price_factor")).filter(
        agree & pl.col("factor").is_not_null()
    )
    told = sentence(
        "{} is about {} times the closes around it ({}): the decimal point slipped",
        "which", pl.col("factor"), _two(pl.col("around")),
    )  # fmt: skip
    limit = pl.when(pl.col("factor") > 1).then(10.0).otherwise(0.1)
    return found(rows, pl.col("factor"), limit, told)


def ohlc_consistency(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Bars whose open or close lies outside low to high, or whose low lies above high."""
    limit = universe.quality.ohlc_tolerance_fraction
    rows = bars.with_columns(excess=range_excess()).filter(pl.col("excess") > limit)
    told = sentence(
        "open {} or close {} lies outside low {} to high {}",
        *(f"written.{name}" for name in ("open", "close", "low", "high")),
    )
    return found(rows, pl.col("excess"), limit, told)


def range_excess() -> pl.Expr:
    """By how much open, close or low exceed high, or low exceeds them, over the close."""
    top, bottom = pl.max_horizontal("open", "close", "low"), pl.min_horizontal("open", "close", "high")
    return pl.max_horizontal(top - pl.col("high"), pl.col("low") - bottom) / pl.col("close").abs()


def range_spike(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Bars whose high or low alone is far from open, close and the closes around."""
    anchors = ("open", "close", "before", "after")
    above = pl.col("high") / pl.max_horizontal(anchors)
    below = pl.min_horizontal(anchors) / pl.col("low")
    factor = pl.max_horizontal(above, below)
    limit = universe.quality.range_factor
    rows = bars.with_columns(factor=factor, above=above, below=below).filter(pl.col("factor") > limit)
    told = sentence(
        "{} is {} times away from open {}, close {} and the closes around",
        pl.when(pl.col("above") >= pl.col("below"))
        .then(sentence("high {}", "written.high"))
        .otherwise(sentence("low {}", "written.low")),
        _two(pl.col("factor")), "written.open", "written.close",
    )  # fmt: skip
    return found(rows, pl.col("factor"), limit, told)


def price_spike(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Bars whose close leaps away from both neighbours to the same side while these agree."""
    up, down = (pl.col("close") / pl.col("before")).log(), (pl.col("close") / pl.col("after")).log()
    leap = pl.min_horizontal(up.abs(), down.abs())
    quality = universe.quality
    calm = pl.max_horizontal(
        pl.lit(math.log1p(quality.spike_fraction)), quality.spike_multiple * pl.col("usual_move")
    )
    limit = pl.min_horizontal(pl.max_horizontal(calm, pl.lit(0.0)), pl.lit(ALWAYS_A_SPIKE))
    # Without a month of history nothing is usual yet: only the largest leaps are told.
    limit = pl.when(pl.col("usual_move").is_null()).then(ALWAYS_A_SPIKE).otherwise(limit)
    rows = bars.with_columns(leap=leap, bound=limit, same_side=up * down > 0, left=(up - down).abs()).filter(
        pl.col("same_side")
        & (pl.col("leap") >= pl.col("bound"))
        & (pl.col("left") <= LEVEL_KEPT * pl.col("leap"))
    )
    told = sentence(
        "close {} stands between {} and {}: a leap for one session only",
        "written.close", _two(pl.col("before") / pl.col("price_factor")),
        _two(pl.col("after") / pl.col("price_factor")),
    )  # fmt: skip
    return found(rows, pl.col("leap"), pl.col("bound"), told)


def volume_spike(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """Bars with a huge volume between usual ones while the price hardly moves."""
    volume = pl.col("volume")
    usual = volume.rolling_median(USUAL_SESSIONS, center=True, min_samples=2 * FEWEST_AROUND + 1).over(
        "symbol"
    )
    beside = pl.max_horizontal(volume.shift().over("symbol"), volume.shift(-1).over("symbol"))
    move = (pl.col("close") / pl.col("before")).log().abs()
    limit = universe.quality.volume_spike_factor
    rows = bars.with_columns(usual=usual, beside=beside, move=move).filter(
        (volume >= limit * pl.col("usual"))
        & (pl.col("usual") > 0)
        & (volume >= 10 * pl.col("beside"))
        & (pl.col("move") <= CALM_MOVES * pl.col("usual_move"))
    )
    told = sentence(
        "volume {} is {} times the median around it, and the close moved by {} only",
        "written.volume", _two(volume / pl.col("usual")), _two(pl.col("move")),
    )  # fmt: skip
    return found(rows, volume / pl.col("usual"), limit, told)


def partial_last_bar(bars: pl.DataFrame, universe: UniverseConfig) -> pl.DataFrame:
    """The feed's last session where a symbol's bar has little volume and a small range for that session."""
    volume, width = pl.col("volume"), (pl.col("high") / pl.col("low")).log()
    usual = {
        name: value.rolling_median(USUAL_SESSIONS, min_samples=FEWEST_FOR_USUAL).shift().over("symbol")
        for name, value in (("usual_volume", volume), ("usual_width", width))
    }
    last = (
        bars.with_columns(**usual, width=width)
        .filter(pl.col("session") == pl.col("session").max())
        .join(_session_shares(bars, universe), on="session")
        # A half day has half the volume by right.
        .with_columns(part=volume / (pl.col("usual_volume") * pl.col("share")))
    )
    limit = universe.quality.partial_volume_fraction
    rows = last.filter((pl.col("part") < limit) & (pl.col("width") < pl.col("usual_width")))
    told = sentence(
        "the last bar has {} of the usual volume and {} of the usual range: taken before the session's end",
        _two(pl.col("part")), _two(pl.col("width") / pl.col("usual_width")),
    )  # fmt: skip
    return found(rows, pl.col("part"), limit, told)


def fractional_volume(bars: pl.DataFrame, _universe: UniverseConfig) -> pl.DataFrame:
    """Volumes that are no whole number in a feed whose volumes nearly all are."""
    written = pl.col("written.volume")
    fractional = (written != written.round()).fill_null(value=False)
    rows = bars.with_columns(part=fractional.mean().over("symbol")).filter(
        fractional & (pl.col("part") < RARE_FRACTION)
    )
    told = sentence("volume {} is no whole number, the others are", "written.volume")
    return found(rows, (written - written.round()).abs(), 0.0, told)


ROW_MEASURES: dict[str, Measure] = {
    "sessions_outside_calendar": outside_calendar,
    "padded_before_listing": padded_before_listing,
    "padded_after_delisting": padded_after_delisting,
    "repeated_bar": repeated_bar,
    "decimal_slip": decimal_slip,
    "ohlc_consistency": ohlc_consistency,
    "range_spike": range_spike,
    "price_spike": price_spike,
    "volume_spike": volume_spike,
    "partial_last_bar": partial_last_bar,
    "fractional_volume": fractional_volume,
}
