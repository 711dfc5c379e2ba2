"""Which rows of a feed are no bars, cell by cell: row, column, value as the source wrote it, and what is wrong.

A first look asks of whole columns whether anything can be wrong and where; what is written in a cell is looked at
only there. Of three million good rows no cell is ever turned into text.
"""

import polars as pl

from quant_assets.common.source_settings import FIRST_SESSION, LAST_SESSION, SYMBOL, SYMBOL_RULE
from quant_assets.market.parsing import (
    ALIASES,
    LEAST,
    MOST,
    PRICES,
    RAW_SCHEMA,
    case_variants,
    date_problem,
    is_header,
    is_unfinished,
    number_of,
    number_problem,
    sentence,
    session_of,
    text_of,
)

MOST_EXACT = 2**53  # beyond, not every whole number is a float64

EXPECTED = {
    "missing value": "a value in every cell",
    "unparsable date": "dates written year first, as 2024-07-03",
    "another date format": "one date format throughout, year first, as 2024-07-03",
    "ambiguous date": "dates written year first, as 2024-07-03 (03/04/2024 is March here and April there)",
    "unfinished session": "bars of sessions that were over (stamped as the other bars are)",
    "header repeated": "one header line, the first",
    "no symbol": f"symbols of {SYMBOL_RULE}",
    "impossible date": f"sessions from {FIRST_SESSION} to {LAST_SESSION}",
    "differs only in case": "one spelling of each symbol",
    "thousands separator": "numbers without thousands separators, as 1200.5 (or `thousands:` in a csv source)",
    "decimal comma": "numbers with a decimal point, as 1200.5 (or `decimal:` in a csv source)",
    "no value but a word": "a number in every cell",
    "unparsable number": "numbers written with a decimal point and no thousands separator",
    "not finite": "finite numbers",
    "too large": f"numbers up to {MOST:g}",
    "too small": f"numbers of {LEAST:g} or more, or 0",
    "not exact": f"whole volumes up to {MOST_EXACT}: a float64 keeps no more of their digits",
    "not positive": "prices above zero",
    "negative": "volume of zero or more",
    "high below low": "high on or above low",
    "partly missing": "adj_close in every row of a symbol, or in none",
    "repeats": "one row for each symbol and session",
    "contradicts": "one row for each symbol and session",
    "no table": "files that can be read",
}


OFFENDERS: dict[str, pl.DataType | type[pl.DataType]] = {
    "row": pl.Int64,
    "column": pl.String,
    "value": pl.String,
    "problem": pl.String,
    "earlier": pl.Int64,
}
KEY = ("symbol", "session")


def typed_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Conformed rows with ``row`` (from 1), every cell as written (``raw.*``) and as a value (null if unreadable)."""
    return frame.select(
        pl.int_range(1, pl.len() + 1).alias("row"),
        *(pl.col(name).alias(f"raw.{name}") for name in RAW_SCHEMA),
        _once_each(frame["symbol"], text_of("symbol")),
        _once_each(frame["session"], session_of("session", frame.schema["session"])),
        *(number_of(name, frame.schema[name]) for name in (*PRICES, "volume", "adj_close")),
    )


def _once_each(column: pl.Series, reading: pl.Expr) -> pl.Series:
    """A reading of a column that has few different cells: each of them is read once."""
    if column.dtype != pl.String:
        return column.to_frame().select(reading.alias(column.name)).to_series()
    different = column.to_frame().unique()
    read = different.with_columns(reading.alias("value"))
    if read.schema["value"] == pl.String and read["value"].equals(read[column.name], null_equal=True):
        return column
    joined = column.to_frame().join(read, on=column.name, how="left", nulls_equal=True, maintain_order="left")
    return joined["value"].alias(column.name)


def offenders_of(typed: pl.DataFrame, by_key: pl.DataFrame | None) -> pl.DataFrame:
    """Every broken cell as `OFFENDERS`, by row.

    Parameters
    ----------
    typed : polars.DataFrame
        As `typed_rows`.
    by_key : polars.DataFrame, optional
        Its ``row``, ``symbol`` and ``session``, sorted by the last two; None when the rows are in order, each once.
    """
    variants = case_variants(typed)["symbol"]
    gappy = _with_gaps(typed)
    unfinished = is_unfinished(typed)
    masks = [_doubtful(typed), unfinished]
    masks += [typed["symbol"].is_in(variants.implode()).fill_null(value=False)] if variants.len() else []
    masks += [typed["symbol"].is_in(gappy.implode()).fill_null(value=False)] if gappy.len() else []
    doubtful = masks[0]
    for mask in masks[1:]:
        doubtful = doubtful | mask
    repeated = pl.DataFrame(schema=OFFENDERS) if by_key is None else _repeated(typed, by_key)
    if not doubtful.any():
        return repeated
    some_clear = typed["session"].null_count() < typed.height
    looked_at = typed.with_columns(unfinished.alias("unfinished")).filter(doubtful)
    found = _in_cells(looked_at, variants=variants, gappy=gappy, some_clear=some_clear)
    headers = looked_at.filter(is_header(ALIASES))["row"]
    if headers.len():
        repeated = repeated.filter(~pl.col("row").is_in(headers.implode()))
    return pl.concat([found, repeated]).sort("row", maintain_order=True)


def _doubtful(typed: pl.DataFrame) -> pl.Series:
    """Rows of which a cell may be wrong, in whole columns at a time. A few good ones may be among them."""
    between = {name: pl.col(name).is_between(LEAST, MOST) for name in (*PRICES, "volume", "adj_close")}
    volume = (between["volume"] & (pl.col("volume") < MOST_EXACT)) | (pl.col("volume") == 0)
    known = typed["symbol"].unique().drop_nulls()
    strange = known.filter(~known.str.contains(SYMBOL))
    wrong = [
        pl.col("symbol").is_null() | pl.col("symbol").is_in(strange.implode()),
        ~pl.col("session").is_between(FIRST_SESSION, LAST_SESSION),
        *(~between[name] for name in PRICES),
        ~volume,
        pl.col("high") < pl.col("low"),
    ]
    mask = pl.any_horizontal(part.fill_null(value=True) for part in wrong)
    if typed["raw.adj_close"].null_count() < typed.height:
        written = pl.col("raw.adj_close").is_not_null()
        if typed.schema["raw.adj_close"] == pl.String and typed["adj_close"].null_count():
            written = text_of("raw.adj_close").is_not_null()
        mask = mask | (~between["adj_close"]).fill_null(written)
    return typed.select(mask.alias("doubtful")).to_series()


def _with_gaps(typed: pl.DataFrame) -> pl.Series:
    """Symbols of which some rows have an adjusted close and others have none."""
    n_null = typed["adj_close"].null_count()
    if n_null in (0, typed.height):
        return pl.Series("symbol", [], dtype=pl.String)
    counted = typed.group_by("symbol").agg(n_null=pl.col("adj_close").null_count(), n=pl.len())
    return counted.filter(pl.col("n_null").is_between(0, pl.col("n"), closed="none"))["symbol"].drop_nulls()


def _in_cells(
    typed: pl.DataFrame, *, variants: pl.Series, gappy: pl.Series, some_clear: bool
) -> pl.DataFrame:
    """What is wrong with the cells of rows that were looked at, as `OFFENDERS`."""
    header = typed.select(is_header(ALIASES)).to_series()
    whole = [
        ("session", "header repeated", typed.filter(header)),
        (
            "symbol",
            "differs only in case",
            typed.filter(pl.col("symbol").is_in(variants.implode()) & ~header),
        ),
        ("session", "unfinished session", typed.filter(pl.col("unfinished") & ~header)),
    ]
    typed = typed.filter(~header)
    told = [
        found.select(
            "row",
            column=pl.lit(column),
            value=text_of(f"raw.{column}"),
            problem=pl.lit(problem),
            earlier=pl.lit(None, dtype=pl.Int64),
        )
        for column, problem, found in whole
        if found.height
    ]
    if typed.is_empty():
        return pl.concat([pl.DataFrame(schema=OFFENDERS), *told])
    checks: list[tuple[str, str | pl.Expr, pl.Expr]] = []
    for name in RAW_SCHEMA:
        written, value = text_of(f"raw.{name}"), pl.col(name)
        if name != "adj_close":
            checks.append((name, "missing value", written.is_null()))
        if name == "symbol":
            checks.append((name, "no symbol", ~value.str.contains(SYMBOL)))
            continue
        parsed = date_problem(some_clear=some_clear) if name == "session" else number_problem(name)
        checks.append((name, parsed, value.is_null() & written.is_not_null()))
        if name == "session":
            checks.append((name, "impossible date", ~value.is_between(FIRST_SESSION, LAST_SESSION)))
        else:
            checks.append((name, "not finite", ~value.is_finite()))
            checks.append((name, "too large", value.is_finite() & (value > MOST)))
            checks.append((name, "too small", (value > 0) & (value < LEAST)))
            if name == "volume":
                digits = written.cast(pl.Int64, strict=False)
                kept = pl.when(value < 2.0**63).then(value).cast(pl.Int64, strict=False)
                checks.append((name, "not exact", (value >= MOST_EXACT) & digits.ne(kept)))
            limit, below = ("negative", value < 0) if name == "volume" else ("not positive", value <= 0)
            checks.append((name, limit, value.is_finite() & below))
    checks.append(("high", "high below low", pl.col("high").is_finite() & (pl.col("high") < pl.col("low"))))
    gaps = pl.col("adj_close").is_null() & text_of("raw.adj_close").is_null()
    checks.append(("adj_close", "partly missing", gaps & pl.col("symbol").is_in(gappy.implode())))
    parts = [
        # The problem first: whether other dates of the file are clear is seen in all rows only.
        typed.select(
            "row",
            column=pl.lit(column),
            value=text_of(f"raw.{column}"),
            problem=pl.lit(problem) if isinstance(problem, str) else problem,
            earlier=pl.lit(None, dtype=pl.Int64),
            broken=broken,
        )
        .filter("broken")
        .drop("broken")
        for column, problem, broken in checks
    ]
    return pl.concat([*told, *parts])


def _repeated(typed: pl.DataFrame, by_key: pl.DataFrame) -> pl.DataFrame:
    """Rows whose symbol and session an earlier row has: its exact repetition, or another account of it."""
    key, values = list(KEY), [*PRICES, "volume"]
    again = pl.all_horizontal(pl.col(name) == pl.col(name).shift() for name in key)
    twice = by_key.filter(again).select(key).drop_nulls().unique()
    if twice.is_empty():
        return pl.DataFrame(schema=OFFENDERS)
    keyed = typed.join(twice, on=key, how="semi", maintain_order="left")
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).first().over(key)) for name in values)
    return (
        keyed.with_columns(earlier=pl.col("row").first().over(key), same=same)
        .filter(pl.col("row") > pl.col("earlier"))
        .select(
            "row",
            column=pl.lit("symbol, session"),
            value=sentence("{} {}", "symbol", "session"),
            problem=pl.when("same").then(pl.lit("repeats")).otherwise(pl.lit("contradicts")),
            earlier=pl.col("earlier"),
        )
    )
