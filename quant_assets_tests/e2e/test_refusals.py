"""A refusal is a result: one failed run that says so, where it was decided, and no other while nothing changes."""

import dagster as dg
import pytest

from quant_assets.cli.run_commands import outcomes_json, show_outcomes
from quant_assets.defs.running import OUTCOME_TAG, QUIET, settled_before
from quant_assets.lineage.columns import column_of
from quant_assets_tests.e2e.lineage import Lineage, failed_steps, materialised, small_proof

PROMOTION = dg.AssetKey(["noise", "promotion"])


def runs(lineage: Lineage, **asked: object) -> list[dg.DagsterRun]:
    return list(lineage.instance.get_runs(dg.RunsFilter(**asked)))  # type: ignore[arg-type]


def moved(lineage: Lineage, strategy: str = "noise") -> str:
    return settled_before(lineage.graph, strategy, lineage.instance, lineage.home).moved


def test_the_first_refusal_is_one_failed_run_that_says_so_at_the_asset_that_decides(built: Lineage) -> None:
    (failed,) = runs(built, statuses=[dg.DagsterRunStatus.FAILURE])
    assert failed.job_name == "noise"
    assert failed.tags[OUTCOME_TAG] == "refused"
    steps = built.instance.get_records_for_run(
        failed.run_id, of_type=dg.DagsterEventType.STEP_FAILURE
    ).records
    assert [step.event_log_entry.step_key for step in steps] == ["noise__promotion"]
    assert built.instance.get_latest_materialization_event(PROMOTION) is None
    (seen,) = built.instance.fetch_observations(PROMOTION, limit=5).records
    assert seen.asset_observation is not None
    table = str(seen.asset_observation.metadata["closed gates"].value)
    (entry,) = built.decisions("noise")
    assert len(table.splitlines()) == 2 + len(entry.reasons)
    assert "| `cpcv_sharpe` (validation) | " in table
    event = built.artifact("noise", "validation_report").json()
    (verdict,) = [v for v in event["verdicts"] if v["gate"] == "cpcv_sharpe"]
    assert verdict["reason"] in table
    assert verdict["remedy"] in table


def test_the_same_evidence_is_refused_unchanged_without_a_run_or_an_entry(
    lineage: Lineage, capsys: pytest.CaptureFixture[str]
) -> None:
    before, decided = len(runs(lineage)), lineage.decisions("noise")
    (outcome,) = lineage.run("noise")
    assert outcome.decision == "refused"
    assert (
        outcome.unchanged
        == f"since {decided[0].at[:16].replace('T', ' ')} UTC, ledger entry {decided[0].index}"
    )
    assert len(outcome.verdicts) == 10
    assert len(runs(lineage)) == before
    assert lineage.decisions("noise") == decided
    show_outcomes([outcome])
    assert "noise: refused (unchanged since" in capsys.readouterr().out
    assert outcomes_json([outcome])[0]["unchanged"] == outcome.unchanged


def test_a_promotion_is_never_taken_as_settled_its_guard_is_asked_each_time(lineage: Lineage) -> None:
    before = len(runs(lineage))
    assert [o.decision for o in lineage.run("edge")] == ["promoted"]
    (asked,) = runs(lineage)[: len(runs(lineage)) - before]
    assert {e.step_key for e in lineage.instance.all_logs(asked.run_id) if e.step_key} == {
        "edge__promotion", "edge__champion", "edge__holdout_report", "edge__champion__ledger_agreement",
    }  # fmt: skip


def _damage(lineage: Lineage, name: str) -> None:
    artifact = lineage.artifact("noise", name)
    lineage.home.store.path(artifact.sha256).write_bytes(b"other")


@pytest.mark.drill
def test_a_damaged_or_lost_object_is_found_and_made_again(lineage: Lineage) -> None:
    sha = lineage.artifact("noise", "cpcv_paths").sha256
    _damage(lineage, "cpcv_paths")
    assert moved(lineage) == "noise/cpcv_paths: its object is lost or damaged"
    lineage.home.store.path(lineage.artifact("noise", "labels").sha256).unlink()
    assert moved(lineage) == "noise/labels: its object is lost or damaged"
    (outcome,) = lineage.run("noise")
    assert (outcome.decision, outcome.unchanged) == ("refused", "")
    assert lineage.home.store.intact(sha)
    assert moved(lineage) == ""


def test_whatever_could_open_the_way_has_it_asked_again(lineage: Lineage) -> None:
    gates = lineage.configs / "gates.yaml"
    shipped = gates.read_text()
    gates.write_text(shipped.replace("sharpe_min: 1.2", "sharpe_min: 1.25"))
    lineage.reload()
    assert "made under another configuration than that in force" in moved(lineage)
    gates.write_text(shipped)
    lineage.reload()
    assert moved(lineage) == ""

    # An event from outside has the words, and not the signature.
    event = lineage.event("noise", "validation_report")
    assert event is not None
    lineage.instance.report_runless_asset_event(
        dg.AssetMaterialization(event.asset_key, metadata=event.metadata, tags=event.tags)
    )
    assert "noise/validation_report: reported by no step" in moved(lineage)


def test_a_check_that_did_not_run_since_has_it_asked_again(lineage: Lineage) -> None:
    lineage.materialise("noise", ["validation_report"], checks=False)
    assert "evaluated an older materialization" in moved(lineage)


def test_an_edited_ledger_is_no_refusal_that_stands(lineage: Lineage) -> None:
    ledger = lineage.home.promotion_ledger
    ledger.write_text(ledger.read_text().replace('"noise"', '"edge"'))
    found = settled_before(lineage.graph, "noise", lineage.instance, lineage.home)
    assert found.refusal is None
    assert "QA603" in found.moved


def test_a_refusal_of_another_candidate_does_not_stand_for_this_one(lineage: Lineage) -> None:
    """The champion's ledger says refused of noise's candidate; with another seed there is another candidate."""
    lineage.change_strategy("noise", seed=8)
    found = settled_before(lineage.graph, "noise", lineage.instance, lineage.home)
    assert found.refusal is None
    assert found.moved


def test_a_registry_that_lost_the_record_has_it_written_again(lineage: Lineage) -> None:
    lineage.folder.joinpath("mlflow.db").unlink()
    assert moved(lineage).startswith("noise/training_record: ")


def test_anything_but_the_decision_is_still_stopped_before_it_starts(lineage: Lineage) -> None:
    report = dg.AssetKey(["noise", "validation_report"])

    @dg.asset(deps=[report])
    def trade() -> None:
        """What a desk might put behind a report."""

    job = dg.define_asset_job("behind", dg.AssetSelection.assets(report, trade.key, PROMOTION))
    definitions = dg.Definitions.merge(lineage.definitions, dg.Definitions(assets=[trade], jobs=[job]))
    with small_proof():
        result = definitions.resolve_job_def("behind").execute_in_process(
            instance=lineage.instance, run_config=QUIET, raise_on_error=False
        )
    assert not result.success
    assert "trade" not in materialised(result)
    assert "promotion" not in materialised(result)
    assert "DagsterAssetCheckFailedError" not in failed_steps(result)  # by step
    assert not any("promotion" in step for step in failed_steps(result))


def test_a_gate_by_itself_can_be_executed_from_the_ui(built: Lineage) -> None:
    graph = built.definitions.resolve_asset_graph()
    for key in graph.asset_check_keys:
        definition = graph.assets_def_for_key(key)
        assert len(definition.check_keys) == 1 or definition.can_subset, key


def test_all_years_are_one_run_and_each_year_has_its_own_version(built: Lineage) -> None:
    (run,) = runs(built, job_name="noise_market_raw_bars")
    assert run.status is dg.DagsterRunStatus.SUCCESS
    years = built.graph.scope("noise").bars.years
    assert (
        len({built.version("noise_market", "raw_bars", partition=year) for year in years}) == len(years) == 6
    )


def test_every_column_of_every_table_is_described(built: Lineage) -> None:
    unknown = set()
    for key in built.graph.nodes:
        partition = (built.graph.nodes[key].partitions or (None,))[0]
        event = built.event(*key, partition=partition)
        schema = event.metadata.get("dagster/column_schema") if event else None
        if schema is not None:
            unknown |= {(key[1], c.name) for c in schema.value.columns if column_of(c.name) is None}  # type: ignore[union-attr]
            unknown |= {(key[1], c.name) for c in schema.value.columns if not c.description}  # type: ignore[union-attr]
    assert unknown == set()
