"""The training record: one finished run per body of evidence, whatever was killed on the way."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from onnx import TensorProto

from quant_assets.common.errors import RegistryError
from quant_assets.registry.champion import current_champion
from quant_assets.registry.connection import shown, sqlite_file
from quant_assets.registry.tracking import record_training

from .conftest import FEATURES, STRATEGY, Desk, graph, record_of

ONE, TWO = "1" * 64, "2" * 64


def runs_of(desk: Desk) -> list[mlflow.entities.Run]:
    client = MlflowClient(desk.uri, desk.uri)
    experiment = client.get_experiment_by_name(STRATEGY)
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def test_a_record_holds_everything_that_the_training_left_behind(desk: Desk) -> None:
    recorded = desk.record(ONE)
    client = MlflowClient(desk.uri, desk.uri)
    run = client.get_run(recorded.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"lightgbm.num_leaves": "15", "seed": "7"}
    assert run.data.metrics["sharpe_annual_median"] == 1.6
    history = client.get_metric_history(recorded.run_id, "path_sharpe_annual")
    assert sorted((m.step, m.value) for m in history) == [(0, 1.5), (1, 1.7), (2, 1.6)]
    assert run.data.tags["quant.subject"] == ONE
    assert run.data.tags["dagster.run_id"] == "run-1"
    assert run.data.tags["quant.verdict.cpcv_sharpe"] == "pass"
    (dataset,) = run.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("training_set", "d" * 36)
    assert {f.path for f in client.list_artifacts(recorded.run_id)} == {
        "ensemble.json", "features.json", "model", "tear_sheet.html", "verdicts.json",
    }  # fmt: skip
    assert (desk.folder / "artifacts" / STRATEGY / recorded.run_id).is_dir()
    assert recorded.url is None

    version = client.get_model_version_by_alias(STRATEGY, "candidate")
    assert (str(version.version), version.run_id) == (recorded.model_version, recorded.run_id)
    assert version.tags["quant.subject"] == ONE
    assert version.tags["quant.dataset_digest"] == "d" * 64
    assert version.tags["quant.verdict.cpcv_max_drawdown"] == "pass"


def test_the_registered_model_loads_as_onnx_and_as_pyfunc_and_wants_float32(desk: Desk) -> None:
    recorded = desk.record(ONE)
    source = MlflowClient(desk.uri, desk.uri).get_model_version(STRATEGY, recorded.model_version).source
    assert mlflow.onnx.load_model(source).graph.output[0].name == "score"
    model = mlflow.pyfunc.load_model(source)
    rows = np.array([[1, 1, 1], [0, 0, 2]], dtype=np.float32)
    assert model.predict(rows)["score"].tolist() == [[6.0], [6.0]]
    assert model.metadata.metadata["feature_names"] == list(FEATURES)
    with pytest.raises(MlflowException, match="float64"):
        model.predict(rows.astype(np.float64))


def test_a_graph_that_also_returns_its_base_learners_keeps_every_output(desk: Desk) -> None:
    model = onnx.load_model_from_string(graph())
    model.graph.node.append(onnx.helper.make_node("Concat", ["score", "score"], ["learners"], axis=1))
    model.graph.output.append(onnx.helper.make_tensor_value_info("learners", TensorProto.FLOAT, [None, 2]))
    recorded = desk.record(ONE, artifacts={"model.onnx": model.SerializeToString()})
    source = MlflowClient(desk.uri, desk.uri).get_model_version(STRATEGY, recorded.model_version).source
    loaded = mlflow.pyfunc.load_model(source)
    assert loaded.metadata.signature.outputs.input_names() == ["score", "learners"]
    assert [spec.shape for spec in loaded.metadata.signature.outputs] == [(-1, 1), (-1, 2)]
    assert loaded.predict(np.ones((1, 3), np.float32))["learners"].tolist() == [[6.0, 6.0]]


def test_recording_the_same_evidence_again_finds_the_same_run_and_version(desk: Desk) -> None:
    first = desk.record(ONE)
    again = desk.record(ONE, tags={"dagster.run_id": "run-2"})
    assert (first.reused, again.reused) == (False, True)
    assert (again.run_id, again.model_version) == (first.run_id, first.model_version)
    assert len(runs_of(desk)) == 1


def test_other_evidence_is_another_run_and_version_and_becomes_the_candidate(desk: Desk) -> None:
    first = desk.record(ONE)
    second = desk.record(ONE, metrics={"sharpe_annual_median": 1.1})
    third = desk.record(TWO)
    assert len({first.run_id, second.run_id, third.run_id}) == 3
    assert [first.model_version, second.model_version, third.model_version] == ["1", "2", "3"]
    client = MlflowClient(desk.uri, desk.uri)
    assert str(client.get_model_version_by_alias(STRATEGY, "candidate").version) == "3"
    desk.record(ONE)
    assert str(client.get_model_version_by_alias(STRATEGY, "candidate").version) == "1"


@pytest.mark.parametrize(
    "method",
    [
        "log_batch", "log_inputs", "log_artifacts", "set_terminated", "create_registered_model",
        "create_model_version", "set_registered_model_alias",
    ],
)  # fmt: skip
def test_a_recording_killed_at_any_step_is_completed_by_the_next(
    desk: Desk, killed_at: Callable[[str], None], method: str
) -> None:
    killed_at(method)
    with pytest.raises(KeyboardInterrupt):
        desk.record(ONE)
    recorded = desk.record(ONE)
    (run,) = runs_of(desk)
    assert (run.info.run_id, run.info.status) == (recorded.run_id, "FINISHED")
    client = MlflowClient(desk.uri, desk.uri)
    assert len(client.get_metric_history(recorded.run_id, "path_sharpe_annual")) == 3
    assert len(client.search_model_versions(f"name = '{STRATEGY}'")) == 1
    assert client.get_model_version_by_alias(STRATEGY, "candidate").run_id == recorded.run_id
    assert len(run.inputs.dataset_inputs) == 1


def test_a_recording_that_fails_is_marked_failed_and_resumed(desk: Desk) -> None:
    with pytest.raises(RegistryError, match="3 features; found one of 4"):
        desk.record(ONE, artifacts={"model.onnx": graph(4)})
    assert [run.info.status for run in runs_of(desk)] == ["FAILED"]
    desk.record(ONE)
    assert sorted(run.info.status for run in runs_of(desk)) == ["FAILED", "FINISHED"]
    with pytest.raises(RegistryError):
        desk.record(ONE, artifacts={"model.onnx": graph(4)})
    assert len(runs_of(desk)) == 2


@pytest.mark.parametrize(
    ("artifacts", "text"),
    [
        ({}, "model.onnx"),
        ({"model.onnx": b"not a graph"}, "valid ONNX graph"),
        ({"model.onnx": graph(element=TensorProto.DOUBLE)}, "float32 features; found DOUBLE"),
    ],
)
def test_a_record_without_a_usable_graph_is_refused(
    desk: Desk, artifacts: dict[str, bytes], text: str
) -> None:
    with pytest.raises(RegistryError, match=text):
        desk.record(ONE, artifacts=artifacts)


def test_a_metric_that_is_not_finite_is_said_so_in_a_tag(desk: Desk) -> None:
    recorded = desk.record(ONE, metrics={"sharpe": float("nan"), "psr": 0.9})
    run = MlflowClient(desk.uri, desk.uri).get_run(recorded.run_id)
    assert "sharpe" not in run.data.metrics
    assert run.data.tags["quant.not_finite.sharpe.0"] == "nan"


def test_more_parameters_than_one_batch_holds_are_all_logged(desk: Desk) -> None:
    params = {f"p{i:03d}": str(i) for i in range(250)}
    recorded = desk.record(ONE, params=params)
    assert MlflowClient(desk.uri, desk.uri).get_run(recorded.run_id).data.params == params


def test_two_threads_that_record_the_same_training_make_one_run(desk: Desk) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: desk.record(ONE), range(2)))
    assert len({r.run_id for r in both}) == 1
    assert sorted(r.reused for r in both) == [False, True]
    assert len(runs_of(desk)) == 1


def test_mlflow_has_no_active_run_and_no_new_tracking_address_afterwards(desk: Desk) -> None:
    before = mlflow.get_tracking_uri()
    desk.record(ONE)
    assert mlflow.active_run() is None
    assert mlflow.get_tracking_uri() == before


FRESH = """
import logging, sys, threading
from quant_assets.registry.connection import connect
uri = "sqlite:///" + sys.argv[1]
connect(uri, create=True)
from mlflow.telemetry import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled() and get_telemetry_client() is None
"""


def test_processes_that_meet_a_fresh_database_together_both_get_it_quietly_without_telemetry(
    tmp_path: Path,
) -> None:
    # A CI variable alone would switch telemetry off: the test asks what a user's machine does.
    quiet = re.compile("CI$|CI_|PYTEST|TELEMETRY|TRACK|GITHUB|BUILD|TRAVIS|JENKINS|CIRCLE|GITLAB|MLFLOW")
    environment = {k: v for k, v in os.environ.items() if not quiet.search(k)}
    database = tmp_path / "fresh" / "mlflow.db"
    database.parent.mkdir()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FRESH, str(database)],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert not any("alembic" in text or "INFO" in text for text in outputs), outputs


def test_a_server_that_does_not_answer_is_one_clear_error_within_seconds(tmp_path: Path) -> None:
    address = "http://user:secret@127.0.0.1:9"
    started = time.monotonic()
    with pytest.raises(RegistryError, match=r"connecting at http://user:\*\*\*@127.0.0.1:9") as caught:
        current_champion(address, STRATEGY)
    assert "secret" not in str(caught.value)
    with pytest.raises(RegistryError, match="connecting"):
        record_training(address, record_of(ONE), artifact_root=tmp_path)
    assert time.monotonic() - started < 30


def test_a_lost_database_is_an_error_and_not_an_empty_registry(desk: Desk) -> None:
    desk.record(ONE)
    Path(desk.uri.removeprefix("sqlite:///")).unlink()
    with pytest.raises(RegistryError, match="no such file"):
        current_champion(desk.uri, STRATEGY)
    # MLflow still holds the deleted file open: what it would write there is lost.
    with pytest.raises(RegistryError, match="deleted while this process had it open"):
        desk.record(TWO)


def test_a_damaged_database_is_an_error(tmp_path: Path, template_database: Path) -> None:
    database = tmp_path / "damaged.db"
    shutil.copy(template_database, database)
    with database.open("r+b") as handle:
        handle.write(b"\xff" * 4096)
    with pytest.raises(RegistryError, match="not a database"):
        current_champion(f"sqlite:///{database}", STRATEGY)


def test_addresses_are_shown_without_their_password() -> None:
    assert shown("postgresql+psycopg2://u:p@ss@host:5432/db") == "postgresql+psycopg2://u:***@host:5432/db"
    assert shown("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"
    assert sqlite_file("sqlite:////data/mlflow.db?timeout=5") == Path("/data/mlflow.db")
    assert sqlite_file("http://host/") is None
