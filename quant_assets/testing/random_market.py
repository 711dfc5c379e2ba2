"""A seeded market without an edge, with what real ones have: a name that comes late, one that ends, and one halts."""

from datetime import date
from functools import cache

import polars as pl

from quant_assets.features.warm_up import random_bars
from quant_assets.market.calendar import session_times

CALENDAR, START, END = "XNYS", date(2000, 1, 3), date(2015, 12, 31)


@cache
def times(n_sessions: int) -> pl.DataFrame:
    """The first sessions of New York from 2000 on: ``session, open_at, close_at`` (UTC)."""
    return session_times(CALENDAR, START, END).sort("session").head(n_sessions)


@cache
def random_market(n_symbols: int, n_sessions: int, seed: int = 11) -> pl.DataFrame:
    """Bars of a random walk on sessions of New York.

    Parameters
    ----------
    n_symbols : int
        Four or more. ``S1`` comes after an eighth of the sessions, ``S2`` ends an eighth before the last one, ``S3``
        has no bar in three sessions in the middle.
    n_sessions : int
        40 or more.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, open, high, low, close, volume, known_at``, by (symbol, session).
    """
    days = times(n_sessions)
    bars = random_bars(n_symbols, n_sessions, seed)
    # In the order of the sessions: one calendar for another.
    index = pl.int_range(pl.len()).over("symbol")
    edge, middle = n_sessions // 8, n_sessions // 2
    return (
        bars.with_columns(index=index)
        .with_columns(session=days["session"].gather(pl.Series(bars.select(index).to_series())))
        .join(days.select("session", known_at="close_at"), on="session", maintain_order="left")
        .filter(
            ~((pl.col("symbol") == "S1") & (pl.col("index") < edge)),
            ~((pl.col("symbol") == "S2") & (pl.col("index") >= n_sessions - edge)),
            ~((pl.col("symbol") == "S3") & pl.col("index").is_between(middle, middle + 2)),
        )
        .drop("index")
        .sort("symbol", "session")
    )
