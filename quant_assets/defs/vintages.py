"""Vintages in the event log: what each event of `raw_bars` says about the one before, and the check on it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from quant_assets.common.errors import StoreError
from quant_assets.common.hashing import frame_digest
from quant_assets.common.logging import get_logger
from quant_assets.common.store import ArtifactStore, Table
from quant_assets.defs.guards import to_metadata
from quant_assets.defs.storage import DATA_VERSION_TAG, artifact_of, latest_event

if TYPE_CHECKING:
    from quant_assets.market.revisions import Revision

SYMBOL_DIGESTS = "symbol_digests"
LAST_SESSION = "last_session"
CHANGE = "change"
KNOWN_AT = "known_at"

_log = get_logger("quant_assets.market")


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


def known_at(record: dg.EventLogRecord) -> datetime:
    """When the content of an event was first seen: its own time, or that of the first event with the same bits."""
    carried = event_of(record).metadata.get(KNOWN_AT)
    if carried is not None:
        return datetime.fromisoformat(str(carried.value))
    return datetime.fromtimestamp(record.timestamp, UTC)


def vintage_facts(
    context: dg.AssetExecutionContext, store: ArtifactStore, table: Table, years: Sequence[str]
) -> dict[str, Any]:
    """Metadata of one read of a year: digests per symbol, and what it changed against the last vintage.

    Parameters
    ----------
    table : Table
        What will be stored.
    years : sequence of str
        All partitions of the asset: the last session known in any of them tells appended from rewritten.
    """
    from quant_assets.market.revisions import symbol_digests

    key, year = context.asset_key, context.partition_key
    digests = symbol_digests(table.frame)
    last = table.frame["session"].max()
    facts: dict[str, Any] = {SYMBOL_DIGESTS: digests, LAST_SESSION: "" if last is None else str(last)}
    previous = record_at(context.instance, key, year)
    version = frame_digest(table.frame, table.metadata)
    if previous is not None and (event_of(previous).tags or {}).get(DATA_VERSION_TAG) == version:
        return {**facts, CHANGE: "unchanged", KNOWN_AT: known_at(previous).isoformat()}
    revision = _revision(context, store, table.frame, digests, previous, years)
    facts |= {CHANGE: revision.kind, "change_in_words": revision.sentence}
    if revision.kind in ("appended", "revised"):
        facts |= {
            "rows_added": revision.rows_added,
            "rows_removed": revision.rows_removed,
            "rows_changed": revision.rows_changed,
            "symbols_touched": revision.symbols,
        }
    if revision.kind == "revised":
        facts["largest_changes"] = revision.changes
        _log.warning("history rewritten", partition=year, change=revision.sentence)
    return facts


def _revision(
    context: dg.AssetExecutionContext,
    store: ArtifactStore,
    bars: pl.DataFrame,
    digests: Mapping[str, str],
    previous: dg.EventLogRecord | None,
    years: Sequence[str],
) -> "Revision":
    from quant_assets.market.revisions import compare_vintages, lost_vintage

    if previous is None:
        return compare_vintages(None, bars)
    event = event_of(previous)
    artifact = artifact_of(event, store)
    if not store.intact(artifact.sha256):
        _log.warning(
            "the object of the last vintage is lost, its rows cannot be compared", object=artifact.sha256
        )
        recorded = event.metadata.get(SYMBOL_DIGESTS)
        return lost_vintage(recorded.value if recorded else {}, digests)  # type: ignore[arg-type]
    known_through = max(
        (
            date.fromisoformat(str(other.metadata[LAST_SESSION].value))
            for year in years
            if (other := latest_event(context.instance, context.asset_key, year)) is not None
            and LAST_SESSION in other.metadata
            and other.metadata[LAST_SESSION].value
        ),
        default=None,
    )
    return compare_vintages(artifact.table().frame, bars, known_through=known_through)


def revisions_check(raw_bars: dg.AssetsDefinition, years: Sequence[str]) -> dg.AssetChecksDefinition:
    """WARN while the newest event of any year is one that rewrote history."""

    @dg.asset_check(
        asset=raw_bars.key,
        name="revisions",
        description="WARN: the newest read of a year changed bars that were known before.",
    )
    def revisions(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        rows, rewritten = [], []
        for year in years:
            event = latest_event(context.instance, raw_bars.key, year)
            if event is None or CHANGE not in event.metadata:
                continue
            change = str(event.metadata[CHANGE].value)
            words = event.metadata.get("change_in_words")
            rows.append({"year": year, "change": change, "in_words": str(words.value) if words else ""})
            if change == "revised":
                rewritten.append(year)
        described = (
            f"history rewritten in {', '.join(rewritten)}" if rewritten else "no history was rewritten"
        )
        return dg.AssetCheckResult(
            passed=not rewritten,
            severity=dg.AssetCheckSeverity.WARN,
            description=described,
            metadata=to_metadata({"years": pl.DataFrame(rows)}),
        )

    return revisions
