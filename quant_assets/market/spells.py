"""Spells: from a day to a day, both included, something held; and each row says since when that was known.

Listings and memberships are tables of spells. Several rows of one spell are its vintages: what was known of it, one
after the other. `as_known` gives what was known at a time, `vintages` until when each row was the newest word.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

import polars as pl

from quant_assets.common.errors import ListingError
from quant_assets.market.parsing import number_of, session_of, text_of

MOST_SHOWN = 5
OPEN = date(9999, 12, 31)  # the end of a spell that has none, where ends are compared
INSTANT = pl.Datetime("us", "UTC")

Columns = Mapping[str, pl.DataType | type[pl.DataType]]


@dataclass(frozen=True)
class SpellContract:
    """What a table of spells has.

    Attributes
    ----------
    what : str
        What its rows are, for messages.
    schema : mapping of str to polars type
        Its columns, in order; ``valid_from, valid_to, known_at`` among them.
    may_be_null : tuple of str
    key : tuple of str
        Whose values are the same in all vintages of a spell.
    alone : tuple of str
        Within which no two spells may hold on one day.
    """

    what: str
    schema: Columns
    may_be_null: tuple[str, ...]
    key: tuple[str, ...]
    alone: tuple[str, ...]


# ------------------------------------------------------------------------------------------------ what was known


def as_known(spells: pl.DataFrame, contract: SpellContract, at: datetime | None = None) -> pl.DataFrame:
    """The newest vintage of each spell that was known at a time; of all times, when none is given.

    Parameters
    ----------
    spells : polars.DataFrame
        As `validated` gives them.
    at : datetime, optional
        Timezone-aware. What was known at that very microsecond counts.
    """
    known = spells if at is None else spells.filter(pl.col("known_at") <= at)
    return known.sort(*contract.key, "known_at").unique(contract.key, keep="last", maintain_order=True)


def vintages(spells: pl.DataFrame, contract: SpellContract) -> pl.DataFrame:
    """Every row with ``superseded_at``: when the next vintage of its spell was known; null for the newest."""
    ordered = spells.sort(*contract.key, "known_at")
    return ordered.with_columns(superseded_at=pl.col("known_at").shift(-1).over(contract.key))


# ------------------------------------------------------------------------------------------- rows that are no spells


def validated(frame: pl.DataFrame, contract: SpellContract, *, origin: str) -> pl.DataFrame:
    """Parse rows and refuse those that are no spells.

    Parameters
    ----------
    frame : polars.DataFrame
        The contract's columns, typed or as text; ``row`` where rows have numbers of their own. Days are written year
        first. ``known_at`` may be a time (UTC where it names no zone), or a day: known once that day is over, in UTC.
    origin : str
        File or feed, for messages.

    Returns
    -------
    polars.DataFrame
        The contract's schema, sorted by key and ``known_at``.

    Raises
    ------
    ListingError
        For a cell that is missing or cannot be read, a spell that ends before it begins, one that two rows tell at
        the same time, and two spells of one ``alone`` that hold on one day as they are known last.
    """
    if "row" not in frame.columns:
        frame = frame.with_row_index("row", offset=1)
    written = {name: text_of(name) for name in contract.schema}
    parsed = {
        name: _moment_of(name, frame.schema[name])
        if dtype == INSTANT
        else session_of(name, frame.schema[name])
        if dtype == pl.Date
        else number_of(name, frame.schema[name])
        if dtype == pl.Float64
        else written[name]
        for name, dtype in contract.schema.items()
    }
    typed = frame.select(
        "row",
        *(value.cast(contract.schema[name]).alias(name) for name, value in parsed.items()),
        *(text.alias(f"raw.{name}") for name, text in written.items()),
    )
    kinds = {pl.Date: "a day, year first", INSTANT: "a day or a time, as 2005-03-01T21:00:00Z"}
    for name, dtype in contract.schema.items():
        wanted = kinds.get(dtype, "a number" if dtype == pl.Float64 else "text")
        missing = pl.col(f"raw.{name}").is_null() & (name not in contract.may_be_null)
        unread = pl.col(name).is_null() & pl.col(f"raw.{name}").is_not_null()
        refuse(typed.filter(missing | unread), contract, origin, f"{wanted} in {name}", (f"raw.{name}",))
    backwards = typed.filter(pl.col("valid_to") < pl.col("valid_from"))
    refuse(backwards, contract, origin, "valid_from on or before valid_to", ("valid_from", "valid_to"))
    spells = typed.select("row", *contract.schema)
    again = spells.filter(pl.struct(*contract.key, "known_at").is_duplicated())
    refuse(again.sort(*contract.key), contract, origin, "one row for each spell and known_at", contract.key)
    _refuse_overlaps(as_known(spells, contract), contract, origin)
    return spells.sort(*contract.key, "known_at").drop("row")


def _moment_of(name: str, dtype: pl.DataType) -> pl.Expr:
    """The cell as a time in UTC; a day is its last microsecond."""
    if isinstance(dtype, pl.Datetime):
        moment = pl.col(name).cast(pl.Datetime("us", dtype.time_zone))
        return (
            moment.dt.convert_time_zone("UTC") if dtype.time_zone else moment.dt.replace_time_zone("UTC")
        ).cast(INSTANT)
    text = text_of(name)
    zoned = text.str.replace(" ", "T").str.replace(r"(?:Z|\+00)$", "+00:00")
    zoned = pl.when(zoned.str.contains(r"[+-]\d{2}:\d{2}$")).then(zoned).otherwise(zoned + "+00:00")
    instant = zoned.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    over = session_of(name, dtype).cast(pl.Datetime("us")).dt.offset_by("1d").dt.offset_by("-1us")
    day = text.str.contains(r"^\d{4}-?\d{2}-?\d{2}$")
    return pl.when(day).then(over.dt.replace_time_zone("UTC")).otherwise(instant)


def _refuse_overlaps(spells: pl.DataFrame, contract: SpellContract, origin: str) -> None:
    last = pl.col("valid_to").fill_null(OPEN)
    held = spells.select("row", *contract.alone, first="valid_from", last=last)
    pairs = held.join(held, on=contract.alone, suffix=".other").filter(
        (pl.col("row") < pl.col("row.other"))
        & (pl.col("first") <= pl.col("last.other"))
        & (pl.col("first.other") <= pl.col("last"))
    )
    if pairs.height:
        shown = [
            f"{' '.join(str(row[name]) for name in contract.alone)}: rows {row['row']} ({_span(row, '')}) and "
            f"{row['row.other']} ({_span(row, '.other')})"
            for row in pairs.sort("row", "row.other").head(MOST_SHOWN).iter_rows(named=True)
        ]
        more = pairs.height - len(shown)
        raise ListingError(
            f"{origin}: {contract.what} that overlap",
            expected=f"at most one spell a day of each {', '.join(contract.alone)}",
            found="; ".join(shown) + (f"; and {more} more" if more else ""),
            action="end the earlier spell before the later one begins",
        )


def _span(row: Mapping[str, object], which: str) -> str:
    first, last = row[f"first{which}"], row[f"last{which}"]
    return f"{first} to {'now' if last == OPEN else last}"


def refuse(
    rows: pl.DataFrame, contract: SpellContract, origin: str, expected: str, shown: tuple[str, ...]
) -> None:
    """One error about the rows that break a rule, if there are any.

    Raises
    ------
    ListingError
        Naming the first of them, with the columns that are shown.
    """
    if rows.is_empty():
        return
    told = [
        f"row {row['row']}: {', '.join('nothing' if row[name] is None else str(row[name])[:60] for name in shown)}"
        for row in rows.head(MOST_SHOWN).iter_rows(named=True)
    ]
    more = rows.height - len(told)
    raise ListingError(
        f"{origin}: {rows.height} rows of {contract.what}",
        expected=expected,
        found="; ".join(told) + (f"; and {more} more" if more else ""),
        action="correct these rows at the source; nothing of it was taken",
    )
