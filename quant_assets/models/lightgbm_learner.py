"""LightGBM: the fit, and its text as the model.

LightGBM keeps split thresholds in float64 while ONNX keeps float32. Converted as they are, 55 % of the rows
near a threshold go down the wrong branch. For a float32 input ``x <= t`` holds exactly when
``x <= floor32(t)``, so the thresholds are rounded *down* to float32 right after the fit: native predictions on
float32 rows keep their bits, and the conversion becomes exact. The floored booster is the model.

One thing more: LightGBM reads every value within 1e-35 of zero as zero, and separates zeros by a split at
-1e-35 or 1e-35. ONNX does not, so a threshold inside that band is moved to the value at which the comparison
says the same without it. Without this, a row at -1e-35 was off by .3 spreads.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import LightGBMConfig
from quant_assets.models.ranking import Ranked, ranked
from quant_assets.models.training_arrays import Samples, cuda_refused
from quant_assets.models.trees import Tree, checked_tree

# LightGBM's kZeroThreshold, a float32: x with |x| <= this is read as 0.
ZERO_BAND = np.float32(1e-35)
_BELOW_ZERO_BAND = np.nextafter(-ZERO_BAND, np.float32(-1))
# What the header of a text says where it is more than the objective's name; another sigmoid converts wrongly.
_OBJECTIVE_LINES = {"binary": "binary sigmoid:1", "lambdarank": "lambdarank"}
_TREE_SIZES = re.compile(r"^tree_sizes=.*\n", re.MULTILINE)


def fit(config: LightGBMConfig, rows: Samples, seed: int, feature_names: Sequence[str], device: str) -> str:
    """Fit one booster on one thread and return its text, thresholds floored to float32."""
    booster, _ = _trained(config, rows, None, seed, feature_names, device)
    floored = _TREE_SIZES.sub("", floor_thresholds(booster.model_to_string(num_iteration=-1)))
    # Read back and written again: sizes of the tree blocks are those of the floored text.
    text: str = _parse(floored).model_to_string(num_iteration=-1)
    return text


def losses(
    config: LightGBMConfig,
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
    config: LightGBMConfig,
    rows: Samples,
    unseen: Samples | None,
    seed: int,
    feature_names: Sequence[str],
    device: str,
) -> tuple[Any, list[float]]:
    import lightgbm

    parameters = {
        "device_type": device,
        "objective": config.objective,
        "learning_rate": config.learning_rate,
        "num_leaves": config.num_leaves,
        "min_data_in_leaf": config.min_data_in_leaf,
        "feature_fraction": config.feature_fraction,
        "bagging_fraction": config.bagging_fraction,
        "bagging_freq": 1,  # LightGBM ignores bagging_fraction without it
        "lambda_l2": config.lambda_l2,
        "seed": seed,  # bagging, feature and data seeds derive from it
        "deterministic": True,
        # Otherwise a timing decides between row- and column-wise sums. By column one thread took .75 of the time
        # (29 features, 15 leaves), .85 with 63 leaves.
        "force_col_wise": True,
        # Which features can split at all would depend on the rows that were binned.
        "feature_pre_filter": False,
        "num_threads": 1,
        "verbose": -1,
    }
    fitted = ranked(config.objective, rows, config.relevance_grades)
    watching = None if unseen is None else ranked(config.objective, unseen, config.relevance_grades)
    if watching is not None and watching.sizes is not None:
        parameters |= {"metric": "ndcg", "eval_at": [int(watching.sizes.max())]}  # of whole sessions
    data = _dataset(fitted, parameters, feature_names)
    watched = []
    if watching is not None and watching.rows.binned is not None:
        watched.append(_dataset(watching, parameters, feature_names))
    elif watching is not None:
        other = watching.rows
        watched.append(
            data.create_valid(other.features, other.target, weight=other.weights, group=watching.sizes)
        )
    history: dict[str, dict[str, list[float]]] = {}
    try:
        booster = lightgbm.train(
            parameters,
            data,
            num_boost_round=config.n_estimators,
            valid_sets=watched,
            callbacks=[lightgbm.record_evaluation(history)] if watched else [],
        )
    except lightgbm.basic.LightGBMError as error:
        if device == "cuda":
            raise cuda_refused("lightgbm", str(error)) from error
        raise
    found = [loss for metric in history.get("valid_0", {}).values() for loss in metric]
    return booster, found if fitted.sizes is None else [1.0 - gain for gain in found]


def _dataset(fitted: Ranked, parameters: dict[str, Any], feature_names: Sequence[str]) -> Any:
    import lightgbm

    rows, names = fitted.rows, list(feature_names)
    if rows.binned is None:
        return lightgbm.Dataset(
            rows.features,
            rows.target,
            weight=rows.weights,
            group=fitted.sizes,
            params=parameters,
            feature_name=names,
        )
    # LightGBM samples the rows that it finds bins from, by the seed.
    whole = rows.binned.bins.of(
        ("lightgbm", parameters["seed"], parameters["device_type"], *names),
        lambda features: lightgbm.Dataset(features, params=parameters, feature_name=names).construct(),
    )
    data = whole.subset(rows.binned.rows, params=parameters).construct()
    data.set_label(rows.target)
    data.set_weight(rows.weights)
    if fitted.sizes is not None:
        data.set_group(fitted.sizes)
    return data


def load(text: str) -> Any:
    """A booster from its text."""
    return _parse(text)


def _parse(text: str) -> Any:
    import lightgbm

    try:
        return lightgbm.Booster(model_str=text)
    except lightgbm.basic.LightGBMError as error:
        raise _damaged(f"LightGBM refuses it: {error}") from error


def predict(booster: Any, features: NDArray[np.float32]) -> NDArray[np.float64]:
    """Sums of every tree (log-odds for a classification), one thread, float64."""
    scores: NDArray[np.float64] = booster.predict(features, num_threads=1, raw_score=True)
    return scores


def floor32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """The largest float32 that is not above each value."""
    rounded = values.astype(np.float32)
    above = rounded.astype(np.float64) > values
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


def exact_thresholds(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Thresholds in float32 by which a plain ``x <= t`` decides every float32 row as LightGBM does.

    Rounded down; then a threshold in [-1e-35, 0) goes just below the band that is read as zero (a zero goes
    right), one in [0, 1e-35) to its upper end (a zero goes left).
    """
    floored = floor32(thresholds)
    floored[(floored >= -ZERO_BAND) & (floored < 0)] = _BELOW_ZERO_BAND
    floored[(floored >= 0) & (floored < ZERO_BAND)] = ZERO_BAND
    return floored


def floor_thresholds(text: str) -> str:
    """Make every threshold of a model text exact in float32; nothing else changes."""
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if line.startswith("threshold="):
            floored = exact_thresholds(np.array(line[10:].split(), dtype=np.float64)).astype(np.float64)
            lines[number] = "threshold=" + " ".join(repr(float(t)) for t in floored)
    return "\n".join(lines)


def feature_names(text: str) -> tuple[str, ...]:
    """Names of the features, in model order."""
    return tuple(_header(text)["feature_names"].split())


def objective(text: str) -> str:
    """Name of the objective."""
    line = _header(text).get("objective", "none")
    return next((name for name, found in _OBJECTIVE_LINES.items() if found == line), line)


def margin_text(text: str) -> str:
    """The same trees as a regression, whose output is their sum: what is converted."""
    # The header says it, and so does the list of parameters at the end, which the converter reads first.
    for name, line in _OBJECTIVE_LINES.items():
        text = text.replace(f"\nobjective={line}\n", "\nobjective=regression\n", 1)
        text = text.replace(f"\n[objective: {name}]\n", "\n[objective: regression]\n", 1)
    return text


def gains(text: str) -> NDArray[np.float64]:
    """Total gain of every feature's splits."""
    names = feature_names(text)
    total = np.zeros(len(names))
    for block in _tree_blocks(text):
        fields = _fields(block)
        np.add.at(
            total,
            np.array(fields["split_feature"].split(), dtype=np.int64),
            np.array(fields["split_gain"].split(), dtype=np.float64),
        )
    return total


def check(text: str, objectives: Sequence[str]) -> None:
    """Refuse a text whose conversion is not exact, or that is not whole.

    Raises
    ------
    ModelError
        For an objective outside the whitelist, random forests, linear leaves, categorical or missing-value
        splits (all converted silently wrong), thresholds that are not float32, and truncated texts.
    """
    header = _header(text)
    if objective(text) not in objectives:
        raise ModelError(
            "LightGBM model text",
            expected=f"an objective that converts exactly: {', '.join(objectives)}",
            found=repr(objective(text)),
            action="fit it again with one of these objectives",
        )
    blocks = _tree_blocks(text)
    if "\nend of trees\n" not in text or len(blocks) != len(header.get("tree_sizes", "").split()):
        raise _damaged(f"{len(blocks)} trees, or no end mark")
    if "average_output" in header or header.get("num_tree_per_iteration") != "1":
        raise _damaged("a random forest or several outputs, whose conversion is wrong")
    for number, block in enumerate(blocks):
        fields = _fields(block)
        thresholds = np.array(fields["threshold"].split(), dtype=np.float64)
        # bit 0 categorical, bit 1 default direction, bits 2 and 3 the kind of missing value
        decisions = np.array(fields["decision_type"].split(), dtype=np.int64)
        if fields.get("is_linear") != "0" or fields.get("num_cat") != "0" or np.any(decisions & ~2):
            raise _damaged(f"tree {number} has linear leaves, categorical or missing-value splits")
        if np.any(exact_thresholds(thresholds).astype(np.float64) != thresholds):
            raise _damaged(f"tree {number} has thresholds that are not exact in float32")
    trees(text)


def trees(text: str) -> tuple[Tree, ...]:
    """Every tree's split nodes."""
    n_features = len(feature_names(text))
    result = []
    for block in _tree_blocks(text):
        fields = _fields(block)
        result.append(
            checked_tree(
                Tree(
                    feature=np.array(fields["split_feature"].split(), dtype=np.int64),
                    threshold=np.array(fields["threshold"].split(), dtype=np.float64).astype(np.float32),
                    left=np.array(fields["left_child"].split(), dtype=np.int64),
                    right=np.array(fields["right_child"].split(), dtype=np.int64),
                    inclusive=True,
                ),
                n_features=n_features,
                owner="LightGBM",
            )
        )
    return tuple(result)


def _header(text: str) -> dict[str, str]:
    header = _fields(text.partition("\nTree=")[0])
    if not text.startswith("tree\n") or "feature_names" not in header:
        raise _damaged("no header")
    return header


def _tree_blocks(text: str) -> list[str]:
    return text.partition("\nend of trees\n")[0].split("\nTree=")[1:]


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.split("\n"))
    return {key: value for key, _, value in pairs if key}


def _damaged(found: str) -> ModelError:
    return ModelError(
        "LightGBM model text",
        expected="a whole text written by this platform",
        found=found,
        action="materialise the model again; a damaged text is never used",
    )
