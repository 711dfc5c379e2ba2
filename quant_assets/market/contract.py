"""The row contract of raw bars: how a source's columns become ours, and which rows are refused.

``conform`` renames, ``validate_bars`` parses and judges. A row is refused when no reading of it could be a bar
(no close, a negative price, high below low). A row that is odd but possible (open a little above high, as
consolidated feeds print) passes here and is reported by `quant_assets.market.quality`.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from quant_assets.common.errors import BarContractError
from quant_assets.market.parsing import dtype_problem, number_of, session_of, text_of

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

MAX_OFFENDERS_SHOWN = 5

_EXPECTED = {
    "missing value": "a value in every cell",
    "unparsable date": "dates written year first, as 2024-07-03",
    "unparsable number": "numbers written with a decimal point and no thousands separator",
    "not finite": "finite numbers",
    "not positive": "prices above zero",
    "negative": "volume of zero or more",
    "high below low": "high on or above low",
    "partly missing": "adj_close in every row of a symbol, or in none",
    "repeats": "one row for each symbol and session",
    "contradicts": "one row for each symbol and session",
}


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
                found=f"{' and '.join(repr(c) for c in candidates)} among {frame.columns}",
                action=f"name the right one under `columns:` in the universe YAML, as `{field}: {candidates[0]}`",
            )
        if candidates:
            found[field] = candidates[0]
    missing = [f for f in REQUIRED if f not in found and not (f == "symbol" and symbol is not None)]
    if missing:
        raise BarContractError(
            f"{origin}: column {', '.join(repr(f) for f in missing)}",
            expected=f"columns {', '.join(REQUIRED)} (or usual names for them) and optionally adj_close",
            found=f"columns {frame.columns}",
            action=f"set `columns:` in the universe YAML, as `columns: {{{missing[0]}: <name in the file>}}`",
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
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
                raise BarContractError(
                    f"{origin}: `columns:` entry `{ours}: {theirs}`",
                    expected=f"{name!r} among {where} {known}",
                    found="no such column",
                    action=f"did you mean {close[0]!r}?" if close else "name a column that exists",
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
            found=f"columns {frame.columns}",
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
    offenders = _offenders(typed)
    if offenders.height:
        raise _refusal(offenders, origin=origin, n_rows=frame.height)
    return typed.select(*RAW_SCHEMA).sort("symbol", "session")


def _offenders(typed: pl.DataFrame) -> pl.DataFrame:
    """Every broken cell: row, column, value as the source wrote it, problem."""
    checks: list[tuple[str, str, pl.Expr]] = []
    for name in RAW_SCHEMA:
        written, value = text_of(f"raw.{name}"), pl.col(name)
        if name != "adj_close":
            checks.append((name, "missing value", written.is_null()))
        if name == "symbol":
            continue
        parsed = "unparsable date" if name == "session" else "unparsable number"
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
        typed.filter(broken).select(
            "row",
            column=pl.lit(column),
            value=text_of(f"raw.{column}"),
            problem=pl.lit(problem),
            earlier=pl.lit(None, dtype=pl.Int64),
        )
        for column, problem, broken in checks
    ]
    return pl.concat([*parts, _repeated(typed)]).sort("row", maintain_order=True)


def _repeated(typed: pl.DataFrame) -> pl.DataFrame:
    """Rows whose symbol and session an earlier row has: its exact repetition, or another account of it."""
    key, values = ["symbol", "session"], [*PRICES, "volume"]
    keyed = typed.filter(pl.all_horizontal(pl.col(key).is_not_null()))
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.col(name).first().over(key)) for name in values)
    return (
        keyed.with_columns(earlier=pl.col("row").first().over(key), same=same)
        .filter(pl.col("row") > pl.col("earlier"))
        .select(
            "row",
            column=pl.lit("symbol, session"),
            value=pl.format("{} {}", "symbol", "session"),
            problem=pl.when("same").then(pl.lit("repeats")).otherwise(pl.lit("contradicts")),
            earlier=pl.col("earlier"),
        )
    )


def _refusal(offenders: pl.DataFrame, *, origin: str, n_rows: int) -> BarContractError:
    counts = offenders.group_by("problem", maintain_order=True).len()
    # The first offender of every problem, then the second, ...: one frequent problem hides no other.
    turn = pl.int_range(pl.len()).over("problem")
    shown = offenders.with_columns(turn=turn).sort("turn", "row", maintain_order=True)
    texts = [
        f"row {row}, column {column}, value {'nothing' if value is None else repr(value)} ({problem}"
        + (")" if earlier is None else f" row {earlier})")
        for row, column, value, problem, earlier, _ in shown.head(MAX_OFFENDERS_SHOWN).iter_rows()
    ]
    rest = offenders.height - len(texts)
    tally = ", ".join(f"{problem}: {count}" for problem, count in counts.iter_rows())
    return BarContractError(
        f"{origin}: {offenders['row'].n_unique()} of {n_rows} rows are no bars ({tally})",
        expected=", ".join(dict.fromkeys(_EXPECTED[problem] for problem in counts["problem"])),
        found="; ".join(texts) + (f"; and {rest} more" if rest else ""),
        action="correct these rows in the source; nothing of it was taken",
    )
