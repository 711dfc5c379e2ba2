"""Defects planted into a synthetic feed, one of each kind that real feeds have, to see them found."""

from collections.abc import Sequence

import polars as pl

from quant_assets.common.errors import SourceError
from quant_assets.common.settings import PlantedDefect

STALE_SESSIONS_PLANTED = 10
JUMP_PLANTED = 0.55  # news: no split has this ratio
SPLIT_PLANTED = 2.0  # new shares per old
SPIKE_PLANTED = 1.6
SLIP_PLANTED = 10.0

_OHLC = ("open", "high", "low", "close")
_PRICES = (*_OHLC, "adj_close")


def plant_defects(
    feed: pl.DataFrame, defects: Sequence[PlantedDefect], *, symbols: Sequence[str], n_sessions: int
) -> pl.DataFrame:
    """Return the feed with each defect in it.

    Parameters
    ----------
    feed : polars.DataFrame
        Sorted by symbol and session, every symbol with the same ``n_sessions`` sessions.
    defects : sequence of PlantedDefect
        ``symbol`` counts from 0, ``session`` from 0 as well (its lowest value is 1, so a bar comes before).

    Raises
    ------
    SourceError
        When a defect names a symbol or session that the feed has not.
    """
    position = pl.int_range(pl.len()).over("symbol")
    feed = feed.with_columns(position.alias("position"))
    for defect in defects:
        if defect.symbol >= len(symbols) or defect.session >= n_sessions:
            raise SourceError(
                f"planted defect {defect.kind} at symbol {defect.symbol}, session {defect.session}",
                expected=f"symbol below {len(symbols)}, session below {n_sessions}",
                found="one outside the feed",
                action="move the defect in the universe YAML",
            )
        feed = _plant(feed, defect, symbols[defect.symbol])
    return feed.drop("position")


def _plant(feed: pl.DataFrame, defect: PlantedDefect, symbol: str) -> pl.DataFrame:
    own = pl.col("symbol") == symbol
    here = own & (pl.col("position") == defect.session)
    later = own & (pl.col("position") >= defect.session)

    def where(rows: pl.Expr, **values: pl.Expr) -> pl.DataFrame:
        return feed.with_columns(
            pl.when(rows).then(value).otherwise(pl.col(name)).alias(name) for name, value in values.items()
        )

    match defect.kind:
        case "null_close":
            return where(here, close=pl.lit(None, dtype=pl.Float64))
        case "negative_price":
            return where(here, close=-pl.col("close"))
        case "high_below_low":
            return where(here, high=pl.col("low") * 0.99, low=pl.col("high"))
        case "duplicate_row":
            return pl.concat([feed, feed.filter(here)]).sort("symbol", "position", maintain_order=True)
        case "missing_session":
            return feed.filter(~here)
        case "stale_price":
            frozen = feed.filter(own & (pl.col("position") == defect.session - 1))
            run = later & (pl.col("position") < defect.session + STALE_SESSIONS_PLANTED - 1)
            return where(run, **{name: pl.lit(frozen[name].item()) for name in _PRICES})
        case "unexplained_jump":
            return where(later, **{name: pl.col(name) * JUMP_PLANTED for name in _PRICES})
        case "split_never_rebased":
            halved = {name: pl.col(name) / SPLIT_PLANTED for name in _PRICES}
            return where(later, **halved, volume=pl.col("volume") * SPLIT_PLANTED)
        case "price_spike":
            return where(here, **{name: pl.col(name) * SPIKE_PLANTED for name in _PRICES})
        case "decimal_slip":
            return where(here, **{name: pl.col(name) * SLIP_PLANTED for name in _PRICES})
        case "zero_volume":
            return where(here, volume=pl.lit(0.0))
