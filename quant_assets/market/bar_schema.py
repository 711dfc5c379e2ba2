"""Columns of raw bars: their names and types, and the names that sources give them."""

import polars as pl

PRICES = ("open", "high", "low", "close")
REQUIRED = ("symbol", "session", *PRICES, "volume")
RAW_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    **dict.fromkeys((*PRICES, "volume", "adj_close"), pl.Float64),
}

# Compared without case, spaces and punctuation: "Adj Close", "adj_close" and "adjClose" are one name.
ALIASES: dict[str, frozenset[str]] = {
    "symbol": frozenset({"symbol", "ticker", "sym", "instrument"}),
    "session": frozenset({"session", "date", "timestamp", "datetime", "tradedate", "tradingday", "day"}),
    "open": frozenset({"open", "openprice", "o"}),
    "high": frozenset({"high", "highprice", "h"}),
    "low": frozenset({"low", "lowprice", "l"}),
    "close": frozenset({"close", "closeprice", "c"}),
    "volume": frozenset({"volume", "vol", "v"}),
    "adj_close": frozenset({"adjclose", "adjustedclose", "closeadj", "closeadjusted", "adjcloseprice"}),
}
