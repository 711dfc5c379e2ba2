"""The IO manager over the artifact store: pointers live in events, objects are immutable.

A step receives `Artifact` handles, resolved from the upstream *event* (of the same run when there is one) and
never from a mutable "latest" path. It reads an object only when it asks for it, so a step that reuses its last
result reads nothing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg

from quant_assets.common.errors import StoreError
from quant_assets.common.store import ArtifactStore, Encoded, MediaType, Table, decode
from quant_assets.defs.resources import Home

DATA_VERSION_TAG = "dagster/data_version"
INPUTS_TAG = "quant/inputs"
OBJECT_KEY = "quant/object"
MEDIA_TYPE_KEY = "quant/media_type"


@dataclass(frozen=True)
class Artifact:
    """One stored version of an asset, read when asked for."""

    key: str
    version: str
    sha256: str
    media_type: MediaType
    store: ArtifactStore

    def _read(self, expected: MediaType) -> Any:
        if self.media_type != expected:
            raise StoreError(
                f"asset {self.key}",
                expected=f"a stored {expected}",
                found=f"a stored {self.media_type}",
                action="materialise it again with the current code",
            )
        return decode(self.store.get(self.sha256), self.media_type)

    def table(self) -> Table:
        """The artifact as a frame with its metadata."""
        table: Table = self._read("table")
        return table

    def json(self) -> Any:
        """The artifact as plain data."""
        return self._read("json")

    def text(self) -> str:
        """The artifact as text."""
        text: str = self._read("text")
        return text

    def data(self) -> bytes:
        """The artifact as raw bytes."""
        data: bytes = self._read("bytes")
        return data


@dataclass(frozen=True)
class Partitions:
    """Every partition of an upstream asset, in key order."""

    parts: dict[str, Artifact]

    @property
    def version(self) -> str:
        """The versions of all partitions, joined: changes when any of them does."""
        return ",".join(f"{key}={part.version}" for key, part in sorted(self.parts.items()))

    def __iter__(self) -> Iterator[Artifact]:
        return iter(part for _, part in sorted(self.parts.items()))


@dataclass(frozen=True)
class Stored:
    """What a step hands to the IO manager: new bytes, or (with None) a pointer to an object already there."""

    sha256: str
    encoded: Encoded | None


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


def artifact_of(event: dg.AssetMaterialization, store: ArtifactStore) -> Artifact:
    """Handle on the object that a materialization points to."""
    tags = event.tags or {}
    try:
        sha256, media_type = (str(event.metadata[k].value) for k in (OBJECT_KEY, MEDIA_TYPE_KEY))
        version = tags[DATA_VERSION_TAG]
    except KeyError as error:
        raise StoreError(
            f"asset {event.asset_key.to_user_string()}",
            expected=f"an event with {error} on it",
            found="none: the event was not written by this platform",
            action="materialise the asset",
        ) from error
    return Artifact(event.asset_key.to_user_string(), version, sha256, media_type, store)  # type: ignore[arg-type]


class ArtifactIOManager(dg.ConfigurableIOManager):
    """Writes objects to the artifact store and resolves inputs from events."""

    home: dg.ResourceDependency[Home]

    def handle_output(self, context: dg.OutputContext, obj: Stored) -> None:
        """Store new bytes. Their address is already on the event that the step returns."""
        if obj.encoded is not None:
            self.home.store.put(obj.encoded.data)

    def _resolve(self, context: dg.InputContext, partition: str | None) -> Artifact:
        key = context.asset_key
        run_id = context.step_context.run_id
        event = latest_event(context.instance, key, partition, run_id)
        if event is None:
            name = key.to_user_string() + (f", partition {partition}" if partition else "")
            raise StoreError(
                f"input {name}",
                expected="a materialised version of it",
                found="none in this Dagster instance",
                action=f"materialise {name} first, or select it in the same run",
            )
        return artifact_of(event, self.home.store)

    def load_input(self, context: dg.InputContext) -> Artifact | Partitions:
        """Handles on the upstream object, or on each partition of it."""
        if not context.has_asset_partitions:
            return self._resolve(context, None)
        return Partitions({p: self._resolve(context, p) for p in context.asset_partition_keys})


def current(
    instance: dg.DagsterInstance, key: dg.AssetKey, home: Home, partition: str | None = None
) -> Artifact:
    """Handle on the newest version of an asset, for checks, which must not load what they judge by argument."""
    event = latest_event(instance, key, partition)
    if event is None:
        name = key.to_user_string() + (f", partition {partition}" if partition else "")
        raise StoreError(
            f"asset {name}",
            expected="a materialised version of it",
            found="none in this Dagster instance",
            action=f"materialise {name} first",
        )
    return artifact_of(event, home.store)
