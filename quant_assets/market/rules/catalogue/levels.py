"""Rules about prices that stand still where a market would move."""

import polars as pl

from quant_assets.market.parsing import PRICES
from quant_assets.market.rules.bar_rule import BarRule, Judged, Limit, register

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
