"""Which rows are no bars: every broken cell with its row, its column, what was written and what is wrong."""

import polars as pl

from quant_assets.market.bar_schema import ALIASES, PRICES, RAW_SCHEMA
from quant_assets.market.diagnosis import (
    date_problem,
    is_case_variant,
    is_header,
    is_unfinished,
    number_problem,
)
from quant_assets.market.parsing import sentence, text_of

EXPECTED = {
    "missing value": "a value in every cell",
    "unparsable date": "dates written year first, as 2024-07-03",
    "another date format": "one date format throughout, year first, as 2024-07-03",
    "ambiguous date": "dates written year first, as 2024-07-03 (03/04/2024 is March here and April there)",
    "unfinished session": "bars of sessions that were over (stamped as the other bars are)",
    "header repeated": "one header line, the first",
    "differs only in case": "one spelling of each symbol",
    "thousands separator": "numbers without thousands separators, as 1200.5",
    "decimal comma": "numbers with a decimal point, as 1200.5",
    "no value but a word": "a number in every cell",
    "unparsable number": "numbers written with a decimal point and no thousands separator",
    "not finite": "finite numbers",
    "not positive": "prices above zero",
    "negative": "volume of zero or more",
    "high below low": "high on or above low",
    "partly missing": "adj_close in every row of a symbol, or in none",
    "repeats": "one row for each symbol and session",
    "contradicts": "one row for each symbol and session",
}


OFFENDERS: dict[str, pl.DataType | type[pl.DataType]] = {
    "row": pl.Int64,
    "column": pl.String,
    "value": pl.String,
    "problem": pl.String,
    "earlier": pl.Int64,
}


def offenders_of(typed: pl.DataFrame) -> pl.DataFrame:
    """Every broken cell: row, column, value as the source wrote it, problem."""
    header = typed.select(is_header(ALIASES)).to_series()
    whole = [
        ("session", "header repeated", typed.filter(header)),
        ("symbol", "differs only in case", typed.filter(is_case_variant(typed) & ~header)),
        ("session", "unfinished session", typed.filter(is_unfinished(typed) & ~header)),
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
            continue
        parsed = date_problem() if name == "session" else number_problem(name)
        checks.append((name, parsed, value.is_null() & written.is_not_null()))
        if name != "session":
            checks.append((name, "not finite", ~value.is_finite()))
            limit, below = ("negative", value < 0) if name == "volume" else ("not positive", value <= 0)
            checks.append((name, limit, value.is_finite() & below))
    checks.append(("high", "high below low", pl.col("high").is_finite() & (pl.col("high") < pl.col("low"))))
    some, every = pl.col("adj_close").is_null().any(), pl.col("adj_close").is_null().all()
    gaps = pl.col("adj_close").is_null() & text_of("raw.adj_close").is_null() & (some & ~every).over("symbol")
    checks.append(("adj_close", "partly missing", gaps))
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
    return pl.concat([*told, *parts, _repeated(typed)]).sort("row", maintain_order=True)


def _repeated(typed: pl.DataFrame) -> pl.DataFrame:
    """Rows whose symbol and session an earlier row has: its exact repetition, or another account of it."""
    key, values = ["symbol", "session"], [*PRICES, "volume"]
    keyed = typed.filter(pl.all_horizontal(pl.col(key).is_not_null()))
    if keyed.is_empty():  # no date can be read: polars formats no text of no rows
        return pl.DataFrame(schema=OFFENDERS)
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
