"""The training record: one MLflow run and one model version per body of evidence, written in one step.

Everything goes through ``MlflowClient`` by run id. The run is found again by its tags, so a step that is
repeated finds its finished run, and a step that was killed resumes the run it had opened: there are never two
finished runs for the same evidence.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upath import UPath

from quant_assets.common.errors import RegistryError
from quant_assets.common.logging import get_logger
from quant_assets.registry.connection import connect, exclusive, reported
from quant_assets.registry.run_writer import descriptive_tags, write_run
from quant_assets.registry.training_record import MODEL_FILE, MODEL_FOLDER, TrainingRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

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
