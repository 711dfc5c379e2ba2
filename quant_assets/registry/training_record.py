"""What one training leaves behind, and which of it is evidence: the identity of its MLflow run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from quant_assets.common.hashing import bytes_digest, json_digest
from quant_assets.models.learning_curves import LearningCurves
from quant_assets.validation.verdicts import Verdict

MODEL_FILE = "model.onnx"
MODEL_FOLDER = "model"


@dataclass(frozen=True)
class TrainingRecord:
    """What one training leaves behind, ready to be recorded.

    Attributes
    ----------
    strategy, subject : str
        Name of the strategy and data version of the candidate.
    params : mapping of str to str
    metrics : mapping of str to float
        Aggregates over all paths and splits. One that is not finite becomes a tag, because a chart drops it
        silently.
    path_metrics, split_metrics : tuple of mapping
        One mapping per backtest path and per split of the cross-validation; logged with its number as the step.
    curves : mapping of str to LearningCurves
        By base learner; logged with the number of trees as the step.
    dataset_name, dataset_digest : str
        The training set and its data version.
    feature_names : tuple of str
        Columns of the model's input, in order.
    artifacts : mapping of str to bytes
        By file name. ``model.onnx`` becomes the MLflow model.
    verdicts : tuple of Verdict
        One row per gate, as known when the record is made.
    tags : mapping of str to str
        Links (orchestrator run, versions upstream). They and everything below are not evidence: changing one makes
        no new run.
    ensemble : mapping or None
        The stored candidate, for MLflow models of its base learners.
    attachments : mapping of str to bytes
        Pictures of the evidence and the environment of the record, by file name.
    system : mapping of str to float
        What the training took of the machine, by ``<step>/<quantity>``; logged below ``system/``.
    dataset_schema, dataset_profile
        As `quant_assets.registry.dataset_input` gives them.
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
    split_metrics: tuple[Mapping[str, float], ...] = ()
    curves: Mapping[str, LearningCurves] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    ensemble: Mapping[str, Any] | None = None
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    system: Mapping[str, float] = field(default_factory=dict)
    dataset_schema: tuple[dict[str, Any], ...] = ()
    dataset_profile: Mapping[str, Any] = field(default_factory=dict)

    def evidence_digest(self) -> str:
        """SHA-256 of the evidence: the identity of the run."""
        return json_digest(
            {
                "strategy": self.strategy,
                "subject": self.subject,
                "params": dict(self.params),
                "metrics": _exact(self.metrics),
                "paths": [_exact(path) for path in self.path_metrics],
                "splits": [_exact(split) for split in self.split_metrics],
                "curves": {
                    name: {
                        "train": list(map(repr, c.train)),
                        "valid": list(map(repr, c.valid)),
                        "loss": c.loss,
                    }
                    for name, c in self.curves.items()
                },
                "dataset": [self.dataset_name, self.dataset_digest],
                "features": list(self.feature_names),
                "artifacts": {name: bytes_digest(data) for name, data in self.artifacts.items()},
                "verdicts": [asdict(v) for v in self.verdicts],
            }
        )

    def measured(self) -> list[tuple[str, float, int]]:
        """Every metric as (name, value, step)."""
        rows = [(name, value, 0) for name, value in sorted(self.metrics.items())]
        for kind, many in (("path", self.path_metrics), ("split", self.split_metrics)):
            rows += [
                (f"{kind}_{name}", value, step)
                for step, one in enumerate(many)
                for name, value in sorted(one.items())
            ]
        for learner, curves in sorted(self.curves.items()):
            for part, losses in (("train", curves.train), ("valid", curves.valid)):
                name = f"learning_curve/{learner}/{part}_{curves.loss}"
                rows += [(name, loss, trees) for trees, loss in enumerate(losses, start=1)]
        return rows + [(f"system/{name}", value, 0) for name, value in sorted(self.system.items())]


def _exact(values: Mapping[str, float]) -> dict[str, str]:
    return {name: repr(float(value)) for name, value in values.items()}
