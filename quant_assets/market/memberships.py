"""Memberships: which instruments were in a group when, and since when it was known. A mask of decisions."""

import polars as pl

from quant_assets.common.errors import ListingError, brief, closest
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.listings import instruments
from quant_assets.market.spells import INSTANT, SpellContract, vintages

MEMBERSHIPS = SpellContract(
    what="memberships",
    schema={
        "group": pl.String,
        "instrument_id": pl.String,
        "valid_from": pl.Date,
        "valid_to": pl.Date,
        "known_at": INSTANT,
    },
    may_be_null=("valid_to",),
    key=("group", "instrument_id", "valid_from"),
    alone=("group", "instrument_id"),
)


def of_group(memberships: pl.DataFrame, group: str) -> pl.DataFrame:
    """The rows of one group.

    Raises
    ------
    ListingError
        When there is none of that name.
    """
    found = memberships.filter(pl.col("group") == group)
    if found.is_empty():
        groups = memberships["group"].unique().sort().to_list()
        raise ListingError(
            f"group {group!r} of `members:`",
            expected=f"one of {brief(groups, 400)}",
            found="no group of that name",
            action=closest(group, groups) or "choose one of them",
        )
    return found


def rows_of_members(
    bars: pl.DataFrame, memberships: pl.DataFrame, group: str, listings: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The bars at whose close an instrument was in a group, and was known to be.

    Parameters
    ----------
    bars : polars.DataFrame
        ``symbol, session, known_at``: the close at which is decided.
    memberships : polars.DataFrame
        As `quant_assets.market.sources.spell_files.memberships_of`.
    group : str
    listings : polars.DataFrame, optional
        Says which instrument a name is; without it a symbol is its own instrument.

    Returns
    -------
    polars.DataFrame
        ``symbol, session``, sorted by (session, symbol).

    Raises
    ------
    ListingError
        When there is no such group, or none of its instruments is one of the panel.

    Notes
    -----
    At each close a spell is what its newest vintage known by then says: an entry announced later, or an end that was
    not known yet, changes no decision before.
    """
    spells = vintages(of_group(memberships, group), MEMBERSHIPS)
    if listings is None:
        names = bars.select(instrument_id="symbol", name="symbol").unique()
    else:
        names = instruments(listings).select("instrument_id", "name")
    theirs = (
        spells.join(names, on="instrument_id").drop("group", "instrument_id").rename({"known_at": "since"})
    )
    rows = (
        bars.select("symbol", "session", "known_at")
        .join(theirs, left_on="symbol", right_on="name")
        .filter(
            (pl.col("since") <= pl.col("known_at"))
            & (pl.col("superseded_at").is_null() | (pl.col("superseded_at") > pl.col("known_at")))
            & (pl.col("valid_from") <= pl.col("session"))
            & (pl.col("valid_to").is_null() | (pl.col("valid_to") >= pl.col("session")))
        )
        .select("symbol", "session")
        .unique()
        .sort("session", "symbol")
    )
    if rows.is_empty():
        told = brief(spells["instrument_id"].unique().sort().head(3).to_list())
        held = brief(names["instrument_id"].sort().head(3).to_list())
        raise ListingError(
            f"members of {group}",
            expected="instruments of the panel, in the group between its dates",
            found=f"no row; members are called as {told}, the panel's instruments as {held}",
            action="write memberships with the instrument_id of the listings, or with symbols where there are none",
        )
    return rows


def members_without_bars(
    bars: pl.DataFrame,
    memberships: pl.DataFrame,
    group: str,
    universe: UniverseConfig,
    listings: pl.DataFrame | None = None,
) -> tuple[list[str], int]:
    """Members of a group on any day of a universe that the panel does not have, and how many members there were.

    Parameters
    ----------
    bars, memberships, group, listings
        As for `rows_of_members`.
    universe : UniverseConfig
        Its dates.
    """
    held = bars["symbol"].unique()
    if listings is not None:
        names = instruments(listings).filter(pl.col("name").is_in(held.implode()))
        held = names["instrument_id"]
    every = members_between(memberships, group, universe)
    return every.filter(~every.is_in(held.implode())).to_list(), every.len()


def members_between(memberships: pl.DataFrame, group: str, universe: UniverseConfig) -> pl.Series:
    """Instruments that were in a group on any day of a universe, as known last."""
    spells = vintages(of_group(memberships, group), MEMBERSHIPS).filter(pl.col("superseded_at").is_null())
    overlapping = (pl.col("valid_from") <= universe.end) & (
        pl.col("valid_to").is_null() | (pl.col("valid_to") >= universe.start)
    )
    return spells.filter(overlapping)["instrument_id"].unique().sort()
