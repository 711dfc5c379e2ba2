"""Each row of a feature from the bars as they were known at its close: what is found wrong later is seen until then.

A bar that leaps for one session looks like news at its own close, and like an error once the next close is there. To
leave it out of all history is to look ahead: a strategy would be judged without the sessions on which it would have
been wrong. To leave it in for ever spoils the windows of everything after it. So a row sees it exactly until it is
known to be wrong.
"""

from collections.abc import Callable

import polars as pl

FOUND_WRONG = "found_wrong_at"  # a column of bars, only where the panel has such a bar: the time, else null
KEYS = ("symbol", "session")


def as_known(bars: pl.DataFrame, by_symbol: Callable[[pl.DataFrame], pl.DataFrame]) -> pl.DataFrame:
    """Features whose rows use no bar that was known to be wrong at their own close, and every other one.

    Parameters
    ----------
    bars : polars.DataFrame
        With ``known_at`` and `FOUND_WRONG` (UTC), beside what ``by_symbol`` needs.
    by_symbol : callable
        Bars to features by ``symbol, session``. A symbol's features depend on its own earlier bars alone.

    Returns
    -------
    polars.DataFrame
        One row for each bar, sorted by (symbol, session).

    Notes
    -----
    Bars that are in doubt at a close are computed as a name of their own: the symbol's good bars and those in doubt,
    up to there. There are few: one for each run of rows with the same bars in doubt.
    """
    good = bars.filter(pl.col(FOUND_WRONG).is_null()).drop(FOUND_WRONG)
    bad = bars.filter(pl.col(FOUND_WRONG).is_not_null())
    doubtful = (
        bars.select(*KEYS, "known_at")
        .join(bad.select("symbol", "session", FOUND_WRONG), on="symbol", suffix=".bad")
        .filter((pl.col("session.bad") <= pl.col("session")) & (pl.col("known_at") < pl.col(FOUND_WRONG)))
        .group_by(KEYS)
        .agg(seen=pl.col("session.bad").sort())
        .sort(KEYS)
        .with_columns(
            name=pl.concat_str("symbol", pl.col("seen").rank("dense").cast(pl.String), separator="\n")
        )
    )
    if doubtful.is_empty():
        return by_symbol(good)
    settled = by_symbol(good).join(doubtful, on=KEYS, how="anti")
    groups = doubtful.group_by("name").agg(
        pl.col("symbol").first(), pl.col("seen").first(), until=pl.col("session").max()
    )
    shown = groups.join(bars, on="symbol").filter(
        (pl.col("session") <= pl.col("until"))
        & (pl.col(FOUND_WRONG).is_null() | pl.col("session").is_in(pl.col("seen")))
    )
    patched = (
        by_symbol(shown.with_columns(symbol="name").select(good.columns))
        .rename({"symbol": "name"})
        .join(doubtful.select("name", *KEYS), on=["name", "session"])
        .select(settled.columns)
    )
    return pl.concat([settled, patched.cast(settled.schema)]).sort(KEYS)
