"""Loading refuses whatever could run code, by content: the marker file of a payload must never appear."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import mlflow
import numpy as np
import pytest
import yaml
from sklearn.linear_model import LinearRegression

from quant_assets.common.errors import ArtifactError
from quant_assets.models.ensemble import Ensemble, fit_ensemble
from quant_assets.registry.model_files import (
    load_model_directory,
    require_loadable,
    write_model_directory,
    write_native_models,
)
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

from .conftest import FEATURES as GRAPH_FEATURES
from .conftest import graph

FRAME = training_frame(60, 6)
ROWS = FRAME.select(FEATURES).to_numpy()


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return fit_ensemble(FRAME, FEATURES, SMALL_MODELS, seed=1, embargo_sessions=1, recipe="r")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, ensemble: Ensemble) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_native_models(ensemble.to_json(), folder)
    write_model_directory(graph(), GRAPH_FEATURES, folder / "onnx")
    return folder


@pytest.fixture
def models(tmp_path: Path, written: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "models"))


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.marker,)


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    return Payload(tmp_path / "ran")


def test_native_models_load_through_mlflow_and_predict_the_same_bits(
    models: Path, ensemble: Ensemble
) -> None:
    lightgbm, xgboost = ensemble.learners
    for load in (mlflow.lightgbm.load_model, lambda path: load_model_directory(Path(path))):
        found = load(str(models / "lightgbm")).predict(ROWS, num_threads=1, raw_score=True)
        assert np.array_equal(found, lightgbm.predict(ROWS))
    for load in (mlflow.xgboost.load_model, lambda path: load_model_directory(Path(path))):
        found = load(str(models / "xgboost")).inplace_predict(
            ROWS, predict_type="margin", validate_features=False
        )
        assert np.array_equal(np.asarray(found, np.float64), xgboost.predict(ROWS))
    assert (models / "lightgbm/model.lgb").read_text() == lightgbm.text
    assert (models / "xgboost/model.json").read_text() == xgboost.text
    assert load_model_directory(models / "onnx").graph.output[0].name == "score"


def test_a_native_model_is_a_pyfunc_with_the_columns_of_its_signature(
    models: Path, ensemble: Ensemble
) -> None:
    frame = FRAME.select(FEATURES).to_pandas()
    lightgbm = mlflow.pyfunc.load_model(str(models / "lightgbm"))
    assert np.array_equal(lightgbm.predict(frame), ensemble.learners[0].predict(ROWS))
    xgboost = mlflow.pyfunc.load_model(str(models / "xgboost"))
    inside = frame.set_axis([f"f{i}" for i in range(len(FEATURES))], axis=1)
    assert np.allclose(xgboost.predict(inside), ensemble.learners[1].predict(ROWS), rtol=1e-6)
    assert xgboost.metadata.metadata["feature_names"] == list(FEATURES)


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize(
    "name", ["lightgbm/model.lgb", "xgboost/model.json", "onnx/model.onnx", "onnx/MLmodel", "onnx/conda.yaml"]
)
def test_a_pickle_is_refused_under_any_name(models: Path, payload: Payload, name: str, protocol: int) -> None:
    (models / name).write_bytes(pickle.dumps(payload, protocol))
    with pytest.raises(ArtifactError, match=r"found .*pickle"):
        load_model_directory(models / Path(name).parts[0])
    assert not payload.marker.exists()


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("lzma", 3)])
def test_a_joblib_file_is_refused_compressed_or_not(models: Path, payload: Payload, compress: Any) -> None:
    joblib.dump(payload, models / "xgboost/model.json", compress=compress)
    with pytest.raises(ArtifactError, match=r"found .*(pickle|archive|gzip|xz|no text)"):
        load_model_directory(models / "xgboost")
    assert not payload.marker.exists()


def test_a_pickle_behind_a_whole_model_is_refused(models: Path, payload: Payload) -> None:
    with (models / "lightgbm/model.lgb").open("ab") as file:
        file.write(pickle.dumps(payload))
    with pytest.raises(ArtifactError, match=r"model\.lgb at byte \d+: a pickle"):
        load_model_directory(models / "lightgbm")


def test_a_pickle_beside_the_model_is_refused_and_so_is_any_other_file(
    models: Path, payload: Payload
) -> None:
    (models / "onnx/notes.txt").write_bytes(pickle.dumps(payload))
    with pytest.raises(ArtifactError, match=r"notes\.txt at byte 0: a pickle"):
        load_model_directory(models / "onnx")
    (models / "onnx/notes.txt").write_text("import os\n")
    with pytest.raises(ArtifactError, match=r"found .*notes\.txt"):
        load_model_directory(models / "onnx")


class Loud(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[str]) -> list[str]:
        return model_input


def test_models_that_mlflow_itself_pickles_are_refused(tmp_path: Path) -> None:
    mlflow.pyfunc.save_model(str(tmp_path / "code"), python_model=Loud(), pip_requirements=["mlflow"])
    mlflow.sklearn.save_model(
        LinearRegression(),
        str(tmp_path / "sklearn"),
        serialization_format="pickle",
        pip_requirements=["scikit-learn"],
    )
    for name in ("code", "sklearn"):
        with pytest.raises(ArtifactError, match="a pickle"):
            load_model_directory(tmp_path / name)


@pytest.mark.parametrize(
    ("flavour", "change", "found"),
    [
        ("lightgbm", {"model_class": "lightgbm.sklearn.LGBMRegressor"}, "LGBMRegressor"),
        ("xgboost", {"model_class": "os.system"}, "os.system"),
        ("xgboost", {"code": "code"}, "code: code"),
        ("python_function", {"loader_module": "evil"}, "loader_module: evil"),
        ("python_function", {"python_model": "python_model.pkl"}, "python_model"),
        ("python_function", {"model_code_path": "model.py"}, "model_code_path"),
        ("python_function", {"data": "../elsewhere"}, "elsewhere"),
        ("sklearn", {"pickled_model": "model.pkl"}, "sklearn"),
    ],
)
def test_a_description_that_leads_to_code_is_refused(
    models: Path, flavour: str, change: dict[str, str], found: str
) -> None:
    folder = models / ("xgboost" if flavour != "lightgbm" else "lightgbm")
    description = yaml.safe_load((folder / "MLmodel").read_text())
    description["flavors"].setdefault(flavour, {}).update(change)
    (folder / "MLmodel").write_text(yaml.safe_dump(description))
    with pytest.raises(ArtifactError, match=f"found .*{found}"):
        require_loadable(folder)


def test_a_damaged_or_exchanged_model_is_refused_with_the_reason(models: Path) -> None:
    text = (models / "lightgbm/model.lgb").read_text()
    (models / "lightgbm/model.lgb").write_text(text[: len(text) // 2])
    with pytest.raises(ArtifactError, match="trees, or no end mark"):
        load_model_directory(models / "lightgbm")
    (models / "xgboost/model.json").write_text(text)
    with pytest.raises(ArtifactError, match="MLflow model xgboost"):
        load_model_directory(models / "xgboost")
    (models / "onnx/MLmodel").unlink()
    with pytest.raises(ArtifactError, match="a file MLmodel"):
        load_model_directory(models / "onnx")


def test_a_link_out_of_the_folder_is_refused(models: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.move(models / "onnx/model.onnx", outside)
    (models / "onnx/model.onnx").symlink_to(outside)
    with pytest.raises(ArtifactError, match="a link to elsewhere"):
        load_model_directory(models / "onnx")
