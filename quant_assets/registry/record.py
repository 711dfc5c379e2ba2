"""What one training leaves behind in MLflow, and which of it is evidence: parameters, metrics, data, files."""

import importlib.metadata
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from quant_assets.common.errors import EvidenceError
from quant_assets.common.hashing import bytes_digest, canonical_json, json_digest
from quant_assets.common.settings import StrategyConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.gates.evidence import require_recipe
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.fitting import LearningCurves
from quant_assets.registry.run_figures import split_metrics, spread
from quant_assets.trading.paths import rank_ic_by_session

# -------------------------------------------------------------------------------------------- the environment


REQUIREMENTS, FACTS = "environment/requirements.txt", "environment/environment.json"


def installed_versions() -> dict[str, str]:
    """Version of every distribution that this interpreter sees, by normalised name (PEP 503), in name order.

    The first on the path counts where one is there twice, as it does for imports.
    """
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.name).lower()
        found.setdefault(name, distribution.version)
    return dict(sorted(found.items()))


def environment_files(project: Path | None = None) -> dict[str, bytes]:
    """The environment as two files.

    Parameters
    ----------
    project : Path, optional
        Folder in which ``uv.lock`` is looked for; by default the checkout that holds this package.

    Returns
    -------
    dict of str to bytes
        ``environment/requirements.txt``, which pip and uv can install from, and ``environment/environment.json``
        with Python, platform, number of distributions and the SHA-256 of ``uv.lock`` (null where there is none, as
        in an installed wheel).
    """
    folder = Path(__file__).resolve().parents[2] if project is None else project
    lock = folder / "uv.lock"
    versions = installed_versions()
    facts = {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": platform.platform(),
        "architecture": platform.machine(),
        "distributions": len(versions),
        "uv_lock_sha256": bytes_digest(lock.read_bytes()) if lock.is_file() else None,
    }
    lines = [f"{name}=={version}\n" for name, version in versions.items()]
    return {REQUIREMENTS: "".join(lines).encode(), FACTS: canonical_json(facts)}


# ------------------------------------------------------------------------------------------- the training set


# MLflow's names of types; what is not here is none of a training set's.
_TYPES: dict[Any, str] = {
    pl.Float32: "float",
    pl.Float64: "double",
    pl.Int32: "integer",
    pl.Int64: "long",
    pl.String: "string",
    pl.Boolean: "boolean",
    pl.Date: "datetime",
    pl.Datetime: "datetime",
}


def dataset_schema(frame: pl.DataFrame) -> list[dict[str, Any]]:
    """Columns as MLflow writes them: name, type, whether a value is required (no nulls)."""
    return [
        {
            "type": _TYPES.get(dtype.base_type(), "string"),
            "name": name,
            "required": not frame[name].has_nulls(),
        }
        for name, dtype in frame.schema.items()
    ]


def dataset_profile(frame: pl.DataFrame, feature_names: Sequence[str]) -> dict[str, Any]:
    """Size and range of a training set.

    Parameters
    ----------
    frame : polars.DataFrame
        ``symbol, session, target`` (forward return, a fraction) and the features.
    feature_names : sequence of str

    Returns
    -------
    dict
        Rows, elements, features, symbols, sessions, first and last session; mean and standard deviation of the
        target.
    """
    first, last = frame["session"].min(), frame["session"].max()
    target = frame["target"].to_numpy()
    return {
        "num_rows": frame.height,
        "num_elements": frame.height * frame.width,
        "num_features": len(feature_names),
        "num_symbols": frame["symbol"].n_unique(),
        "num_sessions": frame["session"].n_unique(),
        "first_session": str(first),
        "last_session": str(last),
        "target_mean": float(target.mean()),
        "target_sd": float(target.std()),
    }


# ---------------------------------------------------------------------------- what one training leaves behind


RUN_URL_TAG = "dagster.run_url"
# Where the trial ledger stood: a copy that nobody loses who loses the home.
TRIAL_BOOK_TAG, TRIAL_ANCHOR_TAG = "quant.trial_book", "quant.trial_anchor"
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
        As `dataset_schema` and `dataset_profile` give them.
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


# ------------------------------------------------------------------- what of a candidate goes into its record


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
    from quant_assets.registry.run_figures import run_plots

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
            TRIAL_BOOK_TAG: report.details["trials"]["book"],
            TRIAL_ANCHOR_TAG: report.details["trials"]["anchor"],
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
