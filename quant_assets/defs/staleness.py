"""Which stale assets a run may make now: those behind which everything has settled.

Dagster's staleness is one step deep: an asset is stale when a direct input has a new version. While a change travels
down the lineage, an asset that reads both near and far (bars and predictions, say) is stale long before its far
input is, and made too early it would put new bars beside old predictions. It has to wait.

Dagster 1.13 shows staleness in its UI and has no public call that asks for it: the one private import of the package
is here, and `test_staleness` says what is relied on.
"""

from collections.abc import Collection
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContext


class _Loading(LoadingContext):
    """What the resolver loads events through."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._loaders: dict[type, object] = {}

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._instance

    @property
    def loaders(self) -> dict[type, object]:  # type: ignore[override]
        return self._loaders


def stale_assets(
    instance: dg.DagsterInstance, graph: BaseAssetGraph[Any], keys: Collection[dg.AssetKey]
) -> set[dg.AssetKey]:
    """Those of the unpartitioned assets that are stale or missing, as the UI shows them."""
    resolver = CachingStaleStatusResolver(instance, graph, _Loading(instance))
    return {key for key in keys if resolver.get_status(key) in (StaleStatus.STALE, StaleStatus.MISSING)}


def waiting_assets(
    graph: BaseAssetGraph[Any], stale: Collection[dg.AssetKey], mine: Collection[dg.AssetKey]
) -> set[dg.AssetKey]:
    """Stale assets that must wait, because something between them and an earlier stale asset may still change.

    Parameters
    ----------
    stale : collection of AssetKey
        Everything that is stale, also what another run makes.
    mine : collection of AssetKey
        What this run may make. In one run, stale assets next to each other are made in order, and none waits.
    """
    moving = {key for key in stale if key not in mine}
    waiting: set[dg.AssetKey] = set()
    for key in graph.toposorted_asset_keys:
        parents = graph.get(key).parent_keys
        if key in stale:
            if parents & (moving | waiting):
                waiting.add(key)
        elif parents & (moving | set(stale)):
            moving.add(key)
    return waiting
