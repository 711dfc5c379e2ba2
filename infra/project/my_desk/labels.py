"""Labels of this desk. A strategy names one: `label: {kind: my_desk.labels:capped_return, horizon_sessions: 5}`."""

import polars as pl
from quant_assets.datasets import forward_return_labels


def capped_return(
    bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int, cap: float = 0.1
) -> pl.DataFrame:
    """The return from the next open over the horizon, cut off at the cap: one leap teaches no more than its size.

    Parameters
    ----------
    bars : polars.DataFrame
        ``symbol, session, open, high, low, close, volume``.
    sessions : polars.DataFrame
        ``session, open_at, close_at``: every session of the calendar, times in UTC.
    cap : float
        Largest return of either sign, a fraction.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, t0, t1, known_at, target``.
    """
    made = forward_return_labels(bars, sessions, horizon_sessions=horizon_sessions)
    return made.select("symbol", "session", "t0", "t1", "known_at", target=pl.col("forward_return").clip(-cap, cap))
