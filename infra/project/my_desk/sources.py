"""Sources of bars of this desk. A universe names one:

    source: {kind: plugin, use: my_desk.sources:prices, options: {folder: data/vendor}}

The example reads one file per symbol, ``AAA.csv``, with a vendor's own column names.
"""

from datetime import date
from pathlib import Path

import polars as pl

COLUMNS = {
    "day": "session",
    "px_open": "open",
    "px_high": "high",
    "px_low": "low",
    "px_last": "close",
    "qty": "volume",
}


def prices(symbols: tuple[str, ...] | None, start: date, end: date, *, folder: str = "data/vendor") -> pl.DataFrame:
    """Bars of the symbols, of every file when none is given, from ``start`` to ``end``, both included.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, open, high, low, close, volume``.
    """
    files = sorted(Path(folder).glob("*.csv"))
    chosen = [file for file in files if symbols is None or file.stem in symbols]
    bars = pl.concat(
        pl.read_csv(file, separator=";", try_parse_dates=True).with_columns(symbol=pl.lit(file.stem)) for file in chosen
    ).rename(COLUMNS)
    return bars.select("symbol", *COLUMNS.values()).filter(pl.col("session").is_between(start, end))
