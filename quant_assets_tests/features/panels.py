"""Bars for the feature tests: real ones, random ones, and hand-made ones of a single symbol."""

import gzip
from collections.abc import Sequence
from datetime import date
from importlib.resources import files

import numpy as np
import polars as pl

from quant_assets.features import packs

TECHNICAL = packs()["technical_v1"]
NAMES = TECHNICAL.names


def real_bars() -> pl.DataFrame:
    """Raw daily bars of AAPL, FB, GOOG, IBM, MSFT, 2000 to 2013. FB has 196 of them."""
    raw = files("bokeh_sampledata").joinpath("_data/stocks.csv.gz").read_bytes()
    table = pl.read_csv(gzip.decompress(raw))
    return table.select(
        symbol="Ticker",
        session=pl.col("Date").str.to_date(),
        open="Open",
        high="High",
        low="Low",
        close="Close",
        volume="Volume",
    )


def random_walks(symbols: int, sessions: int, seed: int = 11) -> pl.DataFrame:
    """Geometric random walks with fat-tailed steps and volumes near 1e9."""
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(0.012 * rng.standard_t(4, (symbols, sessions)), axis=1))
    open_ = close * (1 + rng.normal(0, 0.004, close.shape))
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.006, close.shape)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.006, close.shape)).clip(max=0.5))
    volume = np.floor(1e9 * rng.lognormal(0, 0.4, close.shape))
    names = [f"S{k:03d}" for k in range(symbols)]
    return pl.DataFrame(
        {
            "symbol": np.repeat(names, sessions),
            "session": np.tile(np.arange(sessions, dtype=np.int32), symbols),
            "open": open_.ravel(),
            "high": high.ravel(),
            "low": low.ravel(),
            "close": close.ravel(),
            "volume": volume.ravel(),
        }
    ).with_columns(pl.col("session").cast(pl.Date))


def irregular_bars(seed: int = 5) -> pl.DataFrame:
    """Symbols of 1 to 900 bars that start late, end early and have holes."""
    rng = np.random.default_rng(seed)
    walks = random_walks(9, 900, seed).with_columns(at=pl.col("session").to_physical())
    spans = [
        (0, 900),
        (899, 900),
        (100, 115),
        (300, 880),
        (0, 21),
        (450, 900),
        (0, 512),
        (7, 700),
        (600, 640),
    ]
    parts = []
    for (_, bars), (first, last) in zip(walks.group_by("symbol", maintain_order=True), spans, strict=True):
        alive = bars.filter(pl.col("at").is_between(first, last - 1))
        parts.append(alive.filter(pl.Series(rng.random(alive.height) > (0.08 if last - first > 50 else 0))))
    return pl.concat(parts).drop("at")


def one_symbol(
    close: Sequence[float],
    high: Sequence[float] | None = None,
    low: Sequence[float] | None = None,
    volume: Sequence[float] | None = None,
) -> pl.DataFrame:
    """Bars of one symbol on consecutive days; high and low default to the close."""
    n = len(close)
    return pl.DataFrame(
        {
            "symbol": ["A"] * n,
            "session": pl.date_range(date(2020, 1, 1), date(2030, 1, 1), eager=True)[:n],
            "open": list(close),
            "high": list(high if high is not None else close),
            "low": list(low if low is not None else close),
            "close": list(close),
            "volume": list(volume if volume is not None else [1000.0] * n),
        },
        schema_overrides=dict.fromkeys(("open", "high", "low", "close", "volume"), pl.Float64),
    )


def same_bits(one: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Equality of keys, validity and of every bit of every value."""
    if one.schema != other.schema or not one.select("symbol", "session").equals(
        other.select("symbol", "session")
    ):
        return False
    bits = np.uint32 if one.schema[one.columns[-1]] == pl.Float32 else np.uint64
    return all(
        one[name].is_null().equals(other[name].is_null())
        and (one[name].to_numpy().view(bits) == other[name].to_numpy().view(bits)).all()
        for name in one.columns[2:]
    )
