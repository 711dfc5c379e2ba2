"""Where objects and events are: the home as a resource, the IO manager over the artifact store, the event log.

Pointers live in events, objects are immutable. A step receives `Artifact` handles, resolved from the upstream *event*
(of the same run when there is one) and never from a mutable "latest" path. It reads an object only when it asks for
it, so a step that reuses its last result reads nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache, partial
from typing import Any

import dagster as dg
from pydantic import Field

from quant_assets.common import home as homes
from quant_assets.common.errors import StoreError
from quant_assets.common.store import ArtifactStore, Encoded
from quant_assets.lineage.artifact import HASHING, Artifact, Partitions
from quant_assets.lineage.graph import Key
from quant_assets.lineage.replaying import KnownVersion
from quant_assets.lineage.scope import KnownVintage, Made
from quant_assets.lineage.scrutiny import Evidence, Read
from quant_assets.lineage.settled import CheckState
from quant_assets.lineage.stages.bar_stages import CHANGE, KNOWN_AT, LAST_SESSION, SYMBOL_DIGESTS

DATA_VERSION_TAG = "dagster/data_version"
CODE_VERSION_TAG = "dagster/code_version"
INPUTS_TAG = "quant/inputs"
OBJECT_KEY = "quant/object"
MEDIA_TYPE_KEY = "quant/media_type"
ATTESTATION_KEY = "quant/attestation"


class Home(dg.ConfigurableResource[Any]):
    """Where everything that is made is kept. Read when a run starts, never at import."""

    root: str = Field(
        default="", description="Folder or URL; empty means $QUANT_ASSETS_HOME, ./.quant_assets"
    )
    tracking_uri: str = Field(
        default="", description="MLflow tracking URI; empty means a sqlite file below root"
    )

    @property
    def place(self) -> homes.Home:
        """The home as the rest of the platform knows it."""
        return homes.Home(self.root, self.tracking_uri)


@dataclass(frozen=True)
class Stored:
    """What a step hands to the IO manager: new bytes, or (with None) a pointer to an object already there."""

    sha256: str
    encoded: Encoded | None


class ArtifactIOManager(dg.ConfigurableIOManager):
    """Writes objects to the artifact store and resolves inputs from events."""

    home: dg.ResourceDependency[Home]

    def handle_output(self, context: dg.OutputContext, obj: Stored) -> None:
        """Store new bytes. Their address is already on the event that the step returns."""
        if obj.encoded is not None:
            self.home.place.store.put(obj.encoded.data)

    def load_input(self, context: dg.InputContext) -> Artifact | Partitions:
        """Handles on the upstream object, or on each partition of it."""
        store, run_id = self.home.place.store, context.step_context.run_id
        if not context.has_asset_partitions:
            return current(context.instance, context.asset_key, store, run_id=run_id)
        return Partitions(
            {
                p: current(context.instance, context.asset_key, store, p, run_id)
                for p in context.asset_partition_keys
            }
        )


def record_at(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, as_of: datetime | None = None
) -> dg.EventLogRecord | None:
    """Newest materialisation of an asset (partition), or the newest that existed at ``as_of``, included."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=key,
            asset_partitions=[partition] if partition else None,
            # The filter is exclusive, and event times have microseconds.
            before_timestamp=as_of.timestamp() + 1e-6 if as_of else None,
        ),
        limit=1,
    ).records
    return records[0] if records else None


def event_of(record: dg.EventLogRecord) -> dg.AssetMaterialization:
    """The materialisation of a record that `record_at` gave."""
    event = record.asset_materialization
    if event is None:
        raise StoreError(
            f"event {record.storage_id}",
            expected="a materialisation",
            found="another kind of event",
            action="report it: the event log answered another question than it was asked",
        )
    return event


def latest_event(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None, run_id: str | None = None
) -> dg.AssetMaterialization | None:
    """Newest materialization of an asset (partition), preferring one of the given run."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition] if partition else None),
        limit=10 if run_id else 1,
    ).records
    same_run = [record for record in records if record.run_id == run_id]
    chosen = (same_run or list(records))[:1]
    return chosen[0].asset_materialization if chosen else None


def finished_steps(instance: dg.DagsterInstance, run_id: str) -> frozenset[str | None]:
    """Steps of a run that succeeded; none of a run that the instance does not know."""
    if instance.get_run_by_id(run_id) is None:
        return frozenset()
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_SUCCESS).records
    return frozenset(record.event_log_entry.step_key for record in records) - {None}


def evidence_of(
    record: dg.EventLogRecord, store: ArtifactStore, finished: Callable[[str], frozenset[str | None]]
) -> Evidence:
    """What a record says about its asset, and whose word that is. ``finished`` gives a run's steps that succeeded."""
    event, tags = event_of(record), event_of(record).tags or {}
    envelope = event.metadata.get(ATTESTATION_KEY)
    return Evidence(
        artifact_of(event, store),
        tags.get(CODE_VERSION_TAG, ""),
        tags.get(INPUTS_TAG, ""),
        record.run_id,
        record.event_log_entry.step_key in finished(record.run_id),
        envelope.value if envelope else None,
    )


def known_at(record: dg.EventLogRecord) -> datetime:
    """When the content of an event was first seen: its own time, or that of the first event with the same bits."""
    carried = event_of(record).metadata.get(KNOWN_AT)
    if carried is not None:
        return datetime.fromisoformat(str(carried.value))
    return datetime.fromtimestamp(record.timestamp, UTC)


def data_version(event: dg.AssetMaterialization) -> str:
    """Data version of an event, as Dagster knows it; empty when it has none."""
    return (event.tags or {}).get(DATA_VERSION_TAG, "")


def content_of(event: dg.AssetMaterialization) -> str:
    """Digest of the content of an event: its data version without how it was hashed."""
    return data_version(event).rpartition("-")[2]


def artifact_of(event: dg.AssetMaterialization, store: ArtifactStore) -> Artifact:
    """Handle on the object that a materialization points to.

    Raises
    ------
    StoreError
        For an event that another program wrote, and for one whose content was hashed in another way.
    """
    name = event.asset_key.to_user_string()
    try:
        sha256, media_type = (str(event.metadata[k].value) for k in (OBJECT_KEY, MEDIA_TYPE_KEY))
        version = (event.tags or {})[DATA_VERSION_TAG]
    except KeyError as error:
        raise StoreError(
            f"asset {name}",
            expected=f"an event with {error} on it",
            found="none: the event was not written by this platform",
            action="materialise the asset",
        ) from error
    hashing, _, digest = version.rpartition("-")
    if hashing not in (HASHING, ""):  # before the hashing was named, there was this one
        raise StoreError(
            f"asset {name}",
            expected=f"a data version of hashing {HASHING!r}",
            found=f"{version[:20]}...: it was written by another version of this platform",
            action="materialise the asset again",
        )
    return Artifact(name, digest, sha256, media_type, store)  # type: ignore[arg-type]


def current(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    store: ArtifactStore,
    partition: str | None = None,
    run_id: str | None = None,
) -> Artifact:
    """Handle on the newest version of an asset.

    Raises
    ------
    StoreError
        When it was never materialised.
    """
    event = latest_event(instance, key, partition, run_id)
    if event is None:
        name = key.to_user_string() + (f", partition {partition}" if partition else "")
        raise StoreError(
            f"asset {name}",
            expected="a materialised version of it",
            found="none in this Dagster instance",
            action=f"materialise {name} first, or select it in the same run",
        )
    return artifact_of(event, store)


def newest(
    instance: dg.DagsterInstance, store: ArtifactStore, keys: Mapping[Key, Sequence[str] | None]
) -> dict[Key, Artifact | Partitions]:
    """The newest versions of assets by key; of those with partitions, of each of them."""
    found: dict[Key, Artifact | Partitions] = {}
    for key, partitions in keys.items():
        asset = dg.AssetKey(list(key))
        if partitions is None:
            found[key] = current(instance, asset, store)
        else:
            found[key] = Partitions({p: current(instance, asset, store, p) for p in partitions})
    return found


def versions(instance: dg.DagsterInstance, store: ArtifactStore, key: Key) -> Iterator[Made]:
    """Every version of an asset among its newest 200 events, newest first, each once."""
    seen: set[str] = set()
    for record in instance.fetch_materializations(dg.AssetKey(list(key)), limit=200).records:
        event = event_of(record)
        artifact = artifact_of(event, store)
        if artifact.sha256 not in seen:
            seen.add(artifact.sha256)
            moment, facts = datetime.fromtimestamp(record.timestamp, UTC), plain_facts(event)
            yield Made(artifact, moment, record.run_id, facts)


def plain_facts(event: dg.AssetMaterialization) -> dict[str, Any]:
    """What an event says of its asset, as plain values by name."""
    return {name: value.value for name, value in event.metadata.items() if hasattr(value, "value")}


@dataclass(frozen=True)
class EventLog:
    """What an instance's event log names of the versions in a home's store."""

    instance: dg.DagsterInstance
    home: homes.Home

    @property
    def store(self) -> ArtifactStore:
        """The store of the home."""
        return self.home.store

    def newest(self, key: Key) -> Artifact | None:
        """The newest version of an asset; None when it was never made."""
        event = latest_event(self.instance, dg.AssetKey(list(key)), None)
        return artifact_of(event, self.store) if event else None

    def each(self, key: Key) -> Iterator[Artifact]:
        """Every object of an asset that the log still names, newest first, each once."""
        return (made.artifact for made in versions(self.instance, self.store, key))

    def version_at(self, key: Key, partition: str | None, as_of: datetime) -> KnownVersion | None:
        """The newest version at a time, which counts itself."""
        record = record_at(self.instance, dg.AssetKey(list(key)), partition, as_of)
        if record is None:
            return None
        event, made = event_of(record), datetime.fromtimestamp(record.timestamp, UTC)
        code, inputs = ((event.tags or {}).get(tag, "") for tag in (CODE_VERSION_TAG, INPUTS_TAG))
        return KnownVersion(artifact_of(event, self.store), made, known_at(record), code, inputs)

    def first_made(self, key: Key, partition: str | None) -> datetime | None:
        """When the oldest version was made; None when none was."""
        asked = dg.AssetRecordsFilter(dg.AssetKey(list(key)), [partition] if partition else None)
        records = self.instance.fetch_materializations(asked, limit=1, ascending=True).records
        return datetime.fromtimestamp(records[0].timestamp, UTC) if records else None

    def evidence(self) -> Read:
        """Reads what an event says of the newest version of an asset (partition), and whose word it is."""
        finished = cache(partial(finished_steps, self.instance))  # most of a lineage is of one run

        def read(key: Key, partition: str | None) -> Evidence | None:
            record = record_at(self.instance, dg.AssetKey(list(key)), partition)
            return evidence_of(record, self.store, finished) if record else None

        return read


def check_state(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> CheckState:
    """What the newest *execution* of a check says: one that never finished (a crash) hides older passes."""
    name = f"{check.name} on {check.asset_key.to_user_string()}"
    event = instance.get_latest_materialization_event(check.asset_key)
    record = instance.get_latest_asset_check_evaluation_record(check)
    if event is None or record is None:
        never = "asset was never materialised" if event is None else "check never ran"
        return CheckState(False, False, f"{name}: the {never}")
    told = record.evaluation
    if record.status.value not in ("SUCCEEDED", "FAILED") or not told:
        return CheckState(False, False, f"{name}: the check crashed or has not finished")
    target = told.target_materialization_data
    if target is None or (target.run_id, target.timestamp) != (event.run_id, event.timestamp):
        return CheckState(False, told.passed, f"{name}: evaluated an older materialization")
    why = "" if told.passed else f"{name}: did not pass ({told.description or 'no reason given'})"
    return CheckState(True, told.passed, why)


@dataclass(frozen=True)
class EventHistory:
    """What the event log knows of earlier versions of one asset (partition), and of any other."""

    instance: dg.DagsterInstance
    store: ArtifactStore
    key: dg.AssetKey
    partition: str | None
    partitions: Sequence[str]

    def previous(self) -> KnownVintage | None:
        """The newest earlier version of this partition."""
        record = record_at(self.instance, self.key, self.partition)
        if record is None:
            return None
        event = event_of(record)
        artifact = artifact_of(event, self.store)
        recorded = event.metadata.get(SYMBOL_DIGESTS)
        digests: Any = recorded.value if recorded else {}
        return KnownVintage(artifact.version, known_at(record), digests, artifact)

    def last_session(self) -> date | None:
        """The newest session known in any partition."""
        found = (str(facts.get(LAST_SESSION, "")) for facts in self.facts().values())
        return max((date.fromisoformat(session) for session in found if session), default=None)

    def facts(self) -> dict[str, dict[str, Any]]:
        """Facts about the newest version of each partition: those that vintages are compared by."""
        events = {p: latest_event(self.instance, self.key, p) for p in self.partitions}
        return {p: plain_facts(e) for p, e in events.items() if e is not None and CHANGE in e.metadata}

    def versions(self, key: Key) -> Iterator[Made]:
        """Every version of an asset that the log still names, newest first, each once."""
        return versions(self.instance, self.store, key)
