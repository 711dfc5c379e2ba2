"""Every way to have evidence believed that no step of this platform made, or that was made under other settings.

The checks of whatever is forged are really run on it, so the event log is in order: what refuses is the decision.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
import yaml

from quant_assets.artifacts.attestation import Materialisation, attest
from quant_assets.artifacts.bundle.signing import SigningKey, development_key
from quant_assets.common.store import Table, Value, encode
from quant_assets.defs.running import QUIET
from quant_assets.defs.storage import ATTESTATION_KEY, evidence_of, finished_steps, record_at
from quant_assets.gates.verdicts import GateReport
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.lineage import declaring
from quant_assets.lineage.artifact import Artifact, stated
from quant_assets.lineage.declaring import Check, CheckResult, add_check, single
from quant_assets_tests.e2e.lineage import Lineage, edit, failed_steps, materialised

pytestmark = pytest.mark.drill

REPORTS = ["validation_report", "walk_forward_report", "parity_report", "drift_report"]
RECORD = ["trial_ledger", "tear_sheet", "training_record"]
EVIDENCE = ["cpcv_paths", "walk_forward", *RECORD, *REPORTS]


def refusal(lineage: Lineage, strategy: str = "noise") -> str:
    """Materialise ``promotion`` alone, which must fail and leave the champion alone; what it said."""
    before = lineage.champion(strategy)
    result = lineage.materialise(strategy, ["promotion"])
    assert not result.success
    assert "promotion" not in materialised(result)
    assert lineage.champion(strategy) == before
    (*_, entry) = lineage.decisions(strategy)
    assert entry.action == "refused"
    (message,) = failed_steps(result).values()
    return message


def ask_the_checks(lineage: Lineage, strategy: str, assets: Sequence[str]) -> None:
    """Run the platform's own checks on what is stored. All of them pass, or the attack would be none."""
    keys = {dg.AssetKey([strategy, name]) for name in assets}
    known = lineage.definitions.resolve_asset_graph().asset_check_keys
    job = dg.define_asset_job("asked", dg.AssetSelection.checks(*[k for k in known if k.asset_key in keys]))
    definitions = dg.Definitions.merge(lineage.definitions, dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("asked").execute_in_process(
        instance=lineage.instance, run_config=QUIET, raise_on_error=False
    )
    assert result.success
    assert all(evaluation.passed for evaluation in result.get_asset_check_evaluations())


def as_an_event(
    lineage: Lineage, key: list[str], value: Value, version: str | None = None
) -> dg.AssetMaterialization:
    """An object in the store, and an event as the platform would write it, the real one's attestation included."""
    event = lineage.event(*key)
    assert event is not None
    encoded = encode(value)
    return dg.AssetMaterialization(
        dg.AssetKey(key),
        metadata={
            **event.metadata,
            "quant/object": dg.MetadataValue.text(lineage.home.store.put(encoded.data)),
        },
        tags={**(event.tags or {}), "dagster/data_version": stated(version or encoded.version)},
    )


def report_without_a_run(lineage: Lineage, key: list[str], value: Value, version: str | None = None) -> None:
    lineage.instance.report_runless_asset_event(as_an_event(lineage, key, value, version))


def report_in_a_run_of_other_code(
    lineage: Lineage, key: list[str], value: Value, signer: SigningKey | None
) -> None:
    """The same event, by a step of a real run: that of an asset which somebody else has defined under the name."""
    event, node = as_an_event(lineage, key, value), lineage.graph.nodes[key[0], key[1]]
    sha256, version = str(event.metadata["quant/object"].value), encode(value).version
    fingerprint = (event.tags or {})["quant/inputs"]

    @dg.asset(key=key, code_version=node.code_version)
    def other(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        made = Materialisation(
            "/".join(key), version, sha256, "json", node.code_version, fingerprint, {}, context.run.run_id
        )
        return dg.MaterializeResult(
            metadata={
                **event.metadata,
                ATTESTATION_KEY: dg.MetadataValue.json(attest(made, signer) if signer else {}),
            },
            data_version=dg.DataVersion(stated(version)),
            tags={"quant/inputs": fingerprint},
        )

    assert dg.materialize([other], instance=lineage.instance).success
    assert lineage.version(*key) == version


def passing(report: Any) -> dict[str, Any]:
    """A report in which every verdict passes, its numbers included."""
    verdicts = [
        {**verdict, "status": "pass", "observed": verdict["required"], "reason": "it is so", "remedy": ""}
        for verdict in report["verdicts"]
    ]
    return {**report, "verdicts": verdicts}


@contextmanager
def file_changed(lineage: Lineage, folder: str, name: str, **changes: object) -> Iterator[None]:
    """A universe's or strategy's file with other values for a while."""
    file = lineage.configs / folder / f"{name}.yaml"
    shipped = yaml.safe_load(file.read_text())
    edit(file, {**shipped, **changes})
    lineage.reload()
    try:
        yield
    finally:
        edit(file, shipped)
        lineage.reload()


# ---------------------------------------------------------------------------------------- evidence without a step


def test_a_promotion_shows_what_finding_out_again_took_and_the_ledger_by_what_it_was_decided(
    built: Lineage,
) -> None:
    event = built.event("edge", "promotion")
    assert event is not None
    seconds = event.metadata["seconds_to_find_out_again"].value
    assert isinstance(seconds, dict)
    assert set(seconds) == {"events", "attestations", "derivations", "checks"}
    assert all(value >= 0 for value in seconds.values())
    entry = built.decisions("edge")[-1]
    strategy = built.settings.strategies["edge"]
    settings = entry.basis["settings"]
    assert settings["costs"] == strategy.costs.model_dump(mode="json")
    assert settings["universe"]["start"] == "2017-01-03"
    assert set(settings) == {"universe", "label", "validation", "portfolio", "costs", "configuration"}
    assert entry.basis["limits"]["validation"]["sharpe_min"] == 1.2
    assert set(entry.basis["limits"]) == {"validation", "walk_forward", "parity", "drift"}
    for name in REPORTS:
        assert GateReport.from_json(built.artifact("edge", name).json()).basis == settings


def test_every_asset_behind_a_decision_is_signed_by_the_step_that_made_it(built: Lineage) -> None:
    for node in built.graph.ancestors(("edge", "promotion")):
        for partition in node.partitions or (None,):
            record = record_at(built.instance, dg.AssetKey(list(node.key)), partition)
            assert record is not None
            evidence = evidence_of(record, built.home.store, partial(finished_steps, built.instance))
            assert evidence.by_a_step, node.key
            assert evidence.envelope, node.key


def test_a_forged_report_with_its_real_checks_run_on_it_promotes_nothing(lineage: Lineage) -> None:
    report = lineage.artifact("noise", "validation_report").json()
    report_without_a_run(lineage, ["noise", "validation_report"], passing(report))
    ask_the_checks(lineage, "noise", REPORTS)
    said = refusal(lineage)
    assert "reported by no step of a run that this instance knows (noise/validation_report)" in said
    assert (
        "noise/validation_report: made again from what is stored it is another (cpcv_sharpe is fail" in said
    )


def test_a_forged_report_under_the_version_of_the_true_one_promotes_nothing(lineage: Lineage) -> None:
    true = lineage.artifact("noise", "validation_report")
    report_without_a_run(lineage, ["noise", "validation_report"], passing(true.json()), true.version)
    ask_the_checks(lineage, "noise", REPORTS)
    said = refusal(lineage)
    assert "reported by no step of a run that this instance knows (noise/validation_report)" in said
    assert (
        "noise/validation_report: made again from what is stored it is another (cpcv_sharpe is fail" in said
    )


def test_a_forged_report_is_not_laundered_by_a_step_that_would_reuse_it(lineage: Lineage) -> None:
    report = lineage.artifact("noise", "validation_report").json()
    report_without_a_run(lineage, ["noise", "validation_report"], passing(report))
    lineage.materialise("noise", REPORTS)
    assert lineage.artifact("noise", "validation_report").json() == report
    assert "cpcv_sharpe" in refusal(lineage)


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed by somebody else"])
def test_a_forged_report_of_a_real_run_of_other_code_promotes_nothing(
    lineage: Lineage, tmp_path: Path, signed: bool
) -> None:
    key = ["noise", "validation_report"]
    signer = development_key(tmp_path / "stranger") if signed else None
    report_in_a_run_of_other_code(lineage, key, passing(lineage.artifact(*key).json()), signer)
    ask_the_checks(lineage, "noise", REPORTS)
    said = refusal(lineage)
    assert ("foreign key" if signed else "no step of this platform signed for it") in said
    assert "noise/validation_report: made again from what is stored it is another" in said


def test_forged_returns_that_real_steps_judged_promote_nothing(lineage: Lineage) -> None:
    paths = lineage.artifact("noise", "cpcv_paths").table()
    better = paths.frame.with_columns(pl.col("net_return", "gross_return") + 0.004)
    report_without_a_run(lineage, ["noise", "cpcv_paths"], Table(better, paths.metadata))
    lineage.materialise("noise", [*RECORD, "validation_report"])
    said = refusal(lineage)
    assert "noise/cpcv_paths" in said
    assert "reported by no step of a run that this instance knows" in said


def test_a_report_made_from_a_forgery_is_refused_after_the_forgery_is_taken_back(lineage: Lineage) -> None:
    paths = lineage.artifact("noise", "cpcv_paths").table()
    better = paths.frame.with_columns(pl.col("net_return", "gross_return") + 0.004)
    report_without_a_run(lineage, ["noise", "cpcv_paths"], Table(better, paths.metadata))
    lineage.materialise("noise", [*RECORD, "validation_report"])
    lineage.materialise("noise", ["cpcv_paths"])
    said = refusal(lineage)
    assert "made from other versions than the newest of what it reads" in said
    assert "noise/validation_report" in said


def test_a_check_that_other_code_let_pass_in_a_real_run_is_asked_again(lineage: Lineage) -> None:
    def usable_labels(labels: Artifact) -> CheckResult:
        return CheckResult("usable_labels", False, "they are not")

    declared = declaring.registered()["labels"]
    add_check(
        "labels", Check("usable_labels", single("usable_labels", "Of use.", blocking=True), usable_labels)
    )
    try:
        lineage.reload()
        key = dg.AssetKey(["edge", "labels"])

        @dg.asset_check(asset=key, name="usable_labels", blocking=True)
        def let_pass() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=True)

        other = dg.Definitions(
            assets=[dg.AssetSpec(key)],
            asset_checks=[let_pass],
            jobs=[dg.define_asset_job("let_pass", dg.AssetSelection.checks(let_pass))],
        )
        assert other.resolve_job_def("let_pass").execute_in_process(instance=lineage.instance).success
        assert "usable_labels on edge/labels: asked again, they are not" in refusal(lineage, "edge")
    finally:
        declaring._REGISTRY["labels"] = declared


def test_what_an_earlier_version_made_is_refused_once_by_name_and_good_again_after_a_run(
    lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = [n.name for n in lineage.graph.of("edge") if n.key[0] == "edge" and not n.stage.guarded]
    with monkeypatch.context() as earlier:
        earlier.setattr("quant_assets.defs.assets.attestation", lambda *_: {})
        assert lineage.materialise("edge", everything).success
    before = PromotionLedger(lineage.home.promotion_ledger).verify().n_entries
    said = refusal(lineage, "edge")
    assert "no step of this platform signed for it (edge/labels, " in said
    assert " more): materialise again what is named" in said
    (*_, entry) = lineage.decisions("edge")
    assert (entry.index, len(entry.reasons)) == (before, 1)
    versions = {name: lineage.version("edge", name) for name in everything}
    assert lineage.materialise("edge", [*everything, "promotion"]).success
    drawn = {"bundle_signature", "training_record"}  # a signature draws a number, and the record holds it
    assert {name for name in everything if lineage.version("edge", name) != versions[name]} <= drawn


def test_without_keys_in_production_nothing_is_signed_and_that_is_not_promoted(
    lineage: Lineage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as production:
        production.setenv("QUANT_ASSETS_ENV", "production")
        assert lineage.materialise("edge", ["labels"]).success
        event = lineage.event("edge", "labels")
        assert event is not None
        assert event.metadata[ATTESTATION_KEY].value == {}
        assert event.metadata["reused"].value is True
        said = failed_steps(lineage.materialise("edge", ["promotion"]))
        assert "QUANT_ASSETS_VERIFY_KEYS" in " ".join(said.values())
    assert "no step of this platform signed for it (edge/labels): materialise again" in refusal(
        lineage, "edge"
    )
    assert lineage.materialise("edge", ["labels"]).success
    assert lineage.materialise("edge", ["promotion"]).success


# ------------------------------------------------------------------------------- evidence under other settings

# The least that the minima of gates.yaml accept, and what the account really pays.
CHEAP = {"commission_bps": 0.1, "half_spread_bps": 0.5, "impact_coefficient": 0.2, "borrow_fee_bps": 10.0}
DEAR = {"commission_bps": 250.0}


def test_evidence_at_little_cost_is_refused_when_the_costs_are_back(lineage: Lineage) -> None:
    with file_changed(lineage, "strategies", "edge", costs=CHEAP):
        lineage.materialise("edge", EVIDENCE)
    lineage.change_strategy("edge", costs=DEAR)
    said = refusal(lineage, "edge")
    for kind in ("validation", "walk_forward", "parity", "drift"):
        assert (
            f"{kind} report: judged under other settings than those in force (configuration, costs)" in said
        )
    assert "edge/cpcv_paths: made again from what is stored it is another" in said


def test_returns_at_little_cost_under_new_reports_are_refused_when_the_costs_are_back(
    lineage: Lineage,
) -> None:
    with file_changed(lineage, "strategies", "edge", costs=CHEAP):
        lineage.materialise("edge", EVIDENCE)
    lineage.change_strategy("edge", costs=DEAR)
    assert lineage.materialise("edge", REPORTS).success
    said = refusal(lineage, "edge")
    assert "judged under other settings" not in said
    assert "made under another configuration than that in force (" in said
    assert "edge/cpcv_paths: made again from what is stored it is another" in said


def test_evidence_is_refused_under_any_setting_that_it_was_not_made_under(lineage: Lineage) -> None:
    assert lineage.materialise("edge", ["promotion"]).success  # open before
    wider = {"n_groups": 4, "n_test_groups": 2, "embargo_sessions": 20}
    for folder, changes, named in (
        ("strategies", {"portfolio": {"gross_leverage": 0.5}}, "(configuration, portfolio)"),
        ("strategies", {"label": {"horizon_sessions": 4}}, "(configuration, label)"),
        ("strategies", {"validation": wider}, "(configuration, validation)"),
        ("strategies", {"seed": 11}, "(configuration)"),
        ("universes", {"end": "2022-05-31"}, "(configuration, universe)"),
    ):
        file = "edge" if folder == "strategies" else "edge_market"
        with file_changed(lineage, folder, file, **changes):
            said = refusal(lineage, "edge")
        assert f"validation report: judged under other settings than those in force {named}" in said
        assert "made under another configuration than that in force (" in said
    assert lineage.materialise("edge", ["promotion"]).success  # and again after


def test_a_report_that_does_not_say_its_settings_is_refused(lineage: Lineage) -> None:
    report = GateReport.from_json(lineage.artifact("edge", "validation_report").json())
    report_without_a_run(lineage, ["edge", "validation_report"], replace(report, basis={}).to_json())
    ask_the_checks(lineage, "edge", ["validation_report"])
    assert "does not say under which settings its evidence was made" in refusal(lineage, "edge")
