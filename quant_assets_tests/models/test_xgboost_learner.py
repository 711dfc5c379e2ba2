import json

import numpy as np
import pytest
import xgboost

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import XGBoostConfig
from quant_assets.models.learners import fit_learner, from_text
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, training_frame

CONFIG = XGBoostConfig(n_estimators=12, max_depth=3, min_child_weight=20)


@pytest.fixture(scope="module")
def data():
    return training_arrays(training_frame(), FEATURES)


def plain_booster(data, target=None, **changes):
    """XGBoost itself, with the parameters that the learner documents."""
    parameters = {
        "objective": "reg:squarederror", "tree_method": "hist", "learning_rate": 0.05, "max_depth": 3,
        "min_child_weight": 20, "colsample_bytree": 0.6, "subsample": 0.8, "reg_lambda": 1.0, "seed": 7,
        "nthread": 1, "verbosity": 0,
    } | changes  # fmt: skip
    names = [f"f{n}" for n in range(len(FEATURES))]
    outcome = data.target if target is None else target
    booster = xgboost.train(
        parameters, xgboost.QuantileDMatrix(data.features, outcome, feature_names=names, nthread=1), 12
    )
    booster.set_attr(feature_names=json.dumps(FEATURES))
    return booster


def test_predictions_are_those_of_xgboost_itself(data):
    learner = fit_learner("xgboost", CONFIG, data.features, data.target, seed=7, feature_names=FEATURES)
    theirs = plain_booster(data).inplace_predict(data.features)
    assert learner.predict(data.features).astype(np.float32).tobytes() == theirs.tobytes()


def test_split_nodes_lead_every_row_to_the_leaf_that_xgboost_names(data):
    learner = fit_learner("xgboost", CONFIG, data.features, data.target, seed=7, feature_names=FEATURES)
    booster = xgboost.Booster(model_file=bytearray(learner.text.encode()))
    names = [f"f{n}" for n in range(len(FEATURES))]
    leaves = booster.predict(xgboost.DMatrix(data.features, feature_names=names), pred_leaf=True)
    stored = json.loads(learner.text)["learner"]["gradient_booster"]["model"]["trees"]
    for number, tree in enumerate(learner.trees()):
        left = np.array(stored[number]["left_children"])
        right = np.array(stored[number]["right_children"])
        original = np.flatnonzero(left >= 0)  # XGBoost's number of each split node
        for row, leaf in zip(data.features[:200], leaves[:200, number], strict=True):
            node, at = 0, 0
            while True:
                goes_left = row[tree.feature[node]] < tree.threshold[node]
                at = (left if goes_left else right)[original[node]]
                child = (tree.left if goes_left else tree.right)[node]
                if child < 0:
                    break
                assert original[child] == at
                node = child
            assert at == leaf


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"objective": "reg:logistic"}, "reg:logistic"),
        ({"objective": "reg:absoluteerror"}, "reg:absoluteerror"),
        ({"booster": "dart"}, "dart"),
        ({"num_parallel_tree": 3}, "3 trees per round"),
    ],
)
def test_a_model_whose_conversion_would_be_wrong_is_refused_when_it_is_read(data, changes, found):
    target = (data.target > 0).astype(float) if changes.get("objective") == "reg:logistic" else None
    text = bytes(plain_booster(data, target, **changes).save_raw("json")).decode()
    with pytest.raises(ModelError, match=found):
        from_text("xgboost", text)


def test_several_outputs_are_refused(data):
    booster = plain_booster(data, np.column_stack((data.target, -data.target)))
    with pytest.raises(ModelError, match="2 outputs"):
        from_text("xgboost", bytes(booster.save_raw("json")).decode())


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda text: text[: len(text) // 2], "JSONDecodeError"),
        (lambda text: "{}", "KeyError"),
        (lambda text: text.replace('"gradient_booster"', '"renamed"'), "gradient_booster"),
        (lambda text: text.replace('"feature_names":"', '"other":"'), "no feature names"),
        (
            lambda text: text.replace('"split_indices":[', '"split_indices":[77,'),
            "column lengths|unreadable tree",
        ),
    ],
)
def test_a_damaged_model_is_refused(data, damage, found):
    text = fit_learner("xgboost", CONFIG, data.features, data.target, seed=7, feature_names=FEATURES).text
    with pytest.raises(ModelError, match=found):
        from_text("xgboost", damage(text))
