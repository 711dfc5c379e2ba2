"""The training record in MLflow: one run and one model version per body of evidence, and a nested run per trial.

Everything goes through ``MlflowClient`` by run id, in one step. A run is found again by its tags (a trial's by its
parent, study and number), so a step that is repeated finds its finished run, and one that was killed resumes the run
it had opened and writes the same values again: there are never two finished runs for the same evidence.
"""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from quant_assets.common.errors import RegistryError
from quant_assets.common.logging import get_logger
from quant_assets.ledgers.trial_records import Anchor
from quant_assets.registry.connection import connect, exclusive, reported
from quant_assets.registry.model_files import NATIVE_FOLDER, write_model_directory, write_native_models
from quant_assets.registry.record import (
    MODEL_FILE,
    MODEL_FOLDER,
    RUN_URL_TAG,
    TRIAL_ANCHOR_TAG,
    TRIAL_BOOK_TAG,
    TrainingRecord,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run
    from mlflow.entities.model_registry import ModelVersion

# MLflow's own limits (its database holds 65,535 bytes of schema) and 36 characters of digest.
_MOST_SCHEMA_CHARACTERS = 65_535
_DIGEST_CHARACTERS = 36


# ---------------------------------------------------------------------------------------------------- one run


def training_input(
    name: str, digest: str, source: str, schema: Sequence[dict[str, Any]], profile: dict[str, Any]
) -> "DatasetInput":
    """MLflow's entity for a training set.

    Parameters
    ----------
    name : str
    digest : str
        Data version. MLflow's own field holds its first 36 characters, the source the whole.
    source : str
        Where it is: the asset key.
    schema, profile
        As given by `quant_assets.registry.record.dataset_schema` and `dataset_profile`; may be empty.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = json.dumps({"mlflow_colspec": list(schema)}) if schema else None
    if columns is not None and len(columns) > _MOST_SCHEMA_CHARACTERS:
        # Too wide for MLflow's field: the file dataset_schema.json has every column.
        columns = json.dumps({"mlflow_colspec": [], "columns": len(schema)})
    dataset = Dataset(
        name=name,
        digest=digest[:_DIGEST_CHARACTERS],
        source_type="quant_assets",
        source=json.dumps({"data_version": digest, "asset": source}),
        schema=columns,
        profile=json.dumps(profile) if profile else None,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


# MLflow shows the text of this tag, in Markdown, at the head of the run's page.
NOTE_TAG = "mlflow.note.content"

# MLflow refuses batches above these sizes.
_METRICS_PER_BATCH = 1000
_PARAMS_PER_BATCH = 100


def write_run(client: "MlflowClient", run: "Run", record: TrainingRecord) -> None:
    """Log everything. Repeating it changes nothing: times are the run's start, artifacts are overwritten."""
    from mlflow.entities import Metric, Param, RunTag

    run_id, at = run.info.run_id, run.info.start_time
    params = [Param(k, str(v)) for k, v in sorted(record.params.items())]
    for start in range(0, len(params), _PARAMS_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + _PARAMS_PER_BATCH])

    rows = record.measured()
    metrics = [Metric(name, float(v), at, step) for name, v, step in rows if math.isfinite(v)]
    for start in range(0, len(metrics), _METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])

    tags = dict(record.tags) | descriptive_tags(record) | {NOTE_TAG: _note(record)}
    tags |= {f"quant.not_finite.{name}.{step}": str(v) for name, v, step in rows if not math.isfinite(v)}
    for start in range(0, len(tags), _PARAMS_PER_BATCH):
        batch = sorted(tags.items())[start : start + _PARAMS_PER_BATCH]
        client.log_batch(run_id, tags=[RunTag(k, v) for k, v in batch])

    dataset = training_input(
        record.dataset_name,
        record.dataset_digest,
        record.dataset_name,
        record.dataset_schema,
        dict(record.dataset_profile),
    )
    client.log_inputs(run_id, [dataset])
    _write_artifacts(client, run_id, record)


def descriptive_tags(record: TrainingRecord) -> dict[str, str]:
    """Tags of a run and of its model version."""
    return {
        "quant.dataset": record.dataset_name,
        "quant.dataset_digest": record.dataset_digest,
        "quant.n_features": str(len(record.feature_names)),
        **{f"quant.verdict.{verdict.gate}": verdict.status for verdict in record.verdicts},
    }


def _note(record: TrainingRecord) -> str:
    """The head of the run's page: what this is, the way back to the orchestrator's run, the verdicts."""
    lines = [f"Candidate `{record.subject[:12]}` of **{record.strategy}**."]
    if RUN_URL_TAG in record.tags:
        lines.append(f"Recorded by [this Dagster run]({record.tags[RUN_URL_TAG]}).")
    if record.verdicts:
        lines += ["", "| gate | verdict | observed | required |", "| --- | --- | --- | --- |"]
        for verdict in record.verdicts:
            observed = "-" if verdict.observed is None else f"{verdict.observed:.4g}"
            lines.append(
                f"| {verdict.gate} | {verdict.status} | {observed} | {verdict.comparison} {verdict.required:.4g} |"
            )
    return "\n".join(lines)


def _write_artifacts(client: "MlflowClient", run_id: str, record: TrainingRecord) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files, model = Path(folder) / "files", Path(folder) / MODEL_FOLDER
        files.mkdir()
        facts: dict[str, Any] = {
            "features.json": list(record.feature_names),
            "verdicts.json": [asdict(verdict) for verdict in record.verdicts],
        }
        if record.curves:
            facts["learning_curves.json"] = {name: c.to_json() for name, c in sorted(record.curves.items())}
        if record.dataset_schema:
            facts["dataset.json"] = {
                "name": record.dataset_name,
                "digest": record.dataset_digest,
                "schema": list(record.dataset_schema),
                "profile": dict(record.dataset_profile),
            }
        written = {
            name: json.dumps(value, indent=1, allow_nan=False).encode() for name, value in facts.items()
        }
        for name, data in {**record.attachments, **record.artifacts, **written}.items():
            if name != MODEL_FILE:
                (files / name).parent.mkdir(parents=True, exist_ok=True)
                (files / name).write_bytes(data)
        write_model_directory(record.artifacts[MODEL_FILE], record.feature_names, model)
        if record.ensemble is not None:
            write_native_models(record.ensemble, files / NATIVE_FOLDER)
        client.log_artifacts(run_id, str(files))
        client.log_artifacts(run_id, str(model), MODEL_FOLDER)


# ---------------------------------------------------------------------------------------- the training record


CANDIDATE = "candidate"

_log = get_logger(__name__)


@dataclass(frozen=True)
class RecordedRun:
    """Where the record is. ``url`` is None where the tracking server has no page (a database file)."""

    run_id: str
    experiment_id: str
    model_name: str
    model_version: str
    url: str | None
    reused: bool


def record_training(tracking_uri: str, record: TrainingRecord, *, artifact_root: str | Path) -> RecordedRun:
    """Write the record of one training to MLflow and register its model as the ``candidate``.

    Parameters
    ----------
    tracking_uri : str
        Where runs and the model registry live. A sqlite database that does not exist is created.
    record : TrainingRecord
    artifact_root : str or Path
        Folder or URL below which new experiments keep their artifacts. Without one MLflow puts them into the
        working directory of whoever comes first.

    Returns
    -------
    RecordedRun
        ``reused`` is true when the finished run of this evidence existed already.

    Raises
    ------
    RegistryError
        When the server is unreachable, or the model in the record does not take the record's features. The
        run is then left FAILED, and the next call resumes it.
    """
    _require_model(record)
    client = connect(tracking_uri, create=True)
    with exclusive(tracking_uri, "record"), reported(tracking_uri, f"recording {record.strategy}"):
        experiment_id = _experiment(client, record.strategy, artifact_root)
        run, finished = _open_run(client, experiment_id, record)
        if not finished:
            try:
                write_run(client, run, record)
            except Exception:
                client.set_terminated(run.info.run_id, "FAILED")
                raise
            client.set_terminated(run.info.run_id, "FINISHED")
        version = _register(client, run, record)
    _log.info(
        "training recorded", strategy=record.strategy, mlflow_run=run.info.run_id, version=version.version
    )
    http = tracking_uri.startswith(("http://", "https://"))
    page = f"{tracking_uri.rstrip('/')}/#/experiments/{experiment_id}/runs/{run.info.run_id}"
    return RecordedRun(
        run_id=run.info.run_id,
        experiment_id=experiment_id,
        model_name=record.strategy,
        model_version=str(version.version),
        url=page if http else None,
        reused=finished,
    )


def recorded_anchors(tracking_uri: str, book: str) -> tuple[Anchor, ...]:
    """Where a book of trials stood at each training record of any strategy.

    Raises
    ------
    RegistryError
        When the server cannot say: unknown is not the same as none.
    """
    client = connect(tracking_uri)
    found: set[str] = set()
    with reported(tracking_uri, f"reading the trial anchors of {book}"):
        experiments = [str(e.experiment_id) for e in client.search_experiments()]
        token = None
        while True:
            page = client.search_runs(
                experiments, f"tags.`{TRIAL_BOOK_TAG}` = '{book}'", max_results=1000, page_token=token
            )
            found |= {run.data.tags[TRIAL_ANCHOR_TAG] for run in page}
            token = page.token
            if not token:
                return tuple(Anchor.parse(text) for text in sorted(found))


def _require_model(record: TrainingRecord) -> None:
    if MODEL_FILE not in record.artifacts:
        raise RegistryError(
            f"training record of {record.strategy} {record.subject[:12]}",
            expected=f"an artifact named {MODEL_FILE}",
            found=f"{sorted(record.artifacts)}",
            action="materialise onnx_fp32 and record it with the rest",
        )


def _experiment(client: "MlflowClient", name: str, artifact_root: str | Path) -> str:
    existing = client.get_experiment_by_name(name)
    if existing is not None:
        return str(existing.experiment_id)
    root = UPath(artifact_root)
    location = UPath(root.absolute() if root.protocol in ("", "file", "local") else root) / name
    tags = {
        "mlflow.experimentKind": "custom_model_development"
    }  # without it, pages open as for language models
    return str(client.create_experiment(name, artifact_location=location.as_uri(), tags=tags))


def _identity(record: TrainingRecord) -> dict[str, str]:
    return {
        "quant.strategy": record.strategy,
        "quant.subject": record.subject,
        "quant.evidence": record.evidence_digest(),
    }


def _open_run(client: "MlflowClient", experiment_id: str, record: TrainingRecord) -> tuple["Run", bool]:
    """The run of this evidence, and whether it is finished.

    The caller holds the recording lock, so a run that is still RUNNING belongs to a process that died.
    """
    identity = _identity(record)
    condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in identity.items())
    found = list(
        client.search_runs([experiment_id], condition, max_results=50, order_by=["attributes.start_time ASC"])
    )
    found.sort(key=lambda run: run.info.status != "FINISHED")
    if not found:
        title = f"{record.strategy} {record.subject[:12]}"
        return client.create_run(experiment_id, run_name=title, tags=identity), False
    run, *others = found
    for other in others:
        if other.info.status == "RUNNING":
            client.set_terminated(other.info.run_id, "FAILED")
    if run.info.status == "FINISHED":
        return run, True
    client.update_run(run.info.run_id, status="RUNNING")
    return run, False


def _register(client: "MlflowClient", run: "Run", record: TrainingRecord) -> "ModelVersion":
    """The model version of a finished run, made when it is missing, and the ``candidate`` alias on it."""
    name = record.strategy
    if not client.search_registered_models(f"name = '{name}'", max_results=1):
        client.create_registered_model(name)
    source = f"{run.info.artifact_uri}/{MODEL_FOLDER}"
    tags = _identity(record) | descriptive_tags(record)
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'")
    version = versions[0] if versions else client.create_model_version(name, source, run.info.run_id, tags)
    current = client.get_registered_model(name).aliases.get(CANDIDATE)
    if str(current) != str(version.version):
        client.set_registered_model_alias(name, CANDIDATE, str(version.version))
    return version


# ---------------------------------------------------------------------------------------------- tuning trials


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
        The result of `quant_assets.studies.strategy_tuning.tune_strategy`.

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
