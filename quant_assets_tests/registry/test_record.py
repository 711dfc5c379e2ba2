"""The record of a candidate: what a real small training leaves in MLflow, and what of it makes another run."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import mlflow
import numpy as np
import polars as pl
import pytest
from matplotlib.image import imread
from mlflow import MlflowClient

from quant_assets.common.errors import EvidenceError
from quant_assets.common.hashing import bytes_digest
from quant_assets.common.provenance import closure_of_modules
from quant_assets.common.settings import StrategyConfig, ValidationConfig
from quant_assets.common.store import Table
from quant_assets.gates.evidence import judge_candidate
from quant_assets.gates.limits import GatesConfig
from quant_assets.ledgers.trials import TrialSnapshot
from quant_assets.models.cross_prediction import cross_predict
from quant_assets.models.ensemble import fit_ensemble
from quant_assets.models.fitting import learning_curves
from quant_assets.models.training_arrays import training_arrays
from quant_assets.registry.model_files import load_recorded_model
from quant_assets.registry.record import (
    CandidateEvidence,
    TrainingRecord,
    candidate_record,
    environment_files,
)
from quant_assets.registry.tracking import record_training
from quant_assets.trading.paths import median_path, path_statistics
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

from .conftest import Desk, graph

SUBJECT, DATASET = "5" * 64, "d" * 64
RUN_URL = "http://127.0.0.1:3000/runs/run-1"
SYSTEM = {"lightgbm/cpu_seconds": 1.5, "lightgbm/peak_rss_megabytes": 250.0}
STRATEGY = StrategyConfig(
    name="small",
    universe="none",
    models=SMALL_MODELS,
    validation=ValidationConfig(n_groups=4, n_test_groups=2, embargo_sessions=2),
)


def evidence_of_a_small_training() -> CandidateEvidence:
    frame = training_frame(80, 6)
    options: dict[str, Any] = {"seed": STRATEGY.seed, "feature_names": FEATURES, "embargo_sessions": 2}
    ensemble = fit_ensemble(frame, FEATURES, SMALL_MODELS, seed=7, embargo_sessions=2, recipe="r" * 64)
    data = training_arrays(frame, FEATURES)
    rng = np.random.default_rng(2)
    sessions = frame["session"].unique(maintain_order=True)
    returns = pl.concat(
        pl.DataFrame({"session": sessions, "net_return": rng.normal(0.001, 0.01, len(sessions))}).select(
            pl.lit(path, dtype=pl.Int32).alias("path"),
            "session",
            "net_return",
            (pl.col("net_return") + 0.0001).alias("gross_return"),
            (pl.col("net_return") - 0.0001).alias("net_return_at_twice_costs"),
            pl.lit(0.3).alias("turnover"),
        )
        for path in range(3)
    )
    return CandidateEvidence(
        training_set=Table(
            frame,
            {
                "features": json.dumps(list(FEATURES)),
                "packs": '["technical_v1"]',
                "technical_v1.fingerprint": "f" * 40,
            },
        ),
        training_set_version=DATASET,
        ensemble=ensemble.to_json(),
        base_learners={
            learner.name: {
                "learner": learner.name,
                "features": list(FEATURES),
                "model": learner.text,
                "curves": learning_curves(learner.name, data, SMALL_MODELS, **options).to_json(),
            }
            for learner in ensemble.learners
        },
        predictions=Table(
            cross_predict(frame, FEATURES, SMALL_MODELS, STRATEGY.validation, seed=7, n_jobs=2),
            {"recipe": "r" * 64},
        ),
        paths=Table(returns, {"recipe": "r" * 64}),
        onnx=graph(len(FEATURES)),
        files={"tear_sheet.html": b"<html></html>", "bundle.zip": b"PK"},
    )


@pytest.fixture(scope="module")
def evidence() -> CandidateEvidence:
    return evidence_of_a_small_training()


def record_from(evidence: CandidateEvidence, **options: Any) -> TrainingRecord:
    judged = median_path(path_statistics(evidence.paths.frame, 252.0)).sharpe_per_period
    snapshot = TrialSnapshot("small", (judged,), (0,), 1.0, "e" * 64, 1, "c" * 64)
    report = judge_candidate(SUBJECT, evidence.paths.frame, snapshot, GatesConfig(), 252.0)
    return candidate_record(
        STRATEGY, report, evidence, **{"run_id": "run-1", "run_url": RUN_URL, "system": SYSTEM, **options}
    )


@pytest.fixture(scope="module")
def record(evidence: CandidateEvidence) -> TrainingRecord:
    return record_from(evidence, machine={"processor": "x"})


def files_of(client: MlflowClient, run_id: str, folder: str | None = None) -> set[str]:
    found: set[str] = set()
    for file in client.list_artifacts(run_id, folder):
        found |= files_of(client, run_id, file.path) if file.is_dir else {file.path}
    return found


def test_the_run_of_a_candidate_holds_its_curves_splits_paths_dataset_and_links(
    desk: Desk, evidence: CandidateEvidence, record: TrainingRecord
) -> None:
    recorded = record_training(desk.uri, record, artifact_root=desk.folder / "artifacts")
    client = MlflowClient(desk.uri, desk.uri)
    run = client.get_run(recorded.run_id)

    def history(name: str) -> list[tuple[int, float]]:
        return sorted((m.step, m.value) for m in client.get_metric_history(recorded.run_id, name))

    for learner, loss in (("lightgbm", "l2"), ("xgboost", "rmse")):
        curves = evidence.base_learners[learner]["curves"]
        for part in ("train", "valid"):
            steps = list(enumerate(curves[part], start=1))
            assert history(f"learning_curve/{learner}/{part}_{loss}") == steps
            assert len(steps) == 12
    for name in ("rank_ic", "rmse", "rows_trained", "rows_tested"):
        assert history(f"split_{name}") == [(i, split[name]) for i, split in enumerate(record.split_metrics)]
        assert len(record.split_metrics) == 6
    sharpes = sorted(value for _, value in history("path_sharpe_annual"))
    assert run.data.metrics["sharpe_annual.median"] == sharpes[1]
    assert run.data.metrics["sharpe_annual.worst_decile"] == sharpes[0]
    assert run.data.metrics["sharpe_annual.mean"] == pytest.approx(np.mean(sharpes))
    assert run.data.metrics["sharpe_annual.sd"] == pytest.approx(np.std(sharpes, ddof=1))
    assert run.data.metrics["system/lightgbm/peak_rss_megabytes"] == 250.0

    (given,) = run.inputs.dataset_inputs
    assert {(tag.key, tag.value) for tag in given.tags} == {("mlflow.data.context", "training")}
    columns = {c["name"]: c["type"] for c in json.loads(given.dataset.schema)["mlflow_colspec"]}
    assert (columns["feature_0"], columns["target"], columns["t0"]) == ("float", "double", "datetime")
    profile = json.loads(given.dataset.profile)
    assert (profile["num_rows"], profile["num_symbols"], profile["num_sessions"]) == (480, 6, 80)

    assert run.data.params["models.lightgbm.num_leaves"] == "7"
    assert run.data.tags["dagster.run_url"] == RUN_URL
    assert f"[this Dagster run]({RUN_URL})" in run.data.tags["mlflow.note.content"]
    assert "| cpcv_sharpe | " in run.data.tags["mlflow.note.content"]
    assert run.data.tags["quant.upstream.packs"] == '["technical_v1"]'
    assert run.data.tags["quant.upstream.technical_v1.fingerprint"] == "f" * 40
    assert run.data.tags["quant.machine.processor"] == "x"


def test_the_run_of_a_candidate_has_its_pictures_environment_and_native_models(
    desk: Desk, evidence: CandidateEvidence, record: TrainingRecord
) -> None:
    recorded = record_training(desk.uri, record, artifact_root=desk.folder / "artifacts")
    client = MlflowClient(desk.uri, desk.uri)
    found = files_of(client, recorded.run_id)
    plots = {
        "equity", "feature_importance", "learning_curve_lightgbm", "learning_curve_xgboost", "rank_ic_by_month",
    }  # fmt: skip
    assert {f"plots/{name}.png" for name in plots} <= found
    assert {
        "bundle.zip", "dataset.json", "environment/environment.json", "environment/requirements.txt",
        "features.json", "learning_curves.json", "model/model.onnx", "native/lightgbm/model.lgb",
        "native/xgboost/model.json", "tear_sheet.html", "verdicts.json",
    } <= found  # fmt: skip
    rows = evidence.training_set.frame.select(FEATURES).to_numpy()
    uri = f"{client.get_run(recorded.run_id).info.artifact_uri}/native"
    expected = load_recorded_model(desk.uri, recorded.run_id, "native/lightgbm").predict(rows, num_threads=1)
    assert np.array_equal(
        mlflow.lightgbm.load_model(f"{uri}/lightgbm").predict(rows, num_threads=1), expected
    )
    assert mlflow.xgboost.load_model(f"{uri}/xgboost").num_boosted_rounds() == 12
    assert load_recorded_model(desk.uri, recorded.run_id).graph.output[0].name == "score"


def test_pictures_show_something_and_have_the_same_bytes_each_time(
    evidence: CandidateEvidence, record: TrainingRecord
) -> None:
    again = record_from(evidence)
    for name, data in record.attachments.items():
        assert again.attachments[name] == data
        if name.endswith(".png"):
            assert len(np.unique(imread(io.BytesIO(data)).reshape(-1, 4), axis=0)) > 20


def test_system_figures_links_pictures_and_environment_make_no_other_run(record: TrainingRecord) -> None:
    same: Mapping[str, Any] = {
        "system": {"lightgbm/cpu_seconds": 99.0},
        "tags": {"dagster.run_id": "run-2"},
        "attachments": {},
        "ensemble": None,
        "dataset_profile": {},
    }
    for field, value in same.items():
        assert replace(record, **{field: value}).evidence_digest() == record.evidence_digest(), field


@pytest.mark.parametrize("field", ["curves", "split_metrics", "path_metrics", "artifacts", "metrics"])
def test_other_curves_splits_or_paths_are_other_evidence(record: TrainingRecord, field: str) -> None:
    whole = getattr(record, field)
    part = whole[:-1] if isinstance(whole, tuple) else dict(list(whole.items())[:-1])
    assert replace(record, **{field: part}).evidence_digest() != record.evidence_digest()


def test_a_candidate_recorded_again_by_another_run_changes_nothing_of_its_run(
    desk: Desk, evidence: CandidateEvidence, record: TrainingRecord
) -> None:
    root = desk.folder / "artifacts"
    first = record_training(desk.uri, record, artifact_root=root)
    client = MlflowClient(desk.uri, desk.uri)
    before = client.get_run(first.run_id).to_dictionary()
    later = record_from(evidence, run_id="run-2", system={"lightgbm/cpu_seconds": 9.0})
    again = record_training(desk.uri, later, artifact_root=root)
    assert (again.reused, again.run_id) == (True, first.run_id)
    assert client.get_run(first.run_id).to_dictionary() == before


def test_a_base_learner_that_was_fitted_again_does_not_lend_its_curves(evidence: CandidateEvidence) -> None:
    bases = dict(evidence.base_learners)
    bases["lightgbm"] = {**bases["lightgbm"], "model": "tree\nanother"}
    with pytest.raises(EvidenceError, match=r"base learner lightgbm: .* found another one"):
        record_from(replace(evidence, base_learners=bases))
    bases["lightgbm"] = {"model": evidence.base_learners["lightgbm"]["model"]}
    with pytest.raises(EvidenceError, match="a record without learning curves"):
        record_from(replace(evidence, base_learners=bases))


def test_predictions_of_another_recipe_are_refused(evidence: CandidateEvidence) -> None:
    other = Table(evidence.predictions.frame, {"recipe": "0" * 64})
    with pytest.raises(EvidenceError, match=r"cross-predictions: .* found recipe 000000000000"):
        record_from(replace(evidence, predictions=other))


def test_an_environment_names_every_distribution_and_the_lock_it_came_from(tmp_path: Any) -> None:
    (tmp_path / "uv.lock").write_bytes(b"version = 1\n")
    files = environment_files(tmp_path)
    lines = files["environment/requirements.txt"].decode().splitlines()
    assert f"numpy=={np.__version__}" in lines
    assert f"mlflow=={mlflow.__version__}" in lines
    assert lines == sorted(lines, key=lambda line: line.split("==")[0])
    facts = json.loads(files["environment/environment.json"])
    assert facts["uv_lock_sha256"] == bytes_digest(b"version = 1\n")
    assert facts["distributions"] == len(lines)
    (tmp_path / "uv.lock").unlink()
    assert json.loads(environment_files(tmp_path)["environment/environment.json"])["uv_lock_sha256"] is None


def test_the_code_behind_a_record_has_a_fingerprint_although_it_names_files_of_other_folders() -> None:
    # ``environment/environment.json`` is a path in MLflow and no file beside the module.
    assert "quant_assets.registry.run_figures" in closure_of_modules("quant_assets.registry.record").modules
