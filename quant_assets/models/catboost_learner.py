"""CatBoost (optional extra): the fit, and its JSON as the model.

The library writes a random model id, the time of training and its own run options into the file; they are
left out, so that the same fit has the same text.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import CatBoostConfig
from quant_assets.models.training_arrays import Samples, cuda_refused
from quant_assets.models.trees import Tree, checked_tree

_KEPT = ("features_info", "oblivious_trees", "scale_and_bias")


def _library() -> Any:
    try:
        import catboost
    except ModuleNotFoundError as error:
        raise ModelError(
            "learner 'catboost'",
            expected="the package catboost to be installed",
            found="no such package",
            action="install the extra: uv sync --extra catboost, or take catboost out of the strategy",
        ) from error
    return catboost


def fit(config: CatBoostConfig, rows: Samples, seed: int, feature_names: Sequence[str], device: str) -> str:
    """Fit one model of symmetric trees on one thread and return its JSON."""
    model, _ = _trained(config, rows, None, seed, feature_names, device)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        model.save_model(str(path), format="json")
        document = json.loads(path.read_text(encoding="utf-8"))
    importance = model.get_feature_importance(type="PredictionValuesChange")
    kept = {key: document[key] for key in _KEPT}
    # CatBoost's own measure: how much the prediction changes on average when the feature's value does.
    kept["model_info"] = {"objective": config.objective, "importance": [float(v) for v in importance]}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def losses(
    config: CatBoostConfig,
    rows: Samples,
    unseen: Samples,
    seed: int,
    feature_names: Sequence[str],
    device: str,
) -> list[float]:
    """The objective's loss on unseen rows after each tree of a fit."""
    _, found = _trained(config, rows, unseen, seed, feature_names, device)
    return found


def _trained(
    config: CatBoostConfig,
    rows: Samples,
    unseen: Samples | None,
    seed: int,
    feature_names: Sequence[str],
    device: str,
) -> tuple[Any, list[float]]:
    catboost = _library()
    model = catboost.CatBoost(
        {
            "loss_function": config.objective,
            "iterations": config.n_estimators,
            "learning_rate": config.learning_rate,
            "depth": config.depth,
            "l2_leaf_reg": config.l2_leaf_reg,
            "random_seed": seed,
            "thread_count": 1,
            "task_type": {"cpu": "CPU", "cuda": "GPU"}[device],
            "use_best_model": False,  # the whole curve is wanted, and every tree
            "allow_writing_files": False,
            "verbose": False,
        }
    )
    try:
        model.fit(_pool(rows, feature_names), eval_set=unseen and _pool(unseen, feature_names))
    except catboost.CatBoostError as error:
        if device == "cuda":
            raise cuda_refused("catboost", str(error)) from error
        raise
    if unseen is None:
        return model, []
    return model, [float(loss) for loss in model.get_evals_result()["validation"][config.objective]]


def _pool(rows: Samples, feature_names: Sequence[str]) -> Any:
    return _library().Pool(
        rows.features, rows.target, weight=rows.weights, feature_names=list(feature_names), thread_count=1
    )


def load(text: str) -> Any:
    """A model from its JSON, as a plain sum of trees whatever its objective was."""
    catboost = _library()
    document = _document(text)
    document["model_info"] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        model = catboost.CatBoostRegressor()
        try:
            model.load_model(str(path), format="json")
        except catboost.CatBoostError as error:
            raise _damaged(f"CatBoost refuses it: {error}") from error
    return model


def predict(model: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sums of every tree (log-odds for a classification), one thread, float64."""
    return np.asarray(model.predict(features, thread_count=1), dtype=np.float64)


def onnx_bytes(text: str) -> bytes:
    """The sum of trees in CatBoost's own ONNX export."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        load(text).save_model(str(path), format="onnx")
        return path.read_bytes()


def feature_names(text: str) -> tuple[str, ...]:
    """Names of the features, in model order."""
    return _names(_document(text))


def objective(text: str) -> str:
    """Name of the objective."""
    return str(_document(text)["model_info"]["objective"])


def margin_text(text: str) -> str:
    """The text itself: `load` reads every one as a plain sum of trees."""
    return text


def gains(text: str) -> NDArray[np.float64]:
    """CatBoost's PredictionValuesChange of every feature (it stores no split gains)."""
    return np.asarray(_document(text)["model_info"]["importance"], dtype=np.float64)


def check(text: str, objectives: Sequence[str]) -> None:
    """Refuse a model with another objective, categorical features, or damaged JSON.

    Raises
    ------
    ModelError
        As described; and when the package is not installed.
    """
    _library()
    if objective(text) not in objectives:
        raise ModelError(
            "CatBoost model",
            expected=f"an objective that converts exactly: {', '.join(objectives)}",
            found=repr(objective(text)),
            action="fit it again with one of these objectives",
        )
    trees(text)


def trees(text: str) -> tuple[Tree, ...]:
    """Every symmetric tree written out as split nodes, the first split of CatBoost's list at the root."""
    document = _document(text)
    n_features = len(_names(document))
    result = []
    for data in document["oblivious_trees"]:
        try:
            splits = data["splits"] or []
            feature = np.asarray([s["float_feature_index"] for s in splits], dtype=np.int64)
            border = np.asarray([s["border"] for s in splits], dtype=np.float64).astype(np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise _damaged(f"an unreadable tree ({type(error).__name__}: {error})") from error
        depth = len(splits)
        level = np.repeat(np.arange(depth), 2 ** np.arange(depth))
        node = np.arange(2**depth - 1)
        inner = level < depth - 1
        left = np.where(inner, 2 * node + 1, -1)
        right = np.where(inner, 2 * node + 2, -1)
        tree = Tree(feature[level], border[level], left, right, inclusive=True)
        result.append(checked_tree(tree, n_features=n_features, owner="CatBoost"))
    return tuple(result)


def _document(text: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
        whole = set(document) == {*_KEPT, "model_info"} and "importance" in document["model_info"]
    except (json.JSONDecodeError, TypeError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    if not whole or "objective" not in document["model_info"]:
        raise _damaged(f"fields {sorted(document)}")
    return document


def _names(document: dict[str, Any]) -> tuple[str, ...]:
    try:
        info = document["features_info"]
        if info.get("categorical_features"):
            raise _damaged("categorical features")
        # A feature without a name in the file was given none: its number stands for it.
        return tuple(f.get("feature_id") or str(f["flat_feature_index"]) for f in info["float_features"])
    except (KeyError, TypeError) as error:
        raise _damaged(f"no feature names ({type(error).__name__}: {error})") from error


def _damaged(found: str) -> ModelError:
    return ModelError(
        "CatBoost model",
        expected="whole JSON written by this platform, numeric features only",
        found=found,
        action="materialise the model again; a damaged model is never used",
    )
