"""Automation: thin sensors that gather facts, ask a pure ``decide`` and translate its answer; and the jobs."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.hashing import combined_fingerprint
from quant_assets.defs import features, market, new_bars
from quant_assets.defs.calibration import KEY as CALIBRATION
from quant_assets.defs.resources import Home
from quant_assets.defs.staleness import stale_assets, waiting_assets
from quant_assets.defs.storage import DATA_VERSION_TAG, artifact_of, latest_event
from quant_assets.defs.vintages import record_at
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.settings import Settings

# Which sensors run by themselves, by QUANT_ASSETS_ENV. An environment that is not named runs none.
RUNNING: Mapping[str, frozenset[str]] = {
    "development": frozenset(),
    "staging": frozenset({"new_bars", "reconcile", "automation"}),
    "production": frozenset({"new_bars", "reconcile", "automation", "drift_retraining"}),
}

SENSOR_INTERVAL_SECONDS = 60


def sensor_status(name: str) -> dg.DefaultSensorStatus:
    """Whether a sensor starts running in the declared environment.

    Raises
    ------
    ConfigurationError
        When ``$QUANT_ASSETS_ENV`` names an environment that the table does not know.
    """
    environment = os.environ.get("QUANT_ASSETS_ENV", "development")
    if environment not in RUNNING:
        raise ConfigurationError(
            "environment variable QUANT_ASSETS_ENV",
            expected=f"one of {', '.join(RUNNING)}",
            found=repr(environment),
            action="correct it, or declare the environment in quant_assets/defs/automation.py",
        )
    running = name in RUNNING[environment]
    return dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED


def build(settings: Settings) -> tuple[list[dg.SensorDefinition], list[Any]]:
    """Sensors and jobs of the whole platform."""
    strategies = sorted(settings.strategies)
    universes = sorted({config.universe for config in settings.strategies.values()})  # others have no assets
    unpartitioned = dg.AssetSelection.all() - dg.AssetSelection.assets(
        *[dg.AssetKey([universe, "raw_bars"]) for universe in universes]
    )

    @dg.sensor(
        name="drift_retraining",
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status("drift_retraining"),
        asset_selection=unpartitioned,
        description="Turns a drifted report into one retraining run, with its reasons, after a cool-down.",
    )
    def drift_retraining(context: dg.SensorEvaluationContext, home: Home) -> dg.SensorResult:
        from quant_assets.monitoring.retraining import decide

        acted: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
        requests, notes = [], []
        for strategy in strategies:
            event = latest_event(context.instance, dg.AssetKey([strategy, "drift_report"]), None)
            if event is None:
                notes.append(f"{strategy}: no drift report yet")
                continue
            version = (event.tags or {})[DATA_VERSION_TAG]
            report = GateReport.from_json(artifact_of(event, home.store).json())
            last_retrain, attempts = retraining_runs(context.instance, strategy, version)
            decision = decide(
                drifted_features=sum(bool(row["drifted"]) for row in report.details["features"]),
                min_features=int(settings.monitoring.drift.min_drifted_features),
                report_version=version,
                last_acted_version=acted.get(strategy),
                last_retrain=last_retrain,
                attempts=attempts,
                now=datetime.now(UTC),
                policy=settings.monitoring.retraining,
            )
            notes.append(f"{strategy}: {decision.reason}")
            if decision.advance_cursor:
                acted[strategy] = version
            if decision.retrain:
                requests.append(
                    dg.RunRequest(
                        run_key=f"{strategy}:{decision.run_key}",
                        asset_selection=strategy_keys(settings, strategy),
                        tags={
                            "quant/trigger": "drift",
                            "quant/strategy": strategy,
                            "quant/reason": decision.reason,
                            "quant/drift_report": version,
                        },
                    )
                )
        cursor = json.dumps(acted, sort_keys=True)
        if not requests:
            return dg.SensorResult(skip_reason="; ".join(notes), cursor=cursor)
        return dg.SensorResult(run_requests=requests, cursor=cursor)

    @dg.sensor(
        name="reconcile",
        minimum_interval_seconds=SENSOR_INTERVAL_SECONDS,
        default_status=sensor_status("reconcile"),
        asset_selection=unpartitioned,
        description="Materialises what is stale, level-triggered: a change that an edge missed is not lost.",
    )
    def reconcile(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        in_flight = context.instance.get_run_records(
            dg.RunsFilter(
                tags={"quant/trigger": "reconcile"},
                statuses=[
                    dg.DagsterRunStatus.QUEUED,
                    dg.DagsterRunStatus.STARTING,
                    dg.DagsterRunStatus.STARTED,
                ],
            ),
            limit=1,
        )
        if in_flight:
            return dg.SkipReason("a reconciling run is in flight")
        requests = []
        taken: set[dg.AssetKey] = set()
        for strategy in strategies:
            keys = strategy_keys(settings, strategy)
            state = lineage_state(context, settings, strategy)
            if state is None:
                continue  # nothing to reconcile against: the universe was never materialised
            # Strategies of one universe share its assets, and the first of them makes them for all.
            mine = [key for key in keys if key not in taken]
            taken.update(keys)
            graph = context.repository_def.asset_graph if context.repository_def else None
            if graph is not None:
                stale = stale_assets(context.instance, graph, keys)
                waiting = waiting_assets(graph, stale, mine)
                mine = [key for key in mine if key not in waiting]
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

    automation = dg.AutomationConditionSensorDefinition(
        "automation",
        target=dg.AssetSelection.all(),
        default_status=sensor_status("automation"),
        run_tags={"quant/trigger": "automation"},
    )
    jobs = [
        dg.define_asset_job(
            strategy,
            selection=dg.AssetSelection.assets(*strategy_keys(settings, strategy)),
            tags={"quant/strategy": strategy},
            description=settings.strategies[strategy].description,
        )
        for strategy in strategies
    ]
    raw_jobs = [
        dg.define_asset_job(
            new_bars.raw_bars_job(universe),
            selection=dg.AssetSelection.assets(dg.AssetKey([universe, "raw_bars"])),
            description="One calendar year of bars from the source.",
        )
        for universe in universes
    ]
    jobs.append(
        dg.define_asset_job(
            "gate_calibration",
            selection=dg.AssetSelection.assets(CALIBRATION),
            description="How often the gates pass noise, and how often they pass skill.",
        )
    )
    arrivals = new_bars.build(settings, raw_jobs, sensor_status("new_bars"), SENSOR_INTERVAL_SECONDS)
    return [drift_retraining, reconcile, automation, arrivals], [*jobs, *raw_jobs]


def strategy_keys(settings: Settings, strategy: str) -> list[dg.AssetKey]:
    """Everything between the raw bars and the champion of one strategy, without the raw bars.

    The universe's features come whole, every pack of its strategies, because one report covers them all.
    """
    config = settings.strategies[strategy]
    shared = market.keys(settings.universes[config.universe])
    own = [dg.AssetKey([strategy, name]) for name in (*STRATEGY_ASSETS, *config.models.learners)]
    optional = {
        "tuning": config.tuning is not None,
        "importance_report": config.reports.importance,
        "inference_benchmark": config.reports.inference_benchmark,
    }
    own += [dg.AssetKey([strategy, name]) for name, wanted in optional.items() if wanted]
    return [*shared, *features.keys(settings, config.universe), *own]


STRATEGY_ASSETS = (
    "labels", "training_set", "ensemble", "champion", "cpcv_predictions", "cpcv_paths", "trial_ledger",
    "validation_report", "leakage_report", "tear_sheet", "onnx_fp32", "onnx_int8",
    "parity_report", "bundle", "bundle_signature", "training_record", "promotion", "drift_baseline", "drift_report",
)  # fmt: skip


def lineage_state(context: dg.SensorEvaluationContext, settings: Settings, strategy: str) -> str | None:
    """Digest of the versions of all raw years, and of the code and the newest run of every asset behind them.

    None while a raw year is missing. As long as it is the same, a run would do the same again.
    """
    universe = settings.universe_of(settings.strategies[strategy])
    parts = []
    for year in universe.years:
        event = latest_event(context.instance, dg.AssetKey([universe.name, "raw_bars"]), year)
        if event is None:
            return None
        parts.append((event.tags or {})[DATA_VERSION_TAG])
    graph = context.repository_def.asset_graph if context.repository_def else None
    for key in strategy_keys(settings, strategy):
        record = record_at(context.instance, key, None)
        parts.append(record.run_id if record else "")
        parts.append((graph.get(key).code_version or "") if graph else "")
    return combined_fingerprint(parts)


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
        and record.dagster_run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    ]
    return last.replace(tzinfo=last.tzinfo or UTC) if last else None, len(failed)
