"""Listings and memberships from files: CSV, Parquet, and the text files of qlib."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from quant_assets.common.errors import ListingError, SourceError, brief, closest
from quant_assets.common.listing_settings import QlibFile, SpellFile, SpellSource
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.listings import LISTINGS, require_listings
from quant_assets.market.memberships import MEMBERSHIPS
from quant_assets.market.sources.delimited import read_delimited
from quant_assets.market.sources.plain_text import decode_text
from quant_assets.market.sources.tables import read_parquet
from quant_assets.market.spells import SpellContract, validated
from quant_assets.market.synthetic import listings as made_listings


def listings_of(universe: UniverseConfig) -> pl.DataFrame:
    """The listings of a universe, from its file or its synthetic source.

    Raises
    ------
    SourceError, ListingError
        As `read_spells` and `require_listings`; when the universe has none.
    """
    if universe.lives is not None:
        told = made_listings(universe.lives, universe.calendar, universe.start, universe.end)
        return require_listings(validated(told, LISTINGS, origin=f"universe {universe.name}"), universe.name)
    if universe.listings is None:
        raise ListingError(
            f"universe {universe.name}",
            expected="listings",
            found="none",
            action="name a file under `listings:` in the universe YAML",
        )
    return require_listings(read_spells(universe.listings, LISTINGS), universe.listings.path)


def memberships_of(source: SpellSource) -> pl.DataFrame:
    """The memberships of a file, every group of it.

    Raises
    ------
    SourceError, ListingError
        As `read_spells`.
    """
    return read_spells(source, MEMBERSHIPS)


def read_spells(source: SpellSource, contract: SpellContract) -> pl.DataFrame:
    """The rows of a file, judged. Relative paths count from the current directory.

    Raises
    ------
    SourceError
        When there is no such file, or it cannot be read.
    ListingError
        When a column is missing or a row breaks the contract.
    """
    file = Path(source.path)
    if not file.is_file():
        raise SourceError(
            f"{contract.what} {source.path}",
            expected="a file",
            found=f"none (relative paths count from {Path.cwd()})",
            action="correct `path:` in the universe YAML",
        )
    match source:
        case QlibFile():
            return validated(_read_qlib(file, contract), contract, origin=str(file))
        case SpellFile():
            frame = read_parquet(file) if source.kind == "parquet" else read_delimited(file, delimiter=",")
            return validated(_named(frame, source.columns, contract, str(file)), contract, origin=str(file))


def _named(
    frame: pl.DataFrame, mapping: Mapping[str, str], contract: SpellContract, origin: str
) -> pl.DataFrame:
    """The contract's columns under our names."""
    for ours, theirs in mapping.items():
        known = list(contract.schema) if ours not in contract.schema else frame.columns
        name = ours if ours not in contract.schema else theirs
        if name not in known:
            raise ListingError(
                f"{origin}: `columns:` entry `{ours}: {theirs}`",
                expected=f"one of {brief(known, 400)}",
                found=f"no column {brief(name)}",
                action=closest(name, known, cutoff=0.0) or "name a column that exists",
            )
    names = {ours: mapping.get(ours, ours) for ours in contract.schema}
    missing = [ours for ours, theirs in names.items() if theirs not in frame.columns]
    if missing:
        raise ListingError(
            f"{origin}: column {', '.join(map(repr, missing))}",
            expected=f"columns {', '.join(contract.schema)}",
            found=f"columns {brief(frame.columns, 400)}",
            action="add the column (empty where nothing is known), or name the file's under `columns:`",
        )
    return frame.select(pl.col(theirs).alias(ours) for ours, theirs in names.items())


def _read_qlib(file: Path, contract: SpellContract) -> pl.DataFrame:
    """Lines ``symbol start end`` as rows of a contract: two vintages a line, see `QlibFile`."""
    lines = [line.split() for line in decode_text(file).splitlines()]
    for number, cells in enumerate(lines, start=1):
        if cells and len(cells) != 3:
            raise ListingError(
                f"{file}, line {number}",
                expected="symbol, first day and last day, apart by a tab",
                found=brief(" ".join(cells)),
                action="correct the line",
            )
    rows = [(number, *cells) for number, cells in enumerate(lines, start=1) if cells]
    told = pl.DataFrame(rows, schema=["row", "symbol", "valid_from", "valid_to"], orient="row").with_columns(
        instrument_id=pl.col("symbol"),
        exchange=pl.lit("unknown"),
        group=pl.lit(file.name.split(".")[0]),
        end_kind=pl.lit("unknown"),
        delisting_return=pl.lit(None, dtype=pl.Float64),
        source=pl.lit("qlib"),
        known_at=pl.col("valid_to"),  # a day without a time: once it is over
    )
    nothing = pl.lit(None, dtype=pl.String)
    begun = told.with_columns(
        valid_to=nothing, end_kind=nothing, known_at=pl.col("valid_from") + "T00:00:00Z"
    )
    return pl.concat([begun, told]).select("row", *contract.schema)
