"""The row contract of raw bars: how a source's columns become ours, and which rows are refused.

``conform`` renames, ``validate_bars`` parses and judges. A row is refused when no reading of it could be a bar
(no close, a negative price, high below low). A row that is odd but possible (open a little above high, as
consolidated feeds print) passes here and is reported by `quant_assets.market.rules.quality`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from quant_assets.common.errors import BarContractError, brief, closest
from quant_assets.common.universe_settings import FIRST_SESSION, LAST_SESSION, SYMBOL, SYMBOL_RULE
from quant_assets.market.parsing import (
    ALIASES,
    LEAST,
    MOST,
    PRICES,
    RAW_SCHEMA,
    date_problem,
    delimiter_in,
    dtype_problem,
    is_case_variant,
    is_header,
    is_unfinished,
    number_of,
    number_problem,
    repetition_cause,
    sentence,
    session_of,
    swapped_columns,
    text_of,
)
from quant_assets.market.parsing import REQUIRED as REQUIRED

# ------------------------------------------------------------------------------------- which rows are no bars


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
    "thousands separator": "numbers without thousands separators, as 1200.5",
    "decimal comma": "numbers with a decimal point, as 1200.5",
    "no value but a word": "a number in every cell",
    "unparsable number": "numbers written with a decimal point and no thousands separator",
    "not finite": "finite numbers",
    "too large": f"numbers up to {MOST:g}",
    "too small": f"numbers of {LEAST:g} or more, or 0",
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
            checks.append((name, "no symbol", ~value.str.contains(SYMBOL)))
            continue
        parsed = date_problem() if name == "session" else number_problem(name)
        checks.append((name, parsed, value.is_null() & written.is_not_null()))
        if name == "session":
            checks.append((name, "impossible date", ~value.is_between(FIRST_SESSION, LAST_SESSION)))
        else:
            checks.append((name, "not finite", ~value.is_finite()))
            checks.append((name, "too large", value.is_finite() & (value > MOST)))
            checks.append((name, "too small", (value > 0) & (value < LEAST)))
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


# ------------------------------------------------------------------------------------------- the row contract


MAX_OFFENDERS_SHOWN = 5
MAX_SHOWN_COLUMNS = 600


@dataclass(frozen=True)
class Conformed:
    """A source's frame under our column names (values still as the source wrote them)."""

    bars: pl.DataFrame
    column_mapping: dict[str, str]
    ignored_columns: tuple[str, ...] = ()


def conform(
    frame: pl.DataFrame, *, origin: str, mapping: Mapping[str, str] | None = None, symbol: str | None = None
) -> Conformed:
    """Rename a source's columns to the contract's.

    Parameters
    ----------
    frame : polars.DataFrame
        Rows as the source has them, in its order.
    origin : str
        File or feed, for messages.
    mapping : mapping of str to str, optional
        Our name to the source's, where no known alias fits; it wins over every alias.
    symbol : str, optional
        Used for every row when the source has no symbol column.

    Returns
    -------
    Conformed
        ``bars`` with the columns of `REQUIRED` and, if the source has it, ``adj_close``.

    Raises
    ------
    BarContractError
        When a required column is missing, or two columns could be the same one.
    """
    found = _explicit(frame.columns, mapping or {}, origin)
    for field, aliases in ALIASES.items():
        if field in found:
            continue
        candidates = [c for c in frame.columns if _plain(c) in aliases and c not in found.values()]
        if len(candidates) > 1:
            raise BarContractError(
                f"{origin}: column {field!r}",
                expected="one column that can be it",
                found=f"{' and '.join(brief(c) for c in candidates[:5])} among "
                f"{brief(frame.columns, MAX_SHOWN_COLUMNS)}",
                action=f"name the right one under `columns:` in the universe YAML, as `{field}: {candidates[0]}`",
            )
        if candidates:
            found[field] = candidates[0]
    missing = [f for f in REQUIRED if f not in found and not (f == "symbol" and symbol is not None)]
    if missing:
        other = delimiter_in(frame.columns)
        raise BarContractError(
            f"{origin}: column {', '.join(repr(f) for f in missing)}",
            expected=f"columns {', '.join(REQUIRED)} (or usual names for them) and optionally adj_close",
            found=f"columns {brief(frame.columns, MAX_SHOWN_COLUMNS)}",
            action=f"set `columns:` in the universe YAML, as `columns: {{{missing[0]}: <name in the file>}}`"
            if other is None
            else f"the file is delimited by {other!r}: set `delimiter: {other!r}` in the universe YAML",
        )
    bars = frame.select(pl.col(source).alias(ours) for ours, source in found.items())
    if "symbol" not in found:
        bars = bars.with_columns(pl.lit(symbol, dtype=pl.String).alias("symbol"))
    order = [name for name in RAW_SCHEMA if name in bars.columns]
    ignored = tuple(c for c in frame.columns if c not in found.values())
    return Conformed(bars.select(order), {name: found[name] for name in order if name in found}, ignored)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _explicit(columns: list[str], mapping: Mapping[str, str], origin: str) -> dict[str, str]:
    for ours, theirs in mapping.items():
        for name, known, where in (
            (ours, list(ALIASES), "our columns"),
            (theirs, columns, "the file's columns"),
        ):
            if name not in known:
                raise BarContractError(
                    f"{origin}: `columns:` entry `{ours}: {theirs}`",
                    expected=f"{brief(name)} among {where} {brief(known, MAX_SHOWN_COLUMNS)}",
                    found="no such column",
                    action=closest(name, known, cutoff=0.0) or "name a column that exists",
                )
    return dict(mapping)


def validate_bars(frame: pl.DataFrame, *, origin: str) -> pl.DataFrame:
    """Parse conformed rows and refuse every one that cannot be a bar.

    Parameters
    ----------
    frame : polars.DataFrame
        Conformed columns, in the source's row order (row 1 is the first data row).
    origin : str
        File or feed, for messages.

    Returns
    -------
    polars.DataFrame
        `RAW_SCHEMA`, sorted by symbol and session. ``adj_close`` is null where the source has none.

    Raises
    ------
    BarContractError
        Names up to five offenders with row, column, value and what is wrong with it.
    """
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise BarContractError(
            f"{origin}: column {', '.join(repr(f) for f in missing)}",
            expected=f"columns {', '.join(REQUIRED)}",
            found=f"columns {brief(frame.columns, MAX_SHOWN_COLUMNS)}",
            action="conform the frame first, or set `columns:` in the universe YAML",
        )
    if "adj_close" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("adj_close"))
    for name in RAW_SCHEMA:
        problem = dtype_problem(name, frame.schema[name])
        if problem:
            raise BarContractError(
                f"{origin}: column {name!r}",
                expected=problem,
                found=f"values of type {frame.schema[name]}",
                action="convert the column in the source",
            )
    typed = frame.select(
        pl.int_range(1, pl.len() + 1).alias("row"),
        *(pl.col(name).alias(f"raw.{name}") for name in RAW_SCHEMA),
        text_of("symbol").alias("symbol"),
        session_of("session", frame.schema["session"]).alias("session"),
        *(number_of(name, frame.schema[name]).alias(name) for name in (*PRICES, "volume", "adj_close")),
    )
    _refuse_swapped(typed, origin=origin)
    offenders = offenders_of(typed)
    if offenders.height:
        raise _refusal(offenders, origin=origin, n_rows=frame.height, cause=repetition_cause(typed))
    return typed.select(*RAW_SCHEMA).sort("symbol", "session")


def _refuse_swapped(typed: pl.DataFrame, *, origin: str) -> None:
    pair = swapped_columns(typed)
    if pair is None:
        return
    first, second = pair
    raise BarContractError(
        f"{origin}: columns {first!r} and {second!r}",
        expected="open and close between low and high",
        found=f"rows that are bars only with {first!r} and {second!r} exchanged, as row 1: {first} "
        f"{typed[f'raw.{first}'][0]}, {second} {typed[f'raw.{second}'][0]}",
        action="the two are swapped in the file: name them right under `columns:` in the universe YAML",
    )


def _refusal(offenders: pl.DataFrame, *, origin: str, n_rows: int, cause: str | None) -> BarContractError:
    counts = offenders.group_by("problem", maintain_order=True).len()
    # The first offender of every problem, then the second, ...: one frequent problem hides no other.
    turn = pl.int_range(pl.len()).over("problem")
    shown = offenders.with_columns(turn=turn).sort("turn", "row", maintain_order=True)
    texts = [
        f"row {row}, column {column}, value {'nothing' if value is None else brief(value)} ({problem}"
        + (")" if earlier is None else f" row {earlier})")
        for row, column, value, problem, earlier, _ in shown.head(MAX_OFFENDERS_SHOWN).iter_rows()
    ]
    rest = offenders.height - len(texts)
    tally = ", ".join(f"{problem}: {count}" for problem, count in counts.iter_rows())
    return BarContractError(
        f"{origin}: {offenders['row'].n_unique()} of {n_rows} rows are no bars ({tally})",
        expected=", ".join(dict.fromkeys(EXPECTED[problem] for problem in counts["problem"])),
        found="; ".join(texts if cause is None else [cause, *texts]) + (f"; and {rest} more" if rest else ""),
        action="correct these rows in the source; nothing of it was taken"
        if cause is None
        else "download the whole history of this one instrument again; nothing of this file was taken",
    )
