"""Models as MLflow's own files: written as the libraries' text, JSON and ONNX, loaded only when they hold no code."""

import importlib.metadata
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from quant_assets.artifacts.bundle.payload_scan import payload_scan
from quant_assets.common.errors import ArtifactError, ModelError, RegistryError
from quant_assets.models.ensemble import Ensemble
from quant_assets.models.graphs import checked_model
from quant_assets.models.learners import FittedLearner, from_text
from quant_assets.registry.connection import connect, quiet_mlflow, reported

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


# ----------------------------------------------------- loading an MLflow model only after its files are known

# MLflow unpickles whatever a model's ``MLmodel`` points to, and puts a ``code`` folder of it on the import path.
# Here every file is read as bytes first: only the flavours that this platform writes, only their files, and none of
# them a pickle whatever its name is.


DESCRIPTION = "MLmodel"
# What each flavour keeps its model in.
_DATA = {"onnx": "model.onnx", **MODEL_DATA}
_CLASSES = {"lightgbm": "lightgbm.basic.Booster", "xgboost": "xgboost.core.Booster"}
# MLflow adds the last one to what is downloaded out of its model registry: name and version.
_YAML = ("conda.yaml", "python_env.yaml", "registered_model_meta")
_ENVIRONMENT = (*_YAML, "requirements.txt")
# Entries of a flavour that make MLflow import or unpickle something of the model's own.
_CODE_ENTRIES = (
    "code", "model_code_path", "python_model", "cloudpickle_version", "pickled_model", "artifacts", "loader",
    "streamable",
)  # fmt: skip
_MOST_DESCRIPTION_BYTES = 1 << 20


def load_recorded_model(tracking_uri: str, run_id: str, path: str = "model") -> Any:
    """Load a model out of an MLflow run.

    Parameters
    ----------
    tracking_uri : str
    run_id : str
    path : str
        Folder of the model among the run's artifacts: ``model`` (ONNX), ``native/lightgbm``, ``native/xgboost``.

    Returns
    -------
    onnx.ModelProto, lightgbm.Booster or xgboost.Booster

    Raises
    ------
    ArtifactError
        As `require_loadable`, before anything is loaded.
    RegistryError
        When the tracking server is unreachable, or the run has no such artifact.
    """
    client = connect(tracking_uri)
    with tempfile.TemporaryDirectory() as folder:
        with reported(tracking_uri, f"reading {path} of run {run_id}"):
            found = Path(client.download_artifacts(run_id, path, folder))
        return load_model_directory(found)


def load_model_directory(folder: Path) -> Any:
    """Load an MLflow model directory.

    Parameters
    ----------
    folder : Path
        It holds ``MLmodel``.

    Returns
    -------
    onnx.ModelProto, lightgbm.Booster or xgboost.Booster

    Raises
    ------
    ArtifactError
        As `require_loadable`, before anything is loaded.
    """
    flavour = require_loadable(folder)
    quiet_mlflow()
    import mlflow.lightgbm
    import mlflow.onnx
    import mlflow.xgboost

    load = {"onnx": mlflow.onnx, "lightgbm": mlflow.lightgbm, "xgboost": mlflow.xgboost}[flavour].load_model
    return load(str(folder))


def require_loadable(folder: Path) -> str:
    """Refuse a model directory in which anything could run code when MLflow loads it. Nothing is loaded.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    str
        The flavour to load: ``onnx``, ``lightgbm`` or ``xgboost``.

    Raises
    ------
    ArtifactError
        For a pickle, program or archive in any file, judged by content; a flavour outside of the three, or one that
        names code; a file that the flavour does not have; and a model that is damaged or not what its flavour says.
    """
    files = _files(folder)
    if DESCRIPTION not in files:
        raise _refused(folder, f"a file {DESCRIPTION}", f"{', '.join(sorted(files)) or 'no files'}")
    described = {
        name: _described(folder, name, files[name]) for name in sorted({DESCRIPTION, *_YAML} & set(files))
    }
    # A mapping that begins with "channels:" reads as an import opcode (c) of a pickle; behind a comment it does not.
    report = payload_scan(
        {name: b"#\n" + data if name in described else data for name, data in files.items()}, graphs=False
    )
    if not report.clean:
        shown = "; ".join(f"{f.file} at byte {f.offset}: {f.what}" for f in report.findings[:3])
        raise _refused(folder, "files in which nothing is pickled or can be executed", shown)
    flavour = _flavour(folder, described[DESCRIPTION])
    strange = set(files) - {DESCRIPTION, _DATA[flavour], *_ENVIRONMENT}
    if strange or _DATA[flavour] not in files:
        raise _refused(
            folder,
            f"{DESCRIPTION}, {_DATA[flavour]} and the environment's {', '.join(_ENVIRONMENT)}",
            ", ".join(sorted(files)),
        )
    _require_model(folder, flavour, files[_DATA[flavour]])
    return flavour


def _files(folder: Path) -> dict[str, bytes]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise _refused(folder, "plain files", f"{name}, a link to elsewhere")
        if path.is_file():
            found[name] = path.read_bytes()
    return found


def _described(folder: Path, name: str, data: bytes) -> Mapping[str, Any]:
    """A YAML file of a model, which is a mapping; a pickle of any protocol is none."""
    if len(data) > _MOST_DESCRIPTION_BYTES:
        raise _refused(folder, f"{name} of at most 1 MiB", f"{len(data)} bytes")
    try:
        content = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise _refused(
            folder, f"{name} in YAML", f"{next(_what_is(name, data), type(error).__name__)}"
        ) from error
    if not isinstance(content, dict):
        raise _refused(folder, f"a mapping in {name}", next(_what_is(name, data), type(content).__name__))
    return content


def _what_is(name: str, data: bytes) -> Iterator[str]:
    return (finding.what for finding in payload_scan({name: data}, graphs=False).findings)


def _flavour(folder: Path, description: Mapping[str, Any]) -> str:
    try:
        named = {str(name): dict(entries) for name, entries in description["flavors"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _refused(
            folder, f"flavours in {DESCRIPTION}", f"none that can be read ({type(error).__name__})"
        ) from error
    native = sorted(set(named) - {"python_function"})
    if len(native) != 1 or native[0] not in _DATA:
        raise _refused(
            folder,
            f"one flavour of {', '.join(_DATA)}: every other one is kept as a pickle, or may be",
            ", ".join(sorted(named)) or "none",
        )
    flavour = native[0]
    for name, entries in named.items():
        coded = [f"{key}: {entries[key]}" for key in _CODE_ENTRIES if entries.get(key) is not None]
        if coded:
            raise _refused(folder, f"a flavour {name} without code of its own", ", ".join(coded))
        if entries.get("data") != _DATA[flavour]:
            raise _refused(folder, f"data: {_DATA[flavour]} in {name}", f"data: {entries.get('data')}")
    module = named.get("python_function", {}).get("loader_module", f"mlflow.{flavour}")
    if module != f"mlflow.{flavour}":
        raise _refused(folder, f"loader_module: mlflow.{flavour}", f"loader_module: {module}")
    kept = named[flavour].get("model_class")
    if kept != _CLASSES.get(flavour):
        raise _refused(folder, f"model_class: {_CLASSES.get(flavour)}", f"model_class: {kept}")
    return flavour


def _require_model(folder: Path, flavour: str, data: bytes) -> None:
    """The model itself is what its flavour says: text, JSON or a graph, as this platform writes them."""
    try:
        if flavour == "onnx":
            checked_model(data)
        else:
            from_text(flavour, data.decode("utf-8"))
    except (ArtifactError, ModelError) as error:
        raise _refused(folder, f"in {_DATA[flavour]} {error.expected}", error.found) from error
    except UnicodeDecodeError as error:
        raise _refused(
            folder,
            f"in {_DATA[flavour]} the text of a {flavour} model",
            f"bytes that are no text ({error.reason})",
        ) from error


def _refused(folder: Path, expected: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"MLflow model {folder.name}",
        expected=expected,
        found=found,
        action="do not load it; take the model of a training record, or materialise training_record again",
    )
