"""Automation: thin sensors that gather facts, ask a pure ``decide`` and translate its answer; and the jobs."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.settings import Settings
from quant_assets.defs.calibration import KEY as CALIBRATION
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import DATA_VERSION_TAG, artifact_of, latest_event
from quant_assets.validation.verdicts import GateReport

# Which sensors run by themselves, by QUANT_ASSETS_ENV. An environment that is not named runs none.
RUNNING: Mapping[str, frozenset[str]] = {
    "development": frozenset(),
    "staging": frozenset({"reconcile", "automation"}),
    "production": frozenset({"reconcile", "automation", "drift_retraining"}),
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
    unpartitioned = dg.AssetSelection.all() - dg.AssetSelection.assets(
        *[dg.AssetKey([universe, "raw_bars"]) for universe in settings.universes]
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
                min_features=settings.monitoring.drift.min_drifted_features,
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
        for strategy in strategies:
            versions = source_versions(context.instance, settings, strategy)
            if versions is None:
                continue  # nothing to reconcile against: the universe was never materialised
            # One attempt per state of the sources: an asset that always fails is not tried for ever.
            requests.append(
                dg.RunRequest(
                    run_key=f"reconcile:{strategy}:{versions}",
                    asset_selection=strategy_keys(settings, strategy),
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
    jobs += [
        dg.define_asset_job(
            f"{universe}_raw_bars",
            selection=dg.AssetSelection.assets(dg.AssetKey([universe, "raw_bars"])),
            description="One calendar year of bars from the source.",
        )
        for universe in sorted({config.universe for config in settings.strategies.values()})
    ]
    jobs.append(
        dg.define_asset_job(
            "gate_calibration",
            selection=dg.AssetSelection.assets(CALIBRATION),
            description="How often the gates pass noise, and how often they pass skill.",
        )
    )
    return [drift_retraining, reconcile, automation], jobs


def strategy_keys(settings: Settings, strategy: str) -> list[dg.AssetKey]:
    """Everything between the raw bars and the champion of one strategy, without the raw bars."""
    config = settings.strategies[strategy]
    shared = [[config.universe, name] for name in ("corporate_actions", "bars", "technical_features")]
    own = [[strategy, name] for name in (*STRATEGY_ASSETS, *config.models.learners)]
    return [dg.AssetKey(path) for path in [*shared, *own]]


STRATEGY_ASSETS = (
    "labels", "training_set", "ensemble", "champion", "cpcv_predictions", "cpcv_paths", "trial_ledger",
    "validation_report", "leakage_report", "tear_sheet", "onnx_fp32", "onnx_int8", "parity_report", "bundle",
    "training_record", "promotion", "drift_baseline", "drift_report",
)  # fmt: skip


def source_versions(instance: dg.DagsterInstance, settings: Settings, strategy: str) -> str | None:
    """Digest of the newest versions of all raw partitions, or None while one is missing."""
    from quant_assets.common.hashing import combined_fingerprint

    universe = settings.universe_of(settings.strategies[strategy])
    versions = []
    for year in universe.years:
        event = latest_event(instance, dg.AssetKey([universe.name, "raw_bars"]), year)
        if event is None:
            return None
        versions.append((event.tags or {})[DATA_VERSION_TAG])
    return combined_fingerprint(versions)


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
