from dataclasses import replace

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import LightGBMConfig
from quant_assets.models.learners import fit_learner, from_text
from quant_assets.models.lightgbm_learner import exact_thresholds, floor32, trees
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, training_frame

CONFIG = LightGBMConfig(n_estimators=12, num_leaves=7, min_data_in_leaf=20)


@pytest.fixture(scope="module")
def data():
    return training_arrays(training_frame(), FEATURES)


def plain_booster(data, **changes):
    """LightGBM itself, with the parameters that the learner documents and nothing after the fit."""
    parameters = {
        "objective": "regression", "learning_rate": 0.05, "num_leaves": 7, "min_data_in_leaf": 20,
        "feature_fraction": 0.6, "bagging_fraction": 0.8, "bagging_freq": 1, "lambda_l2": 1.0, "seed": 7,
        "deterministic": True, "force_col_wise": True,
        "feature_pre_filter": False, "num_threads": 1, "verbose": -1,
    } | changes  # fmt: skip
    dataset = lightgbm.Dataset(
        data.features, data.target, params=parameters, feature_name=list(FEATURES),
        categorical_feature=changes.pop("categorical", "auto"),
    )  # fmt: skip
    return lightgbm.train(parameters, dataset, 12)


def thresholds(text):
    lines = [line[10:].split() for line in text.split("\n") if line.startswith("threshold=")]
    return np.array([t for line in lines for t in line], dtype=np.float64)


@settings(max_examples=50, deadline=None)
@given(st.floats(min_value=-1e30, max_value=1e30))
def test_a_floored_threshold_is_the_largest_float32_that_is_not_above_it(value):
    floored = floor32(np.array([value]))[0]
    assert float(floored) <= value < float(np.nextafter(floored, np.float32(np.inf)))


def test_floored_thresholds_leave_predictions_on_float32_rows_bit_equal_to_lightgbm_itself(data):
    booster = plain_booster(data)
    learner = fit_learner("lightgbm", CONFIG, data.features, data.target, seed=7, feature_names=FEATURES)
    raw = thresholds(booster.model_to_string())
    near = raw.astype(np.float32)
    on_thresholds = np.tile(data.features[:1], (3 * len(raw), 1))
    columns = np.concatenate([tree.feature for tree in trees(learner.text)])
    places = np.concatenate((near, np.nextafter(near, np.float32(-9e9)), np.nextafter(near, np.float32(9e9))))
    on_thresholds[np.arange(len(places)), np.tile(columns, 3)] = places
    zeros = np.tile(data.features[:1], (8 * len(FEATURES), 1))
    tiny = np.array([1e-35, -1e-35, 2e-35, -2e-35, 1e-45, -1e-45, 0.0, -0.0], dtype=np.float32)
    zeros[np.arange(len(zeros)), np.repeat(np.arange(len(FEATURES)), 8)] = np.tile(tiny, len(FEATURES))
    rows = np.concatenate((data.features, on_thresholds, zeros))

    assert np.mean(raw.astype(np.float32) != raw) > 0.5  # there was something to floor
    assert np.any(np.abs(raw) < 2e-35)  # splits that separate zeros
    assert np.array_equal(thresholds(learner.text).astype(np.float32), thresholds(learner.text))
    assert learner.predict(rows).tobytes() == booster.predict(rows, num_threads=1).tobytes()


def test_a_plain_comparison_decides_as_lightgbm_does_around_zero():
    band = np.float32(1e-35)
    # what LightGBM's own trees say: within the band a value is read as zero
    values = np.array(
        [-2e-35, np.nextafter(-band, np.float32(-1)), -band, -1e-45, 0, 1e-45, band], np.float32
    )
    for threshold in (-float(band), -1e-40, 0.0, 1e-40, float(band), 1.0, -1.0):
        lightgbm_goes_left = np.where(np.abs(values) <= band, 0.0, values.astype(np.float64)) <= threshold
        assert np.array_equal(values <= exact_thresholds(np.array([threshold]))[0], lightgbm_goes_left)


def test_nothing_but_the_thresholds_differs_from_lightgbm_itself(data):
    learner = fit_learner("lightgbm", CONFIG, data.features, data.target, seed=7, feature_names=FEATURES)
    theirs = plain_booster(data).model_to_string().split("\n")
    ours = learner.text.split("\n")
    differing = {a.partition("=")[0] for a, b in zip(theirs, ours, strict=False) if a != b}
    assert differing == {"threshold", "tree_sizes"}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"objective": "poisson"}, "poisson"),
        ({"objective": "regression_l1"}, "regression_l1"),
        ({"reg_sqrt": True}, "regression sqrt"),
        ({"boosting": "rf"}, "random forest"),
        ({"linear_tree": True}, "linear leaves"),
        ({"zero_as_missing": True}, "missing-value splits"),
        ({"objective": "binary", "sigmoid": 2.0}, "binary sigmoid:2"),
        ({"objective": "cross_entropy"}, "cross_entropy"),
        ({}, "not exact in float32"),  # a booster whose thresholds nobody floored
    ],
)
def test_a_model_whose_conversion_would_be_wrong_is_refused_when_it_is_read(data, changes, found):
    target = {
        "poisson": np.abs(data.target),
        "binary": (data.target > 0).astype(float),
        "cross_entropy": (data.target > 0).astype(float),
    }.get(changes.get("objective"), data.target)
    booster = plain_booster(replace(data, target=target), **changes)
    with pytest.raises(ModelError, match=found):
        from_text("lightgbm", booster.model_to_string())


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_a_truncated_text_is_refused(data, kept):
    text = fit_learner("lightgbm", CONFIG, data.features, data.target, seed=7, feature_names=FEATURES).text
    end = text.index("end of trees")
    with pytest.raises(ModelError):
        from_text("lightgbm", text[: int(kept * end)])


def test_a_text_that_points_outside_its_own_tree_is_refused(data):
    text = fit_learner("lightgbm", CONFIG, data.features, data.target, seed=7, feature_names=FEATURES).text
    first = next(line for line in text.split("\n") if line.startswith("split_feature="))
    damaged = text.replace(first, "split_feature=" + " ".join(["99"] * len(first[14:].split())), 1)
    with pytest.raises(ModelError, match="features below 8"):
        from_text("lightgbm", damaged)
