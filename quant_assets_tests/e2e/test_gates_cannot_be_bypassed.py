"""Every way around a gate, tried on real runs: the champion alias must not move."""

from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from quant_assets.defs.running import QUIET
from quant_assets.gates.cases import WalkForwardCase
from quant_assets.gates.gate import KINDS, gate_names, gates_of
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.lineage.stages.evidence_stages import beside_the_paths
from quant_assets_tests.e2e.lineage import Lineage, failed_steps, materialised

REPORTS = ["validation_report", "walk_forward_report", "parity_report", "drift_report"]


def refusal(lineage: Lineage, strategy: str = "edge") -> str:
    """Materialise ``promotion`` alone, which must fail, and return what it said."""
    result = lineage.materialise(strategy, ["promotion"])
    assert not result.success
    assert "promotion" not in materialised(result)
    (message,) = failed_steps(result).values()
    return message


def retrain(lineage: Lineage) -> None:
    """Make another candidate with all of its evidence, and do not promote it."""
    lineage.change_strategy("edge", seed=8)
    everything = [
        "labels", "training_set", "lightgbm", "xgboost", "ensemble", "cpcv_predictions", "cpcv_paths",
        "trial_ledger", "walk_forward", "tear_sheet", "onnx_fp32", "onnx_int8", "bundle", "bundle_signature",
        "training_record", "drift_baseline",
    ]  # fmt: skip
    assert lineage.materialise("edge", everything).success


def test_the_same_run_stops_before_promotion_when_a_blocking_check_fails(lineage: Lineage) -> None:
    result = lineage.materialise("noise", [*REPORTS, "promotion"])
    assert not result.success
    assert "promotion" not in materialised(result)
    assert lineage.champion("noise") is None


def test_a_refused_candidate_has_every_report_its_tear_sheet_and_its_record(built: Lineage) -> None:
    for name in (*REPORTS, "tear_sheet", "training_record", "bundle"):
        assert built.event("noise", name) is not None, name
    assert built.event("noise", "promotion") is None
    assert built.event("noise", "champion") is None
    assert built.event("noise", "holdout_report") is None


def test_a_later_run_of_promotion_alone_is_refused_in_its_body_with_every_reason(lineage: Lineage) -> None:
    said = refusal(lineage, "noise")
    for gate in ("cpcv_sharpe", "cpcv_probabilistic_sharpe", "cpcv_deflated_sharpe"):
        assert gate in said
    assert lineage.champion("noise") is None


def test_the_refusal_is_in_the_hash_chained_ledger(built: Lineage) -> None:
    ledger = PromotionLedger(built.home.promotion_ledger)
    ledger.verify()
    (entry,) = ledger.entries("noise")
    assert entry.action == "refused"
    assert any("cpcv_sharpe" in reason for reason in entry.reasons)


def test_eager_automation_asks_for_promotion_and_the_body_refuses(lineage: Lineage) -> None:
    """`eager()` alone requests an asset downstream of a failed check; only the body stands in its way."""
    key = dg.AssetKey(["noise", "promotion"])

    def eagerly(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(automation_condition=dg.AutomationCondition.eager())

    assets = [a for a in lineage.definitions.assets or [] if isinstance(a, dg.AssetsDefinition)]
    eager = dg.Definitions(
        [a.map_asset_specs(eagerly) if key in a.keys else a for a in assets],
        resources=lineage.definitions.resources,
    )
    first = dg.evaluate_automation_conditions(defs=eager, instance=lineage.instance)
    lineage.materialise("noise", ["validation_report"], checks=False)
    second = dg.evaluate_automation_conditions(defs=eager, instance=lineage.instance, cursor=first.cursor)
    assert second.get_requested_partitions(key) == {None}
    assert "cpcv_sharpe" in refusal(lineage, "noise")


def test_our_automation_condition_does_not_ask_for_promotion_over_a_failed_check(lineage: Lineage) -> None:
    first = dg.evaluate_automation_conditions(defs=lineage.definitions, instance=lineage.instance)
    lineage.materialise("noise", REPORTS)
    second = dg.evaluate_automation_conditions(
        defs=lineage.definitions, instance=lineage.instance, cursor=first.cursor
    )
    assert second.get_requested_partitions(dg.AssetKey(["noise", "promotion"])) == set()


def test_the_holdout_is_shown_once_it_was_decided_and_every_look_is_in_the_ledger(lineage: Lineage) -> None:
    ledger = PromotionLedger(lineage.home.promotion_ledger)
    actions = [(entry.strategy, entry.action) for entry in ledger.entries()]
    assert actions == [("edge", "promoted"), ("edge", "shown"), ("noise", "refused")]
    assert "First look at these sessions" in lineage.artifact("edge", "holdout_report").text()

    assert lineage.materialise("edge", ["promotion", "champion", "holdout_report"]).success
    assert len(ledger.entries()) == 3  # the same look again is no other one

    lineage.change_strategy("edge", portfolio={"gross_leverage": 0.5})
    said = " ".join(failed_steps(lineage.materialise("edge", ["holdout_report"])).values())
    assert "found others: portfolio, configuration" in said
    assert len(ledger.entries()) == 3
    lineage.change_strategy("edge", portfolio={})

    for strategy in ("noise", "edge"):
        if strategy == "edge":
            retrain(lineage)  # a candidate that nobody has decided about
        result = lineage.materialise(strategy, ["holdout_report"])
        assert not result.success
        assert "holdout_report" not in materialised(result)
    assert "a promotion of the candidate" in " ".join(failed_steps(result).values())
    assert len(ledger.entries()) == 3


def test_what_comes_two_hops_after_a_gate_finds_no_promotion_to_stand_on(lineage: Lineage) -> None:
    result = lineage.materialise("noise", ["champion"])
    assert not result.success
    assert "noise/promotion" in " ".join(failed_steps(result).values())


@pytest.mark.parametrize("report", REPORTS)
def test_a_check_that_never_ran_on_the_newest_report_closes_the_gate(lineage: Lineage, report: str) -> None:
    assert lineage.materialise("edge", ["promotion"]).success  # open before
    lineage.materialise("edge", [report], checks=False)
    assert "evaluated an older materialization" in refusal(lineage)


def test_checks_that_never_ran_at_all_close_the_gate(lineage: Lineage) -> None:
    for report, gates in zip(REPORTS, map(gate_names, KINDS), strict=True):
        lineage.instance.wipe_assets([dg.AssetKey(["edge", report])])
        lineage.materialise("edge", [report], checks=False)
        assert gates
    said = refusal(lineage)
    assert "never ran" in said or "evaluated an older materialization" in said


def test_a_check_that_crashed_closes_the_gate(lineage: Lineage) -> None:
    event = lineage.event("edge", "parity_report")
    assert event is not None
    object_path = Path(str(lineage.home.store.path(str(event.metadata["quant/object"].value))))
    whole = object_path.read_bytes()
    object_path.write_bytes(whole[: len(whole) // 2])
    job = dg.define_asset_job(
        "checks_only",
        dg.AssetSelection.checks(*[dg.AssetCheckKey(event.asset_key, gate) for gate in gate_names("parity")]),
    )
    definitions = dg.Definitions.merge(lineage.definitions, dg.Definitions(jobs=[job]))
    crashed = definitions.resolve_job_def("checks_only").execute_in_process(
        instance=lineage.instance, run_config=QUIET, raise_on_error=False
    )
    assert not crashed.success
    object_path.write_bytes(whole)
    assert "the check crashed or has not finished" in refusal(lineage)


def test_a_check_result_reported_from_outside_does_not_open_the_gate(lineage: Lineage) -> None:
    lineage.instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(["noise", "validation_report"]), check_name="cpcv_sharpe", passed=True
        )
    )
    assert "cpcv_sharpe" in refusal(lineage, "noise")


def test_a_failed_check_of_severity_warn_closes_the_gate_too(lineage: Lineage) -> None:
    key = dg.AssetKey(["edge", "validation_report"])
    event = lineage.event("edge", "validation_report")
    assert event is not None

    @dg.asset_check(asset=key, name="cpcv_sharpe", blocking=True)
    def warn() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)

    definitions = dg.Definitions(
        assets=[dg.AssetSpec(key)],
        asset_checks=[warn],
        jobs=[dg.define_asset_job("warn", dg.AssetSelection.checks(warn))],
    )
    assert definitions.resolve_job_def("warn").execute_in_process(instance=lineage.instance).success
    assert "cpcv_sharpe on edge/validation_report" in refusal(lineage)


def test_a_new_model_cannot_use_the_verdicts_of_the_old_one(lineage: Lineage) -> None:
    before = lineage.champion("edge")
    lineage.change_strategy("edge", seed=8)
    assert lineage.materialise("edge", ["lightgbm", "xgboost", "ensemble"]).success
    said = refusal(lineage)
    assert "training record: made from another model version" in said
    assert "validation report: judged another model version" in said
    assert lineage.champion("edge") == before


def test_a_new_model_cannot_be_judged_by_the_paths_of_the_old_one(lineage: Lineage) -> None:
    lineage.change_strategy("edge", seed=8)
    assert lineage.materialise("edge", ["lightgbm", "xgboost", "ensemble"]).success
    result = lineage.materialise("edge", ["validation_report"])
    assert not result.success
    assert "evidence of recipe" in " ".join(failed_steps(result).values())


def test_a_new_model_cannot_use_the_walk_forward_track_of_the_old_one(lineage: Lineage) -> None:
    lineage.change_strategy("edge", seed=8)
    assert lineage.materialise(
        "edge", ["lightgbm", "xgboost", "ensemble", "cpcv_predictions", "cpcv_paths"]
    ).success
    result = lineage.materialise("edge", ["walk_forward_report"])
    assert not result.success
    assert "evidence of recipe" in " ".join(failed_steps(result).values())


def test_a_track_far_below_the_paths_closes_the_gate(lineage: Lineage) -> None:
    track = lineage.artifact("edge", "walk_forward").table().frame
    paths = lineage.artifact("edge", "cpcv_paths").table().frame
    days = track["session"].tail(400)
    known = beside_the_paths(track.filter(pl.col("session").is_in(days.implode())), paths, 252.0)
    poor = track.with_columns(net_return=pl.col("net_return") - 0.004).filter(
        pl.col("session").is_in(days.implode())
    )
    below = beside_the_paths(poor, paths, 252.0)
    judged = [
        gate.judge(WalkForwardCase("m" * 64, lineage.settings.gates, found)).status
        for gate in gates_of("walk_forward")
        for found in (known, below)
    ]
    assert judged == ["pass", "fail"]


def test_a_graph_of_the_old_model_does_not_pass_parity_for_the_new_one(lineage: Lineage) -> None:
    lineage.change_strategy("edge", seed=8)
    assert lineage.materialise("edge", ["lightgbm", "xgboost", "ensemble"]).success
    result = lineage.materialise("edge", ["parity_report"])
    assert not result.success


def test_a_report_judged_under_other_limits_than_those_in_force_is_refused(lineage: Lineage) -> None:
    gates = lineage.configs / "gates.yaml"
    shipped = gates.read_text()
    gates.write_text(shipped.replace("sharpe_min: 1.2", "sharpe_min: 1.25"))
    lineage.reload()
    assert "judged under other limits than those in force" in refusal(lineage)


def test_trials_evaluated_after_the_report_must_be_counted_first(lineage: Lineage) -> None:
    report = lineage.event("edge", "validation_report")
    retrain(lineage)  # one more trial in the ledger, for a candidate that is not judged
    ledger = lineage.event("edge", "trial_ledger")
    assert report is not None
    assert ledger is not None
    assert ledger.metadata["n_trials"].value == 2
    lineage.change_strategy("edge", seed=7)
    first_candidate = [
        "lightgbm", "xgboost", "ensemble", "cpcv_predictions", "cpcv_paths", "walk_forward", "tear_sheet",
        "onnx_fp32", "onnx_int8", "bundle", "bundle_signature", "training_record",
    ]  # fmt: skip
    lineage.materialise(
        "edge", first_candidate
    )  # everything of the first candidate but the ledger's newest state
    assert "counts 1 trials, the ledger 2" in refusal(lineage)


def _truncate_bundle(lineage: Lineage) -> None:
    event = lineage.event("edge", "bundle")
    assert event is not None
    path = Path(str(lineage.home.store.path(str(event.metadata["quant/object"].value))))
    path.write_bytes(path.read_bytes()[:-10])


def test_a_truncated_bundle_is_refused_by_name_before_anything_is_promoted(lineage: Lineage) -> None:
    _truncate_bundle(lineage)
    said = refusal(lineage)
    assert "truncated or altered" in said
    assert "materialise the asset that made it again" in said


def test_an_edited_ledger_stops_every_promotion(lineage: Lineage) -> None:
    ledger = lineage.home.promotion_ledger
    ledger.write_text(ledger.read_text().replace('"refused"', '"promoted"', 1))
    assert "QA603" in refusal(lineage)
