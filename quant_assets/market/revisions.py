"""Vintages of raw bars: what a newer one changed against an older one, and which years a source has changed.

A vintage is the content of one partition as it was first seen; its ``known_at`` is the time of the event that
recorded it and never part of the data. Vendors append bars, and sometimes rewrite old ones. The two are told apart
by content, never by the vendor's word: `compare_vintages` says what happened to one year, `decide` which years of a
universe have to be read again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import polars as pl

from quant_assets.common.errors import SourceError
from quant_assets.common.hashing import combined_fingerprint, digests_by, frame_digest
from quant_assets.common.settings import UniverseConfig
from quant_assets.common.store import Table
from quant_assets.market.parsing import PRICES
from quant_assets.market.set_aside import metadata_of
from quant_assets.market.sources.bar_source import SourceRead
from quant_assets.market.sources.sources import open_source, read_year

Kind = Literal["first", "unchanged", "appended", "revised"]

KEY = ("symbol", "session", "source")  # the last where a universe has several sources
FIELDS = (*PRICES, "volume", "adj_close")
MAX_CHANGES = 50
MAX_ATTEMPTS = 3
# 16 hexadecimal characters (64 bits) per symbol keep the event of 2,000 symbols near 50 kB; the whole partition
# is identified by its full digest.
DIGEST_LENGTH = 16

CHANGES_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    "source": pl.String,
    "field": pl.String,
    "old": pl.Float64,
    "new": pl.Float64,
    "relative_change": pl.Float64,
}


@dataclass(frozen=True)
class Revision:
    """What one vintage of a partition changed against the one before.

    Attributes
    ----------
    kind : {"first", "unchanged", "appended", "revised"}
        "appended": only bars later than every bar known before. Anything else that differs is "revised".
    rows_added, rows_removed, rows_changed : int
        Bars (symbol, session). A changed bar counts once, however many of its fields changed.
    symbols : polars.DataFrame
        symbol, added, removed, changed (bars); one row per symbol touched, sorted.
    changes : polars.DataFrame
        Columns of ``CHANGES_SCHEMA``: the 50 largest changed values, largest absolute ``relative_change`` =
        (new - old) / old first; null (a value appeared, vanished, or was 0) comes before all numbers.
    """

    kind: Kind
    rows_added: int
    rows_removed: int
    rows_changed: int
    symbols: pl.DataFrame
    changes: pl.DataFrame

    @property
    def sentence(self) -> str:
        """The revision in words."""
        counts = f"{self.rows_added} bars added, {self.rows_removed} removed, {self.rows_changed} changed"
        match self.kind:
            case "first":
                return f"first vintage, {self.rows_added} bars"
            case "unchanged":
                return "the same bars as before"
            case "appended":
                return f"{self.rows_added} bars appended, nothing known before has changed"
            case "revised":
                names = self.symbols["symbol"].to_list()
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                return f"history rewritten: {counts} ({', '.join(names[:5])}{more})"


def vintage(read: SourceRead) -> Table:
    """What one read of a partition stores, and by whose digest a vintage is told from another."""
    return Table(read.bars, {"provider": read.provider, **metadata_of(read.aside)})


def symbol_digests(bars: pl.DataFrame) -> dict[str, str]:
    """Digest of the logical content of each symbol's bars, by symbol in sorted order: 16 hexadecimal characters."""
    ordered = bars.sort([name for name in KEY if name in bars.columns])
    return {symbol: digest[:DIGEST_LENGTH] for symbol, digest in digests_by(ordered, "symbol").items()}


def compare_vintages(
    previous: pl.DataFrame | None, current: pl.DataFrame, *, known_through: date | None = None
) -> Revision:
    """Compare two vintages of one partition.

    Parameters
    ----------
    previous : polars.DataFrame or None
        Raw bars of the last vintage; None when there is none.
    current : polars.DataFrame
        Raw bars as the source gives them now.
    known_through : datetime.date, optional
        Last session known in any partition before. A bar added on or before it is a rewritten history even where
        this partition was empty.

    Returns
    -------
    Revision
    """
    if previous is None:
        counts = current.group_by("symbol").agg(added=pl.len(), removed=0, changed=0).sort("symbol")
        return Revision("first", current.height, 0, 0, counts, pl.DataFrame(schema=CHANGES_SCHEMA))
    previous, current = _labelled(previous), _labelled(current)
    both = previous.with_columns(before=pl.lit(value=True)).join(
        current.with_columns(now=pl.lit(value=True)), on=KEY, how="full", suffix="_new", coalesce=True
    )
    both = both.with_columns(
        added=pl.col("before").is_null(),
        removed=pl.col("now").is_null(),
        changed=pl.col("before").is_not_null()
        & pl.col("now").is_not_null()
        & pl.any_horizontal(pl.col(f).ne_missing(pl.col(f"{f}_new")) for f in FIELDS),
    )
    touched = ("added", "removed", "changed")
    symbols = both.group_by("symbol").agg(pl.col(touched).sum()).sort("symbol")
    symbols = symbols.filter(pl.any_horizontal(pl.col(touched) > 0))
    added, removed, changed = (int(both[name].sum()) for name in touched)
    horizon = max((d for d in (_last(previous), known_through) if d is not None), default=None)
    first_added = both.filter("added")["session"].min()
    late = horizon is not None and isinstance(first_added, date) and first_added <= horizon
    if not (added or removed or changed):
        kind: Kind = "unchanged"
    else:
        kind = "revised" if removed or changed or late else "appended"
    return Revision(kind, added, removed, changed, symbols, _changes(both.filter("changed")))


def lost_vintage(previous: Mapping[str, str], current: Mapping[str, str]) -> Revision:
    """What can still be said when the bars of the last vintage are lost and only its digests per symbol are known.

    A symbol whose digest differs is reported as touched with no counts; the kind is "revised" unless every digest
    is the same, because nobody can show any more that bars were only appended.
    """
    names = sorted(n for n in {*previous, *current} if previous.get(n) != current.get(n))
    symbols = pl.DataFrame({"symbol": names}, schema={"symbol": pl.String}).with_columns(
        pl.lit(None, pl.UInt32).alias(name) for name in ("added", "removed", "changed")
    )
    kind: Kind = "revised" if names else "unchanged"
    return Revision(kind, 0, 0, 0, symbols, pl.DataFrame(schema=CHANGES_SCHEMA))


def _labelled(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars with a source, empty where the universe has only one; in one order of columns."""
    named = bars if "source" in bars.columns else bars.with_columns(source=pl.lit(""))
    return named.select(*KEY, *FIELDS)


def _last(bars: pl.DataFrame) -> date | None:
    last = bars["session"].max()
    return last if isinstance(last, date) else None


def _changes(changed: pl.DataFrame) -> pl.DataFrame:
    """The largest changed values, one row per field of a changed bar."""
    old, new = pl.col("old"), pl.col("new")
    rows = pl.concat(
        changed.filter(pl.col(field).ne_missing(pl.col(f"{field}_new"))).select(
            *KEY, field=pl.lit(field), old=pl.col(field), new=pl.col(f"{field}_new")
        )
        for field in FIELDS
    ).with_columns(relative_change=pl.when(old != 0).then((new - old) / old))
    size = pl.col("relative_change").abs()
    return rows.sort(
        size,
        *KEY,
        "field",
        descending=[True, False, False, False, False],
        nulls_last=False,
        maintain_order=True,
    ).head(MAX_CHANGES)


# --------------------------------------------------------------------------------- which years to read again


def source_state(universe: UniverseConfig) -> str:
    """Identity of what a universe would read, without reading it: its settings, and the state of each source.

    With alternatives, a source that is not there is a state like another: the rest are read without it.

    Raises
    ------
    SourceError
        When the universe's only source is not there.
    OSError
        When a file cannot be looked at.
    """
    parts = [universe.model_dump_json()]
    for config in (universe.source, *universe.alternatives):
        try:
            parts.append(repr(open_source(config).state(universe)))
        except SourceError as error:
            if not universe.alternatives:
                raise
            parts.append(str(error))
    return combined_fingerprint(parts)


def content_versions(universe: UniverseConfig) -> dict[str, str]:
    """Version that each year of a universe would be stored as now: the data version of its ``raw_bars``.

    Raises
    ------
    SourceError, BarContractError
        As `quant_assets.market.sources.sources.read_bars`.
    """
    versions = {}
    for year in universe.years:
        table = vintage(read_year(universe, year))
        versions[year] = frame_digest(table.frame, table.metadata)
    return versions


def remembered_versions(universe: UniverseConfig, remembered: dict[str, Any], code: str) -> dict[str, str]:
    """Content version of each year, from memory when the source is as it was; updates the memory.

    Other code may read the same file differently, so its version is part of the state.
    """
    state = combined_fingerprint([source_state(universe), code])
    entry = remembered.get(universe.name, {})
    versions = entry.get("versions")
    if entry.get("state") == state and isinstance(versions, dict):
        return versions
    read = content_versions(universe)
    remembered[universe.name] = {"state": state, "versions": read}
    return read


@dataclass(frozen=True)
class KnownYear:
    """The newest vintage of one year as the event log has it.

    ``event`` names the materialisation (any text that no other materialisation has).
    """

    version: str
    event: str


@dataclass(frozen=True)
class YearRequest:
    """One year to materialise. ``run_key`` is the same for the same content after the same event and attempt."""

    year: str
    version: str
    run_key: str
    reason: str


def decide(
    universe: str,
    source: Mapping[str, str],
    known: Mapping[str, KnownYear],
    failed: Mapping[tuple[str, str], int],
) -> tuple[Sequence[YearRequest], str]:
    """Decide which years of a universe must be materialised because the source says something else now.

    Parameters
    ----------
    source : mapping of year to version
        As `content_versions` gives it.
    known : mapping of year to KnownYear
        Years that were never materialised are absent.
    failed : mapping of (year, version) to int
        How many runs for this content of this year have failed. After three it is left to people.

    Returns
    -------
    requests : sequence of YearRequest
        In order of the years: a vintage of December is known before one of the January after it.
    note : str
        What was found, in words.

    Notes
    -----
    The run key has the event in it, so that a vendor who takes a revision back (A, B, A) is believed again, while
    the same state is requested once however often it is looked at.
    """
    requests, notes = [], []
    for year, version in sorted(source.items()):
        before = known.get(year)
        if before is not None and before.version == version:
            continue
        attempts = failed.get((year, version), 0)
        if attempts >= MAX_ATTEMPTS:
            notes.append(f"{year}: {attempts} runs for this content failed, not requested again")
            continue
        reason = f"{year} was never materialised" if before is None else f"the bars of {year} have changed"
        after = "nothing" if before is None else before.event
        run_key = f"{universe}:{year}:{version}:after {after}:{attempts + 1}"
        requests.append(YearRequest(year, version, run_key, reason))
        notes.append(reason)
    return requests, f"{universe}: {'; '.join(notes) or f'{len(source)} years as materialised'}"
