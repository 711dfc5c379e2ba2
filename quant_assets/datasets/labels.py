"""Labels: forward returns from the next open, each with the times at which it starts, ends and is known."""

import polars as pl

from quant_assets.common.errors import DatasetError

LABEL_COLUMNS = ("symbol", "session", "t0", "t1", "known_at", "forward_return")


def forward_return_labels(
    bars: pl.DataFrame, session_times: pl.DataFrame, *, horizon_sessions: int
) -> pl.DataFrame:
    """Label each bar with the return of entering at the next open and leaving ``horizon_sessions`` later.

    Parameters
    ----------
    bars : polars.DataFrame
        Adjusted panel with ``symbol, session, open``; one row per (symbol, session).
    session_times : polars.DataFrame
        Every exchange session of the period: ``session, open_at, close_at`` (UTC).
    horizon_sessions : int
        Sessions held, >= 1, counted on the exchange calendar, not on the symbol's own bars.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, t0, t1, known_at, forward_return``, sorted by (session, symbol). ``t0`` is the
        close
        of the decision session t, ``t1`` the open of session t+1+h at which the position ends, ``known_at``
        the close of that session, when its bar is published. ``forward_return`` is a simple return:
        ``open[t+1+h] / open[t+1] - 1``. A row whose entry or exit bar is missing has no label.

    Raises
    ------
    DatasetError
        When a bar lies on a day that is no session of the calendar.
    """
    calendar = session_times.sort("session").with_row_index("index")
    indexed = bars.select("symbol", "session", "open").join(
        calendar.select("session", "index"), on="session", how="left"
    )
    stray = indexed.filter(pl.col("index").is_null())
    if stray.height:
        row = stray.row(0, named=True)
        raise DatasetError(
            f"bars of {row['symbol']}",
            expected="bars on exchange sessions only",
            found=f"{stray.height} bars elsewhere, the first on {row['session']}",
            action="correct the universe's calendar, or remove those bars at the source",
        )
    indexed = indexed.with_columns(pl.col("index").cast(pl.Int64))
    opens = indexed.select("symbol", "index", "open")
    calendar = calendar.with_columns(pl.col("index").cast(pl.Int64))
    leave = 1 + horizon_sessions
    return (
        indexed.drop("open")
        .join(opens.with_columns(pl.col("index") - 1).rename({"open": "entry"}), on=["symbol", "index"])
        .join(opens.with_columns(pl.col("index") - leave).rename({"open": "exit"}), on=["symbol", "index"])
        .join(calendar.select("index", t0="close_at"), on="index")
        .join(
            calendar.select(pl.col("index") - leave, t1="open_at", known_at="close_at"),
            on="index",
        )
        .with_columns(forward_return=pl.col("exit") / pl.col("entry") - 1.0)
        .select(LABEL_COLUMNS)
        .sort("session", "symbol")
    )


def direction(forward_return: str, t0: str = "t0") -> pl.Expr:
    """Whether a row beats the median of its cross-section: 1.0 or 0.0, null where there is no return.

    Parameters
    ----------
    forward_return, t0 : str
        Columns of the return and of the decision time; rows of one decision time are one cross-section.

    Notes
    -----
    A return *at* the median is 0.0: a tie, the middle name of an odd number, the only name of its time.
    """
    value = pl.col(forward_return)
    return (value > value.median().over(t0)).cast(pl.Float64)
