"""Loading an MLflow model only after its files are known to hold no code.

MLflow unpickles whatever a model's ``MLmodel`` points to, and puts a ``code`` folder of it on the import path.
Here every file is read as bytes first: only the flavours that this platform writes, only their files, and none of
them a pickle whatever its name is.
"""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from quant_assets.artifacts.bundle.payload_scan import payload_scan
from quant_assets.artifacts.onnx.scoring import checked_model
from quant_assets.common.errors import ArtifactError, ModelError
from quant_assets.models.learners import from_text
from quant_assets.registry.connection import connect, quiet_mlflow, reported
from quant_assets.registry.flavours import MODEL_DATA

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
