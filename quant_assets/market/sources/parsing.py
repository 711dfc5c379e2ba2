"""Columns of raw bars and what may stand in their cells: symbols, session dates, numbers, typed or as text."""

import polars as pl

# --------------------------------------------------------------------------------------------------
# Columns of raw bars: their names and types, and the names that sources give them.


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


# --------------------------------------------------------------------------------------------------
# How one cell becomes a value: symbols, session dates and numbers, from text or from typed columns.
#
# Every function is a polars expression over the named column. What cannot be read becomes null, and the caller
# compares with `text_of` to tell "unreadable" from "absent".


# Year first only: 03/04/2024 is March in one country and April in the next. A time of day may follow.
_YEAR_FIRST = r"^(\d{4})([-/]?)(\d{2})([-/]?)(\d{2})(?:[T ]\d{1,2}:\d{2}.*)?$"


def text_of(name: str) -> pl.Expr:
    """The cell as trimmed text; empty is null."""
    text = pl.col(name).cast(pl.String).str.strip_chars()
    return pl.when(text != "").then(text)


def session_of(name: str, dtype: pl.DataType) -> pl.Expr:
    """The cell as a session date. A time is dropped in the column's own time zone, never converted."""
    if dtype == pl.Date:
        return pl.col(name)
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).dt.date()
    text = text_of(name)
    same_separator = text.str.extract(_YEAR_FIRST, 2) == text.str.extract(_YEAR_FIRST, 4)
    iso = pl.concat_str([text.str.extract(_YEAR_FIRST, group) for group in (1, 3, 5)], separator="-")
    return pl.when(same_separator).then(iso).str.to_date("%Y-%m-%d", strict=False)


def number_of(name: str, dtype: pl.DataType) -> pl.Expr:
    """The cell as a float64."""
    if dtype.is_numeric():
        return pl.col(name).cast(pl.Float64)
    return text_of(name).cast(pl.Float64, strict=False)


def dtype_problem(name: str, dtype: pl.DataType) -> str | None:
    """What a column's type should have been, or None when its values can be read."""
    if dtype in (pl.String, pl.Null):
        return None
    if name == "symbol":
        readable = dtype.is_integer() or isinstance(dtype, pl.Categorical | pl.Enum)
        return None if readable else "symbols as text"
    if name == "session":
        readable = dtype == pl.Date or dtype.is_integer() or isinstance(dtype, pl.Datetime)
        return None if readable else "dates, date-times, or text such as 2024-07-03"
    return None if dtype.is_numeric() else "numbers"


def has_time_of_day(name: str, dtype: pl.DataType) -> pl.Expr:
    """Whether any cell of a session column carries a time that is not midnight."""
    if isinstance(dtype, pl.Datetime):
        return (pl.col(name).dt.time() != pl.time(0, 0)).any()
    if dtype == pl.String:
        return pl.col(name).str.contains(r"[T ]\d{1,2}:\d{2}").any()
    return pl.lit(value=False)


def sentence(template: str, *parts: str | pl.Expr) -> pl.Expr:
    """Text with every ``{}`` replaced by a column or expression; "nothing" where that is null.

    What `polars.format` is for: polars 2.1.0 panics there on a text column that `when/then` made and a filter cut.
    """
    pieces = template.split("{}")
    texts = [pl.lit(pieces[0])]
    for part, piece in zip(parts, pieces[1:], strict=True):
        value = pl.col(part) if isinstance(part, str) else part
        texts += [value.cast(pl.String).fill_null("nothing"), pl.lit(piece)]
    return pl.concat_str(texts)
