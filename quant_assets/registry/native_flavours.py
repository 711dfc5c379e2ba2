"""Base learners as MLflow's own LightGBM and XGBoost models: the libraries' text and JSON, never a pickle."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_assets.models.ensemble import Ensemble
from quant_assets.models.learners import FittedLearner
from quant_assets.registry.connection import quiet_mlflow

NATIVE_FOLDER = "native"
# File in which the flavour keeps the model.
MODEL_DATA = {"lightgbm": "model.lgb", "xgboost": "model.json"}


def write_native_models(ensemble: Mapping[str, Any], target: Path) -> None:
    """Write one MLflow model per base learner that MLflow has a text flavour for.

    Parameters
    ----------
    ensemble : mapping
        As `quant_assets.models.ensemble.Ensemble.to_json` gives.
    target : Path
        Folder below which ``lightgbm/`` and ``xgboost/`` are made. CatBoost is left out: MLflow's flavour keeps
        its binary format, which this platform does not write; its JSON is in the ensemble's file.

    Raises
    ------
    ModelError
        When the stored ensemble is damaged.
    """
    for learner in Ensemble.from_json(ensemble).learners:
        if learner.name in MODEL_DATA:
            _write(learner, target / learner.name)


def _write(learner: FittedLearner, folder: Path) -> None:
    quiet_mlflow()
    import mlflow.lightgbm
    import mlflow.xgboost
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    from quant_assets.models import lightgbm_learner, xgboost_learner

    # XGBoost knows its columns as f0, f1, ...; a signature of tensors would let a matrix through that it refuses.
    names = learner.feature_names
    columns = [f"f{i}" for i in range(len(names))] if learner.name == "xgboost" else list(names)
    options: dict[str, Any] = {
        "signature": ModelSignature(
            Schema([ColSpec("float", name) for name in columns]),
            Schema([ColSpec("double" if learner.name == "lightgbm" else "float")]),
        ),
        # Stated, not inferred: inference starts a process and loads the model.
        "pip_requirements": [
            f"{name}=={importlib.metadata.version(name)}" for name in (learner.name, "numpy", "scipy")
        ],
        "metadata": {"feature_names": list(names), "label_kind": learner.label_kind},
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    if learner.name == "lightgbm":
        booster = lightgbm_learner.load(learner.text)
        mlflow.lightgbm.save_model(booster, str(folder), **options)
    else:
        booster = xgboost_learner.load(learner.text)
        mlflow.xgboost.save_model(booster, str(folder), model_format="json", **options)
    # The library's own file says the same in other bytes (XGBoost orders its fields anew); the model is this text.
    (folder / MODEL_DATA[learner.name]).write_text(learner.text, encoding="utf-8")
