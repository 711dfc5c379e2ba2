"""Everything that a run holds, written through ``MlflowClient`` by run id. Writing it again changes nothing."""

import json
import math
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quant_assets.registry.dataset_input import training_input
from quant_assets.registry.native_flavours import NATIVE_FOLDER, write_native_models
from quant_assets.registry.onnx_flavour import write_model_directory
from quant_assets.registry.training_record import MODEL_FILE, MODEL_FOLDER, TrainingRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUN_URL_TAG = "dagster.run_url"
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
