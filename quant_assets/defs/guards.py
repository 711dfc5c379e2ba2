"""What every asset body goes through: reuse, versions, event metadata, logs; and the guards of the gates."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import polars as pl
import structlog

from quant_assets.common.hashing import bytes_digest, code_fingerprint, combined_fingerprint, json_digest
from quant_assets.common.logging import configure_logging, get_logger
from quant_assets.common.resource_use import resources_measured
from quant_assets.common.settings import Config
from quant_assets.common.store import Encoded, Table, Value, encode
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import (
    DATA_VERSION_TAG,
    INPUTS_TAG,
    MEDIA_TYPE_KEY,
    OBJECT_KEY,
    Artifact,
    Partitions,
    Stored,
    artifact_of,
    latest_event,
)

Inputs = Mapping[str, Artifact | Partitions]
StoredResult = dg.MaterializeResult[Stored]

# What computing an asset took, on its event: facts about one execution, and in no version.
RESOURCES_PREFIX = "resources/"

_log = get_logger("quant_assets.progress")


@dataclass(frozen=True)
class Product:
    """What an asset body computed: the value to store and what people should see of it."""

    value: Value
    metadata: Mapping[str, Any] = field(default_factory=dict)


def plain(value: Any) -> Any:
    """One number as the event log accepts it: numpy scalars become Python's, NaN and infinity text."""
    if hasattr(value, "item") and not isinstance(value, dg.MetadataValue):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def to_metadata(entries: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """The one boundary between results and event metadata."""
    converted: dict[str, dg.MetadataValue] = {}
    for key, value in entries.items():
        if isinstance(value, pl.DataFrame):
            converted[key] = table_metadata(value)
        elif isinstance(value, dg.TableSchema):
            converted[key] = dg.MetadataValue.table_schema(value)
        elif isinstance(value, bool):
            converted[key] = dg.MetadataValue.bool(value)
        else:
            converted[key] = (
                dg.MetadataValue.json(value) if isinstance(value, dict | list) else _scalar(value)
            )
    return converted


def _scalar(value: Any) -> dg.MetadataValue:
    if isinstance(value, dg.MetadataValue):
        return value
    value = plain(value)
    match value:
        case bool():
            return dg.MetadataValue.bool(value)
        case int():
            return dg.MetadataValue.int(value)
        case float():
            return dg.MetadataValue.float(value)
        case _:
            return dg.MetadataValue.text(str(value))


def _cell(value: Any) -> str | int | float | bool | None:
    value = plain(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def table_metadata(frame: pl.DataFrame, max_rows: int = 50) -> dg.MetadataValue:
    """The head of a frame as a table of the UI."""
    records = [
        dg.TableRecord({k: _cell(v) for k, v in row.items()}) for row in frame.head(max_rows).to_dicts()
    ]
    return dg.MetadataValue.table(records, schema=column_schema(frame))


def column_schema(frame: pl.DataFrame) -> dg.TableSchema:
    """Column names and types of a frame for the UI."""
    return dg.TableSchema([dg.TableColumn(name, str(dtype)) for name, dtype in frame.schema.items()])


def plot_metadata(data_uri: str, title: str) -> dg.MetadataValue:
    """A plot for the UI: a PNG inside Markdown."""
    return dg.MetadataValue.md(f"![{title}]({data_uri})")


def code_version(modules: Sequence[str], libraries: Sequence[str] = (), *config: Config | str | int) -> str:
    """Version of an asset's code *and* configuration, so that changing either shows as stale at once."""
    settings = json_digest([c.model_dump(mode="json") if isinstance(c, Config) else c for c in config])
    return f"{code_fingerprint(tuple(modules), tuple(libraries))}.{settings[:12]}"


def stage_options(stage: str, owner: str) -> dict[str, Any]:
    """What all assets of a stage share: the stage is the UI group and the tag, the store keeps the bytes."""
    return {
        "group_name": stage,
        "owners": [owner],
        "io_manager_key": "artifacts",
        "tags": {"quant/stage": stage},
    }


def progress(what: str) -> Callable[[int, int], None]:
    """A callback for long work that logs (done, total)."""

    def report(done: int, total: int) -> None:
        _log.info("progress", done=done, total=total, what=what)

    return report


def produce(
    context: dg.AssetExecutionContext,
    home: Home,
    compute: Callable[[], Product],
    *,
    inputs: Inputs | None = None,
    extra: Sequence[str] = (),
    always: bool = False,
) -> StoredResult:
    """Compute an asset, or return its last version when nothing that shapes it has changed.

    Parameters
    ----------
    compute : callable
        The asset's body proper. Not called when the last event has the same fingerprint and its object is intact.
    inputs : mapping
        Upstream handles; their versions are part of the fingerprint.
    extra : sequence of str
        Further facts that shape the result (the head of a ledger, say).
    always : bool
        Compute even when the fingerprint is known, for bodies that read or act on the outside world. The result is
        still reported as reused when it is the same version.
    """
    started = time.perf_counter()
    if not structlog.is_configured():  # a step of a deployment: no command has chosen a style
        configure_logging("json" if os.environ.get("QUANT_ASSETS_LOG") == "json" else "console")
    key = context.asset_key
    partition = context.partition_key if context.has_partition_key else None
    name = key.to_user_string() + (f"[{partition}]" if partition else "")
    structlog.contextvars.bind_contextvars(run_id=context.run.run_id, asset_key=name, strategy=key.path[0])
    try:
        version_of_code = context.assets_def.code_versions_by_key[key] or ""
        parts = [version_of_code, partition or "", *extra]
        parts += [f"{k}={v.version}" for k, v in sorted((inputs or {}).items())]
        fingerprint = combined_fingerprint(parts)
        previous = latest_event(context.instance, key, partition)
        same_inputs = previous is not None and (previous.tags or {}).get(INPUTS_TAG) == fingerprint
        if previous is not None and same_inputs and not always:
            artifact = artifact_of(previous, home.store)
            if home.store.intact(artifact.sha256):
                _log.info("asset", status="reused", seconds=time.perf_counter() - started)
                return _result(
                    key, artifact.version, artifact.sha256, None, fingerprint, previous.metadata, True
                )
            _log.warning("damaged object, computing again", object=artifact.sha256)
        with resources_measured() as used:
            product = compute()
        encoded = encode(product.value)
        reused = (
            previous is not None
            and same_inputs
            and (previous.tags or {}).get(DATA_VERSION_TAG) == encoded.version
        )
        sha256 = bytes_digest(encoded.data)  # the IO manager writes it, before the event that points to it
        resources = {f"{RESOURCES_PREFIX}{k}": v for k, v in used.to_json().items()}
        metadata = to_metadata({**_table_facts(product.value), **product.metadata, **resources})
        seconds = time.perf_counter() - started
        _log.info(
            "asset", status="reused" if reused else "computed", seconds=seconds, bytes=len(encoded.data)
        )
        return _result(key, encoded.version, sha256, encoded, fingerprint, metadata, reused)
    finally:
        structlog.contextvars.unbind_contextvars("run_id", "asset_key", "strategy")


def _table_facts(value: Value) -> dict[str, Any]:
    if not isinstance(value, Table):
        return {}
    return {"dagster/row_count": value.frame.height, "dagster/column_schema": column_schema(value.frame)}


def _result(
    key: dg.AssetKey,
    version: str,
    sha256: str,
    encoded: Encoded | None,
    fingerprint: str,
    metadata: Mapping[str, dg.MetadataValue],
    reused: bool,
) -> StoredResult:
    media = dg.MetadataValue.text(encoded.media_type) if encoded else metadata[MEDIA_TYPE_KEY]
    return dg.MaterializeResult(
        asset_key=key,
        value=Stored(sha256, encoded),
        data_version=dg.DataVersion(version),
        metadata={
            **metadata,
            OBJECT_KEY: dg.MetadataValue.text(sha256),
            MEDIA_TYPE_KEY: media,
            "reused": dg.MetadataValue.bool(reused),
        },
        tags={INPUTS_TAG: fingerprint},
    )


# ---------------------------------------------------------------------------------------- the gates


class GateClosed(dg.Failure):
    """Promotion was refused. Never retried: a verdict does not change by asking again."""

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        super().__init__(
            description=message,
            metadata={"reasons": dg.MetadataValue.md("\n".join(f"- {r}" for r in reasons))},
            allow_retries=False,
        )


def check_reasons(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> tuple[str, ...]:
    """Why these asset checks do not open the way; empty when each passed on its asset's latest version.

    A blocking check stops its own run only (dagster-io/dagster: a second run that selects only the downstream
    asset materialises it over a failed check), hence this guard in the body.
    """
    reasons = []
    for check in checks:
        name = f"{check.name} on {check.asset_key.to_user_string()}"
        event = instance.get_latest_materialization_event(check.asset_key)
        # The newest *execution*: one that was planned and never finished (a crash) hides older passes.
        record = instance.get_latest_asset_check_evaluation_record(check)
        if event is None:
            reasons.append(f"{name}: the asset was never materialised")
        elif record is None:
            reasons.append(f"{name}: the check never ran")
        elif record.status.value not in ("SUCCEEDED", "FAILED") or not record.evaluation:
            reasons.append(f"{name}: the check crashed or has not finished")
        else:
            target = record.evaluation.target_materialization_data
            if target is None or (target.run_id, target.timestamp) != (event.run_id, event.timestamp):
                reasons.append(f"{name}: evaluated an older materialization")
            elif not record.evaluation.passed:
                reasons.append(f"{name}: did not pass ({record.evaluation.description or 'no reason given'})")
    return tuple(reasons)
