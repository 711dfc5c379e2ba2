"""Reports that decide nothing: made when wanted, complete, reused when nothing changed, absent when not wanted."""

import dagster as dg

from quant_assets.artifacts.runtimes.tournament import winners
from quant_assets.defs.sensors import run_keys
from quant_assets.defs.storage import artifact_of
from quant_assets_tests.e2e.lineage import Lineage, failed_steps, materialised

REPORTS = ["importance_report", "inference_benchmark"]


def test_a_strategy_that_wants_no_reports_has_no_assets_for_them(built: Lineage) -> None:
    names = {key.path[-1] for key in run_keys(built.graph, "edge")}
    assert names.isdisjoint(REPORTS)
    assert not built.definitions.resolve_asset_graph().has(dg.AssetKey(["edge", "importance_report"]))


def test_reports_are_complete_and_reused_when_nothing_changed(lineage: Lineage) -> None:
    lineage.change_strategy("edge", reports={"importance": True, "inference_benchmark": True})
    result = lineage.materialise("edge", REPORTS)
    assert result.success, failed_steps(result)
    assert materialised(result) == set(REPORTS)
    versions = [lineage.version("edge", name) for name in REPORTS]

    page = lineage.event("edge", "importance_report")
    assert page is not None
    assert "<html" in artifact_of(page, lineage.home.store).text()
    race = lineage.event("edge", "inference_benchmark")
    assert race is not None
    record = artifact_of(race, lineage.home.store).json()
    assert set(record["decisions"]) == {"1", "32", "1000", "100000"}
    assert all(winners(record).values()), "every batch size has a runtime that decides as the model does"

    again = lineage.materialise("edge", REPORTS)
    assert again.success
    assert [lineage.version("edge", name) for name in REPORTS] == versions, "a measurement is not repeated"
