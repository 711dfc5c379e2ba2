"""Rebuilding a data set as known on a day: old vintages of the raw bars through the stages of the lineage.

The roots of a data set (assets that read the outside world) are taken from the event log: of each partition the
last vintage with ``known_at <= as_of``. Everything between them and the data set is made again by the very stages of
the lineage, in memory. So a new stage needs no line here, and nothing is written where the platform keeps its own.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from quant_assets.common.errors import StoreError
from quant_assets.common.home import Home
from quant_assets.lineage.artifact import Artifact, Partitions, encoded_whole, part_name
from quant_assets.lineage.graph import Key, Lineage, Node, fingerprint_of
from quant_assets.lineage.notebook import (
    Replay,
    ReplayedStage,
    Status,
    Vintage,
    make,
    not_known_then,
    replayable,
)
from quant_assets.lineage.scope import RunFacts, quiet


@dataclass(frozen=True)
class KnownVersion:
    """What an event log says of a version of an asset (partition).

    Attributes
    ----------
    made : datetime
        When its event was written.
    known_at : datetime
        When its content was first seen.
    code_version, fingerprint : str
        As on the event.
    """

    artifact: Artifact
    made: datetime
    known_at: datetime
    code_version: str
    fingerprint: str


class Past(Protocol):
    """An event log that is asked for what it knew."""

    @property
    def home(self) -> Home:
        """The home whose store holds the versions."""

    def version_at(self, key: Key, partition: str | None, as_of: datetime) -> KnownVersion | None:
        """The newest version at a time, which counts itself."""

    def first_made(self, key: Key, partition: str | None) -> datetime | None:
        """When the oldest version was made; None when none was."""


Known = Mapping[tuple[Key, str | None], KnownVersion]


def replay_data_set(lineage: Lineage, past: Past, asset: Key, as_of: datetime) -> Replay:
    """Rebuild a data set as known at a time, and compare it with what was materialised then.

    Parameters
    ----------
    lineage : Lineage
        Today's code and configuration are what the data set is rebuilt with.
    past : Past
        Event log to read. It is not written.
    asset : (str, str)
        Universe or strategy, and name: an asset that `replayable` accepts. A partitioned one is given
        whole, all its partitions in one frame.
    as_of : datetime
        Timezone-aware. An event of that very microsecond counts.

    Raises
    ------
    StoreError
        When the asset is none of them, a root partition was not known at that time, an old vintage's object is
        lost or damaged, or a stage fails on what was known then.
    """
    line = replayable(lineage, asset)
    roots = [node for node in line if not node.parents]
    known = _known_then(past, roots, as_of)
    given = {node.key: _restored(node, known) for node in roots}
    name = "/".join(asset)
    try:
        with tempfile.TemporaryDirectory(prefix="replay-") as folder:
            effects = {"home": Home(folder), "run": RunFacts("replay"), "progress": quiet}
            artifacts = make(lineage, [asset], given, effects=effects).artifacts
    except Exception as error:  # whatever a stage raises
        raise StoreError(
            f"replay of {name} as known at {as_of.isoformat()}",
            expected="its stages to work on what was known then",
            found=f"{type(error).__name__}: {error}",
            action="the lineage stopped here on that day too: choose a time after it was mended",
        ) from error
    stages = [_compare(past, lineage, node, artifacts, as_of) for node in line if node.parents]
    vintages = [
        Vintage("/".join(key), partition or "", then.artifact.version, then.known_at)
        for (key, partition), then in known.items()
    ]
    return Replay(name, as_of, encoded_whole(artifacts[asset]), tuple(vintages), tuple(stages))


def _known_then(past: Past, roots: list[Node], as_of: datetime) -> Known:
    """The newest version of each root partition as of the time, or one error about all that had none."""
    found: dict[tuple[Key, str | None], KnownVersion] = {}
    unknown, first = [], []
    for node in roots:
        for partition in node.partitions or (None,):
            version = past.version_at(node.key, partition, as_of)
            if version is not None:
                found[node.key, partition] = version
                continue
            oldest = past.first_made(node.key, partition)
            unknown.append(part_name("/".join(node.key), partition))
            first += [oldest] if oldest else []
    if unknown:
        raise not_known_then(as_of, unknown, first, len(found))
    return found


def _restored(node: Node, known: Known) -> Artifact | Partitions:
    """Handles on the old vintages of a root, each of which is whole."""
    found = {
        partition: known[node.key, partition].artifact.whole(partition)
        for partition in node.partitions or (None,)
    }
    if node.partitions is None:
        return found[None]
    return Partitions({partition or "": artifact for partition, artifact in found.items()})


def _compare(
    past: Past,
    lineage: Lineage,
    node: Node,
    artifacts: Mapping[Key, Artifact | Partitions],
    as_of: datetime,
) -> ReplayedStage:
    version = artifacts[node.key].version
    then = past.version_at(node.key, None, as_of)
    name = "/".join(node.key)
    if then is None:
        return ReplayedStage(name, None, version, "not materialised", None, None)
    if then.artifact.version == version:
        status: Status = "same bits"
    elif then.code_version != node.code_version:
        status = "other code"
    else:
        given = {key: artifacts[key] for key in node.parents}
        now = fingerprint_of(node, lineage, given, {"options": None, "home": past.home})
        status = "other bits" if then.fingerprint == now else "other inputs"
    return ReplayedStage(name, None, version, status, then.artifact.version, then.made)
