"""A tuned strategy end to end: the graph, every trial counted and recorded, and evidence that does not cross over."""

import dagster as dg
import pytest
from mlflow import MlflowClient

from quant_assets.ledgers.trials import TrialLedger
from quant_assets.models.tuning_study import apply_tuning
from quant_assets_tests.e2e.lineage import Lineage, failed_steps

N_TRIALS = 3
TUNING = {
    "n_trials": N_TRIALS,
    "folds": 2,
    "space": {
        "lightgbm": {"n_estimators": {"low": 8, "high": 20}, "learning_rate": {"low": 0.05, "high": 0.3}},
        "xgboost": None,
    },
}
MADE_FROM_THE_MODELS = (
    "cpcv_predictions", "drift_report", "ensemble", "leakage_report", "lightgbm", "training_record", "walk_forward",
    "xgboost",
)  # fmt: skip


def graph_of(lineage: Lineage) -> dict[str, set[str]]:
    """Each asset of the strategy ``edge`` and what it is made from."""
    graph = lineage.definitions.resolve_asset_graph()
    return {
        key.path[1]: {parent.path[-1] for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
        if key.path[0] == "edge"
    }


def test_the_graph_has_a_tuning_only_where_the_file_asks_for_one(lineage: Lineage) -> None:
    before = graph_of(lineage)
    assert "tuning" not in before
    lineage.change_strategy("edge", tuning=TUNING)
    after = graph_of(lineage)
    assert after.pop("tuning") == {"training_set", "scored_rows", "bars"}
    assert {name for name in after if after[name] != before[name]} == set(MADE_FROM_THE_MODELS)
    for name in MADE_FROM_THE_MODELS:
        assert after[name] - before[name] == {"tuning"}
    job = lineage.definitions.resolve_job_def("edge")
    assert dg.AssetKey(["edge", "tuning"]) in job.asset_layer.executable_asset_keys


@pytest.mark.drill
def test_a_tuned_strategy_counts_records_and_fits_what_it_found(lineage: Lineage) -> None:
    lineage.change_strategy("edge", tuning=TUNING)
    before = {t.fingerprint for t in TrialLedger(lineage.home.path).trials("edge_market.forward_return")}
    untuned = lineage.version("edge", "ensemble")
    (outcome,) = lineage.run("edge")
    assert lineage.version("edge", "ensemble") != untuned

    event = lineage.event("edge", "tuning")
    assert event is not None
    result = artifact(lineage, "tuning")
    assert len(result["trials"]) == N_TRIALS
    assert {"trials", "importance", "history", "best"} <= set(event.metadata)

    # Every trial of the search, and the evaluation of what it chose.
    after = {t.fingerprint for t in TrialLedger(lineage.home.path).trials("edge_market.forward_return")}
    searched = {trial["fingerprint"] for trial in result["trials"]}
    assert searched <= after - before
    assert len(after) == len(before) + N_TRIALS + 1
    assert artifact(lineage, "validation_report")["details"]["trials"]["n_trials"] == len(after)

    strategy = lineage.settings.strategies["edge"]
    best = result["best"]["params"]
    base = artifact(lineage, "lightgbm")
    assert base["model"].count("Tree=") == best["lightgbm"]["n_estimators"]
    assert apply_tuning(strategy.models, best).xgboost == strategy.models.xgboost

    client = MlflowClient(lineage.home.mlflow_uri, lineage.home.mlflow_uri)
    record = artifact(lineage, "training_record")
    parent = client.get_run(record["mlflow_run_id"])
    found = float(parent.data.params["models.lightgbm.learning_rate"])
    assert found == best["lightgbm"]["learning_rate"]
    children = client.search_runs(
        [record["experiment_id"]], f"tags.`mlflow.parentRunId` = '{record['mlflow_run_id']}'"
    )
    assert {run.data.tags["quant.ledger_row"] for run in children} == searched

    # Nothing changed: nothing is searched, counted or recorded again.
    tuned, searched_once = lineage.version("edge", "ensemble"), lineage.event("edge", "tuning")
    (again,) = lineage.run("edge")
    assert (again.decision, lineage.version("edge", "ensemble")) == (outcome.decision, tuned)
    assert lineage.event("edge", "tuning") == searched_once
    assert {
        t.fingerprint for t in TrialLedger(lineage.home.path).trials("edge_market.forward_return")
    } == after
    assert (
        len(client.search_runs([record["experiment_id"]], f"tags.`quant.study` = '{result['study']}'")) == 3
    )


def test_evidence_of_the_untuned_models_cannot_promote_the_tuned_candidate(lineage: Lineage) -> None:
    champion = lineage.champion("edge")
    assert champion is not None
    # A space without the configuration: what is found is another model, whichever trial is the best.
    space = {"lightgbm": {"n_estimators": {"low": 16, "high": 20}}, "xgboost": None}
    lineage.change_strategy("edge", tuning={**TUNING, "n_trials": 2, "space": space})
    # The tuned candidate beside the cross-predictions, paths and verdicts that the untuned one left.
    assert lineage.materialise("edge", ["tuning", "lightgbm", "xgboost", "ensemble"]).success
    assert lineage.version("edge", "ensemble") != champion
    report = lineage.materialise("edge", ["trial_ledger", "validation_report"])
    assert not report.success
    (message,) = failed_steps(report).values()
    assert "evidence of recipe" in message
    refused = lineage.materialise("edge", ["promotion"])
    assert not refused.success
    assert lineage.champion("edge") == champion


def artifact(lineage: Lineage, name: str):  # type: ignore[no-untyped-def]
    """The newest version of an asset of ``edge`` as plain data."""
    from quant_assets.defs.storage import current

    return current(lineage.instance, dg.AssetKey(["edge", name]), lineage.home.store).json()
