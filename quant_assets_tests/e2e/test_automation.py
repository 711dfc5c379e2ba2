"""Sensors on a real instance: drift becomes one run request with its reasons, staleness one reconciling run."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from quant_assets.common.errors import ConfigurationError
from quant_assets.defs.sensors import retraining_runs, sensor_status
from quant_assets.defs.storage import Home as HomeResource
from quant_assets.lineage.configured import RUNNING
from quant_assets_tests.e2e.lineage import Lineage, edit, lineage_in


def tick(lineage: Lineage, name: str, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    """Evaluate a sensor once, as the daemon does."""
    sensor = lineage.definitions.resolve_sensor_def(name)
    context = dg.build_sensor_context(
        instance=lineage.instance,
        cursor=cursor,
        definitions=lineage.definitions,
        resources={"home": HomeResource(root=lineage.home.root)},
    )
    return sensor(context)


@pytest.fixture(scope="module")
def drifted_folder(built_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The noise market again, with three times the volatility and volume from the first held-out session on."""
    folder = tmp_path_factory.mktemp("drifted") / "copy"
    shutil.copytree(built_folder, folder)
    file = folder / "configs" / "universes" / "noise_market.yaml"
    universe = yaml.safe_load(file.read_text())
    universe["source"]["drift"] = {"start": "2022-03-30", "volatility_factor": 3.0, "volume_factor": 3.0}
    edit(file, universe)
    with lineage_in(folder) as lineage:
        (outcome,) = lineage.run("noise")
    (verdict,) = [v for v in outcome.verdicts if v.gate == "feature_drift"]
    assert verdict.status == "fail"
    return folder


@pytest.fixture
def drifted(drifted_folder: Path, tmp_path: Path) -> Iterator[Lineage]:
    shutil.copytree(drifted_folder, tmp_path / "copy")
    with lineage_in(tmp_path / "copy") as lineage:
        yield lineage


def test_a_market_without_drift_asks_for_no_retraining(lineage: Lineage) -> None:
    result = tick(lineage, "drift_retraining")
    assert isinstance(result, dg.SensorResult)
    assert not result.run_requests
    assert result.skip_reason is not None
    assert "no drift" in str(result.skip_reason.skip_message)


def test_a_drifted_report_becomes_one_run_request_with_its_reasons(drifted: Lineage) -> None:
    result = tick(drifted, "drift_retraining")
    assert isinstance(result, dg.SensorResult)
    (request,) = result.run_requests or []
    version = drifted.version("noise", "drift_report")
    assert request.run_key == f"noise:drift:{version}:1"
    assert request.tags["quant/strategy"] == "noise"
    assert request.tags["quant/drift_report"] == version
    assert "drifted features, an alarm needs 3" in request.tags["quant/reason"]
    asked = {k.to_user_string() for k in request.asset_selection or []}
    assert {"noise/ensemble", "noise/promotion", "noise_market/bars"} <= asked
    assert not any(name.startswith("edge") for name in asked)


def test_the_same_report_is_acted_on_once(drifted: Lineage) -> None:
    first = tick(drifted, "drift_retraining")
    assert isinstance(first, dg.SensorResult)
    second = tick(drifted, "drift_retraining", first.cursor)
    assert isinstance(second, dg.SensorResult)
    assert not second.run_requests
    assert "already acted on" in str(second.skip_reason.skip_message if second.skip_reason else "")


def test_a_recent_drift_run_starts_a_cool_down_that_outlives_the_cursor(drifted: Lineage) -> None:
    tags = {"quant/trigger": "drift", "quant/strategy": "noise", "quant/drift_report": "an earlier one"}
    job = drifted.definitions.resolve_job_def("noise")
    drifted.instance.create_run_for_job(job, tags=tags)
    result = tick(drifted, "drift_retraining", cursor=None)
    assert isinstance(result, dg.SensorResult)
    assert not result.run_requests
    assert "cool-down until" in str(result.skip_reason.skip_message if result.skip_reason else "")
    last, failed = retraining_runs(drifted.instance, "noise", "another")
    assert last is not None
    assert datetime.now(UTC) - last < timedelta(minutes=5)
    assert failed == 0


def test_reconciling_asks_once_per_state_of_the_sources(lineage: Lineage) -> None:
    first, second = tick(lineage, "reconcile"), tick(lineage, "reconcile")
    assert isinstance(first, dg.SensorResult)
    assert isinstance(second, dg.SensorResult)
    keys = [[r.run_key for r in result.run_requests or []] for result in (first, second)]
    assert keys[0] == keys[1]
    assert all(r.stale_assets_only for r in first.run_requests or [])
    assert len(keys[0]) == 2


def test_sensors_run_only_where_an_environment_declares_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sensor_status("drift_retraining") is dg.DefaultSensorStatus.STOPPED
    monkeypatch.setenv("QUANT_ASSETS_ENV", "production")
    assert {n for n in RUNNING["production"] if sensor_status(n) is dg.DefaultSensorStatus.RUNNING} == {
        "automation", "champion_agreement", "drift_retraining", "new_bars", "reconcile", "run_outcomes",
    }  # fmt: skip
    monkeypatch.setenv("QUANT_ASSETS_ENV", "prod")
    with pytest.raises(ConfigurationError, match="development, staging, production"):
        sensor_status("reconcile")
