"""The adapter: a node of the lineage becomes an asset, its stage's call a step, its facts metadata."""

import math
import os
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import dagster as dg
import polars as pl
import structlog
from dagster._core.definitions.data_version import DATA_VERSION_IS_USER_PROVIDED_TAG

from quant_assets.common import home as homes
from quant_assets.common.errors import GateClosedError
from quant_assets.common.logging import configure_logging, get_logger, logged_progress
from quant_assets.common.store import Table, Value
from quant_assets.defs.storage import (
    ATTESTATION_KEY,
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    INPUTS_TAG,
    MEDIA_TYPE_KEY,
    OBJECT_KEY,
    EventHistory,
    EventLog,
    Stored,
    check_state,
    event_of,
    evidence_of,
    finished_steps,
    latest_event,
    newest,
    record_at,
)
from quant_assets.lineage import scope
from quant_assets.lineage.artifact import Artifact, Partitions, part_name, stated
from quant_assets.lineage.columns import column_of
from quant_assets.lineage.declaring import (
    Check,
    CheckResult,
    CheckSpec,
    File,
    Link,
    LongTable,
    Markdown,
    Picture,
)
from quant_assets.lineage.graph import Key, Lineage, Node, fingerprint_of
from quant_assets.lineage.scope import Guard, RunFacts, Scrutiny
from quant_assets.lineage.scrutiny import (
    RESOURCES_PREFIX,
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
    reports = lineage.reports(node.scope) if stage.decides else ()

    @dg.asset(
        key=asset_key(node.key),
        # Dagster knows no union types: what a step receives is checked by mypy, where it is read.
        ins={key[1]: dg.AssetIn(key=asset_key(key), dagster_type=dg.Any) for key in node.parents},
        partitions_def=dg.StaticPartitionsDefinition(list(node.partitions)) if node.partitions else None,
        backfill_policy=dg.BackfillPolicy.single_run() if node.partitions else None,
        output_required=not node.partitions,
        # A check of its own would wait for an output, which a run of several years does not have.
        check_specs=[check_spec(node, s) for s in sum(node.specs.values(), ())] if node.partitions else None,
        config_schema=_schema(stage.options) if stage.options else None,
        kinds=set(node.kinds),
        description=node.sentence,
        # From the decision one click to what it decides by: the reports, whose checks are its gates.
        metadata={f"why: {r}": dg.MetadataValue.asset(asset_key((node.key[0], r))) for r in reports},
        code_version=node.code_version,
        group_name=f"{node.key[0]}/{stage.group}",  # strategies and universes stand apart in the graph
        owners=[node.team],
        io_manager_key="artifacts",
        tags={"quant/stage": stage.group},
        op_tags={"dagster/priority": str(int(node.key in lineage.behind_verdicts))},
        pool=stage.pool,
        automation_condition=ONCE_CHECKED if stage.decides else None,
        required_resource_keys={"home"},
    )
    def body(context: dg.AssetExecutionContext, **given: Any) -> Iterator[StoredResult | dg.AssetCheckResult]:
        inputs = {key: given[key[1]] for key in node.parents}
        parts = context.partition_keys if node.partitions else [None]
        if len(parts) == 1:
            yield _step(context, node, lineage, inputs, parts[0])
        else:  # Dagster has one data version for all partitions of an output: here each has its own
            for part in parts:
                _log_part(context, node, _step(context, node, lineage, inputs, part), part)
        for check, specs in node.specs.items() if node.partitions else ():
            names = {spec.name for spec in specs}
            for told in judged(context.instance, context.resources.home.place, lineage, node, check, names):
                yield dg.AssetCheckResult(**told)

    definition: dg.AssetsDefinition = body
    return definition


def check_spec(node: Node, spec: CheckSpec) -> dg.AssetCheckSpec:
    """A check of a node as Dagster announces it."""
    return dg.AssetCheckSpec(
        spec.name, asset=asset_key(node.key), description=spec.description, blocking=spec.blocking
    )


def judged(
    instance: dg.DagsterInstance,
    place: homes.Home,
    lineage: Lineage,
    node: Node,
    check: Check,
    names: Container[str],
) -> Iterator[dict[str, Any]]:
    """Results of those checks of a node that were asked for, as the arguments of `dagster.AssetCheckResult`.

    What is judged is read from the event log and not loaded by argument: the newest version, whatever the run.
    """
    key = asset_key(node.key)
    reads = lineage.inputs_of(check.function, node.scope, check.name, node.key)
    partitions = {k: lineage.nodes[k].partitions for given in reads.values() for k in given.keys}
    effects = {
        "home": place,
        "history": EventHistory(instance, place.store, key, None, node.partitions or ()),
    }
    missing = [p for p in node.partitions or () if latest_event(instance, key, p) is None]
    if missing:
        found = [
            CheckResult(s.name, False, f"not judged: {', '.join(missing)} never made", "WARN")
            for s in node.specs[check]
        ]
    else:
        artifacts = newest(instance, place.store, partitions)
        found = list(check.judge(node.arguments(check.function, artifacts, effects, lineage)))
    results = {result.name: result for result in found}
    for name in (spec.name for spec in node.specs[check] if spec.name in names):
        yield {
            "asset_key": key,
            "check_name": name,
            "passed": results[name].passed,
            "severity": dg.AssetCheckSeverity[results[name].severity],
            "description": results[name].description,
            "metadata": to_metadata(results[name].facts),
        }


# A whole range of years in one run needs it, and every year by itself works without.
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)


def _log_part(
    context: dg.AssetExecutionContext, node: Node, made: StoredResult, partition: str | None
) -> None:
    """One partition of several, as Dagster writes the only one."""
    if made.value.encoded is not None:
        context.resources.home.place.store.put(made.value.encoded.data)
    tags = {
        **(made.tags or {}),
        DATA_VERSION_TAG: cast(dg.DataVersion, made.data_version).value,
        CODE_VERSION_TAG: node.code_version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
    }
    context.log_event(
        dg.AssetMaterialization(context.asset_key, metadata=made.metadata, partition=partition, tags=tags)
    )


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
    partition: str | None,
) -> StoredResult:
    """Compute an asset, or return its last version when nothing that shapes it has changed.

    The fingerprint is of the code version, the partition, the versions of all inputs, the options of the run and what
    the stage calls fresh. Dagster has no step memoisation of its own. A stage that reads or acts on the outside world
    is computed every time, and still reported as reused when it is the same version.
    """
    if not structlog.is_configured():  # a step of a deployment: no command has chosen a style
        configure_logging("json" if os.environ.get("QUANT_ASSETS_LOG") == "json" else "console")
    key, place = context.asset_key, context.resources.home.place
    name = part_name(key.to_user_string(), partition)
    structlog.contextvars.bind_contextvars(run_id=context.run.run_id, asset_key=name, strategy=key.path[0])
    get_logger("quant_assets.progress").info("start")
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
        told = to_metadata(refusal.facts)
        context.log_event(dg.AssetObservation(key, description=str(refusal), metadata=told))
        raise GateClosed(str(refusal), refusal.reasons, told) from refusal
    finally:
        structlog.contextvars.unbind_contextvars("run_id", "asset_key", "strategy")


def effects_of(
    context: dg.AssetExecutionContext, node: Node, lineage: Lineage, partition: str | None
) -> dict[str, Any]:
    """What a stage may do to the world, and what it is told about this run."""
    place, run = context.resources.home.place, context.run
    options = node.stage.options(**context.op_execution_context.op_config) if node.stage.options else None
    facts = RunFacts(
        run.run_id,
        run.tags.get("quant/trigger", "manual"),
        place.dagster_ui(run.run_id),
        lambda steps: resources_of(context.instance, run.run_id, node.scope.key, steps),
    )
    history = EventHistory(context.instance, place.store, context.asset_key, partition, node.partitions or ())
    return scope.effects_of(place, facts, history, partition, options, logged_progress)


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

    def __init__(self, message: str, reasons: Sequence[str], told: Mapping[str, dg.MetadataValue]) -> None:
        listed = dg.MetadataValue.md("\n".join(f"- {reason}" for reason in reasons))
        super().__init__(description=message, metadata=told or {"reasons": listed}, allow_retries=False)


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
        read = EventLog(instance, effects["home"]).evidence()
        scrutiny = scrutinise(lineage, target, given, read, effects, settled)
        told = (reason for check, why in said.items() if check.name not in already_closed for reason in why)
        return Scrutiny((*told, *scrutiny.reasons), scrutiny.seconds)

    return guard


def check_reasons(instance: dg.DagsterInstance, checks: Sequence[dg.AssetCheckKey]) -> tuple[str, ...]:
    """Why these asset checks do not open the way; empty when each passed on its asset's latest version."""
    return tuple(why for check in checks if (why := check_state(instance, check).why))


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
    """Columns of a frame for the UI: names, types, and what is known of their meaning and unit."""
    columns = []
    for name, dtype in frame.schema.items():
        told = column_of(name)
        said = None if told is None else f"{told.description} Unit: {told.unit}"
        columns.append(dg.TableColumn(name, str(dtype), description=said))
    return dg.TableSchema(columns)
