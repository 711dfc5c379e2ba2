"""A candidate's models as MLflow's own: the libraries' text and ONNX, never a pickle."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_assets.common.errors import RegistryError
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.learners import FittedLearner
from quant_assets.registry.connection import quiet_mlflow

# ---------------------------------------------------------------------------------------------- base learners


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


# --------------------------------------------------------------------------------------------- the ONNX graph


def _contradiction(expected: str, found: str) -> RegistryError:
    return RegistryError(
        "model.onnx of the training record",
        expected=expected,
        found=found,
        action="materialise onnx_fp32 again, and record it with the features it was trained on",
    )


def _single(kind: str, values: Any) -> Any:
    if len(values) != 1:
        raise _contradiction(f"one {kind}", f"{len(values)}: {[v.name for v in values]}")
    return values[0]


def _rows_of(output: Any) -> tuple[int, ...]:
    """Shape of an output for any number of rows: the score, and what the base learners say beside it."""
    return (-1, *(dim.dim_value for dim in output.type.tensor_type.shape.dim[1:]))


def write_model_directory(onnx_bytes: bytes, feature_names: tuple[str, ...], target: Path) -> None:
    """Write ``MLmodel``, ``model.onnx`` and requirements for one graph of features to score.

    Parameters
    ----------
    onnx_bytes : bytes
        A graph with one float32 input of shape [-1, n_features] and float32 outputs.
    feature_names : tuple of str
        Names of the input's columns, in order; kept in the model's metadata.
    target : Path
        A folder that does not exist yet.

    Raises
    ------
    RegistryError
        When the bytes are no ONNX graph, or the graph does not take these features.

    Notes
    -----
    The requirements are stated, not inferred: inference starts a process, loads the model and takes 5 s. The
    signature is float32, and MLflow refuses float64 input against it.
    """
    quiet_mlflow()
    import mlflow.onnx
    import numpy as np
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    try:
        model = onnx.load_model_from_string(onnx_bytes)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise _contradiction("a valid ONNX graph", str(error).splitlines()[0]) from error
    graph_input = _single("input", model.graph.input)
    outputs = list(model.graph.output)
    if not outputs:
        raise _contradiction("an output", "none")
    for value in (graph_input, *outputs):
        kind = value.type.tensor_type.elem_type
        if kind != onnx.TensorProto.FLOAT:
            raise _contradiction(f"a float32 {value.name}", onnx.TensorProto.DataType.Name(kind))
    width = graph_input.type.tensor_type.shape.dim[-1].dim_value
    if width != len(feature_names):
        raise _contradiction(f"an input of {len(feature_names)} features", f"one of {width}")
    float32 = np.dtype("float32")
    signature = ModelSignature(
        Schema([TensorSpec(float32, (-1, width), graph_input.name)]),
        Schema([TensorSpec(float32, _rows_of(value), value.name) for value in outputs]),
    )
    mlflow.onnx.save_model(
        model,
        str(target),
        signature=signature,
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in ("onnx", "onnxruntime")],
        onnx_execution_providers=["CPUExecutionProvider"],
        metadata={"feature_names": list(feature_names)},
        save_as_external_data=False,
    )
