"""The lineage end to end: verdicts, reuse, versions, staleness, recovery."""

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest

from quant_assets.defs.storage import artifact_of
from quant_assets.gates.gate import gate_names
from quant_assets_tests.e2e.lineage import Lineage, lineage_in, materialised

SHARED = ("bars", "technical_features")
DETERMINISTIC = (
    "labels", "training_set", "scored_rows", "lightgbm", "xgboost", "ensemble", "cpcv_predictions", "cpcv_paths",
    "validation_report", "walk_forward", "walk_forward_report", "onnx_fp32", "onnx_int8", "parity_report", "bundle",
    "drift_baseline", "drift_report",
)  # fmt: skip


def test_the_edge_is_promoted_and_the_noise_refused_with_one_verdict_per_gate(lineage: Lineage) -> None:
    outcomes = lineage.run("edge", "noise")
    assert [o.decision for o in outcomes] == ["promoted", "refused"]
    for outcome in outcomes:
        assert [v.gate for v in outcome.verdicts] == list(gate_names())
        assert outcome.tear_sheet is not None
        assert outcome.tear_sheet.stat().st_size > 10_000
    assert lineage.champion("edge") == lineage.version("edge", "ensemble")
    assert lineage.champion("noise") is None
    assert any("cpcv_sharpe" in reason for reason in outcomes[1].reasons)


@pytest.mark.drill
def test_a_second_run_recomputes_nothing_and_gives_the_same_versions(lineage: Lineage) -> None:
    keys = sorted(
        (
            k
            for k in lineage.definitions.resolve_asset_graph().get_all_asset_keys()
            if k.path[-1] != "raw_bars"
        ),
        key=str,
    )
    before = {k: e for k in keys if (e := lineage.event(*k.path))}
    lineage.run("edge", "noise")
    for key, known in before.items():
        event = lineage.event(*key.path)
        assert event is not None
        # What is settled is not run at all; promotion and what follows it is asked each time.
        assert event == known or event.metadata["reused"].value is True, key
        assert (event.tags or {})["dagster/data_version"] == (known.tags or {})["dagster/data_version"], key


@pytest.mark.drill
def test_another_folder_and_process_gives_the_same_versions(
    built: Lineage, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with lineage_in(tmp_path_factory.mktemp("elsewhere")) as other:
        other.run("edge")
        for name in SHARED:
            assert other.version("edge_market", name) == built.version("edge_market", name), name
        for name in DETERMINISTIC:
            assert other.version("edge", name) == built.version("edge", name), name


@pytest.mark.drill
def test_a_changed_label_horizon_recomputes_what_depends_on_it_and_nothing_else(lineage: Lineage) -> None:
    lineage.change_strategy("noise", label={"horizon_sessions": 3})
    lineage.run("noise")
    reused = {name: lineage.event("noise_market", name).metadata["reused"].value for name in SHARED}  # type: ignore[union-attr]
    assert reused == {"bars": True, "technical_features": True}
    for name in ("labels", "training_set", "cpcv_predictions", "drift_baseline"):
        event = lineage.event("noise", name)
        assert event is not None
        assert event.metadata["reused"].value is False, name


def test_a_configuration_change_shows_as_stale_as_soon_as_the_code_location_reloads(lineage: Lineage) -> None:
    key = dg.AssetKey(["noise", "labels"])
    assert stale_status(lineage, key) == "FRESH"
    lineage.change_strategy("noise", label={"horizon_sessions": 3})
    assert stale_status(lineage, key) == "STALE"
    assert stale_status(lineage, dg.AssetKey(["edge", "labels"])) == "FRESH"


def test_a_limit_change_shows_as_stale_on_the_report_and_not_on_the_model(lineage: Lineage) -> None:
    lineage.change_strategy("noise", gates={"sharpe_min": 2.0})
    assert stale_status(lineage, dg.AssetKey(["noise", "validation_report"])) == "STALE"
    assert stale_status(lineage, dg.AssetKey(["noise", "ensemble"])) == "FRESH"


def stale_status(lineage: Lineage, key: dg.AssetKey) -> str:
    """What the UI shows: FRESH, STALE ("Unsynced") or MISSING."""
    graph = lineage.definitions.resolve_asset_graph()
    context = LoadingContextForTest(lineage.instance)
    return CachingStaleStatusResolver(lineage.instance, graph, context).get_status(key).value


def test_a_damaged_object_is_made_again_with_the_same_bytes(lineage: Lineage) -> None:
    event = lineage.event("noise", "labels")
    assert event is not None
    sha256 = str(event.metadata["quant/object"].value)
    path = lineage.home.store.path(sha256)
    path.write_bytes(path.read_bytes()[:100])
    assert lineage.materialise("noise", ["labels"]).success
    assert lineage.home.store.intact(sha256)
    assert lineage.version("noise", "labels") == artifact_of(event, lineage.home.store).version


def test_each_year_is_a_partition_with_its_own_version(built: Lineage) -> None:
    years = built.settings.universes["edge_market"].years
    versions = {built.version("edge_market", "raw_bars", partition=year) for year in years}
    assert years == ("2017", "2018", "2019", "2020", "2021", "2022")
    assert len(versions) == len(years)


def test_the_two_markets_share_everything_but_the_edge(built: Lineage) -> None:
    assert built.version("edge_market", "bars") != built.version("noise_market", "bars")
    assert built.version("edge", "training_set") != built.version("noise", "training_set")


def test_materialising_without_upstream_says_what_to_materialise_first(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with lineage_in(tmp_path_factory.mktemp("empty")) as empty:
        result = empty.materialise("edge", ["labels"])
        assert not result.success
        assert materialised(result) == set()
        (failure,) = [e for e in result.all_events if e.is_step_failure]
        error = failure.step_failure_data.error
        assert error is not None
        assert "materialise edge_market/bars first" in f"{error.message}{error.cause}"
