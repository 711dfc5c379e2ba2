"""Tuning trials in MLflow: one nested run per trial below the run of the training that used the tuning.

Written in one step with the training record, through ``MlflowClient`` by run id. A trial's run is found again by
its parent, study and number, and one that was left open by a process that died is written again to the same values.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from quant_assets.registry.connection import connect, exclusive, reported
from quant_assets.registry.tracking import RecordedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PARENT_TAG = "mlflow.parentRunId"
TRIAL_TAG = "quant.trial"
STUDY_TAG = "quant.study"

# MLflow's word for how each state ended.
_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


def record_trials(tracking_uri: str, parent: RecordedRun, tuning: Mapping[str, Any]) -> tuple[str, ...]:
    """Write every trial of a tuning as a nested run of a training record.

    Parameters
    ----------
    tracking_uri : str
    parent : RecordedRun
        The finished run of the training.
    tuning : mapping
        The result of `quant_assets.validation.tuning.tune_strategy`.

    Returns
    -------
    tuple of str
        Run ids, by number of the trial. The same when called again.

    Raises
    ------
    RegistryError
        When the server is unreachable.
    """
    client = connect(tracking_uri)
    with (
        exclusive(tracking_uri, "record"),
        reported(tracking_uri, f"recording trials of {tuning['strategy']}"),
    ):
        known = _children(client, parent, tuning["study"])
        return tuple(
            _record(client, parent, tuning, trial, known.get(trial["number"])) for trial in tuning["trials"]
        )


def _children(client: "MlflowClient", parent: RecordedRun, study: str) -> "dict[int, Run]":
    """The trials that are there, by number, page by page."""
    condition = f"tags.`{PARENT_TAG}` = '{parent.run_id}' and tags.`{STUDY_TAG}` = '{study}'"
    found: dict[int, Run] = {}
    token: str | None = None
    while True:
        page = client.search_runs([parent.experiment_id], condition, max_results=500, page_token=token)
        found |= {int(run.data.tags[TRIAL_TAG]): run for run in page}
        token = page.token
        if not token:
            return found


def _record(
    client: "MlflowClient",
    parent: RecordedRun,
    tuning: Mapping[str, Any],
    trial: Mapping[str, Any],
    run: "Run | None",
) -> str:
    if run is None:
        run = client.create_run(
            parent.experiment_id,
            run_name=f"trial {trial['number']}",
            tags={
                PARENT_TAG: parent.run_id,
                TRIAL_TAG: str(trial["number"]),
                STUDY_TAG: tuning["study"],
            },
        )
    elif run.info.status != "RUNNING":
        return str(run.info.run_id)
    _write(client, run, tuning, trial)
    client.set_terminated(run.info.run_id, _STATUS[trial["state"]], run.info.start_time)
    return str(run.info.run_id)


def _write(client: "MlflowClient", run: "Run", tuning: Mapping[str, Any], trial: Mapping[str, Any]) -> None:
    """Everything in one call. Repeating it changes nothing: times are the run's start."""
    from mlflow.entities import Metric, Param, RunTag

    at = run.info.start_time
    values = [("sharpe_per_session", trial["value"], 0)] if trial["value"] is not None else []
    values += [("fold_sharpe_per_session", value, fold) for fold, value in enumerate(trial["fold_values"])]
    tags = {
        "quant.strategy": tuning["strategy"],
        "quant.trial_state": trial["state"],
        "quant.best_trial": str(trial["number"] == tuning["best"]["trial"]).lower(),
        "quant.ledger_row": trial["fingerprint"] or "not counted: no score was seen",
    }
    if trial["reason"]:
        tags["quant.reason"] = trial["reason"]
    client.log_batch(
        run.info.run_id,
        metrics=[Metric(name, float(v), at, step) for name, v, step in values if math.isfinite(v)],
        params=[Param(name, str(value)) for name, value in trial["params"].items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
