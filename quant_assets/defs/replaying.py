"""Rebuilding a data set as known on a day: old vintages of the raw bars through the stages of the lineage.

The roots of a data set (assets that read the outside world) are taken from the event log: of each partition the
last vintage with ``known_at <= as_of``. Everything between them and the data set is made again by the very stages of
the lineage, in memory. So a new stage needs no line here, and nothing is written where the platform keeps its own.
"""

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg

from quant_assets.common.errors import StoreError
from quant_assets.common.home import Home
from quant_assets.defs.assets import asset_key
from quant_assets.defs.storage import (
    CODE_VERSION_TAG,
    INPUTS_TAG,
    artifact_of,
    content_of,
    event_of,
    known_at,
    record_at,
)
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

Records = Mapping[tuple[Key, str | None], dg.EventLogRecord]


def replay_data_set(
    lineage: Lineage, instance: dg.DagsterInstance, home: Home, asset: Key, as_of: datetime
) -> Replay:
    """Rebuild a data set as known at a time, and compare it with what was materialised then.

    Parameters
    ----------
    lineage : Lineage
        Today's code and configuration are what the data set is rebuilt with.
    instance, home : DagsterInstance, Home
        Event log and store to read. Neither is written.
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
    records = _known_then(instance, roots, as_of)
    given = {node.key: _restored(node, records, home) for node in roots}
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
    stages = [_compare(instance, home, lineage, node, artifacts, as_of) for node in line if node.parents]
    vintages = [
        Vintage("/".join(key), partition or "", artifact_of(event_of(r), home.store).version, known_at(r))
        for (key, partition), r in records.items()
    ]
    return Replay(name, as_of, encoded_whole(artifacts[asset]), tuple(vintages), tuple(stages))


def _known_then(instance: dg.DagsterInstance, roots: list[Node], as_of: datetime) -> Records:
    """The newest record of each root partition as of the time, or one error about all that had none."""
    found: dict[tuple[Key, str | None], dg.EventLogRecord] = {}
    unknown, first = [], []
    for node in roots:
        key = asset_key(node.key)
        for partition in node.partitions or (None,):
            record = record_at(instance, key, partition, as_of)
            if record is not None:
                found[node.key, partition] = record
                continue
            oldest = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None),
                limit=1,
                ascending=True,
            ).records
            unknown.append(part_name(key.to_user_string(), partition))
            first += [datetime.fromtimestamp(record.timestamp, UTC) for record in oldest]
    if unknown:
        raise not_known_then(as_of, unknown, first, len(found))
    return found


def _restored(node: Node, records: Records, home: Home) -> Artifact | Partitions:
    """Handles on the old vintages of a root, each of which is whole."""
    found = {
        partition: artifact_of(event_of(records[node.key, partition]), home.store).whole(partition)
        for partition in node.partitions or (None,)
    }
    if node.partitions is None:
        return found[None]
    return Partitions({partition or "": artifact for partition, artifact in found.items()})


def _compare(
    instance: dg.DagsterInstance,
    home: Home,
    lineage: Lineage,
    node: Node,
    artifacts: Mapping[Key, Artifact | Partitions],
    as_of: datetime,
) -> ReplayedStage:
    version = artifacts[node.key].version
    record = record_at(instance, asset_key(node.key), None, as_of)
    name = "/".join(node.key)
    if record is None:
        return ReplayedStage(name, None, version, "not materialised", None, None)
    then = event_of(record)
    tags = then.tags or {}
    if content_of(then) == version:
        status: Status = "same bits"
    elif tags.get(CODE_VERSION_TAG) != node.code_version:
        status = "other code"
    else:
        now = fingerprint_of(
            node, lineage, {key: artifacts[key] for key in node.parents}, {"options": None, "home": home}
        )
        status = "other bits" if tags.get(INPUTS_TAG) == now else "other inputs"
    made = datetime.fromtimestamp(record.timestamp, UTC)
    return ReplayedStage(name, None, version, status, content_of(then), made)
