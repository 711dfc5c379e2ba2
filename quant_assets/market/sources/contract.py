"""The row contract of raw bars: how a source's columns become ours, and which rows are refused.

``conform`` renames, ``part_bars`` parses and judges rows, ``settled`` whether the rest can go on without the broken
ones. A row is broken when no reading of it could be a bar (no close, a negative price, high below low). A row that is
odd but possible (open a little above high, as consolidated feeds print) passes here and is reported by
`quant_assets.market.rules.quality`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from quant_assets.common.errors import BarContractError, brief, closest
from quant_assets.common.source_settings import FIRST_SESSION, LAST_SESSION, SYMBOL
from quant_assets.market.parsing import (
    ALIASES,
    RAW_SCHEMA,
    case_variants,
    dtype_problem,
    in_order,
    repetition_cause,
    swapped_columns,
    text_of,
)
from quant_assets.market.parsing import REQUIRED as REQUIRED
from quant_assets.market.set_aside import ASIDE, MOST_VALUE_CHARACTERS, NOTHING, Terms
from quant_assets.market.sources.broken_rows import (
    EXPECTED,
    KEY,
    OFFENDERS,
    offenders_of,
    typed_rows,
)

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
    if "symbol" not in found:  # as collections of many names have it; of one instrument it may be a company's
        named = [c for c in frame.columns if _plain(c) == "name" and c not in found.values()]
        if len(named) == 1 and _holds_symbols(frame[named[0]]):
            found["symbol"] = named[0]
    missing = [f for f in REQUIRED if f not in found and not (f == "symbol" and symbol is not None)]
    if missing == ["volume"]:
        raise BarContractError(
            f"{origin}: column 'volume'",
            expected="what was traded: without it nobody knows what trading costs, and nothing is judged so",
            found=f"columns {brief(frame.columns, MAX_SHOWN_COLUMNS)}",
            action="add the volume of what is traded (of an index its future or fund, of a currency pair its "
            "future's), or name the column under `columns:` as `volume: <name in the file>`",
        )
    if missing:
        raise BarContractError(
            f"{origin}: column {', '.join(repr(f) for f in missing)}",
            expected=f"columns {', '.join(REQUIRED)} (or usual names for them) and optionally adj_close",
            found=f"columns {brief(frame.columns, MAX_SHOWN_COLUMNS)}",
            action=f"set `columns:` in the universe YAML, as `columns: {{{missing[0]}: <name in the file>}}`",
        )
    bars = frame.select(pl.col(source).alias(ours) for ours, source in found.items())
    if "symbol" not in found:
        bars = bars.with_columns(pl.lit(symbol, dtype=pl.String).alias("symbol"))
    order = [name for name in RAW_SCHEMA if name in bars.columns]
    ignored = tuple(c for c in frame.columns if c not in found.values())
    return Conformed(bars.select(order), {name: found[name] for name in order if name in found}, ignored)


def _holds_symbols(column: pl.Series) -> bool:
    return column.dtype == pl.String and column.drop_nulls().unique().str.contains(SYMBOL).all()


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
    """Parse conformed rows and refuse them all when one cannot be a bar.

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
    terms = Terms(strict=True)
    return settled([part_bars(frame, origin=origin, terms=terms)], terms).bars


@dataclass(frozen=True)
class Parted:
    """The rows of one file or feed that are bars (`RAW_SCHEMA`, sorted), and those that are not.

    ``broken`` has `quant_assets.market.sources.broken_rows.OFFENDERS` with ``symbol`` and ``session`` where they can
    be read: one entry for each broken cell. ``counts`` has the number of rows of each symbol, broken or not.
    ``cause`` says why sessions stand twice, where that is clear.
    """

    origin: str
    bars: pl.DataFrame
    broken: pl.DataFrame
    counts: pl.DataFrame
    cause: str | None = None


@dataclass(frozen=True)
class Settled:
    """Bars of a whole feed, and what was set aside of it (`quant_assets.market.set_aside.ASIDE`)."""

    bars: pl.DataFrame
    aside: pl.DataFrame


def part_bars(frame: pl.DataFrame, *, origin: str, terms: Terms) -> Parted:
    """Parse conformed rows and part those that can be bars from those that cannot.

    Parameters
    ----------
    frame, origin
        As `validate_bars`.
    terms : Terms
        Whose rows count. Rows of which no one asked are left out when they are broken, and not told of.

    Raises
    ------
    BarContractError
        When a column is missing, of another type, or exchanged with another one.
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
    typed = typed_rows(frame)
    _refuse_swapped(typed, origin=origin)
    by_key = None if in_order(typed) else typed.select("row", *KEY).sort(KEY, maintain_order=True)
    offenders = offenders_of(typed, by_key)
    cause = None
    if offenders.height:
        cause = repetition_cause(typed)
        # A day that no session can be is none: told of with what has no date, and not left out as not asked for.
        dated = pl.when(pl.col("session").is_between(FIRST_SESSION, LAST_SESSION)).then("session")
        offenders = offenders.join(
            typed.select("row", "symbol", session=dated), on="row", how="left", maintain_order="left"
        )
        if offenders["problem"].eq("differs only in case").any():  # rows of the symbol that they should name
            usual = case_variants(typed)
            renamed = pl.col("symbol").replace(usual["symbol"], usual["usual"])
            offenders = offenders.with_columns(renamed)
        headers = offenders.filter(pl.col("problem") == "header repeated")["row"].implode()
        # The name of a column is no symbol: it takes no place among those that may be set aside.
        titled = pl.col("row").is_in(headers) & text_of("symbol").str.to_lowercase().is_in(ALIASES["symbol"])
        unnamed = pl.when(~titled).then("symbol").alias("symbol")
        offenders, typed = offenders.with_columns(unnamed), typed.with_columns(unnamed)
        gone = pl.concat([offenders["row"], _contradicted(offenders)["row"]]).unique()
        counts = typed if terms.strict else typed.filter(terms.asked)
        counts = counts.group_by("symbol").len("n")
        typed = typed.filter(~pl.col("row").is_in(gone.implode()))
        if not terms.strict:
            offenders = offenders.filter(terms.asked)
    else:
        counts = typed.group_by("symbol").len("n")
    bars = typed.select(*RAW_SCHEMA)
    if by_key is not None:
        bars = bars[by_key["row"] - 1] if bars.height == by_key.height else bars.sort(KEY)
    return Parted(origin, bars, offenders, counts, cause)


def unreadable(symbol: str, origin: str, found: str) -> Parted:
    """A file that is all there is of a symbol and cannot be read, as a symbol of which everything is broken."""
    broken = pl.DataFrame(
        [(0, "file", found, "no table", None, symbol, None)],
        schema={**OFFENDERS, "symbol": pl.String, "session": pl.Date},
        orient="row",
    )
    counts = pl.DataFrame({"symbol": [symbol], "n": [1]}, schema={"symbol": pl.String, "n": pl.UInt32})
    return Parted(origin, pl.DataFrame(schema=RAW_SCHEMA), broken, counts)


def _contradicted(offenders: pl.DataFrame) -> pl.DataFrame:
    """First accounts of sessions of which there are others: nobody can tell which is right."""
    return (
        offenders.filter(pl.col("problem") == "contradicts")
        .with_columns(row="earlier", earlier="row")
        .unique("row", keep="first", maintain_order=True)
    )


def settled(parts: Sequence[Parted], terms: Terms) -> Settled:
    """The bars of a feed of one or more files, when what is broken of it lies within the terms.

    Raises
    ------
    BarContractError
        When more symbols or rows would have to be set aside than the terms allow; when the terms are strict and any
        row is broken. Names up to five offenders with row, column, value and what is wrong with it.
    """
    bars = [part.bars for part in parts]
    whole = bars[0] if len(bars) == 1 else pl.concat(bars).sort(KEY)
    found = [part for part in parts if part.broken.height]
    if not found:
        return Settled(whole, NOTHING)
    broken = pl.concat(part.broken.with_columns(origin=pl.lit(part.origin)) for part in found)
    n_rows = sum(int(part.counts["n"].sum()) for part in parts)
    counts = pl.concat(part.counts for part in parts).group_by("symbol").agg(pl.col("n").sum())
    rows = broken.unique(["origin", "row"], keep="first", maintain_order=True)
    shares = (
        rows.group_by("symbol").len("n_broken").drop_nulls("symbol").join(counts, on="symbol", how="left")
    )
    whole_symbols = shares.filter(pl.col("n_broken") > terms.most_of_symbol * pl.col("n"))["symbol"].sort()
    n_symbols = counts["symbol"].drop_nulls().len()
    single = rows.filter(~pl.col("symbol").is_in(whole_symbols.implode()).fill_null(value=False))
    causes = [part.cause for part in found if part.cause is not None]
    repeated = rows.filter(pl.col("problem").is_in(["repeats", "contradicts"]))["symbol"].n_unique()
    most_symbols, most_rows = terms.most.most_symbols(n_symbols), terms.most.most_rows(n_rows)
    over = ""
    if terms.strict:
        over = "`quality: {strict: true}` lets none of it be set aside"
    elif whole_symbols.len() > most_symbols:
        allowed = f"`quality: {{set_aside: {{symbols: {terms.most.symbols:g}}}}}`"
        over = (
            f"{whole_symbols.len()} of {n_symbols} symbols are broken as a whole, {allowed} lets "
            f"{most_symbols} be set aside"
        )
    elif single.height > most_rows:
        allowed = f"`quality: {{set_aside: {{rows: {terms.most.rows:g}}}}}`"
        over = f"{allowed} lets {most_rows} of {n_rows} rows be set aside"
    elif causes and repeated > most_symbols:
        over = f"the repetitions are in {repeated} of {n_symbols} symbols"
    if over:
        raise _refusal(broken, n_rows=n_rows, cause=causes[0] if causes else None, over=over)
    return Settled(whole, _entries(broken, whole_symbols))


def _entries(broken: pl.DataFrame, whole: pl.Series) -> pl.DataFrame:
    """What is set aside, one entry for each row; of symbols that go as a whole one for each of their years."""
    every = pl.concat([broken, *([more] if (more := _contradicted(broken)).height else [])])
    told = (
        every.unique(["origin", "row"], keep="first", maintain_order=True)
        .sort("origin", "row")
        .with_columns(
            value=pl.col("value").str.slice(0, MOST_VALUE_CHARACTERS), n_rows=pl.lit(1, dtype=pl.Int64)
        )
        .select(*ASIDE)
    )
    as_whole = pl.col("symbol").is_in(whole.implode()).fill_null(value=False)
    condensed = (
        told.filter(as_whole)
        .group_by("symbol", pl.col("session").dt.year().alias("year"), maintain_order=True)
        .agg(pl.exclude("n_rows").first(), pl.len().cast(pl.Int64).alias("n_rows"))
        .select(*ASIDE)
    )
    return pl.concat([told.filter(~as_whole), condensed]).sort("symbol", "session", "origin", "row")


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


def _refusal(broken: pl.DataFrame, *, n_rows: int, cause: str | None, over: str) -> BarContractError:
    origins = broken["origin"].unique(maintain_order=True).to_list()
    origin = origins[0] if len(origins) == 1 else f"{len(origins)} files"
    counts = broken.group_by("problem", maintain_order=True).len()
    # The first offender of every problem, then the second, ...: one frequent problem hides no other.
    turn = pl.int_range(pl.len()).over("problem")
    shown = broken.with_columns(turn=turn).sort("turn", "origin", "row", maintain_order=True)
    texts = [
        f"{f'{place}: ' if len(origins) > 1 else ''}row {row}, column {column}, value "
        f"{'nothing' if value is None else brief(value)} ({problem}"
        + (")" if earlier is None else f" row {earlier})")
        for place, row, column, value, problem, earlier in shown.select("origin", *OFFENDERS)
        .head(MAX_OFFENDERS_SHOWN)
        .iter_rows()
    ]
    rest = broken.height - len(texts)
    tally = ", ".join(f"{problem}: {count}" for problem, count in counts.iter_rows())
    n_broken = broken.select("origin", "row").n_unique()
    return BarContractError(
        f"{origin}: {n_broken} of {n_rows} rows are no bars ({tally})",
        expected=", ".join(dict.fromkeys(EXPECTED[problem] for problem in counts["problem"])),
        found="; ".join(texts if cause is None else [cause, *texts]) + (f"; and {rest} more" if rest else ""),
        action=f"correct these rows in the source; nothing of it was taken ({over})"
        if cause is None
        else f"download the whole history of this one instrument again; nothing of this file was taken ({over})",
    )
