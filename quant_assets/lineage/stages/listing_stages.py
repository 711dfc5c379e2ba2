"""Listings and memberships: which instrument a symbol was when, how it ended, and who was in a group when."""

import polars as pl

from quant_assets.common.listing_settings import MembersConfig, SpellSource
from quant_assets.common.settings import UniverseConfig
from quant_assets.common.store import Table
from quant_assets.lineage.artifact import Artifact, Panel, Partitions, frame_of
from quant_assets.lineage.declaring import Check, CheckResult, Product, single, stage
from quant_assets.lineage.parted_once import rows_that_are_no_bars


# The source is the outside world: only it knows whether it has changed.
@stage(
    group="market",
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    wanted=lambda s: s.bars.listed,
    always=True,
)
def listings(*, listing_source: UniverseConfig) -> Product:
    """Which instrument each symbol was when, how it ended, and since when that is known; every vintage."""
    from quant_assets.market.listings import instruments
    from quant_assets.market.sources.spell_files import listings_of

    frame = listings_of(listing_source)
    known = instruments(frame)
    facts = {
        "rows": frame.height,
        "instruments": known.height,
        "symbols": frame["symbol"].n_unique(),
        "ended": known.filter(pl.col("end_kind").is_not_null())
        .group_by("end_kind")
        .agg(instruments=pl.len(), with_a_known_return=pl.col("delisting_return").count())
        .sort("end_kind"),
        "head": frame.head(5),
    }
    return Product(Table(frame), facts)


@stage(
    group="market",
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    wanted=lambda s: s.bars.memberships is not None,
    always=True,
)
def memberships(*, membership_source: SpellSource) -> Product:
    """Which instruments were in which group when, and since when that is known; every vintage."""
    from quant_assets.market.sources.spell_files import memberships_of

    frame = memberships_of(membership_source)
    groups = frame.group_by("group").agg(instruments=pl.col("instrument_id").n_unique(), rows=pl.len())
    return Product(Table(frame), {"rows": frame.height, "groups": groups.sort("group")})


@stage(
    group="market",
    rederived=True,
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    wanted=lambda s: s.bars.listed,
)
def listed_bars(raw_bars: Partitions, listings: Artifact, reconciled_bars: Artifact | None = None) -> Product:
    """The panel with each instrument under a name of its own, and bars of no instrument told apart."""
    from quant_assets.market.listings import aside_by_instrument, by_instrument, inside
    from quant_assets.market.set_aside import metadata_of

    panel: Panel = raw_bars if reconciled_bars is None else reconciled_bars
    spells = listings.table().frame
    frame = by_instrument(frame_of(panel), spells)
    named = inside(frame)
    facts = {"names": named["symbol"].n_unique(), "bars_of_no_instrument": frame.height - named.height}
    aside = aside_by_instrument(rows_that_are_no_bars(panel), spells)
    return Product(Table(frame, metadata_of(aside)), facts)


def members_have_bars(
    bars: Artifact,
    memberships: Artifact,
    listings: Artifact | None = None,
    *,
    universe: UniverseConfig,
    members: MembersConfig,
) -> CheckResult:
    """WARN while the panel lacks instruments that were in the group."""
    from quant_assets.market.listings import NOT_PROVEN, first_few
    from quant_assets.market.memberships import members_without_bars

    spells = listings.table().frame if listings else None
    lacking, n_members = members_without_bars(
        bars.table().frame, memberships.table().frame, members.group, universe, spells
    )
    said = f"{n_members} members of {members.group} between {universe.start} and {universe.end}"
    if lacking:
        said = f"{NOT_PROVEN}. Of {said} {len(lacking)} have no bars ({first_few(lacking)})"
    facts = {"without_bars": pl.DataFrame({"instrument_id": lacking}, schema={"instrument_id": pl.String})}
    return CheckResult("members_have_bars", not lacking, said, "WARN", facts)


@stage(
    group="market",
    rederived=True,
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    wanted=lambda s: s.bars.members is not None,
    checks=(
        Check(
            "members_have_bars",
            single(
                "members_have_bars",
                "WARN: an instrument that was in the group has no bars.",
                blocking=False,
            ),
            members_have_bars,
        ),
    ),
)
def member_rows(
    bars: Artifact, memberships: Artifact, listings: Artifact | None = None, *, members: MembersConfig
) -> Product:
    """The rows at whose close an instrument was in the universe's group, and known to be: a mask of decisions."""
    from quant_assets.market.memberships import rows_of_members

    panel = bars.table().frame
    spells = listings.table().frame if listings else None
    frame = rows_of_members(panel, memberships.table().frame, members.group, spells)
    a_session = frame.group_by("session").len()["len"]
    facts = {
        "group": members.group,
        "names": frame["symbol"].n_unique(),
        "rows": frame.height,
        "rows_of_no_member": panel.height - frame.height,
        "members_a_session": {
            "fewest": a_session.min(),
            "median": a_session.median(),
            "most": a_session.max(),
        },
    }
    return Product(Table(frame, {"group": members.group}), facts)
