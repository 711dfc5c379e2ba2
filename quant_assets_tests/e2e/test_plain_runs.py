"""The lineage as plain Python gives the versions of Dagster's assets; in a drill for the shipped strategies."""

from pathlib import Path

import dagster as dg
import pytest

from quant_assets.common.errors import ConfigurationError, GateClosedError, StoreError
from quant_assets.common.home import Home
from quant_assets.definitions import build_definitions
from quant_assets.defs.running import QUIET, raw_years_job
from quant_assets.defs.storage import Home as HomeResource
from quant_assets.defs.storage import artifact_of, latest_event
from quant_assets.lineage import Lineage, Run, load_settings, run
from quant_assets.lineage.configured import Settings
from quant_assets.lineage.pipeline import PRODUCT, judge_market
from quant_assets_tests.e2e.lineage import Lineage as Small

SHIPPED = Path(__file__).resolve().parents[2] / "configs"
UPTO = "cpcv_paths"


@pytest.fixture(scope="module")
def plain(built: Small, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A plain run of the lineage that Dagster built, up to its verdicts."""
    return run("edge", built.settings, home=Home(str(tmp_path_factory.mktemp("plain"))))


@pytest.fixture(scope="module")
def orchestrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for Dagster's runs of the shipped strategies: strategies of one universe share its assets."""
    return tmp_path_factory.mktemp("shipped")


def same_stages(plain: Run, settings: Settings, strategy: str) -> None:
    """What the proof of no leakage has on trial gives the assets of a run, bit by bit."""
    config = settings.strategies[strategy]
    universe = settings.universe_of(config)
    bars = plain.table("bars").frame
    features = PRODUCT.features(bars, config)
    assert features.equals(plain.table("technical_features").frame)
    labels = PRODUCT.labels(bars, universe, config)
    assert labels.equals(plain.table("labels").frame)
    training = plain.table("training_set")
    known_by = training.frame["known_at"].max()
    assert PRODUCT.training_set(features, labels, config, known_by).frame.equals(training.frame)  # type: ignore[arg-type]
    traded = PRODUCT.decisions(plain.table("cpcv_predictions").frame, bars, config)
    assert traded.equals(plain.table(UPTO).frame)


def test_a_plain_run_gives_the_data_versions_of_the_orchestrated_one(built: Small, plain: Run) -> None:
    asked = [node for node in built.graph.ancestors(("edge", UPTO)) if node.partitions is None]
    orchestrated = {"/".join(node.key): built.version(*node.key) for node in asked}
    names = {key.split("/")[1] for key in orchestrated}
    assert {"bars", "technical_features", "labels", "training_set", "cpcv_predictions", UPTO} <= names
    assert {key: plain.versions[key] for key in orchestrated} == orchestrated


def test_the_proof_of_no_leakage_runs_through_the_same_stages(built: Small, plain: Run) -> None:
    same_stages(plain, built.settings, "edge")


@pytest.mark.drill
@pytest.mark.parametrize("strategy", ["planted_edge", "pure_noise", "us_tech_daily"])
def test_each_shipped_strategy_in_full_gives_the_same_versions_either_way(
    orchestrated: Path, tmp_path: Path, strategy: str
) -> None:
    settings = load_settings(SHIPPED, orchestrated / "none")
    definitions = build_definitions(settings, HomeResource(root=str(orchestrated)))
    nodes = Lineage(settings).ancestors((strategy, UPTO))
    keys = [dg.AssetKey(list(node.key)) for node in nodes if node.partitions is None]
    chosen = dg.define_asset_job("upto", dg.AssetSelection.assets(*keys).without_checks())
    merged = dg.Definitions.merge(definitions, dg.Definitions(jobs=[chosen]))
    raw = next(node for node in nodes if node.partitions is not None)
    with dg.DagsterInstance.ephemeral() as instance:
        for year in raw.partitions or ():
            job = definitions.resolve_job_def(raw_years_job(raw.key[0]))
            job.execute_in_process(instance=instance, partition_key=year, run_config=QUIET)
        done = merged.resolve_job_def("upto").execute_in_process(instance=instance, run_config=QUIET)
        assert done.success
        store = Home(str(orchestrated)).store
        events = {key: latest_event(instance, key, None) for key in keys}
    plain = run(strategy, settings, UPTO, home=Home(str(tmp_path)))
    found = {key.to_user_string(): artifact_of(e, store).version for key, e in events.items() if e}
    assert len(found) == len(keys)
    assert {key: plain.versions[key] for key in found} == found
    same_stages(plain, settings, strategy)


def test_the_calibrations_market_is_the_lineages_own(built: Small) -> None:
    config = built.settings.strategies["noise"]
    universe = built.settings.universe_of(config)
    report = judge_market(universe, config, built.settings.gates).to_json()
    stored = built.artifact("noise", "validation_report").json()
    assert report["subject"] == stored["subject"] == built.version("noise", "ensemble")
    assert report["verdicts"] == stored["verdicts"]


def test_every_verdict_of_a_plain_run_is_that_of_the_platform(built: Small, plain: Run) -> None:
    for report in built.graph.reports(built.graph.scope("edge")):
        assert plain.artifact(report).version == built.version("edge", report), report
    assert {v.gate for v in plain.verdicts} >= {"cpcv_sharpe", "onnx_parity", "feature_drift"}


def test_a_plain_run_counts_the_trial_that_it_shows(built: Small, tmp_path: Path) -> None:
    home = Home(str(tmp_path))
    first = run("noise", built.settings, "trial_ledger", home=home)
    assert len(first.artifact("trial_ledger").json()["sharpes"]) == 1
    other = built.settings.strategies["noise"].model_copy(update={"seed": 99})
    changed = built.settings.model_copy(update={"strategies": {**built.settings.strategies, "noise": other}})
    second = run("noise", changed, "trial_ledger", home=home)
    assert len(second.artifact("trial_ledger").json()["sharpes"]) == 2


def test_nothing_is_promoted_by_a_plain_run(built: Small) -> None:
    given = {
        name: built.artifact("edge", name)
        for name in (
            "ensemble", "training_record", "bundle", "bundle_signature", "leakage_report",
            *built.graph.reports(built.graph.scope("edge")),
        )
    }  # fmt: skip
    with pytest.raises(GateClosedError, match="a run of the orchestrator"):
        run("edge", built.settings, "promotion", home=built.home, given=given)


def test_unknown_assets_and_strategies_are_answered_with_the_closest(built: Small) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'training_set'"):
        run("noise", built.settings, "trainings_set")
    with pytest.raises(ConfigurationError, match="did you mean 'noise'"):
        run("nois", built.settings)
    made = run("noise", built.settings, "bars", home=built.home)
    with pytest.raises(StoreError, match="did you mean 'bars'"):
        _ = made["bar"]
