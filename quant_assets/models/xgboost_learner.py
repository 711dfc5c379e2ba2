"""XGBoost: the fit, and its JSON as the model. Features are ``f0, f1, ...`` inside, as the converter needs."""

import json
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import XGBoostConfig
from quant_assets.models.ranking import Ranked, ranked
from quant_assets.models.training_arrays import Samples, cuda_refused
from quant_assets.models.trees import Tree, checked_tree

_NAMES_ATTRIBUTE = "feature_names"  # the real names travel as an attribute of the booster


def fit(config: XGBoostConfig, rows: Samples, seed: int, feature_names: Sequence[str], device: str) -> str:
    """Fit one booster by histograms on one CPU thread and return its JSON."""
    booster, _ = _trained(config, rows, None, seed, feature_names, device)
    booster.set_attr(**{_NAMES_ATTRIBUTE: json.dumps(list(feature_names))})
    return bytes(booster.save_raw("json")).decode()


def losses(
    config: XGBoostConfig,
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
    config: XGBoostConfig,
    rows: Samples,
    unseen: Samples | None,
    seed: int,
    feature_names: Sequence[str],
    device: str,
) -> tuple[Any, list[float]]:
    import xgboost

    if device == "cuda" and not _has_cuda():
        raise cuda_refused("xgboost", "XGBoost sees no CUDA device and would train on the CPU")
    parameters = {
        "objective": config.objective,
        "booster": "gbtree",
        "device": device,  # "cpu" never looks for NCCL or a GPU
        "tree_method": "hist",
        "learning_rate": config.learning_rate,
        "max_depth": config.max_depth,
        "min_child_weight": config.min_child_weight,
        "colsample_bytree": config.colsample_bytree,
        "subsample": config.subsample,
        "reg_lambda": config.reg_lambda,
        "seed": seed,
        "nthread": 1,
        "verbosity": 0,
    }
    fitted = ranked(config.objective, rows, config.relevance_grades)
    rows = fitted.rows
    if fitted.sizes is not None:
        parameters["eval_metric"] = "ndcg"
    internal = [f"f{column}" for column in range(len(feature_names))]
    data = _matrix(fitted, internal)
    watched = []
    if unseen is not None:
        watching = ranked(config.objective, unseen, config.relevance_grades)
        other = xgboost.QuantileDMatrix(
            watching.rows.features,
            watching.rows.target,
            weight=watching.session_weights,
            group=watching.sizes,
            feature_names=internal,
            nthread=1,
            ref=data,
        )
        watched.append((other, "unseen"))
    history: dict[str, dict[str, list[float]]] = {}
    booster = xgboost.train(
        parameters,
        data,
        num_boost_round=config.n_estimators,
        evals=watched,
        evals_result=history,
        verbose_eval=False,
    )
    found = [loss for metric in history.get("unseen", {}).values() for loss in metric]
    return booster, found if fitted.sizes is None else [1.0 - gain for gain in found]


def _matrix(fitted: Ranked, internal: list[str]) -> Any:
    """The rows in bins: their own, or those of the matrix that they are rows of."""
    import xgboost

    rows, whole = fitted.rows, None
    if rows.binned is not None:
        whole, first = rows.binned.bins.made(
            ("xgboost", *internal),
            lambda features: xgboost.QuantileDMatrix(features, feature_names=internal, nthread=1),
        )
        # The fit on all rows comes before its folds: what was just binned is its matrix. Others read its cuts alone.
        # Ranked rows stand by session, and not as that matrix has them.
        if first and fitted.sizes is None and len(rows.binned.rows) == len(rows.binned.bins.features):
            whole.set_info(label=rows.target, weight=rows.weights)
            return whole
    # Only the cuts are taken from the whole matrix, the rows are those of the fit.
    return xgboost.QuantileDMatrix(
        rows.features,
        rows.target,
        weight=fitted.session_weights,
        group=fitted.sizes,
        feature_names=internal,
        nthread=1,
        ref=whole,
    )


@cache
def _has_cuda() -> bool:
    """Whether a booster that asks for CUDA gets it: XGBoost itself falls back to the CPU with a warning."""
    import xgboost

    rows = xgboost.DMatrix(np.zeros((2, 1), dtype=np.float32), np.array([0.0, 1.0]), nthread=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        booster = xgboost.train({"device": "cuda", "nthread": 1, "verbosity": 0}, rows, num_boost_round=1)
        settings = json.loads(booster.save_config())
    found: str = settings["learner"]["generic_param"]["device"]
    return found.startswith("cuda")


def load(text: str) -> Any:
    """A booster from its JSON, on one thread."""
    import xgboost

    booster = xgboost.Booster({"nthread": 1, "verbosity": 0})
    try:
        booster.load_model(bytearray(text.encode()))
    except xgboost.core.XGBoostError as error:
        raise _damaged(f"XGBoost refuses it: {str(error).splitlines()[0]}") from error
    booster.set_param({"nthread": 1, "verbosity": 0})  # a stored model forgets both
    return booster


def predict(booster: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sums of every tree (log-odds for a classification), float32 inside, widened to float64."""
    margins = booster.inplace_predict(features, predict_type="margin", validate_features=False)
    return np.asarray(margins, dtype=np.float64)


def feature_names(text: str) -> tuple[str, ...]:
    """Names of the features, in model order."""
    return _names(_learner(text))


def objective(text: str) -> str:
    """Name of the objective."""
    try:
        name: str = _learner(text)["objective"]["name"]
    except (KeyError, TypeError) as error:
        raise _damaged(f"no field {error}") from error
    return name


def margin_text(text: str) -> str:
    """The same trees as a regression, whose output is their sum: what is converted.

    A classification stores the share of class 1 as its base score; the sum starts at its log-odds, in float32.
    """
    name = objective(text)
    if name == "reg:squarederror":
        return text
    model = json.loads(text)
    learner = model["learner"]
    if name != "binary:logistic":  # a ranking: its base score is a sum already
        learner["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
        return json.dumps(model)
    share = np.float32(learner["learner_model_param"]["base_score"].strip("[]"))
    start = -np.log(np.float32(1) / share - np.float32(1))
    learner["learner_model_param"]["base_score"] = f"[{float(start)!r}]"
    learner["objective"] = {"name": "reg:squarederror", "reg_loss_param": {"scale_pos_weight": "1"}}
    return json.dumps(model)


def gains(text: str) -> NDArray[np.float64]:
    """Total gain of every feature's splits."""
    learner = _learner(text)
    total = np.zeros(len(_names(learner)))
    for tree in _trees(learner):
        split = np.asarray(tree["left_children"]) >= 0
        np.add.at(total, np.asarray(tree["split_indices"])[split], np.asarray(tree["loss_changes"])[split])
    return total


def check(text: str, objectives: Sequence[str]) -> None:
    """Refuse a model whose conversion is not exact, or that is not whole.

    Raises
    ------
    ModelError
        For an objective outside the whitelist, another booster than ``gbtree``, several outputs, categorical
        splits, and damaged JSON.
    """
    learner = _learner(text)
    try:
        booster = learner["gradient_booster"]["name"]
        if booster != "gbtree":
            raise _damaged(f"booster {booster!r}, whose conversion is wrong or impossible")
        outputs = learner["learner_model_param"]["num_target"]
        forest = learner["gradient_booster"]["model"]["gbtree_model_param"]["num_parallel_tree"]
        categorical = any(kind != 0 for tree in _trees(learner) for kind in tree["split_type"])
    except (KeyError, TypeError) as error:
        raise _damaged(f"no field {error}") from error
    if objective(text) not in objectives:
        raise ModelError(
            "XGBoost model",
            expected=f"an objective that converts exactly: {', '.join(objectives)}",
            found=repr(objective(text)),
            action="fit it again with one of these objectives",
        )
    if (outputs, forest, categorical) != ("1", "1", False):
        raise _damaged(f"{outputs} outputs, {forest} trees per round, categorical splits: {categorical}")
    trees(text)


def trees(text: str) -> tuple[Tree, ...]:
    """Every tree's split nodes, leaves renumbered to -1."""
    learner = _learner(text)
    n_features = len(_names(learner))
    return tuple(
        checked_tree(_tree(tree), n_features=n_features, owner="XGBoost") for tree in _trees(learner)
    )


def _tree(data: dict[str, Any]) -> Tree:
    try:
        left = np.asarray(data["left_children"], dtype=np.int64)
        right = np.asarray(data["right_children"], dtype=np.int64)
        feature = np.asarray(data["split_indices"], dtype=np.int64)
        threshold = np.asarray(data["split_conditions"], dtype=np.float64).astype(np.float32)
        split = left >= 0
        number = np.where(split, np.cumsum(split) - 1, -1)  # XGBoost numbers leaves and splits together
        return Tree(
            feature[split], threshold[split], number[left[split]], number[right[split]], inclusive=False
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _damaged(f"an unreadable tree ({type(error).__name__}: {error})") from error


def _learner(text: str) -> dict[str, Any]:
    try:
        learner: dict[str, Any] = json.loads(text)["learner"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    return learner


def _names(learner: dict[str, Any]) -> tuple[str, ...]:
    try:
        return tuple(json.loads(learner["attributes"][_NAMES_ATTRIBUTE]))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise _damaged(f"no feature names ({type(error).__name__}: {error})") from error


def _trees(learner: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = learner["gradient_booster"]["model"]["trees"]
    except (KeyError, TypeError) as error:
        raise _damaged(f"no field {error}") from error
    return found


def _damaged(found: str) -> ModelError:
    return ModelError(
        "XGBoost model",
        expected="whole JSON written by this platform, one gbtree output, numeric splits",
        found=found,
        action="materialise the model again; a damaged model is never used",
    )
