"""What people wait for comes first: a run makes everything behind the verdicts before whatever else is ready."""

from pathlib import Path

import pytest

from quant_assets.defs.assets import asset_of
from quant_assets.defs.checks import checks_of
from quant_assets.lineage import Lineage, load_settings

LINEAGE = Lineage(load_settings(Path(__file__).resolve().parents[2] / "configs", Path("none")))


def priority_of(name: str) -> str:
    return asset_of(LINEAGE.nodes["planted_edge", name], LINEAGE).op.tags["dagster/priority"]


@pytest.mark.parametrize("name", ["training_set", "lightgbm", "ensemble", "cpcv_paths", "validation_report"])
def test_what_stands_behind_a_verdict_comes_first(name):
    assert priority_of(name) == "1"


@pytest.mark.parametrize(
    "name",
    ["importance_report", "leakage_report", "inference_benchmark", "walk_forward", "tear_sheet", "promotion"],
)
def test_what_no_verdict_waits_for_comes_after(name):
    assert priority_of(name) == "0"


def test_the_gates_are_judged_as_early_as_their_report():
    (gates,) = checks_of(LINEAGE.nodes["planted_edge", "validation_report"], LINEAGE)
    assert gates.op.tags["dagster/priority"] == "1"
    (leakage,) = checks_of(LINEAGE.nodes["planted_edge", "leakage_report"], LINEAGE)
    assert leakage.op.tags["dagster/priority"] == "0"
