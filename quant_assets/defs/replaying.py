"""Rebuilding a data set as known on a day: old vintages of the raw bars through the assets' own bodies.

The roots of a data set (assets that read the outside world) are taken from the event log: of each partition the
last vintage with ``known_at <= as_of``. Everything between them and the data set is materialised again by the very
bodies of the asset graph, in a throw-away Dagster instance over a throw-away store. So a new stage needs no line
here, and nothing is written where the platform keeps its own.
"""

import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from quant_assets.common.errors import StoreError, closest
from quant_assets.common.home import Home
from quant_assets.common.store import ArtifactStore, Encoded, Table, encode
from quant_assets.defs.replayed import Replay, Stage, Status, Vintage
from quant_assets.defs.resources import Home as Bench
from quant_assets.defs.running import QUIET, failures
from quant_assets.defs.storage import DATA_VERSION_TAG, INPUTS_TAG, Artifact, artifact_of, latest_event
from quant_assets.defs.vintages import event_of, known_at, record_at
from quant_assets.lineage.settings import Settings

CODE_VERSION_TAG = "dagster/code_version"

# Stages whose bodies are pure functions of their inputs. Behind them, bodies write ledgers and registries.
REPLAYABLE = ("market", "features", "datasets")


def replay_data_set(
    settings: Settings,
    build: Callable[[Settings, Bench], dg.Definitions],
    instance: dg.DagsterInstance,
    home: Home,
    asset: tuple[str, str],
    as_of: datetime,
) -> Replay:
    """Rebuild a data set as known at a time, and compare it with what was materialised then.

    Parameters
    ----------
    build : callable
        Makes definitions over a home; today's code and configuration are what the data set is rebuilt with.
    instance, home : DagsterInstance, Home
        Event log and store to read. Neither is written.
    asset : (str, str)
        Universe or strategy, and name: an asset of the stages in ``REPLAYABLE``. A partitioned one is given
        whole, all its partitions in one frame.
    as_of : datetime
        Timezone-aware. An event of that very microsecond counts.

    Raises
    ------
    StoreError
        When the asset is none of them, a root partition was not known at that time, an old vintage's object is
        lost or damaged, or a body fails on what was known then.
    """
    target = dg.AssetKey(list(asset))
    with tempfile.TemporaryDirectory(prefix="replay-") as folder, dg.DagsterInstance.ephemeral() as scratch:
        bench = Bench(root=folder)
        definitions = build(settings, bench)
        graph = definitions.resolve_asset_graph()
        if not graph.has(target) or graph.get(target).group_name not in REPLAYABLE:
            raise _unknown_asset(graph, target)
        lineage = [
            key
            for key in graph.toposorted_asset_keys
            if key == target or key in graph.get_ancestor_asset_keys(target)
        ]
        roots = [key for key in lineage if not graph.get(key).parent_keys]
        records = _known_then(instance, {key: _partitions(graph, key) for key in roots}, as_of)
        for (_, partition), record in records.items():
            _restore(event_of(record), partition, home.store, bench.store, scratch)
        for key in lineage:
            if key not in roots:
                _materialise(definitions, key, _partitions(graph, key), scratch, as_of)
        stages = [
            _compare(instance, scratch, key, partition, as_of)
            for key in lineage
            if key not in roots
            for partition in _partitions(graph, key)
        ]
        vintages = [
            Vintage(
                key.to_user_string(),
                partition or "",
                artifact_of(event_of(r), home.store).version,
                known_at(r),
            )
            for (key, partition), r in records.items()
        ]
        encoded = _result([_made(scratch, target, p, bench.store) for p in _partitions(graph, target)])
    return Replay(target.to_user_string(), as_of, encoded, tuple(vintages), tuple(stages))


def _partitions(graph: Any, key: dg.AssetKey) -> list[str | None]:
    """Partitions of an asset in order; [None] for an unpartitioned one."""
    definition = graph.get(key).partitions_def
    return [None] if definition is None else list(definition.get_partition_keys())


def _unknown_asset(graph: Any, target: dg.AssetKey) -> StoreError:
    owner, name = target.path[0], target.path[-1]
    known = sorted(
        key.path[-1]
        for key in graph.get_all_asset_keys()
        if key.path[0] == owner and graph.get(key).group_name in REPLAYABLE
    )
    near = closest(name, known)
    return StoreError(
        f"asset {target.to_user_string()}",
        expected=f"a data set of {owner}: {', '.join(known) or 'none, no strategy uses it'}",
        found="another asset" if graph.has(target) else "no asset of that name",
        action=f"{near} choose one of them".strip(),
    )


def _known_then(
    instance: dg.DagsterInstance, roots: Mapping[dg.AssetKey, list[str | None]], as_of: datetime
) -> dict[tuple[dg.AssetKey, str | None], dg.EventLogRecord]:
    """The newest record of each root partition as of the time, or one error about all that had none."""
    found, unknown, first = {}, [], []
    for key, partitions in roots.items():
        for partition in partitions:
            record = record_at(instance, key, partition, as_of)
            if record is not None:
                found[key, partition] = record
                continue
            name = key.to_user_string() + (f"[{partition}]" if partition else "")
            oldest = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None),
                limit=1,
                ascending=True,
            ).records
            unknown.append(name)
            first += [datetime.fromtimestamp(record.timestamp, UTC) for record in oldest]
    if unknown:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        if len(first) < len(unknown):
            count = f"{len(unknown) - len(first)} of {len(unknown) + len(found)}"
            never = f"{count} were never materialised in this instance"
            action = "run quant-assets run first, or set QUANT_ASSETS_HOME to the home that holds the history"
        else:
            never = f"all of them are known since {max(first).isoformat()}, the first since {min(first).isoformat()}"
            action = f"replay as of {max(first).isoformat()} or later"
        raise StoreError(
            f"data as known at {as_of.isoformat()}",
            expected="a vintage of every raw partition by then",
            found=f"none of {shown}; {never}",
            action=action,
        )
    return found


def _restore(
    event: dg.AssetMaterialization,
    partition: str | None,
    store: ArtifactStore,
    bench: ArtifactStore,
    scratch: dg.DagsterInstance,
) -> None:
    """Put an old vintage onto the bench: its object, and an event that points to it."""
    artifact = artifact_of(event, store)
    name = artifact.key + (f"[{partition}]" if partition else "")
    if not store.intact(artifact.sha256):
        missing = not store.path(artifact.sha256).exists()
        raise StoreError(
            f"vintage {artifact.version[:12]} of {name}",
            expected=f"its object at {store.path(artifact.sha256)}",
            found="nothing there" if missing else "bytes that are not those it was stored with",
            action="restore the object from a backup of the artifact store; when the source still gives the same "
            "bars, materialising the partition again makes it too",
        )
    bench.put(store.get(artifact.sha256))
    tags = {DATA_VERSION_TAG: artifact.version}
    scratch.report_runless_asset_event(
        dg.AssetMaterialization(event.asset_key, metadata=event.metadata, partition=partition, tags=tags)
    )


def _materialise(
    definitions: dg.Definitions,
    key: dg.AssetKey,
    partitions: list[str | None],
    scratch: dg.DagsterInstance,
    as_of: datetime,
) -> None:
    job = dg.define_asset_job("replay", dg.AssetSelection.assets(key).without_checks())
    resolved = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job])).resolve_job_def("replay")
    for partition in partitions:
        result = resolved.execute_in_process(
            instance=scratch, partition_key=partition, run_config=QUIET, raise_on_error=False
        )
        if not result.success:
            refused, broken = failures(result)
            raise StoreError(
                f"replay of {key.to_user_string()} as known at {as_of.isoformat()}",
                expected="its body to work on what was known then",
                found="; ".join([*refused, *broken]),
                action="the lineage stopped here on that day too: choose a time after it was mended",
            )


def _made(
    scratch: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, store: ArtifactStore
) -> Artifact:
    event = latest_event(scratch, key, partition)
    if event is None:
        raise StoreError(
            f"replay of {key.to_user_string()}",
            expected="an event",
            found="none",
            action="report it: the run succeeded without one",
        )
    return artifact_of(event, store)


def _result(parts: list[Artifact]) -> Encoded:
    """What the data set's asset would store; of several partitions one table, in order of the partitions."""
    if len(parts) == 1:
        return Encoded(parts[0].store.get(parts[0].sha256), parts[0].media_type, parts[0].version)
    tables = [part.table() for part in parts]
    return encode(Table(pl.concat([table.frame for table in tables]), tables[0].metadata))


def _compare(
    instance: dg.DagsterInstance,
    scratch: dg.DagsterInstance,
    key: dg.AssetKey,
    partition: str | None,
    as_of: datetime,
) -> Stage:
    now = latest_event(scratch, key, partition)
    tags = (now.tags if now else None) or {}
    version = tags[DATA_VERSION_TAG]
    record = record_at(instance, key, partition, as_of)
    name = key.to_user_string()
    if record is None:
        return Stage(name, partition, version, "not materialised", None, None)
    then = event_of(record).tags or {}
    if then.get(DATA_VERSION_TAG) == version:
        status: Status = "same bits"
    elif then.get(CODE_VERSION_TAG) != tags.get(CODE_VERSION_TAG):
        status = "other code"
    else:
        # The fingerprint is of the code and the versions of all inputs.
        status = "other bits" if then.get(INPUTS_TAG) == tags.get(INPUTS_TAG) else "other inputs"
    made = datetime.fromtimestamp(record.timestamp, UTC)
    return Stage(name, partition, version, status, then.get(DATA_VERSION_TAG), made)
