"""Trials in MLflow: one nested run each below the training's run, whatever was killed on the way."""

from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from quant_assets.common.errors import RegistryError
from quant_assets.registry.tracking import RecordedRun, record_trials

from .conftest import STRATEGY, Desk

TUNING: dict[str, Any] = {
    "strategy": STRATEGY,
    "study": f"{STRATEGY}-0123",
    "best": {"trial": 0, "value": 0.08, "params": {"lightgbm": {"num_leaves": 15}}},
    "trials": [
        {
            "number": 0,
            "state": "complete",
            "value": 0.08,
            "params": {"lightgbm.num_leaves": 15, "lightgbm.learning_rate": 0.05},
            "fold_values": [0.06, 0.1],
            "fingerprint": "a" * 64,
            "reason": None,
        },
        {
            "number": 1,
            "state": "pruned",
            "value": None,
            "params": {"lightgbm.num_leaves": 31, "lightgbm.learning_rate": 0.2},
            "fold_values": [-0.02],
            "fingerprint": "b" * 64,
            "reason": None,
        },
        {
            "number": 2,
            "state": "failed",
            "value": None,
            "params": {"lightgbm.num_leaves": 7, "lightgbm.learning_rate": 0.1},
            "fold_values": [],
            "fingerprint": None,
            "reason": "no leaf",
        },
    ],
}


def children_of(desk: Desk, parent: RecordedRun) -> list[Run]:
    client = MlflowClient(desk.uri, desk.uri)
    found = client.search_runs(
        [parent.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.run_id}'", max_results=100
    )
    return sorted(found, key=lambda run: int(run.data.tags["quant.trial"]))


def test_each_trial_is_a_nested_run_with_its_parameters_folds_state_and_ledger_row(desk: Desk) -> None:
    parent = desk.record("1" * 64)
    ids = record_trials(desk.uri, parent, TUNING)
    runs = children_of(desk, parent)
    assert tuple(run.info.run_id for run in runs) == ids
    assert [run.info.status for run in runs] == ["FINISHED", "KILLED", "FAILED"]
    assert [run.data.tags["quant.trial_state"] for run in runs] == ["complete", "pruned", "failed"]
    assert [run.data.tags["quant.best_trial"] for run in runs] == ["true", "false", "false"]
    assert runs[0].data.params == {"lightgbm.num_leaves": "15", "lightgbm.learning_rate": "0.05"}
    assert runs[0].data.metrics["sharpe_per_session"] == 0.08
    assert "sharpe_per_session" not in runs[1].data.metrics
    history = MlflowClient(desk.uri, desk.uri).get_metric_history(ids[0], "fold_sharpe_per_session")
    assert [(m.step, m.value) for m in history] == [(0, 0.06), (1, 0.1)]
    assert runs[1].data.tags["quant.ledger_row"] == "b" * 64
    assert runs[2].data.tags["quant.ledger_row"].startswith("not counted")
    assert runs[2].data.tags["quant.reason"] == "no leaf"


def test_writing_them_again_changes_nothing(desk: Desk) -> None:
    parent = desk.record("1" * 64)
    ids = record_trials(desk.uri, parent, TUNING)
    before = [run.to_dictionary() for run in children_of(desk, parent)]
    assert record_trials(desk.uri, parent, TUNING) == ids
    assert [run.to_dictionary() for run in children_of(desk, parent)] == before


@pytest.mark.parametrize("method", ["log_batch", "set_terminated"])
def test_a_writer_that_is_killed_leaves_one_run_per_trial_and_the_next_one_finishes_it(
    desk: Desk, killed_at: Callable[[str], None], method: str
) -> None:
    parent = desk.record("1" * 64)
    killed_at(method)
    with pytest.raises(KeyboardInterrupt):
        record_trials(desk.uri, parent, TUNING)
    assert [run.info.status for run in children_of(desk, parent)] == ["RUNNING"]
    record_trials(desk.uri, parent, TUNING)
    runs = children_of(desk, parent)
    assert [run.info.status for run in runs] == ["FINISHED", "KILLED", "FAILED"]
    history = MlflowClient(desk.uri, desk.uri).get_metric_history(
        runs[0].info.run_id, "fold_sharpe_per_session"
    )
    assert len(history) == 2


def test_the_training_record_is_found_again_beside_its_trials(desk: Desk) -> None:
    parent = desk.record("1" * 64)
    record_trials(desk.uri, parent, TUNING)
    again = desk.record("1" * 64)
    assert (again.run_id, again.reused) == (parent.run_id, True)


def test_another_study_below_the_same_training_has_runs_of_its_own(desk: Desk) -> None:
    parent = desk.record("1" * 64)
    first = record_trials(desk.uri, parent, TUNING)
    second = record_trials(desk.uri, parent, {**TUNING, "study": f"{STRATEGY}-4567"})
    assert not set(first) & set(second)
    assert len(children_of(desk, parent)) == 6


def test_a_server_that_is_gone_is_one_clear_error(desk: Desk) -> None:
    parent = desk.record("1" * 64)
    with pytest.raises(RegistryError, match="no such file"):
        record_trials(f"sqlite:///{desk.folder / 'lost.db'}", parent, TUNING)
