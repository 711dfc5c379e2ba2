"""Small made-up feeds of several sources, to plant defects in."""

from datetime import date

import numpy as np
import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.market.calendar import sessions
from quant_assets.market.parsing import RAW_SCHEMA
from quant_assets.market.reconciliation import LABELLED_SCHEMA

START, END = date(2022, 1, 3), date(2022, 12, 30)


def universe(*labels: str, **changes: object) -> UniverseConfig:
    """A universe of Parquet sources (never read here) with these labels, in this order of preference."""
    sources = [{"kind": "parquet", "path": f"{label}.parquet", "label": label} for label in labels]
    given = {"name": "test", "source": sources[0], "alternatives": sources[1:], "start": START, "end": END}
    return UniverseConfig.model_validate(given | changes)


def feed(symbol: str = "AAA", seed: int = 1, *, start: date = START, end: date = END) -> pl.DataFrame:
    """A random walk of two percent a day, quoted in cents, with two dividends in its adjusted close."""
    days = sessions("XNYS", start, end)
    rng = np.random.default_rng(seed)
    close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.02, days.len()))), 2)
    opened = np.round(close * np.exp(rng.normal(0, 0.005, days.len())), 2)
    high, low = np.maximum(opened, close) + 0.5, np.minimum(opened, close) - 0.5
    place = np.arange(days.len())
    factor = np.where(place < 60, 0.98, 1.0) * np.where(place < 150, 0.985, 1.0)
    return pl.DataFrame(
        {
            "symbol": [symbol] * days.len(),
            "session": days,
            "open": opened,
            "high": np.round(high, 2),
            "low": np.round(low, 2),
            "close": close,
            "volume": np.round(rng.lognormal(13, 0.3, days.len())),
            "adj_close": np.round(close * factor, 6),
        },
        schema=RAW_SCHEMA,
    )


def together(**sources: pl.DataFrame) -> pl.DataFrame:
    """The raw bars of all sources, each labelled with its name."""
    parts = [
        frame.with_columns(source=pl.lit(label)).select(*LABELLED_SCHEMA) for label, frame in sources.items()
    ]
    return pl.concat(parts).sort("symbol", "session", "source")


def changed(frame: pl.DataFrame, rows: slice | int, **values: pl.Expr | float) -> pl.DataFrame:
    """The frame with some columns changed in some rows (counted per frame)."""
    rows = slice(rows, rows + 1) if isinstance(rows, int) else rows
    place = pl.int_range(pl.len())
    chosen = (place >= (rows.start or 0)) & (place < (frame.height if rows.stop is None else rows.stop))
    return frame.with_columns(
        pl.when(chosen)
        .then(value if isinstance(value, pl.Expr) else pl.lit(value))
        .otherwise(name)
        .alias(name)
        for name, value in values.items()
    )
