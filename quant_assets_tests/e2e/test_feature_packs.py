"""A strategy of two packs, end to end: assets, proofs, manifest, report, and what promotion asks for."""

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest

from quant_assets.common.settings import StrategyConfig
from quant_assets.defs.assets import check_reasons, required_checks
from quant_assets.defs.storage import current
from quant_assets.features import packs
from quant_assets.lineage.artifact import asset_name
from quant_assets.lineage.scope import Scope
from quant_assets_tests.e2e.lineage import Lineage, failed_steps, lineage_in

TWO = ("technical_v1", "stationary_v1")


@pytest.fixture(scope="module")
def two_packs(built_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lineage]:
    """The built lineage with strategy ``edge`` on two packs, as far as its training set and the feature report."""
    folder = tmp_path_factory.mktemp("two_packs") / "copy"
    shutil.copytree(built_folder, folder)
    with lineage_in(folder) as lineage:
        lineage.change_strategy("edge", feature_packs=list(TWO))
        names = ["technical_features", "stationary_features", "feature_report"]
        assert failed_steps(lineage.materialise("edge_market", names)) == {}
        assert failed_steps(lineage.materialise("edge", ["training_set"])) == {}
        yield lineage


def newest(lineage: Lineage, *path: str) -> dg.AssetMaterialization:
    event = lineage.event(*path)
    assert event is not None
    return event


def test_each_pack_is_an_asset_with_its_own_blocking_proof(two_packs: Lineage) -> None:
    graph = two_packs.definitions.resolve_asset_graph()
    for name in ("technical_features", "stationary_features"):
        key = dg.AssetKey(["edge_market", name])
        (check,) = graph.get(key).check_keys
        assert (check.name, graph.get(check).blocking) == ("causality", True)
    # the other universe's strategies use one pack
    assert not graph.has(dg.AssetKey(["noise_market", "stationary_features"]))


def test_the_training_set_holds_the_features_of_both_and_no_masked_row(two_packs: Lineage) -> None:
    training_set = current(
        two_packs.instance, dg.AssetKey(["edge", "training_set"]), two_packs.home.store
    ).table()
    names = json.loads(training_set.metadata["features"])
    assert names == [*packs()["technical_v1"].names, *packs()["stationary_v1"].names]
    assert training_set.frame.select(names).null_count().sum_horizontal().item() == 0


def test_the_manifest_names_every_pack_with_version_and_fingerprint(two_packs: Lineage) -> None:
    manifest = newest(two_packs, "edge", "training_set").metadata["manifest"].value
    assert json.loads(manifest["packs"]) == list(TWO)
    for pack in TWO:
        assert manifest[asset_name(pack)] == two_packs.version("edge_market", asset_name(pack))
        assert manifest[f"{pack}.fingerprint"] == packs()[pack].fingerprint


def test_the_rows_that_were_dropped_are_counted(two_packs: Lineage) -> None:
    training_set = current(
        two_packs.instance, dg.AssetKey(["edge", "training_set"]), two_packs.home.store
    ).table()
    labels = current(two_packs.instance, dg.AssetKey(["edge", "labels"]), two_packs.home.store).table().frame
    known = labels.filter(labels["known_at"] <= datetime.fromisoformat(training_set.metadata["known_by"]))
    dropped = newest(two_packs, "edge", "training_set").metadata["rows_dropped_masked"].value
    assert dropped == known.height - training_set.frame.height > 0
    # every symbol loses its longest warm-up and no more
    assert dropped == 12 * max(packs()[p].warm_up for p in TWO)


def test_the_report_covers_every_pack_in_tables_plots_and_a_file(two_packs: Lineage) -> None:
    metadata = newest(two_packs, "edge_market", "feature_report").metadata
    records = metadata["coverage"].records  # type: ignore[union-attr]
    assert {r.data["pack"] for r in records} == set(TWO)
    assert len(records) == sum(len(packs()[p].names) for p in TWO)
    for name in ("coverage", "distributions", "correlation", "stationarity"):
        assert str(metadata[f"{name}_plot"].value).startswith(f"![{name}](data:image/png;base64,")
    report = current(two_packs.instance, dg.AssetKey(["edge_market", "feature_report"]), two_packs.home.store)
    assert Path(str(metadata["file"].value)).read_text(encoding="utf-8") == report.text()


def test_the_drift_report_reads_both_packs(two_packs: Lineage) -> None:
    node = two_packs.definitions.resolve_asset_graph().get(dg.AssetKey(["edge", "drift_report"]))
    parents = {key.path[-1] for key in node.parent_keys}
    assert {"technical_features", "stationary_features"} < parents


def test_promotion_is_refused_while_the_second_packs_proof_is_missing(two_packs: Lineage) -> None:
    checks = required_checks(two_packs.graph, ("edge", "promotion"))
    second = dg.AssetCheckKey(dg.AssetKey(["edge_market", "stationary_features"]), "causality")
    proofs = [check for check in checks if check.name == "causality"]
    first = dg.AssetCheckKey(dg.AssetKey(["edge_market", "technical_features"]), "causality")
    assert sorted(proofs) == sorted([first, second])
    assert check_reasons(two_packs.instance, proofs) == ()
    assert two_packs.materialise("edge_market", ["stationary_features"], checks=False).success
    (reason,) = check_reasons(two_packs.instance, proofs)
    assert reason == "causality on edge_market/stationary_features: evaluated an older materialization"
    two_packs.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(asset_key=second.asset_key, check_name=second.name, passed=False)
    )
    assert len(check_reasons(two_packs.instance, proofs)) == 1


@pytest.mark.parametrize("state", ["missing", "failed"])
def test_the_body_of_promotion_refuses_a_second_pack_whose_proof_is(lineage: Lineage, state: str) -> None:
    """Everything else about ``edge`` passed and was promoted; only the packs it uses have changed."""
    assert lineage.materialise("edge", ["promotion"]).success
    lineage.change_strategy("edge", feature_packs=list(TWO))
    assert lineage.materialise("edge_market", ["stationary_features"], checks=False).success
    if state == "failed":
        fail_causality(lineage, "stationary_features")
    result = lineage.materialise("edge", ["promotion"])
    assert not result.success
    (said,) = failed_steps(result).values()
    expected = {"missing": "the check never ran", "failed": "did not pass (a leak was planted)"}[state]
    assert f"causality on edge_market/stationary_features: {expected}" in said
    assert "technical_features" not in said


def fail_causality(lineage: Lineage, name: str) -> None:
    """A run in which the proof of these features, on their newest version, fails."""

    @dg.asset_check(asset=dg.AssetKey(["edge_market", name]), name="causality")
    def causality() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, description="a leak was planted")

    job = dg.define_asset_job("proof", dg.AssetSelection.checks(causality))
    definitions = dg.Definitions(asset_checks=[causality], jobs=[job])
    assert definitions.resolve_job_def("proof").execute_in_process(instance=lineage.instance).success


def test_versions_of_a_pack_have_names_of_their_own() -> None:
    names = {p: asset_name(p) for p in ("technical_v1", "technical_v2", "cross_sectional_v1")}
    assert names == {
        "technical_v1": "technical_features",
        "technical_v2": "technical_v2_features",
        "cross_sectional_v1": "cross_sectional_features",
    }


def test_a_universe_has_the_packs_of_all_its_strategies_once(two_packs: Lineage) -> None:
    settings = two_packs.settings
    other = StrategyConfig(name="other", universe="edge_market", feature_packs=("cross_sectional_v1", TWO[0]))
    both = settings.model_copy(update={"strategies": {**settings.strategies, "other": other}})
    used = {name: Scope(both, universe).packs for name, universe in both.universes.items()}
    assert used["edge_market"] == ("cross_sectional_v1", "stationary_v1", "technical_v1")
    assert used["noise_market"] == ("technical_v1",)
