import importlib.util
import json

import numpy as np
import polars as pl
import pytest

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import CatBoostConfig, WeightsConfig
from quant_assets.datasets.labels import sample_weights
from quant_assets.models import xgboost_learner
from quant_assets.models.ensemble import Ensemble, assemble_ensemble, fit_ensemble
from quant_assets.models.fitting import fit_base
from quant_assets.models.learners import fit_learner
from quant_assets.models.stacking import fit_stacker, out_of_fold_predictions, ridge_stacker
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import (
    FEATURES,
    SMALL_DIRECTIONS,
    SMALL_MODELS,
    training_frame,
)

LEARNERS = ("lightgbm", "xgboost")
OPTIONS = {"seed": 7, "feature_names": FEATURES}


@pytest.fixture(scope="module")
def frame():
    return training_frame()


@pytest.fixture(scope="module")
def data(frame):
    return training_arrays(frame, FEATURES, "direction")


@pytest.fixture(scope="module")
def ensemble(frame):
    return fit_ensemble(frame, FEATURES, SMALL_DIRECTIONS, seed=7, embargo_sessions=2, recipe="r")


def test_the_target_of_a_direction_is_the_upper_half_of_each_session(frame, data):
    returns = frame["target"].to_numpy().reshape(120, 10)
    expected = returns > np.median(returns, axis=1, keepdims=True)
    assert data.target.tolist() == expected.ravel().astype(float).tolist()
    assert data.target.mean() == 0.5


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_predicts_log_odds_whose_probabilities_are_the_librarys_own(name, data):
    learner = fit_learner(
        name, getattr(SMALL_DIRECTIONS, name), data.features, data.target, **OPTIONS
    )  # fmt: skip
    library = learner._booster
    if name == "lightgbm":
        theirs = library.predict(data.features)
    else:
        theirs = library.inplace_predict(data.features).astype(float)
    odds = learner.predict(data.features)
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(theirs, rel=1e-6)
    assert (odds < 0).any()
    assert (odds > 0).any()


def test_a_score_is_the_log_odds_of_beating_the_median_so_that_ranks_and_signs_serve_as_for_returns(
    frame, data, ensemble
):
    score = ensemble.predict(data.features)
    assert ensemble.score_unit == "log_odds"
    assert np.corrcoef(score, frame["target"])[0, 1] > 0.3
    long = score > 0
    assert data.target[long].mean() > 0.6 > 0.4 > data.target[~long].mean()
    expected = ensemble.stacker.intercept + ensemble.base_predictions(data.features) @ np.array(
        ensemble.stacker.coefficients
    )
    assert score == pytest.approx(expected, rel=1e-12)


def test_a_stored_classification_comes_back_with_the_same_bits(data, ensemble):
    again = Ensemble.from_json(json.loads(json.dumps(ensemble.to_json())))
    assert again == ensemble
    assert again.score_unit == "log_odds"
    assert again.predict(data.features).tobytes() == ensemble.predict(data.features).tobytes()


def test_learners_of_returns_and_directions_do_not_make_an_ensemble(frame, ensemble):
    returns = fit_ensemble(frame, FEATURES, SMALL_MODELS, seed=7, embargo_sessions=2, recipe="r")
    assert returns.score_unit == "forward_return"
    mixed = (ensemble.learners[0], returns.learners[1])
    with pytest.raises(ModelError, match="lightgbm: direction, xgboost: return"):
        assemble_ensemble(mixed, ensemble.stacker, feature_names=FEATURES, recipe="r")


@pytest.mark.parametrize("name", LEARNERS)
def test_a_target_that_is_no_two_classes_is_refused(name, frame, data):
    config = getattr(SMALL_DIRECTIONS, name)
    returns = training_arrays(frame, FEATURES)
    with pytest.raises(ModelError, match="class 0 or 1"):
        fit_learner(name, config, returns.features, returns.target, **OPTIONS)
    alone = training_arrays(frame.filter(pl.col("symbol") == "S00"), FEATURES, "direction")
    with pytest.raises(ModelError, match=r"only class \[0.0\] in 120 rows.*label.kind: return"):
        fit_learner(name, config, alone.features, alone.target, **OPTIONS)


@pytest.mark.parametrize("name", LEARNERS)
def test_weights_of_the_configuration_reach_the_learner(name, frame):
    data = training_arrays(frame, FEATURES).with_shared_bins()
    models = SMALL_MODELS.model_copy(update={"weights": WeightsConfig(time_decay=0.0)})
    decayed = fit_base(name, data, models, embargo_sessions=2, **OPTIONS)
    # One symbol's rows in a row: without uniqueness, decay counts rows up to and with each session.
    by_hand = (np.repeat(np.arange(120), 10) + 1) / 120
    expected = fit_learner(
        name, getattr(models, name), data.features, data.target,
        weights=by_hand / by_hand.mean(), binned=data.binned, **OPTIONS,
    )  # fmt: skip
    assert decayed.predict(data.features) == pytest.approx(
        expected.predict(data.features), abs=1e-12, rel=1e-6
    )
    plain = fit_base(name, data, SMALL_MODELS, embargo_sessions=2, **OPTIONS)
    assert plain.text == fit_learner(
        name, getattr(models, name), data.features, data.target, **OPTIONS
    ).text  # fmt: skip
    assert decayed.text != plain.text


def test_weights_reach_the_stacker(frame):
    data = training_arrays(frame, FEATURES)
    models = SMALL_MODELS.model_copy(update={"weights": WeightsConfig(uniqueness=True, time_decay=0.0)})
    options = {**OPTIONS, "embargo_sessions": 2}
    predictions = out_of_fold_predictions(data, models, **options)
    weights = data.weights(models.weights)
    expected = ridge_stacker(predictions, data.target, models.learners, 1.0, sample_weights=weights)
    assert fit_stacker(data, models, **options) == expected
    assert ridge_stacker(predictions, data.target, models.learners, 1.0) != expected
    assert data.weights(SMALL_MODELS.weights) is None


def test_weights_of_an_inner_fold_come_from_the_rows_that_it_trains_on(frame):
    """Fold two tests sessions 40-79; labels reach 6 days, the embargo is 2: sessions 0-33 and 88-119 train."""
    data = training_arrays(frame, FEATURES).with_shared_bins()
    models = SMALL_MODELS.model_copy(update={"weights": WeightsConfig(uniqueness=True, time_decay=0.0)})
    predictions = out_of_fold_predictions(data, models, embargo_sessions=2, **OPTIONS)
    session = np.repeat(np.arange(120), 10)
    train = data.take(np.flatnonzero((session <= 33) | (session >= 88)))
    weights = sample_weights(train.symbol, train.t0, train.t1, uniqueness=True, time_decay=0.0)
    tested = (session >= 40) & (session < 80)
    for column, name in enumerate(LEARNERS):
        learner = fit_learner(
            name, getattr(models, name), train.features, train.target,
            weights=weights, binned=train.binned, **OPTIONS,
        )  # fmt: skip
        assert learner.predict(data.features[tested]).tobytes() == predictions[tested, column].tobytes()


@pytest.mark.parametrize("name", LEARNERS)
def test_without_cuda_the_device_is_refused_in_one_error(name, data):
    if xgboost_learner._has_cuda():
        learner = fit_learner(
            name, getattr(SMALL_DIRECTIONS, name), data.features, data.target, device="cuda", **OPTIONS
        )
        assert learner.label_kind == "direction"
        return
    models = SMALL_DIRECTIONS.model_copy(update={"device": "cuda"})
    with pytest.raises(ModelError, match=rf"device of learner '{name}'.*models.device: cpu"):
        fit_base(name, data, models, embargo_sessions=2, **OPTIONS)


def test_catboost_takes_part_where_its_extra_is_installed(frame, data):
    logloss = CatBoostConfig(objective="Logloss", n_estimators=8, depth=3)
    models = SMALL_DIRECTIONS.model_copy(update={"catboost": logloss})
    if importlib.util.find_spec("catboost") is None:
        with pytest.raises(ModelError, match="uv sync --extra catboost"):
            fit_base("catboost", data, models, embargo_sessions=2, **OPTIONS)
        return
    stack = fit_ensemble(frame, FEATURES, models, seed=7, embargo_sessions=2, recipe="r")
    assert stack.stacker.learners == ("lightgbm", "xgboost", "catboost")
    assert stack.score_unit == "log_odds"
    assert np.corrcoef(stack.learners[2].predict(data.features), data.target)[0, 1] > 0.2
