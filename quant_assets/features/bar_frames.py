"""Bars as people hand them over: a polars or a pandas frame, one row for each symbol and session."""

from typing import Any

import polars as pl

from quant_assets.common.errors import FeatureError

PRICES = ("open", "high", "low", "close")
FIELDS = (*PRICES, "volume")
COLUMNS = ("symbol", "session", *FIELDS)


def polars_of(bars: Any) -> pl.DataFrame:
    """Bars as a polars frame: as they are, or of a pandas frame, with the columns that its index holds.

    Raises
    ------
    FeatureError
        For anything else.
    """
    if isinstance(bars, pl.DataFrame):
        return bars
    if isinstance(bars, pl.LazyFrame):
        return bars.collect()
    if type(bars).__module__.partition(".")[0] == "pandas" and hasattr(bars, "reset_index"):
        named = [name for name in bars.index.names if name is not None]
        plain = bars.reset_index() if named else bars
        text = [str(column) for column in plain.columns]
        if len(set(text)) == len(text) and all(isinstance(column, str) for column in plain.columns):
            converted: pl.DataFrame = pl.from_pandas(plain)
            return converted
    raise FeatureError(
        "bars",
        expected=f"a polars or pandas frame with the columns {', '.join(COLUMNS)}, one row for each bar",
        found=f"{type(bars).__module__}.{type(bars).__name__}"
        + (f" with columns {list(bars.columns)[:6]}" if hasattr(bars, "columns") else ""),
        action="pass the bars of all symbols as one long table (a wide one: stack it first)",
    )


def refuse_duplicates(frame: pl.DataFrame) -> None:
    """Name the first symbol that has two bars in one session.

    Raises
    ------
    FeatureError
        Always: to be called when there is one.
    """
    twice = frame.group_by("symbol", "session").len().filter(pl.col("len") > 1).sort("symbol", "session")
    symbol, session, count = twice.row(0)
    raise FeatureError(
        "bars",
        expected="one bar per symbol and session",
        found=f"{count} bars of symbol {symbol!r} in session {session}"
        + (f" and {twice.height - 1} more such sessions" if twice.height > 1 else ""),
        action="decide which bar is right and remove the others; none is dropped here",
    )
