"""The adapter: a node of the lineage becomes an asset, its stage's call a step, its facts metadata."""

import math
import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any

import dagster as dg
import polars as pl
import structlog

from quant_assets.common.errors import GateClosedError
from quant_assets.common.logging import configure_logging, logged_progress
from quant_assets.common.store import Table, Value
from quant_assets.defs.storage import (
    ATTESTATION_KEY,
    INPUTS_TAG,
    MEDIA_TYPE_KEY,
    OBJECT_KEY,
    EventHistory,
    Stored,
    event_of,
    evidence_of,
    finished_steps,
    latest_event,
    record_at,
)
from quant_assets.lineage.artifact import Artifact, Partitions, part_name, stated
from quant_assets.lineage.declaring import File, Link, LongTable, Markdown, Picture
from quant_assets.lineage.graph import Key, Lineage, Node, fingerprint_of
from quant_assets.lineage.scope import Guard, RunFacts, Scrutiny
from quant_assets.lineage.scrutiny import (
    RESOURCES_PREFIX,
    Evidence,
    Given,
    attestation,
    made_or_reused,
    scrutinise,
)

StoredResult = dg.MaterializeResult[Stored]

ONCE_CHECKED = dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()


def asset_key(key: Key) -> dg.AssetKey:
    """The key of an asset as Dagster writes it."""
    return dg.AssetKey(list(key))


def asset_of(node: Node, lineage: Lineage) -> dg.AssetsDefinition:
    """A node as an asset: the group is the UI's, the store keeps the bytes, each upstream asset is an input."""
    stage = node.stage

    @dg.asset(
        key=asset_key(node.key),
        # Dagster knows no union types: what a step receives is checked by mypy, where it is read.
        ins={key[1]: dg.AssetIn(key=asset_key(key), dagster_type=dg.Any) for key in node.parents},
        partitions_def=dg.StaticPartitionsDefinition(list(node.partitions)) if node.partitions else None,
        config_schema=_schema(stage.options) if stage.options else None,
        kinds=set(node.kinds),
        description=node.sentence,
        code_version=node.code_version,
        group_name=stage.group,
        owners=[node.team],
        io_manager_key="artifacts",
        tags={"quant/stage": stage.group},
        op_tags={"dagster/priority": str(int(node.key in lineage.behind_verdicts))},
        pool=stage.pool,
        automation_condition=ONCE_CHECKED if stage.decides else None,
        required_resource_keys={"home"},
    )
    def body(context: dg.AssetExecutionContext, **given: Any) -> StoredResult:
        return _step(context, node, lineage, {key: given[key[1]] for key in node.parents})

    definition: dg.AssetsDefinition = body
    return definition


def _schema(options: Any) -> dict[str, dg.Field]:
    """The options of a run as Dagster's configuration, each with its default."""
    defaults = options().model_dump()
    return {
        name: dg.Field(dg.Any if value is None else type(value), default_value=value, is_required=False)
        for name, value in defaults.items()
    }


def _step(
    context: dg.AssetExecutionContext,
    node: Node,
    lineage: Lineage,
    given: Mapping[Key, Artifact | Partitions],
) -> StoredResult:
    """Compute an asset, or return its last version when nothing that shapes it has changed.

    The fingerprint is of the code version, the partition, the versions of all inputs, the options of the run and what
    the stage calls fresh. Dagster has no step memoisation of its own. A stage that reads or acts on the outside world
    is computed every time, and still reported as reused when it is the same version.
    """
    if not structlog.is_configured():  # a step of a deployment: no command has chosen a style
        configure_logging("json" if os.environ.get("QUANT_ASSETS_LOG") == "json" else "console")
    key, place = context.asset_key, context.resources.home.place
    partition = context.partition_key if context.has_partition_key else None
    name = part_name(key.to_user_string(), partition)
    structlog.contextvars.bind_contextvars(run_id=context.run.run_id, asset_key=name, strategy=key.path[0])
    try:
        effects = effects_of(context, node, lineage, partition)
        effects["guard"] = guard_of(context.instance, lineage, node.key, given, effects)
        fingerprint = fingerprint_of(node, lineage, given, effects, partition)
        record = record_at(context.instance, key, partition)
        event = event_of(record) if record else None
        known = record if event and (event.tags or {}).get(INPUTS_TAG) == fingerprint else None
        previous = (
            evidence_of(known, place.store, partial(finished_steps, context.instance)) if known else None
        )
        step = made_or_reused(lineage, node, given, effects, name, fingerprint, previous)
        kept, made = event.metadata if event and step.value is None else {}, step.made
        return dg.MaterializeResult(
            asset_key=key,
            value=Stored(made.sha256, step.encoded),
            data_version=dg.DataVersion(stated(made.version)),
            metadata={
                **(kept or to_metadata({**_table_facts(step.value), **step.facts})),
                OBJECT_KEY: dg.MetadataValue.text(made.sha256),
                MEDIA_TYPE_KEY: dg.MetadataValue.text(made.media_type),
                ATTESTATION_KEY: dg.MetadataValue.json(attestation(made, place)),
                "reused": dg.MetadataValue.bool(step.reused),
            },
            tags={INPUTS_TAG: made.fingerprint},
        )
    except GateClosedError as refusal:
        raise GateClosed(str(refusal), refusal.found.split("; ")) from refusal
    finally:
        structlog.contextvars.unbind_contextvars("run_id", "asset_key", "strategy")


def effects_of(
    context: dg.AssetExecutionContext, node: Node, lineage: Lineage, partition: str | None
) -> dict[str, Any]:
    """What a stage may do to the world, and what it is told about this run."""
    place, run = context.resources.home.place, context.run
    options = node.stage.options(**context.op_execution_context.op_config) if node.stage.options else None
    return {
        "home": place,
        "run": RunFacts(
            run.run_id,
            run.tags.get("quant/trigger", "manual"),
            place.dagster_ui(run.run_id),
            lambda steps: resources_of(context.instance, run.run_id, node.scope.key, steps),
        ),
        "progress": logged_progress,
        "history": EventHistory(
            context.instance, place.store, context.asset_key, partition, node.partitions or ()
        ),
        "options": options,
        "n_jobs": None,
        "partition": partition,
    }


def resources_of(
    instance: dg.DagsterInstance, run_id: str, strategy: str, steps: Sequence[str]
) -> dict[str, float]:
    """What the steps that fitted something took of the machine, from their events: ``<step>/<quantity>``."""
    found: dict[str, float] = {}
    for step in steps:
        event = latest_event(instance, dg.AssetKey([strategy, step]), None, run_id)
        for name, value in (event.metadata if event else {}).items():
            if name.startswith(RESOURCES_PREFIX) and isinstance(value.value, int | float):
                found[f"{step}/{name.removeprefix(RESOURCES_PREFIX)}"] = float(value.value)
    return found


def _table_facts(value: Value | None) -> dict[str, Any]:
    if not isinstance(value, Table):
        return {}
    return {"dagster/row_count": value.frame.height, "dagster/column_schema": column_schema(value.frame)}


# ----------------------------------------------------------------------------------- the guard in front of promotion

# A blocking check stops its own run only (dagster-io/dagster: a second run that selects only the downstream asset
# materialises it over a failed check), hence this guard in the body, which asks every time.


class GateClosed(dg.Failure):
    """Promotion was refused. Never retried: a verdict does not change by asking again."""

    def __init__(self, message: str, reasons: Sequence[str]) -> None:
        super().__init__(
            description=message,
            metadata={"reasons": dg.MetadataValue.md("\n".join(f"- {r}" for r in reasons))},
            allow_retries=False,
        )


def required_checks(lineage: Lineage, target: Key) -> list[dg.AssetCheckKey]:
    """Every check without which a target is not made: all that block, of everything it is made from, not its own.

    What was never fit to be trained on is not promoted either, whichever run looked away.
    """
    asked = lineage.blocking_checks(target)
    return [dg.AssetCheckKey(dg.AssetKey(list(key)), name) for key, name in asked if key != target]


def guard_of(
    instance: dg.DagsterInstance, lineage: Lineage, target: Key, given: Given, effects: Mapping[str, Any]
) -> Guard:
    """The guard of one target, over the event log of an instance: what it says, and what can be found out again."""

    def guard(already_closed: frozenset[str]) -> Scrutiny:
        said = {check: check_reasons(instance, [check]) for check in required_checks(lineage, target)}
        closed = {check for check, why in said.items() if why or check.name in already_closed}
        settled = {((c.asset_key.path[0], c.asset_key.path[1]), c.name) for c in closed}
        finished = cache(partial(finished_steps, instance))  # most of a lineage is of one run

        def read(key: Key, partition: str | None) -> Evidence | None:
            record = record_at(instance, dg.AssetKey(list(key)), partition)
            return evidence_of(record, effects["home"].store, finished) if record else None

        scrutiny = scrutinise(lineage, target, given, read, effects, settled)
        told = (reason for check, why in said.items() if check.name not in already_closed for reason in why)
        return Scrutiny((*told, *scrutiny.reasons), scrutiny.seconds)

    return guard


def check_reasons(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> tuple[str, ...]:
    """Why these asset checks do not open the way; empty when each passed on its asset's latest version."""
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


# ---------------------------------------------------------------------------------------- facts as metadata


def to_metadata(facts: Mapping[str, Any]) -> dict[str, dg.MetadataValue]:
    """The one boundary between results and event metadata."""
    return {name: metadata_value(fact) for name, fact in facts.items()}


def metadata_value(fact: Any) -> dg.MetadataValue:
    """One fact as the event log accepts it: numpy scalars become Python's, NaN and infinity text."""
    fact = _finite(fact)
    match fact:
        case pl.DataFrame():
            return _table(fact)
        case LongTable():
            return _table(fact.frame, fact.max_rows)
        case Picture():
            return dg.MetadataValue.md(f"![{fact.title}]({fact.data_uri})")
        case Markdown():
            return dg.MetadataValue.md(fact.text)
        case Link():
            return dg.MetadataValue.url(fact.address)
        case File():
            return dg.MetadataValue.path(str(fact.path))
        case dg.TableSchema():
            return dg.MetadataValue.table_schema(fact)
        case bool():
            return dg.MetadataValue.bool(fact)
        case int():
            return dg.MetadataValue.int(fact)
        case float():
            return dg.MetadataValue.float(fact)
        case dict() | list():
            return dg.MetadataValue.json(fact)
        case _:
            return dg.MetadataValue.text(str(fact))


def _finite(value: Any) -> Any:
    if hasattr(value, "item") and not isinstance(value, pl.DataFrame):
        value = value.item()
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str | int | float | bool | None:
    value = _finite(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _table(frame: pl.DataFrame, max_rows: int = 50) -> dg.MetadataValue:
    records = [
        dg.TableRecord({k: _cell(v) for k, v in row.items()}) for row in frame.head(max_rows).to_dicts()
    ]
    return dg.MetadataValue.table(records, schema=column_schema(frame))


def column_schema(frame: pl.DataFrame) -> dg.TableSchema:
    """Column names and types of a frame for the UI."""
    return dg.TableSchema([dg.TableColumn(name, str(dtype)) for name, dtype in frame.schema.items()])
