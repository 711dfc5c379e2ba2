"""A new asset, gate or bar rule is one object: it is made, checked, reconciled, shown and asked for by itself."""

from collections.abc import Iterator

import dagster as dg
import pytest

from quant_assets import gates
from quant_assets.common.errors import ConfigurationError
from quant_assets.defs.assets import required_checks
from quant_assets.defs.checks import run_checks
from quant_assets.defs.sensors import lineage_state, run_keys, stale_assets
from quant_assets.gates import GateReport
from quant_assets.lineage import Product, Stage, register, run, unregister
from quant_assets.lineage.graph import stages_table
from quant_assets.market import rules
from quant_assets_tests.e2e.extra_stage import ROW_COUNT
from quant_assets_tests.e2e.lineage import Lineage
from quant_assets_tests.gates.extra_gates import TURNOVER
from quant_assets_tests.market.test_bar_rule import TOO_DEAR

ASSET = dg.AssetKey(["noise", "row_count"])
RULE = dg.AssetCheckKey(dg.AssetKey(["noise_market", "quarantined_bars"]), TOO_DEAR.name)
GATE = dg.AssetCheckKey(dg.AssetKey(["noise", "validation_report"]), TURNOVER.name)


@pytest.fixture
def extended(lineage: Lineage) -> Iterator[Lineage]:
    """The lineage with one asset, one gate and one bar rule more. Nothing else is told of them."""
    register(ROW_COUNT)
    gates.register(TURNOVER)
    rules.register(TOO_DEAR)
    try:
        lineage.reload()
        yield lineage
    finally:
        unregister(ROW_COUNT.name)
        gates.unregister(TURNOVER.name)
        rules.unregister(TOO_DEAR)


def test_one_object_each_shows_in_run_job_reconcile_check_report_and_docs(extended: Lineage) -> None:
    graph = extended.definitions.resolve_asset_graph()
    # The new asset is missing, and what the new gate and rule shape is stale: code version and limits say so.
    stale = stale_assets(extended.instance, graph, run_keys(extended.graph, "noise"))
    assert {ASSET, GATE.asset_key, RULE.asset_key} <= stale
    assert dg.AssetKey(["noise", "cpcv_predictions"]) not in stale
    before = lineage_state(extended.instance, extended.graph, "noise")

    # Job and run.
    job = extended.definitions.resolve_job_def("noise")
    assert ASSET in job.asset_layer.selected_asset_keys
    (outcome,) = extended.run("noise")
    assert extended.event("noise", "row_count") is not None
    assert lineage_state(extended.instance, extended.graph, "noise") != before

    # Check, as CI runs it, and what promotion asks for.
    results = {(r.asset, r.check): r for r in run_checks(
        extended.definitions, extended.graph, ["noise"], extended.instance
    ).results}  # fmt: skip
    assert results["noise/row_count", "enough_rows"].outcome == "passed"
    assert (GATE.asset_key.to_user_string(), GATE.name) in results
    assert (RULE.asset_key.to_user_string(), RULE.name) in results
    assert GATE in required_checks(extended.graph, ("noise", "promotion"))

    # Report.
    assert TURNOVER.name in {v.gate for v in outcome.verdicts}
    report = GateReport.from_json(extended.artifact("noise", "validation_report").json())
    assert TURNOVER.limit.key in report.limits
    assert TURNOVER.title in extended.artifact("noise", "tear_sheet").text()

    # Docs.
    assert "`row_count`" in stages_table()
    assert TURNOVER.name in gates.gates_table()
    assert TOO_DEAR.name in rules.rules_table()

    # And nothing is left to reconcile but what a refused candidate never has.
    left = stale_assets(extended.instance, graph, run_keys(extended.graph, "noise"))
    assert {key.path[-1] for key in left} <= {"promotion", "champion", "holdout_report"}


def test_a_plain_run_makes_it_too(extended: Lineage) -> None:
    made = run("noise", extended.settings, "row_count", home=extended.home, checks=True)
    assert made.artifact("row_count").json()["rows"] > 100
    assert [r.passed for r in made.checks["noise", "row_count"]] == [True]


def test_an_asset_that_reads_what_does_not_exist_is_refused_with_the_closest_name(lineage: Lineage) -> None:
    def wrong(trainig_set: object) -> Product:
        """One sentence."""
        return Product({})

    register(Stage(name="wrong", function=wrong, group="datasets"))
    try:
        with pytest.raises(ConfigurationError, match=r"parameter 'trainig_set' of 'wrong'.*'training_set'"):
            _ = lineage.graph.nodes
    finally:
        unregister("wrong")


def test_a_configuration_that_does_not_exist_and_a_taken_name_are_refused() -> None:
    def wrong(*, seeds: int) -> Product:
        """One sentence."""
        return Product({})

    with pytest.raises(ConfigurationError, match=r"of stage 'wrong'.*seeds.*did you mean 'seed'"):
        Stage(name="wrong", function=wrong, group="datasets")
    with pytest.raises(ConfigurationError, match=r"a name that no other stage has"):
        register(Stage(name="labels", function=lambda: Product({}), group="datasets"))
    with pytest.raises(ConfigurationError, match=r"group of stage 'wrong'.*did you mean 'datasets'"):
        Stage(name="wrong", function=lambda: Product({}), group="dataset")
