"""Automation: thin sensors that gather facts, ask a pure ``decide`` and translate its answer; and the jobs."""

import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContext

from quant_assets.common.errors import QuantAssetsError
from quant_assets.common.hashing import combined_fingerprint
from quant_assets.defs.assets import asset_key
from quant_assets.defs.running import raw_years_job, tag_outcome
from quant_assets.defs.storage import (
    Home,
    artifact_of,
    content_of,
    data_version,
    event_of,
    latest_event,
    record_at,
)
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.causes import waiting_keys
from quant_assets.lineage.configured import running_sensors
from quant_assets.lineage.graph import Key, Lineage, Node
from quant_assets.market.revisions import KnownYear, decide, remembered_versions

SENSOR_INTERVAL_SECONDS = 60
FAILED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
IN_FLIGHT = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]


def sensor_status(name: str) -> dg.DefaultSensorStatus:
    """Whether a sensor starts running in the declared environment."""
    return dg.DefaultSensorStatus.RUNNING if name in running_sensors() else dg.DefaultSensorStatus.STOPPED


def partitioned(lineage: Lineage) -> list[Node]:
    """Assets of universes that read a source, a year at a time."""
    sources = (n for n in lineage.nodes.values() if n.stage.always and n.stage.owner == "universe")
    return [node for node in sources if node.partitions is not None]


def run_keys(lineage: Lineage, strategy: str) -> list[dg.AssetKey]:
    """Everything between the raw years and the champion of one strategy, without the raw years."""
    return [asset_key(node.key) for node in lineage.of(strategy) if node.partitions is None]


def jobs_of(lineage: Lineage) -> tuple[list[Any], list[Any]]:
    """One job a strategy and one for the platform's own assets; and one for the raw years of each universe."""
    jobs = [
        dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*run_keys(lineage, name)),
            tags={"quant/strategy": name},
            description=config.description,
        )
        for name, config in sorted(lineage.settings.strategies.items())
    ]
    jobs += [
        dg.define_asset_job(
            node.name, selection=dg.AssetSelection.assets(asset_key(node.key)), description=node.sentence
        )
        for node in lineage.nodes.values()
        if node.scope.universe is None
    ]
    raw_jobs = [
        dg.define_asset_job(
            raw_years_job(node.key[0]),
            selection=dg.AssetSelection.assets(asset_key(node.key)),
            description="One calendar year of bars from the source.",
        )
        for node in partitioned(lineage)
    ]
    return jobs, raw_jobs


def sensors_of(lineage: Lineage, raw_jobs: list[Any]) -> list[dg.SensorDefinition]:
    """The sensors of the platform."""
    return [
        _drift_retraining(lineage),
        _reconcile(lineage),
        dg.AutomationConditionSensorDefinition(
            "automation",
            target=dg.AssetSelection.all(),
            default_status=sensor_status("automation"),
            run_tags={"quant/trigger": "automation"},
        ),
        _new_bars(lineage, raw_jobs),
        _champion_agreement(lineage),
        _run_outcomes(),
    ]


def _unpartitioned(lineage: Lineage) -> dg.AssetSelection:
    raw = [asset_key(node.key) for node in partitioned(lineage)]
    return dg.AssetSelection.all() - dg.AssetSelection.assets(*raw)


# ---------------------------------------------------------------------------------------- drift


def _drift_retraining(lineage: Lineage) -> dg.SensorDefinition:
    monitoring = lineage.settings.monitoring

    @dg.sensor(
        name="drift_retraining",
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status("drift_retraining"),
        asset_selection=_unpartitioned(lineage),
        description="Turns a drifted report into one retraining run, with its reasons, after a cool-down.",
    )
    def drift_retraining(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
        from quant_assets.monitoring.retraining import decide as decide_retraining

        acted: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        requests, notes = [], []
        for strategy in sorted(lineage.settings.strategies):
            event = latest_event(context.instance, dg.AssetKey([strategy, "drift_report"]), None)
            if event is None:
                notes.append(f"{strategy}: no drift report yet")
                continue
            version = content_of(event)  # the same content, hashed under another name, is no new report
            report = GateReport.from_json(artifact_of(event, home.place.store).json())
            last_retrain, attempts = retraining_runs(context.instance, strategy, version)
            decision = decide_retraining(
                drifted_features=sum(bool(row["drifted"]) for row in report.details["features"]),
                min_features=int(lineage.settings.drift.min_drifted_features),
                report_version=version,
                last_acted_version=acted.get(strategy),
                last_retrain=last_retrain,
                attempts=attempts,
                now=datetime.now(UTC),
                policy=monitoring.retraining,
            )
            notes.append(f"{strategy}: {decision.reason}")
            if decision.advance_cursor:
                acted[strategy] = version
            if decision.retrain:
                tags = {
                    "quant/trigger": "drift",
                    "quant/strategy": strategy,
                    "quant/reason": decision.reason,
                    "quant/drift_report": version,
                }
                requests.append(
                    dg.RunRequest(
                        run_key=f"{strategy}:{decision.run_key}",
                        asset_selection=run_keys(lineage, strategy),
                        tags=tags,
                    )
                )
        return _answer(requests, notes, acted)

    return drift_retraining


def retraining_runs(instance: dg.DagsterInstance, strategy: str, version: str) -> tuple[datetime | None, int]:
    """When drift last retrained a strategy, and how often this very report was tried and failed.

    Read from runs by tag, not from the sensor's cursor: it survives a cursor reset and counts what really ran.
    """
    tags = {"quant/trigger": "drift", "quant/strategy": strategy}
    records = instance.get_run_records(dg.RunsFilter(tags=tags), limit=100)
    last = max((record.create_timestamp for record in records), default=None)
    failed = [
        record
        for record in records
        if record.dagster_run.tags.get("quant/drift_report") == version
        and record.dagster_run.status in FAILED
    ]
    return last.replace(tzinfo=last.tzinfo or UTC) if last else None, len(failed)


def _answer(requests: list[dg.RunRequest], notes: list[str], cursor: Mapping[str, Any]) -> dg.SensorResult:
    written = json.dumps(cursor, sort_keys=True)
    if not requests:
        return dg.SensorResult(skip_reason="; ".join(notes), cursor=written)
    return dg.SensorResult(run_requests=requests, cursor=written)


def _run_outcomes() -> dg.SensorDefinition:
    @dg.run_failure_sensor(
        name="run_outcomes",
        default_status=sensor_status("run_outcomes"),
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        description="Tells a run that a gate refused from a broken one: a tag for both, an error for the latter.",
    )
    def run_outcomes(context: dg.RunFailureSensorContext) -> None:
        """A refusal is a result, and pages nobody."""
        run = context.dagster_run
        outcome = tag_outcome(context.instance, run.run_id, context.get_step_failure_events()) or "broken"
        said = context.log.error if outcome == "broken" else context.log.info
        said(f"run {run.run_id[:8]} of {run.job_name}: {outcome}")

    return run_outcomes


# ---------------------------------------------------------------------------------------- who is in charge


def _champion_agreement(lineage: Lineage) -> dg.SensorDefinition:
    @dg.sensor(
        name="champion_agreement",
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status("champion_agreement"),
        asset_selection=_unpartitioned(lineage),
        description="Has the champion made and checked again when its alias or the promotion ledger changed.",
    )
    def champion_agreement(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
        from quant_assets.registry.champion import ledger_state

        seen: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        requests, notes = [], []
        for strategy in sorted(lineage.settings.strategies):
            state, reasons = ledger_state(home.place, strategy)
            said = "; ".join(reasons) or "ledger and registry agree"
            notes.append(f"{strategy}: {said}")
            if reasons:  # a failed check reports it; the log says it at every tick
                context.log.error(notes[-1])
            if seen.get(strategy, "") != state:
                seen[strategy] = state
                tags = {
                    "quant/trigger": "champion_agreement",
                    "quant/strategy": strategy,
                    "quant/reason": said,
                }
                key = dg.AssetKey([strategy, "champion"])
                requests.append(dg.RunRequest(asset_selection=[key], tags=tags))
        return _answer(requests, notes, seen)

    return champion_agreement


# ---------------------------------------------------------------------------------------- what went stale


class _Loading(LoadingContext):
    """What the resolver of staleness loads events through.

    Dagster 1.13 shows staleness in its UI and has no public call that asks for it: the one private import of the
    package is in this module, and `test_staleness` says what is relied on.
    """

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


def node_key(key: dg.AssetKey) -> Key:
    """The key of an asset as the lineage writes it."""
    owner, name = key.path
    return owner, name


def _reconcile(lineage: Lineage) -> dg.SensorDefinition:
    parents = {key: node.parents for key, node in lineage.nodes.items()}

    @dg.sensor(
        name="reconcile",
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status("reconcile"),
        asset_selection=_unpartitioned(lineage),
        description="Materialises what is stale, level-triggered: a change that an edge missed is not lost.",
    )
    def reconcile(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        running = dg.RunsFilter(tags={"quant/trigger": "reconcile"}, statuses=IN_FLIGHT)
        if context.instance.get_run_records(running, limit=1):
            return dg.SkipReason("a reconciling run is in flight")
        requests = []
        taken: set[dg.AssetKey] = set()
        for strategy in sorted(lineage.settings.strategies):
            keys = run_keys(lineage, strategy)
            state = lineage_state(context.instance, lineage, strategy)
            if state is None:
                continue  # nothing to reconcile against: the universe was never materialised
            # Strategies of one universe share its assets, and the first of them makes them for all.
            mine = [key for key in keys if key not in taken]
            taken.update(keys)
            graph = context.repository_def.asset_graph if context.repository_def else None
            if graph is not None:
                stale = {node_key(key) for key in stale_assets(context.instance, graph, keys)}
                waiting = waiting_keys(parents, stale, [node_key(key) for key in mine])
                mine = [key for key in mine if node_key(key) not in waiting]
            # A change takes several runs to reach the end, each of which makes what is stale and has settled
            # inputs. One attempt per state of the lineage: each step is a new state, a failure is none.
            requests.append(
                dg.RunRequest(
                    run_key=f"reconcile:{strategy}:{state}",
                    asset_selection=mine,
                    stale_assets_only=True,
                    tags={"quant/trigger": "reconcile", "quant/strategy": strategy},
                )
            )
        return dg.SensorResult(run_requests=requests)

    return reconcile


def lineage_state(instance: dg.DagsterInstance, lineage: Lineage, strategy: str) -> str | None:
    """Digest of the versions of all raw years, and of the code and the newest run of every asset behind them.

    None while a raw year is missing. As long as it is the same, a run would do the same again.
    """
    parts = []
    for node in lineage.of(strategy):
        if node.partitions is not None:
            for year in node.partitions:
                event = latest_event(instance, asset_key(node.key), year)
                if event is None:
                    return None
                parts.append(data_version(event))
        else:
            record = record_at(instance, asset_key(node.key), None)
            parts += [record.run_id if record else "", node.code_version]
    return combined_fingerprint(parts)


# ---------------------------------------------------------------------------------------- new bars


def _new_bars(lineage: Lineage, raw_jobs: list[Any]) -> dg.SensorDefinition:
    nodes = partitioned(lineage)

    @dg.sensor(
        name="new_bars",
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status("new_bars"),
        jobs=list(raw_jobs),
        description="Asks for the years whose bars the source gives differently now, and for no other.",
    )
    def new_bars(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        # {universe: {"state": identity of the source, "versions": {year: version}}}: what was read, so that an
        # unchanged file is not read again, also after a restart. What to do is decided anew from the event log.
        memory: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
        remembered = {node.key[0]: memory[node.key[0]] for node in nodes if node.key[0] in memory}
        requests: list[dg.RunRequest] = []
        notes = []
        for node in nodes:
            name, universe = node.key[0], node.scope.bars
            try:
                versions = remembered_versions(universe, remembered, node.code_version)
            except (QuantAssetsError, OSError) as error:
                # Shown in the tick; what was known of this and other universes stays, and the next tick tries again.
                notes.append(f"{name}: the source cannot be read: {error}")
                context.log.warning(notes[-1])
                continue
            known = _known_years(context.instance, node)
            wanted, note = decide(name, versions, known, _failed_runs(context.instance, name))
            notes.append(note)
            requests += [
                dg.RunRequest(
                    run_key=request.run_key,
                    job_name=raw_years_job(name),
                    partition_key=request.year,
                    tags={
                        "quant/trigger": "new_bars",
                        "quant/universe": name,
                        "quant/reason": request.reason,
                        "quant/content": request.version,
                    },
                )
                for request in wanted
            ]
        return _answer(requests, notes, remembered)

    return new_bars


def _known_years(instance: dg.DagsterInstance, node: Node) -> dict[str, KnownYear]:
    """The newest vintage of each year that was ever materialised."""
    known = {}
    for year in node.partitions or ():
        record = record_at(instance, asset_key(node.key), year)
        if record is not None:
            known[year] = KnownYear(content_of(event_of(record)), record.run_id)
    return known


def _failed_runs(instance: dg.DagsterInstance, universe: str) -> dict[tuple[str, str], int]:
    """How many runs that this sensor asked for have failed, by year and content."""
    tags = {"quant/trigger": "new_bars", "quant/universe": universe}
    counts: dict[tuple[str, str], int] = {}
    for record in instance.get_run_records(dg.RunsFilter(tags=tags, statuses=FAILED), limit=100):
        found = record.dagster_run.tags
        key = (found.get("dagster/partition", ""), found.get("quant/content", ""))
        counts[key] = counts.get(key, 0) + 1
    return counts
