"""What of a candidate goes into its MLflow record: parameters, metrics, curves, verdicts, links, files."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quant_assets.common.errors import EvidenceError
from quant_assets.common.settings import StrategyConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.learning_curves import LearningCurves
from quant_assets.registry.dataset_input import dataset_profile, dataset_schema
from quant_assets.registry.environment import environment_files
from quant_assets.registry.run_writer import RUN_URL_TAG
from quant_assets.registry.split_metrics import split_metrics, spread
from quant_assets.registry.training_record import MODEL_FILE, TrainingRecord
from quant_assets.validation.evidence import require_recipe
from quant_assets.validation.paths import rank_ic_by_session
from quant_assets.validation.verdicts import GateReport

# Path statistics that are facts about the path, not measurements to chart.
_NOT_METRICS = frozenset({"path", "n_sessions"})
_COUNTS = frozenset({"rows_trained", "rows_tested"})


@dataclass(frozen=True)
class CandidateEvidence:
    """The stored artifacts that a record is made from.

    Attributes
    ----------
    training_set : Table
        With its manifest, which becomes tags.
    training_set_version : str
    ensemble : mapping
        The candidate.
    base_learners : mapping of str to mapping
        Records of the base learners, with their learning curves.
    predictions : Table
        Scores of every row on every path, with the recipe that made them.
    paths : Table
        Path returns.
    onnx : bytes
        The fused graph: becomes the MLflow model.
    files : mapping of str to bytes
        More artifacts, by file name.
    """

    training_set: Table
    training_set_version: str
    ensemble: Mapping[str, Any]
    base_learners: Mapping[str, Mapping[str, Any]]
    predictions: Table
    paths: Table
    onnx: bytes
    files: Mapping[str, bytes]


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
    evidence: CandidateEvidence,
    *,
    run_id: str,
    run_url: str | None = None,
    system: Mapping[str, float] | None = None,
    machine: Mapping[str, str] | None = None,
) -> TrainingRecord:
    """Gather the record of one candidate.

    Parameters
    ----------
    report : GateReport
        Its validation report: path statistics, aggregates and verdicts.
    evidence : CandidateEvidence
    run_id, run_url : str
        The Dagster run and its page, for the link back.
    system : mapping of str to float, optional
        What the training steps took of the machine, by ``<step>/<quantity>``.
    machine : mapping of str to str, optional
        The machine that makes the record.

    Raises
    ------
    EvidenceError
        When predictions or base learners are not those of the candidate.
    """
    from quant_assets.registry.run_plots import run_plots

    require_recipe("cross-predictions", evidence.predictions.metadata.get("recipe"), evidence.ensemble)
    curves = _curves(evidence)
    candidate = Ensemble.from_json(evidence.ensemble)
    training, kind = evidence.training_set.frame, strategy.models.label_kind
    splits = split_metrics(evidence.predictions.frame, training, strategy.validation, kind)
    paths = tuple(
        {k: float(v) for k, v in path.items() if k not in _NOT_METRICS and v is not None}
        for path in report.details["paths"]
    )
    labels = training.select("symbol", "session", forward_return="target")
    plots = run_plots(
        evidence.paths.frame,
        rank_ic_by_session(evidence.predictions.frame, labels),
        curves,
        candidate.importance(),
        median_path=int(report.details["median_path"]),
        trees={learner.name: len(learner.trees()) for learner in candidate.learners},
    )
    features = feature_names_of(evidence.training_set)
    return TrainingRecord(
        strategy=strategy.name,
        subject=report.subject,
        params=flat(strategy.model_dump(mode="json", exclude={"name", "description"})),
        metrics=_aggregates(report, paths, splits),
        path_metrics=paths,
        split_metrics=splits,
        curves=curves,
        dataset_name=f"{strategy.name}/training_set",
        dataset_digest=evidence.training_set_version,
        dataset_schema=tuple(dataset_schema(training)),
        dataset_profile=dataset_profile(training, features),
        feature_names=features,
        artifacts={MODEL_FILE: evidence.onnx, **evidence.files},
        attachments={**plots, **environment_files()},
        ensemble=evidence.ensemble,
        verdicts=report.verdicts,
        system=dict(system or {}),
        tags={
            "dagster.run_id": run_id,
            **({RUN_URL_TAG: run_url} if run_url else {}),
            "quant.model_version": report.subject,
            "quant.dataset_version": evidence.training_set_version,
            **{
                f"quant.upstream.{k}": v for k, v in evidence.training_set.metadata.items() if k != "features"
            },
            **{f"quant.machine.{k}": v for k, v in (machine or {}).items()},
        },
    )


def _aggregates(
    report: GateReport, paths: tuple[Mapping[str, float], ...], splits: tuple[Mapping[str, float], ...]
) -> dict[str, float]:
    details = report.details
    metrics = spread(paths)
    metrics |= {
        f"{name}.{how}": float(value)
        for name, summary in details["aggregated"].items()
        if summary is not None
        for how, value in summary.items()
    }
    scored = [{k: v for k, v in split.items() if k not in _COUNTS} for split in splits]
    metrics |= {f"split_{name}": value for name, value in spread(scored).items()}
    metrics["n_trials"] = float(details["trials"]["n_trials"])
    return metrics | {f"gate.{v.gate}": v.observed for v in report.verdicts if v.observed is not None}


def _curves(evidence: CandidateEvidence) -> dict[str, LearningCurves]:
    """Learning curves of the base learners that the candidate was made of, and of no others."""
    curves = {}
    for learner in evidence.ensemble["learners"]:
        name = learner["name"]
        stored = evidence.base_learners.get(name, {})
        if stored.get("model") != learner["text"] or "curves" not in stored:
            raise EvidenceError(
                f"base learner {name}",
                expected="the one that the candidate was made of, with its learning curves",
                found="another one" if "curves" in stored else "a record without learning curves",
                action=f"materialise {name}, the ensemble and everything after it again",
            )
        curves[name] = LearningCurves.from_json(stored["curves"])
    return curves
