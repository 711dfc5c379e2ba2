"""The quarantine of one version of raw bars, computed once where its stage and its check run in one process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.lineage.artifact import Artifact, Panel, frame_of


@dataclass(frozen=True)
class _Parted:
    """What a quarantine found, without the rows that it kept."""

    listed: pl.DataFrame
    findings: tuple[Any, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class _Asked:
    """One quarantine as a key: the versions of what it reads and its configuration."""

    key: tuple[str, ...]
    panel: Panel = field(compare=False)
    corporate_actions: Artifact = field(compare=False)
    listings: Artifact | None = field(compare=False)
    universe: UniverseConfig = field(compare=False)


def parted_once(
    panel: Panel, corporate_actions: Artifact, listings: Artifact | None, universe: UniverseConfig
) -> _Parted:
    """The quarantine of these versions, which the stage and its check share where they run in one process."""
    read = (panel, corporate_actions, *([listings] if listings else []))
    key = (*(one.version for one in read), universe.model_dump_json())
    return _found(_Asked(key, panel, corporate_actions, listings, universe))


@lru_cache(maxsize=1)
def _found(asked: _Asked) -> _Parted:
    from quant_assets.market.actions import doubts_of
    from quant_assets.market.rules.quality import quarantine

    actions = asked.corporate_actions.table()
    parted = quarantine(
        frame_of(asked.panel).sort("symbol", "session"),
        actions.frame,
        asked.universe,
        listings=asked.listings.table().frame if asked.listings else None,
        doubts=doubts_of(actions),
        no_bars=rows_that_are_no_bars(asked.panel),
    )
    facts = {
        "kept": parted.kept.height,
        "quarantined": parted.quarantined.height,
        "no_bars": parted.no_bars.height,
        "symbols_set_aside": parted.symbols,
        "accepted_by_configuration": parted.accepted,
    }
    return _Parted(parted.listed, parted.findings, facts)


def rows_that_are_no_bars(panel: Panel) -> pl.DataFrame:
    """What the row contract left out of these bars."""
    from quant_assets.market.set_aside import set_aside_in

    parts = [panel] if isinstance(panel, Artifact) else list(panel)
    return set_aside_in(part.table() for part in parts)
