"""The training record: one MLflow run and one model version per body of evidence, written in one step.

Everything goes through ``MlflowClient`` by run id. The run is found again by its tags, so a step that is
repeated finds its finished run, and a step that was killed resumes the run it had opened: there are never two
finished runs for the same evidence.
"""

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from upath import UPath

from quant_assets.common.errors import RegistryError
from quant_assets.common.hashing import bytes_digest, json_digest
from quant_assets.common.logging import get_logger
from quant_assets.registry.connection import connect, exclusive, reported
from quant_assets.registry.onnx_flavour import write_model_directory
from quant_assets.validation.verdicts import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

MODEL_FILE = "model.onnx"
MODEL_FOLDER = "model"
CANDIDATE = "candidate"

# MLflow refuses batches above these sizes.
_METRICS_PER_BATCH = 1000
_PARAMS_PER_BATCH = 100

_log = get_logger(__name__)


@dataclass(frozen=True)
class TrainingRecord:
    """What one training leaves behind, ready to be recorded.

    Attributes
    ----------
    strategy, subject : str
        Name of the strategy and data version of the candidate.
    params : mapping of str to str
    metrics : mapping of str to float
        Aggregates over all paths. One that is not finite becomes a tag, because a chart drops it silently.
    path_metrics : tuple of mapping
        One mapping per backtest path; logged with the path's number as the step.
    dataset_name, dataset_digest : str
        The training set and its data version.
    feature_names : tuple of str
        Columns of the model's input, in order.
    artifacts : mapping of str to bytes
        By file name. ``model.onnx`` becomes the MLflow model.
    verdicts : tuple of Verdict
        One row per gate, as known when the record is made.
    tags : mapping of str to str
        Links (orchestrator run, git revision). They are not evidence: changing one makes no new run.
    """

    strategy: str
    subject: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    dataset_name: str
    dataset_digest: str
    feature_names: tuple[str, ...]
    artifacts: Mapping[str, bytes]
    path_metrics: tuple[Mapping[str, float], ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def evidence_digest(self) -> str:
        """SHA-256 of everything but the tags: the identity of the run."""
        return json_digest(
            {
                "strategy": self.strategy,
                "subject": self.subject,
                "params": dict(self.params),
                "metrics": {k: repr(float(v)) for k, v in self.metrics.items()},
                "paths": [{k: repr(float(v)) for k, v in path.items()} for path in self.path_metrics],
                "dataset": [self.dataset_name, self.dataset_digest],
                "features": list(self.feature_names),
                "artifacts": {name: bytes_digest(data) for name, data in self.artifacts.items()},
                "verdicts": [asdict(v) for v in self.verdicts],
            }
        )


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
                _write_run(client, run, record)
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
    return str(client.create_experiment(name, artifact_location=location.as_uri()))


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


def _write_run(client: "MlflowClient", run: "Run", record: TrainingRecord) -> None:
    """Log everything. Repeating it changes nothing: times are the run's start, artifacts are overwritten."""
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

    run_id, at = run.info.run_id, run.info.start_time
    params = [Param(k, str(v)) for k, v in sorted(record.params.items())]
    for start in range(0, len(params), _PARAMS_PER_BATCH):
        client.log_batch(run_id, params=params[start : start + _PARAMS_PER_BATCH])

    rows = [(name, value, 0) for name, value in sorted(record.metrics.items())]
    rows += [
        (f"path_{name}", value, step)
        for step, path in enumerate(record.path_metrics)
        for name, value in sorted(path.items())
    ]
    metrics = [Metric(name, float(v), at, step) for name, v, step in rows if math.isfinite(v)]
    for start in range(0, len(metrics), _METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_PER_BATCH])

    tags = dict(record.tags) | _descriptive_tags(record)
    tags |= {f"quant.not_finite.{name}.{step}": str(v) for name, v, step in rows if not math.isfinite(v)}
    for start in range(0, len(tags), _PARAMS_PER_BATCH):
        batch = sorted(tags.items())[start : start + _PARAMS_PER_BATCH]
        client.log_batch(run_id, tags=[RunTag(k, v) for k, v in batch])

    # MLflow's own digest field holds 36 characters; the whole digest is in the tags.
    dataset = Dataset(
        name=record.dataset_name,
        digest=record.dataset_digest[:36],
        source_type="quant_assets",
        source=json.dumps({"data_version": record.dataset_digest}),
    )
    client.log_inputs(run_id, [DatasetInput(dataset, [])])
    _write_artifacts(client, run_id, record)


def _write_artifacts(client: "MlflowClient", run_id: str, record: TrainingRecord) -> None:
    with tempfile.TemporaryDirectory() as folder:
        evidence, model = Path(folder) / "evidence", Path(folder) / MODEL_FOLDER
        evidence.mkdir()
        for name, data in record.artifacts.items():
            if name != MODEL_FILE:
                (evidence / name).parent.mkdir(parents=True, exist_ok=True)
                (evidence / name).write_bytes(data)
        facts: dict[str, Any] = {
            "features.json": list(record.feature_names),
            "verdicts.json": [asdict(verdict) for verdict in record.verdicts],
        }
        for name, value in facts.items():
            (evidence / name).write_text(json.dumps(value, indent=1, allow_nan=False), encoding="utf-8")
        write_model_directory(record.artifacts[MODEL_FILE], record.feature_names, model)
        client.log_artifacts(run_id, str(evidence))
        client.log_artifacts(run_id, str(model), MODEL_FOLDER)


def _descriptive_tags(record: TrainingRecord) -> dict[str, str]:
    return {
        "quant.dataset": record.dataset_name,
        "quant.dataset_digest": record.dataset_digest,
        "quant.n_features": str(len(record.feature_names)),
        **{f"quant.verdict.{verdict.gate}": verdict.status for verdict in record.verdicts},
    }


def _register(client: "MlflowClient", run: "Run", record: TrainingRecord) -> "ModelVersion":
    """The model version of a finished run, made when it is missing, and the ``candidate`` alias on it."""
    name = record.strategy
    if not client.search_registered_models(f"name = '{name}'", max_results=1):
        client.create_registered_model(name)
    source = f"{run.info.artifact_uri}/{MODEL_FOLDER}"
    tags = _identity(record) | _descriptive_tags(record)
    versions = client.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'")
    version = versions[0] if versions else client.create_model_version(name, source, run.info.run_id, tags)
    current = client.get_registered_model(name).aliases.get(CANDIDATE)
    if str(current) != str(version.version):
        client.set_registered_model_alias(name, CANDIDATE, str(version.version))
    return version
