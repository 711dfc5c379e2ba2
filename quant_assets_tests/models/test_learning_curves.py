"""Learning curves: the loss of the stored learner's own kind of fit, on rows it never saw, and no part of it."""

import json
from typing import Any

import numpy as np
import pytest

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import ModelsConfig
from quant_assets.models.fitting import LearningCurves, fit_base, inner_folds, learning_curves
from quant_assets.models.learners import fit_learner
from quant_assets.models.training_arrays import TrainingArrays, training_arrays

from .training_frames import FEATURES, SMALL_DIRECTIONS, SMALL_MODELS, training_frame

OPTIONS: dict[str, Any] = {"seed": 7, "feature_names": FEATURES, "embargo_sessions": 2}


def data_of(models: ModelsConfig) -> TrainingArrays:
    return training_arrays(training_frame(), FEATURES, models.label_kind).with_shared_bins()


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_the_last_losses_are_those_of_predictions_made_by_the_same_fit(name: str) -> None:
    data = data_of(SMALL_MODELS)
    curves = learning_curves(name, data, SMALL_MODELS, **OPTIONS)
    train, newest = inner_folds(data, 3, 2, setting="")[-1]
    fitted = fit_learner(
        name,
        getattr(SMALL_MODELS, name),
        data.features[train],
        data.target[train],
        seed=7,
        feature_names=FEATURES,
        binned=data.take(train).binned,
    )
    for rows, losses in ((train, curves.train), (newest, curves.valid)):
        error = float(np.mean((fitted.predict(data.features[rows]) - data.target[rows]) ** 2))
        expected = error if curves.loss == "l2" else float(np.sqrt(error))
        assert losses[-1] == pytest.approx(expected, rel=1e-5)
    assert len(curves.train) == len(curves.valid) == 12
    assert (curves.rows_trained, curves.rows_validated) == (len(train), len(newest))


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_log_losses_are_weighted_and_grown_to_the_ceiling_of_early_stopping(name: str) -> None:
    data = data_of(SMALL_DIRECTIONS)
    curves = learning_curves(name, data, SMALL_DIRECTIONS, **OPTIONS)
    assert curves.loss == "log_loss"
    assert len(curves.train) == 16
    train, newest = inner_folds(data, 3, 2, setting="")[-1]
    rows, unseen = data.take(train), data.take(newest)
    config = getattr(SMALL_DIRECTIONS, name).model_copy(update={"n_estimators": 16})
    fitted = fit_learner(
        name, config, rows.features, rows.target,
        seed=7, feature_names=FEATURES, weights=rows.weights(SMALL_DIRECTIONS.weights),
        binned=rows.binned,
    )  # fmt: skip
    chance = 1 / (1 + np.exp(-fitted.predict(unseen.features)))
    loss = -np.log(np.where(unseen.target == 1, chance, 1 - chance))
    expected = np.average(loss, weights=unseen.weights(SMALL_DIRECTIONS.weights))
    assert curves.valid[-1] == pytest.approx(expected, rel=1e-5)


def test_the_unseen_rows_are_the_newest_and_no_label_of_the_fit_reaches_into_them() -> None:
    data = data_of(SMALL_MODELS)
    train, newest = inner_folds(data, SMALL_MODELS.stacker.inner_folds, 2, setting="")[-1]
    curves = learning_curves("lightgbm", data, SMALL_MODELS, **OPTIONS)
    assert curves.rows_validated == 400
    assert curves.rows_trained == len(train) < 800
    assert data.t0[newest].max() == data.t0.max()
    assert data.t1[train].max() < data.t0[newest].min()
    # Targets of the unseen rows do not move the losses in training.
    moved = TrainingArrays(data.features, data.target.copy(), data.t0, data.t1, data.symbol)
    moved.target[newest] += 1.0
    again = learning_curves("lightgbm", moved, SMALL_MODELS, **OPTIONS)
    assert again.train == curves.train
    assert again.valid != curves.valid


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_the_same_rows_give_the_same_losses_and_the_model_keeps_its_bytes(name: str) -> None:
    data = data_of(SMALL_MODELS)
    before = fit_base(name, data, SMALL_MODELS, **OPTIONS).text
    first = learning_curves(name, data, SMALL_MODELS, **OPTIONS)
    assert fit_base(name, data, SMALL_MODELS, **OPTIONS).text == before
    assert learning_curves(name, data, SMALL_MODELS, **OPTIONS) == first
    assert first.train[-1] < first.train[0]


def test_stored_curves_read_back_as_they_were() -> None:
    curves = learning_curves("lightgbm", data_of(SMALL_MODELS), SMALL_MODELS, **OPTIONS)
    assert LearningCurves.from_json(json.loads(json.dumps(curves.to_json()))) == curves


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ({"train": [0.5]}, "1 losses in training and 2"),
        ({"valid": None}, "TypeError"),
        ({"rows_trained": "many"}, "ValueError"),
    ],
)
def test_stored_curves_that_are_not_whole_are_refused(damage: dict[str, Any], found: str) -> None:
    stored = LearningCurves("l2", (0.2, 0.1), (0.3, 0.2), 10, 5).to_json()
    with pytest.raises(ModelError, match=found):
        LearningCurves.from_json({**stored, **damage})
