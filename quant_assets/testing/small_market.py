"""A small market and scores on it, the same on every machine."""

from datetime import date, timedelta

import numpy as np
import polars as pl


def small_market(n_symbols: int = 10, n_sessions: int = 500, seed: int = 11) -> pl.DataFrame:
    """Adjusted daily bars of names ``S000 ..`` on weekdays from 2020-01-01; the last name begins after a third.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, open, high, low, close, volume``, sorted.
    """
    days: list[date] = []
    day = date(2020, 1, 1)
    while len(days) < n_sessions:
        if day.weekday() < 5:
            days.append(day)
        day += timedelta(days=1)
    rng = np.random.default_rng(seed)
    market = rng.normal(0.0002, 0.008, n_sessions)
    frames = []
    for number in range(n_symbols):
        own = rng.normal(0.0, 0.005 + 0.003 * number, n_sessions)
        close = 50.0 * np.exp(np.cumsum(market * (0.5 + number / n_symbols) + own))
        opens = np.concatenate([[50.0], close[:-1]]) * np.exp(rng.normal(0.0, 0.002, n_sessions))
        start = n_sessions // 3 if number == n_symbols - 1 else 0
        frames.append(
            pl.DataFrame(
                {
                    "symbol": [f"S{number:03d}"] * n_sessions,
                    "session": days,
                    "open": opens,
                    "high": np.maximum(opens, close) * 1.001,
                    "low": np.minimum(opens, close) * 0.999,
                    "close": close,
                    "volume": rng.uniform(1e6, 2e6, n_sessions),
                }
            )[start:]
        )
    return pl.concat(frames).sort("symbol", "session")


def scores_on(bars: pl.DataFrame, seed: int = 12, paths: int = 1) -> pl.DataFrame:
    """Scores without meaning for every bar: ``symbol, session, path_0 ..``."""
    rng = np.random.default_rng(seed)
    columns = {f"path_{i}": rng.normal(size=bars.height) for i in range(paths)}
    return bars.select("symbol", "session").with_columns(**{n: pl.Series(v) for n, v in columns.items()})
