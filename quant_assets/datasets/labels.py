"""Labels: forward returns with the times at which they start, end and are known, and how much each counts."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import DatasetError
from quant_assets.common.listing_settings import DELISTING_RETURN, END_KNOWN_AT, LISTED_UNTIL
from quant_assets.common.settings import LAST_CLOSE, DelistingConfig

# ----------------------------------------------------------------------------------------------------- labels


LABEL_COLUMNS = ("symbol", "session", "t0", "t1", "known_at", "forward_return")


def forward_return_labels(
    bars: pl.DataFrame,
    session_times: pl.DataFrame,
    *,
    horizon_sessions: int,
    delisting: DelistingConfig = LAST_CLOSE,
) -> pl.DataFrame:
    """Label each bar with the return of entering at the next open and leaving ``horizon_sessions`` later.

    Parameters
    ----------
    bars : polars.DataFrame
        Adjusted panel with ``symbol, session, open, close``; one row per (symbol, session). Where it says
        when a listing ended (``listed_until, delisting_return, end_known_at`` on a name's last bar), that is what
        happens.
    session_times : polars.DataFrame
        Every exchange session of the period: ``session, open_at, close_at`` (UTC).
    horizon_sessions : int
        Sessions held, >= 1, counted on the exchange calendar, not on the symbol's own bars.
    delisting : DelistingConfig
        What a name whose bars stop is worth, where the panel does not say.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, t0, t1, known_at, forward_return``, sorted by (session, symbol). ``t0`` is the
        close
        of the decision session t, ``t1`` the open of session t+1+h at which the position ends, ``known_at``
        the close of that session, when its bar is published. ``forward_return`` is a simple return:
        ``open[t+1+h] / open[t+1] - 1``.

    Raises
    ------
    DatasetError
        When a bar lies on a day that is no session of the calendar.

    Notes
    -----
    A name that is halted at t+1+h is left at its next open, which then is its ``t1``. One that ended by then is left
    at its last close times ``1 + delisting.final_return``; its label is known at the close of t+1+h, or of the
    session by which it has ended if that is later. Where a listing says when a name ended, it is left in the first
    session in which it is no longer listed, with its own return where that is known; the label is known at the close
    of that session, or of the first one at which the listing was known to say so. A row has no label where its entry
    bar is missing (nothing could be bought), and where the panel ends before the exit is known.
    """
    calendar = (
        session_times.sort("session").with_row_index("index").with_columns(pl.col("index").cast(pl.Int64))
    )
    indexed = bars.select("symbol", "session", "open", "close").join(
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
    opens = indexed.select("symbol", "index", "open").sort("symbol", "index")
    lasts = _lasts(bars, indexed, calendar, delisting)
    due = (
        indexed.drop("open", "close")
        .join(opens.with_columns(pl.col("index") - 1).rename({"open": "entry"}), on=["symbol", "index"])
        .with_columns(due=pl.col("index") + 1 + horizon_sessions)
        .sort("symbol", "due")
        .join_asof(
            opens.select("symbol", left="index", exit="open"),
            left_on="due",
            right_on="left",
            by="symbol",
            strategy="forward",
            coalesce=False,
            check_sortedness=False,
        )
        .join(lasts, on="symbol", how="left")
        .with_columns(
            exit=pl.coalesce("exit", "final"),
            known=pl.coalesce("left", pl.max_horizontal("due", "ended")),
            left=pl.coalesce("left", pl.max_horizontal("due", "leaves")),
        )
        .filter(pl.col("exit").is_not_null() & (pl.col("known") <= indexed["index"].max()))
    )
    return (
        due.join(calendar.select("index", t0="close_at"), on="index")
        .join(calendar.select(left="index", t1="open_at"), on="left")
        .join(calendar.select(known="index", known_at="close_at"), on="known")
        .with_columns(forward_return=pl.col("exit") / pl.col("entry") - 1.0)
        .select(LABEL_COLUMNS)
        .sort("session", "symbol")
    )


def _lasts(
    bars: pl.DataFrame, indexed: pl.DataFrame, calendar: pl.DataFrame, delisting: DelistingConfig
) -> pl.DataFrame:
    """Names that have ended: ``leaves``, the session in which one is left, ``final``, its worth then, and ``ended``,
    the session at whose close that is known; none of them later than the panel.
    """
    newest = indexed["index"].max()
    lasts = (
        indexed.sort("symbol", "index")
        .group_by("symbol")
        .agg(pl.col("index", "close").last())
        .with_columns(
            leaves=pl.col("index") + 1,
            ended=pl.col("index") + delisting.after_sessions,
            final=pl.col("close") * (1.0 + delisting.final_return),
        )
    )
    if LISTED_UNTIL in bars.columns:
        days, closes = calendar["session"], calendar["close_at"]
        told = bars.filter(pl.col(LISTED_UNTIL).is_not_null())
        ends = told.select(
            "symbol",
            DELISTING_RETURN,
            delisted=days.search_sorted(told[LISTED_UNTIL], side="right").cast(pl.Int64),
            told=closes.search_sorted(told[END_KNOWN_AT], side="left").cast(pl.Int64),
        )
        own = pl.col("delisted").is_not_null()
        leaves = pl.max_horizontal("leaves", "delisted")
        final = pl.col("close") * (1.0 + pl.col(DELISTING_RETURN).fill_null(delisting.final_return))
        lasts = lasts.join(ends, on="symbol", how="left").with_columns(
            leaves=pl.when(own).then(leaves).otherwise("leaves"),
            ended=pl.when(own).then(pl.max_horizontal(leaves, "told")).otherwise("ended"),
            final=pl.when(own).then(final).otherwise("final"),
        )
    return lasts.select("symbol", "leaves", "ended", "final").filter(pl.col("ended") <= newest)


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


# ---------------------------------------------------------------------------- sample weights from label times


Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def sample_weights(
    symbol: Ints, t0: NDArray[Any], t1: NDArray[Any], *, uniqueness: bool, time_decay: float
) -> Floats:
    """Weights of training rows.

    Parameters
    ----------
    symbol : ndarray of int64, shape (n,)
        A number for each symbol.
    t0, t1 : ndarray of datetime64 or numbers, shape (n,)
        Decision time and time at which the outcome is known.
    uniqueness : bool
        Whether rows are weighed by the average uniqueness of their label.
    time_decay : float
        Weight of the oldest observation, in [0, 1]; 1 for no decay.

    Returns
    -------
    ndarray of float64, shape (n,)
        >= 0, of mean 1.
    """
    weights = average_uniqueness(symbol, *bar_ranges(t0, t1)) if uniqueness else np.ones(len(symbol))
    if time_decay < 1:
        weights = weights * decay_factors(t0, weights, oldest=time_decay)
    normalised: Floats = weights * (len(weights) / weights.sum())
    return normalised


def bar_ranges(t0: NDArray[Any], t1: NDArray[Any]) -> tuple[Ints, Ints]:
    """First and last bar, both inclusive, in which each label lives: the closes within [t0, t1].

    The bars are the sessions that the rows reveal: those of their decision times, and where no decision
    follows (the end of the sample, a purged gap) those at whose open an outcome became known. Such a session's
    close comes after that open, so a label that ends there does not live in it.

    Parameters
    ----------
    t0, t1 : ndarray, shape (n,)

    Returns
    -------
    tuple of two ndarrays of int64, shape (n,)
    """
    decided, known = np.unique(t0), np.unique(t1)
    # Where markets never close, that open and the close before it are one instant: the decision comes after.
    following = np.searchsorted(decided, known, side="right")
    # The last outcome before a decision time falls into the session of that decision.
    same_session = (following < len(decided)) & (np.append(following[1:], -1) != following)
    revealed = known[~same_session]

    def bar(times: NDArray[Any]) -> Ints:
        passed: Ints = np.searchsorted(decided, times, side="right") + np.searchsorted(revealed, times)
        return passed - 1

    return bar(t0), bar(t1)


def concurrency(symbol: Ints, first: Ints, last: Ints) -> Ints:
    """Labels alive in each bar of each symbol (snippet 4.1).

    Parameters
    ----------
    symbol : ndarray of int64, shape (n,)
        0, 1, ... without gaps.
    first, last : ndarray of int64, shape (n,)
        Bars of each label, both inclusive.

    Returns
    -------
    ndarray of int64, shape (symbols, bars)
    """
    shape = (int(symbol.max()) + 1, int(last.max()) + 2)
    begun = np.bincount(symbol * shape[1] + first, minlength=shape[0] * shape[1])
    ended = np.bincount(symbol * shape[1] + last + 1, minlength=shape[0] * shape[1])
    alive: Ints = np.cumsum((begun - ended).reshape(shape), axis=1)[:, :-1]
    return alive


def average_uniqueness(symbol: Ints, first: Ints, last: Ints) -> Floats:
    """Mean of 1 / concurrency over the bars of each label (snippet 4.2), in (0, 1].

    Parameters
    ----------
    symbol : ndarray of int64, shape (n,)
    first, last : ndarray of int64, shape (n,)
        Bars of each label, both inclusive.
    """
    row = np.unique(symbol, return_inverse=True)[1]
    alive = concurrency(row, first, last)
    share = np.divide(1.0, alive, out=np.zeros(alive.shape), where=alive > 0)
    total = np.cumsum(np.pad(share, ((0, 0), (1, 0))), axis=1)
    mean: Floats = (total[row, last + 1] - total[row, first]) / (last + 1 - first)
    return mean


def decay_factors(t0: NDArray[Any], uniqueness: Floats, *, oldest: float) -> Floats:
    """Linear decay in cumulated uniqueness (snippet 4.11): 1 for the newest rows, towards ``oldest``.

    ``d = 1 - (1 - oldest) * (1 - x / X)`` with x the uniqueness of all rows, of all symbols, up to the row's decision
    time and X that of all rows: rows of one time have one factor, and a symbol that ended early stays old.

    Parameters
    ----------
    t0 : ndarray, shape (n,)
    uniqueness : ndarray of float64, shape (n,)
    oldest : float
        In [0, 1].
    """
    times, row = np.unique(t0, return_inverse=True)
    cumulated = np.cumsum(np.bincount(row, weights=uniqueness, minlength=len(times)))
    slope = (1.0 - oldest) / cumulated[-1]
    factors: Floats = (1.0 - slope * cumulated[-1] + slope * cumulated)[row]
    return factors
