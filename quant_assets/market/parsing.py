"""Columns of raw bars, what may stand in their cells, and why what cannot be read cannot.

Symbols, session dates and numbers are read from typed columns or from text. Where that fails, a count of broken cells
says that a file cannot be used; the last part says why: a page inside the table, two columns exchanged, downloads
appended to one another. It only looks; nothing is repaired.
"""

import re
from collections.abc import Sequence

import polars as pl

# ---------------------------------------------------------------------------------------- columns of raw bars


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


# ------------------------------------------------------------------------------- how one cell becomes a value

# Every function is a polars expression over the named column. What cannot be read becomes null, and the caller
# compares with `text_of` to tell "unreadable" from "absent".


# Year first only: 03/04/2024 is March in one country and April in the next. A time of day may follow.
_CLOCK = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]+)?)?(?: ?[AaPp][Mm])?"
_ZONE = r"(?: ?(?:Z|[A-Z]{3,4}|[+-][0-9]{2}:?[0-9]{2}))?"
_YEAR_FIRST = rf"^([0-9]{{4}})([-/.]?)([0-9]{{2}})([-/.]?)([0-9]{{2}})(?:[T ]{_CLOCK}{_ZONE})?$"
# The name of a month leaves no doubt where the day stands: 01-Jan-2021, 2021-Jan-01, January 1, 2021.
_TIME_AFTER = rf"[T ]{_CLOCK}{_ZONE}$"
_NAMED_MONTH = {
    "%d-%b-%Y": r"^[0-9]{1,2}-[A-Za-z]{3}-[0-9]{4}$",
    "%Y-%b-%d": r"^[0-9]{4}-[A-Za-z]{3}-[0-9]{1,2}$",
    "%d-%B-%Y": r"^[0-9]{1,2}-[A-Za-z]{4,9}-[0-9]{4}$",
    "%b-%d-%Y": r"^[A-Za-z]{3}-[0-9]{1,2}-[0-9]{4}$",
    "%B-%d-%Y": r"^[A-Za-z]{4,9}-[0-9]{1,2}-[0-9]{4}$",
}
_DATE_LIKE = (
    r"^([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}|(19|20)[0-9]{6}$"
    r"|[0-9]{1,2}[- ][A-Za-z]{3}|[A-Za-z]{3,9} [0-9]{1,2}, )"
)
EPOCH_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
MOSTLY = 0.98  # of a column that is written in one way; the rest is broken cells
# Beyond, a number is none of a bar, and products of two are soon infinite; below, it is what misread bytes look like
# (a Parquet page without its levels gives 3.5e-310). Volumes that are only absurd (4e17 were seen) are for the rules
# of quality to report.
MOST, LEAST = 1e20, 1e-20


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
    plain = pl.when(same_separator).then(iso).str.to_date("%Y-%m-%d", strict=False)
    named = text.str.replace(_TIME_AFTER, "").str.replace_all(r"[ /.,]+", "-")
    months = [
        pl.when(named.str.contains(_NAMED_MONTH[form])).then(named).str.to_date(form, strict=False)
        for form in _NAMED_MONTH
    ]
    since = text.cast(pl.Int64, strict=False)
    epochs = [
        pl.when(is_epoch(since, unit)).then(pl.from_epoch(since // step, "s").dt.date())
        for unit, step in EPOCH_UNITS.items()
    ]
    return pl.coalesce(plain, *months, *epochs)


def is_epoch(since: pl.Expr, unit: str) -> pl.Expr:
    """Whether a column of whole numbers counts from 1970 in this unit: nearly all of it must lie in 1973 to 2100."""
    step = EPOCH_UNITS[unit]
    # 1e8 s is March 1973: no date written as 20240703 is so large, and no two units overlap.
    fits = since.is_between(100_000_000 * step, 4_133_980_799 * step)
    return fits & (fits.fill_null(value=False).mean() >= MOSTLY)


def session_reading(column: pl.Series) -> str | None:
    """What a person should know of how the cells of a session column were read."""
    if column.dtype != pl.String and not column.dtype.is_integer():
        return None
    different = column.unique().drop_nulls()
    since = different.cast(pl.Int64, strict=False)
    for unit in EPOCH_UNITS:
        if since.to_frame("n").select(is_epoch(pl.col("n"), unit).any()).item():
            return f"session: whole numbers, read as {unit} since 1970 and taken for the day in UTC"
    if column.dtype == pl.String and different.str.contains(r"[A-Za-z]{3,}[-/ .]").any():
        return "session: months written by their English names"
    return None


def number_of(name: str, dtype: pl.DataType) -> pl.Expr:
    """The cell as a float64."""
    if dtype.is_numeric():
        return pl.col(name).cast(pl.Float64)
    return pl.col(name).cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False)


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


def is_date_like(name: str) -> pl.Expr:
    """Whether the text of a cell looks like a date of any format, or a day as a whole number."""
    return text_of(name).str.contains(_DATE_LIKE).fill_null(value=False)


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


def in_order(rows: pl.DataFrame) -> bool:
    """Whether rows are sorted by symbol and session, each of them once."""
    symbol, session = pl.col("symbol"), pl.col("session")
    after = (symbol > symbol.shift()) | ((symbol == symbol.shift()) & (session > session.shift()))
    return rows.select(after.slice(1).all(ignore_nulls=False)).item() is True


# ------------------------------------------------------------------------ what went wrong with a refused file


_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})+(\.\d+)?$"
_DECIMAL_COMMA = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+),\d+$"
_NO_VALUE = r"(?i)^(null|none|n/?a|#n/a|nil|missing|-+)$"
_DAY_OR_MONTH_FIRST = r"^\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}\b"
_HTML = re.compile(r"<\s*(!doctype|html|head|body|meta|script|title|div|p|table)\b", re.IGNORECASE)
_JSON = re.compile(r'\s*("[^"]*"\s*:|[{}\]]\s*,?\s*$)')
_SECONDS_PER_HOUR = 3600

FEWEST_ROWS = 5  # below, any two columns fit by chance
FITTING, NOT_FITTING = 0.9, 0.1
WIDEST_RANGE = 2.0  # high over low of a bar whose columns are in place
MOST_STAMPS = 4  # a daily feed stamps its bars with the open or the close, in summer and in winter time
FEWEST_STAMPED = 10
OTHER_INSTRUMENT = 1.2  # two accounts of one session do not differ by a fifth
ROUNDING = 1e-6


def number_problem(name: str) -> pl.Expr:
    """Why the text of a cell is no number."""
    text = text_of(f"raw.{name}")
    return (
        pl.when(text.str.contains(_THOUSANDS))
        .then(pl.lit("thousands separator"))
        .when(text.str.contains(_DECIMAL_COMMA))
        .then(pl.lit("decimal comma"))
        .when(text.str.contains(_NO_VALUE))
        .then(pl.lit("no value but a word"))
        .otherwise(pl.lit("unparsable number"))
    )


def date_problem(*, some_clear: bool) -> pl.Expr:
    """Why the text of a cell is no date: in doubt throughout, in doubt among clear ones, or none at all."""
    doubtful = text_of("raw.session").str.contains(_DAY_OR_MONTH_FIRST)
    in_doubt = "another date format" if some_clear else "ambiguous date"
    return pl.when(doubtful).then(pl.lit(in_doubt)).otherwise(pl.lit("unparsable date"))


def is_header(aliases: dict[str, frozenset[str]]) -> pl.Expr:
    """Whether a row holds the names of the columns instead of values."""

    def named(name: str) -> pl.Expr:
        plain = text_of(f"raw.{name}").str.to_lowercase().str.replace_all(r"[^a-z0-9]", "")
        return plain.is_in(sorted(aliases[name])).fill_null(value=False)

    return named("session") & named("open") & named("close")


def case_variants(typed: pl.DataFrame) -> pl.DataFrame:
    """Symbols that differ only in upper and lower case from one that more rows have, and that one (``usual``)."""
    counted = typed.group_by("symbol").len("n").drop_nulls("symbol")
    counted = counted.with_columns(upper=pl.col("symbol").str.to_uppercase())
    most_first = counted.sort("n", "symbol", descending=[True, False])
    usual = most_first.unique("upper", keep="first", maintain_order=True).select("upper", usual="symbol")
    named = counted.join(usual, on="upper").filter(pl.col("symbol") != pl.col("usual"))
    return named.select("symbol", "usual").sort("symbol")


def is_unfinished(typed: pl.DataFrame) -> pl.Series:
    """Whether a row of the last session carries a time of day that no earlier session has.

    Vendors stamp finished daily bars with the open or close, and the running one with the moment of the download.
    Stamps that differ by whole hours are summer time, half days or other zones.
    """
    raw = typed["raw.session"]
    nothing = pl.repeat(value=False, n=typed.height, eager=True)
    if isinstance(raw.dtype, pl.Datetime):
        if raw.dt.time().n_unique() <= 1:
            return nothing
        clock = raw.dt.strftime("%H:%M:%S")
    elif raw.dtype != pl.String or not raw.unique().str.contains(":", literal=True).any():
        return nothing
    else:
        clock = raw.cast(pl.String).str.extract(r"[T ](\d{1,2}:\d{2}(?::\d{2})?)", 1)
    hms = [clock.str.extract(r"^(\d+)"), clock.str.extract(r":(\d+)"), clock.str.extract(r":\d+:(\d+)")]
    hours, minutes, seconds = (part.cast(pl.Int64, strict=False) for part in hms)
    stamp = hours * _SECONDS_PER_HOUR + minutes * 60 + seconds.fill_null(0)
    session = pl.col("session")
    last = typed.select((session == session.max()).fill_null(value=False)).to_series()
    earlier = stamp.filter(~last).drop_nulls()
    if earlier.len() < FEWEST_STAMPED or earlier.n_unique() > MOST_STAMPS:
        return nothing
    past_hour = (earlier % _SECONDS_PER_HOUR).unique().implode()
    return (last & ~(stamp % _SECONDS_PER_HOUR).is_in(past_hour) & stamp.is_not_null()).fill_null(value=False)


def swapped_columns(typed: pl.DataFrame) -> tuple[str, str] | None:
    """Two columns that make bars of nearly all rows when exchanged, and of hardly any as they are."""

    def fitting(frame: pl.DataFrame) -> float:
        within = [pl.col(name).is_between(pl.col("low"), pl.col("high")) for name in ("open", "close")]
        narrow = pl.col("high") < WIDEST_RANGE * pl.col("low")
        return float(frame.select((pl.all_horizontal(within) & narrow).mean()).item() or 0.0)

    if fitting(typed) > NOT_FITTING:
        return None
    values = typed.select((*PRICES, "volume")).drop_nulls()
    if values.height < FEWEST_ROWS or fitting(values) > NOT_FITTING:
        return None
    for pair in (("high", "low"), *((name, "volume") for name in PRICES)):
        if fitting(values.rename({pair[0]: pair[1], pair[1]: pair[0]})) >= FITTING:
            return pair
    return None


def repetition_cause(typed: pl.DataFrame) -> str | None:
    """Why sessions stand more than once, in a clause; None when it is not clear."""
    close = pl.col("close")
    sessions = (
        typed.drop_nulls(["symbol", "session"])
        .group_by("symbol", "session")
        .agg(
            times=pl.len(),
            spread=close.max() / close.min(),
            adjacent=pl.col("row").max() - pl.col("row").min() == pl.len() - 1,
        )
    )
    repeated = sessions.filter(pl.col("times") > 1)
    if repeated.is_empty():
        return None
    differing = repeated.filter(pl.col("spread") > 1 + ROUNDING)
    median = repeated["spread"].median()
    if isinstance(median, float) and median > OTHER_INSTRUMENT:
        return (
            f"rows of another instrument or unit are mixed in: closes of one session differ by a factor of "
            f"{median:.4g}"
        )
    first, most = repeated.select(pl.col("session").min(), pl.col("times").max()).row(0)
    if 2 * repeated.height > sessions.height:
        where = ", ".join(str(day) for day in differing["session"].unique().sort().head(3))
        changed = f", with other closes on {where}" if differing.height else ""
        return (
            f"repeated downloads were appended to one another: {repeated.height} of {sessions.height} sessions "
            f"stand up to {most} times{changed}"
        )
    if repeated.height >= FEWEST_ROWS and repeated["adjacent"].all():
        return (
            f"{repeated.height} sessions from {first} stand more than once in a row: "
            "preliminary values were appended and not replaced by the final ones"
        )
    return None


def line_cause(
    numbers: Sequence[int], texts: Sequence[str], cells: Sequence[int], *, n_lines: int, n_cells: int
) -> tuple[str, str]:
    """Why lines of a delimited file are no rows, in a clause, and what to do."""
    cut_out = f"download the file again, or cut the lines {numbers[0]} to {numbers[-1]} out"
    if any(_HTML.search(text) for text in texts):
        return f"an HTML page inside the file, lines {numbers[0]} to {numbers[-1]}", cut_out
    if any(_JSON.match(text) for text in texts):
        return f"a JSON message inside the file, lines {numbers[0]} to {numbers[-1]}", cut_out
    if list(numbers) == [n_lines] and cells[0] < n_cells:
        cut = f"the last line is cut off after {len(texts[0])} characters"
        return cut, f"the download was broken off: download the file again, or cut line {n_lines} out"
    if min(cells) > n_cells:
        return (
            "more cells than columns (decimal commas or thousands separators without quotes do this)",
            "export the file with semicolons between the cells, or with decimal points",
        )
    return "text that is no table", "download the file again, or cut those lines out"


def bytes_cause(head: bytes, n_bytes: int) -> str | None:
    """What a file is that is not what its source's kind says, or None when its first bytes do not tell."""
    if head.startswith(b"PAR1"):
        return f"a Parquet file of {n_bytes} bytes"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip file"
    if head.startswith(b"ARROW1"):
        return "an Arrow file (Feather)"
    if head.startswith(b"FEA1"):
        return "a Feather file of version 1, which is no longer read: write it as Parquet"
    if head.startswith(b"PK\x03\x04"):
        return "a zip file or a workbook of Excel"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return "a workbook of Excel before 2007 (xls): save it as xlsx or CSV"
    line = head.split(b"\n", 1)[0].strip()
    if line and all(32 <= byte < 127 or byte == 9 for byte in line):
        return f"text that begins with {line[:60].decode('ascii')!r}"
    return None
