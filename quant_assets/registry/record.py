"""What of a candidate goes into its MLflow record: parameters, metrics, verdicts, links, files."""

from collections.abc import Mapping
from typing import Any

from quant_assets.common.settings import StrategyConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.registry.tracking import MODEL_FILE, TrainingRecord
from quant_assets.validation.verdicts import GateReport

# Path statistics that are facts about the path, not measurements to chart.
_NOT_METRICS = frozenset({"path", "n_sessions"})


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as MLflow parameters: ``models.lightgbm.num_leaves`` to ``"15"``."""
    parameters: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            parameters |= flat(value, f"{prefix}{key}.")
        elif value is not None:
            parameters[f"{prefix}{key}"] = str(value)
    return parameters


def candidate_record(
    strategy: StrategyConfig,
    report: GateReport,
    *,
    training_set: Table,
    training_set_version: str,
    onnx: bytes,
    files: Mapping[str, bytes],
    run_id: str,
) -> TrainingRecord:
    """Gather the record of one candidate.

    Parameters
    ----------
    report : GateReport
        Its validation report: path statistics, aggregates and verdicts.
    training_set : Table
        With its manifest, which becomes tags.
    onnx : bytes
        The fused graph: becomes the MLflow model.
    files : mapping of str to bytes
        More artifacts, by file name.
    run_id : str
        The Dagster run, for the link back.
    """
    details = report.details
    metrics = {
        f"{name}.{how}": float(value)
        for name, summary in details["aggregated"].items()
        if summary is not None
        for how, value in summary.items()
    }
    metrics["n_trials"] = float(details["trials"]["n_trials"])
    metrics |= {f"gate.{v.gate}": v.observed for v in report.verdicts if v.observed is not None}
    paths = tuple(
        {k: float(v) for k, v in path.items() if k not in _NOT_METRICS and v is not None}
        for path in details["paths"]
    )
    return TrainingRecord(
        strategy=strategy.name,
        subject=report.subject,
        params=flat(strategy.model_dump(mode="json", exclude={"name", "description"})),
        metrics=metrics,
        path_metrics=paths,
        dataset_name=f"{strategy.name}/training_set",
        dataset_digest=training_set_version,
        feature_names=feature_names_of(training_set),
        artifacts={MODEL_FILE: onnx, **files},
        verdicts=report.verdicts,
        tags={
            "dagster.run_id": run_id,
            "quant.model_version": report.subject,
            "quant.dataset_version": training_set_version,
            **{f"quant.upstream.{k}": v for k, v in training_set.metadata.items() if k != "features"},
        },
    )
