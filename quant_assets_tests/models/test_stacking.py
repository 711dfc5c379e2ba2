import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import StackerConfig
from quant_assets.models.stacking import (
    Stacker,
    fit_stacker,
    out_of_fold_predictions,
    ridge_stacker,
    weighted_importance,
)
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

OPTIONS = {"seed": 7, "feature_names": FEATURES, "embargo_sessions": 2}


@pytest.fixture(scope="module")
def data():
    return training_arrays(training_frame(), FEATURES)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 250.0])
def test_the_stacker_is_scikit_learns_ridge_on_standardised_predictions(alpha):
    rng = np.random.default_rng(1)
    predictions = rng.standard_normal((400, 3)) * [1e-3, 2e-3, 5e-4] + [1e-3, -2e-3, 4e-3]
    target = predictions @ [0.5, 0.2, -0.4] + 1e-3 * rng.standard_normal(400)
    stacker = ridge_stacker(predictions, target, ("a", "b", "c"), alpha)
    scaler = StandardScaler().fit(predictions)
    ridge = Ridge(alpha=alpha).fit(scaler.transform(predictions), target)
    expected = ridge.predict(scaler.transform(predictions))
    assert stacker.combine(predictions) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert np.array(stacker.coefficients) * stacker.spreads == pytest.approx(ridge.coef_, rel=1e-8)


def test_a_learner_whose_predictions_do_not_vary_has_no_say():
    rng = np.random.default_rng(2)
    useful = rng.standard_normal(300)
    constant = np.full(300, 0.1)  # its computed deviation is 1.4e-17, not 0
    stacker = ridge_stacker(np.column_stack((useful, constant)), useful, ("a", "b"), 0.0)
    assert stacker.coefficients == (pytest.approx(1.0), 0.0)
    assert stacker.spreads[1] == 0.0
    only_constant = ridge_stacker(constant[:, None], useful, ("b",), 1.0)
    assert only_constant.combine(constant[:, None]) == pytest.approx(np.full(300, useful.mean()))


def test_two_learners_that_agree_everywhere_share_the_weight_even_without_a_penalty():
    column = np.linspace(-1, 1, 50)
    stacker = ridge_stacker(np.column_stack((column, column)), 3 * column, ("a", "b"), 0.0)
    assert stacker.coefficients == (pytest.approx(1.5), pytest.approx(1.5))


def test_predictions_of_a_fold_do_not_change_with_outcomes_of_its_rows_their_overlaps_and_their_embargo(data):
    before = out_of_fold_predictions(data.features, data.target, data.t0, data.t1, SMALL_MODELS, **OPTIONS)
    sessions = np.repeat(np.arange(120), 10)  # folds: sessions 0-39, 40-79, 80-119; labels reach 6 days ahead
    # Labels that start at session 34 reach 40; the fold's last outcome is session 85, its embargo 87.
    hidden = (sessions >= 34) & (sessions <= 87)
    tampered = np.where(hidden, -50 * data.target, data.target)
    after = out_of_fold_predictions(data.features, tampered, data.t0, data.t1, SMALL_MODELS, **OPTIONS)
    fold = (sessions >= 40) & (sessions < 80)
    assert before[fold].tobytes() == after[fold].tobytes()
    assert not np.array_equal(before[~fold], after[~fold])
    for edge in (33, 88):  # one session further out does train
        seen = np.where(sessions == edge, -50 * data.target, data.target)
        changed = out_of_fold_predictions(data.features, seen, data.t0, data.t1, SMALL_MODELS, **OPTIONS)
        assert not np.array_equal(before[fold], changed[fold])


def test_the_stacker_does_not_depend_on_how_many_folds_are_fitted_at_once(data):
    arguments = (data.features, data.target, data.t0, data.t1, SMALL_MODELS)
    assert fit_stacker(*arguments, **OPTIONS, n_jobs=1) == fit_stacker(*arguments, **OPTIONS, n_jobs=3)


def test_out_of_fold_predictions_are_worse_than_in_sample_ones(data):
    from quant_assets.models.learners import fit_learner

    predictions = out_of_fold_predictions(
        data.features, data.target, data.t0, data.t1, SMALL_MODELS, **OPTIONS
    )
    for column, name in enumerate(SMALL_MODELS.learners):
        config = getattr(SMALL_MODELS, name)
        learner = fit_learner(name, config, data.features, data.target, seed=7, feature_names=FEATURES)
        inside = np.corrcoef(learner.predict(data.features), data.target)[0, 1]
        outside = np.corrcoef(predictions[:, column], data.target)[0, 1]
        assert 0.2 < outside < inside


def test_an_inner_fold_without_training_rows_is_refused(data):
    models = SMALL_MODELS.model_copy(update={"stacker": StackerConfig(inner_folds=2)})
    with pytest.raises(ModelError, match="inner fold 1 of 2"):
        fit_stacker(
            data.features, data.target, data.t0, data.t1, models,
            seed=7, feature_names=FEATURES, embargo_sessions=60,
        )  # fmt: skip


def test_importance_of_a_stack_counts_each_learner_by_its_weight_in_the_score():
    shares = {"a": {"x": 1.0, "y": 0.0}, "b": {"x": 0.0, "y": 1.0}}
    stacker = Stacker(("a", "b"), (3.0, -0.5), 0.0, (0.1, 0.2))  # weights .3 and .1
    assert weighted_importance(stacker, shares) == {"x": pytest.approx(0.75), "y": pytest.approx(0.25)}
    without_splits = {"a": {"x": 0.0, "y": 0.0}, "b": shares["b"]}
    assert weighted_importance(stacker, without_splits) == {"x": 0.0, "y": 1.0}
    unheard = Stacker(("a", "b"), (0.0, 0.0), 0.0, (0.1, 0.2))
    assert weighted_importance(unheard, shares) == {"x": 0.0, "y": 0.0}
