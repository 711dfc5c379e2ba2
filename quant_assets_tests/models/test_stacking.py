import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import StackerConfig
from quant_assets.models.stacking import (
    Stacker,
    fit_stacker,
    logistic_stacker,
    out_of_fold_predictions,
    ridge_stacker,
    weighted_importance,
)
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_DIRECTIONS, SMALL_MODELS, training_frame

OPTIONS = {"seed": 7, "feature_names": FEATURES, "embargo_sessions": 2}


@pytest.fixture(scope="module")
def data():
    return training_arrays(training_frame(), FEATURES)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 250.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_stacker_is_scikit_learns_ridge_on_standardised_predictions(alpha, weighted):
    rng = np.random.default_rng(1)
    predictions = rng.standard_normal((400, 3)) * [1e-3, 2e-3, 5e-4] + [1e-3, -2e-3, 4e-3]
    target = predictions @ [0.5, 0.2, -0.4] + 1e-3 * rng.standard_normal(400)
    weights = rng.uniform(0.1, 3, 400) if weighted else None
    stacker = ridge_stacker(predictions, target, ("a", "b", "c"), alpha, sample_weights=weights)
    scaler = StandardScaler().fit(predictions, sample_weight=weights)
    ridge = Ridge(alpha=alpha).fit(scaler.transform(predictions), target, sample_weight=weights)
    expected = ridge.predict(scaler.transform(predictions))
    assert stacker.combine(predictions) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    assert np.array(stacker.coefficients) * stacker.spreads == pytest.approx(ridge.coef_, rel=1e-8)


@pytest.mark.parametrize("alpha", [0.0, 1.0, 250.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_stacker_of_directions_is_scikit_learns_logistic_regression(alpha, weighted):
    rng = np.random.default_rng(4)
    margins = rng.standard_normal((500, 3)) * [0.1, 0.3, 0.05] + [0.1, -0.2, 0.0]
    share = 1 / (1 + np.exp(-(margins @ [2.0, 1.0, -3.0])))
    classes = (rng.uniform(size=500) < share).astype(float)
    weights = rng.uniform(0.1, 3, 500) if weighted else None
    stacker = logistic_stacker(margins, classes, ("a", "b", "c"), alpha, sample_weights=weights)
    scaler = StandardScaler().fit(margins, sample_weight=weights)
    theirs = LogisticRegression(C=1 / alpha if alpha else np.inf, tol=1e-12, solver="newton-cholesky")
    theirs.fit(scaler.transform(margins), classes, sample_weight=weights)
    expected = theirs.decision_function(scaler.transform(margins))
    assert stacker.combine(margins) == pytest.approx(expected, rel=1e-8, abs=1e-10)
    assert np.array_equal(stacker.combine(margins) > 0, theirs.predict(scaler.transform(margins)) == 1)


def test_a_logistic_stacker_without_a_finite_optimum_is_refused():
    margins = np.linspace(-1, 1, 40)[:, None]
    with pytest.raises(ModelError, match=r"separate the classes.*ridge_alpha above 0"):
        logistic_stacker(margins, (margins[:, 0] > 0).astype(float), ("a",), 0.0)
    with pytest.raises(ModelError, match="only class"):
        logistic_stacker(margins, np.ones(40), ("a",), 1.0)
    flat = logistic_stacker(np.full((40, 1), 0.1), (margins[:, 0] > -0.5).astype(float), ("a",), 0.0)
    assert flat.coefficients == (0.0,)
    assert flat.intercept == pytest.approx(np.log(30 / 10))  # 30 of 40 are above -0.5


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


@pytest.mark.parametrize("models", [SMALL_MODELS, SMALL_DIRECTIONS], ids=["returns", "directions"])
def test_predictions_of_a_fold_do_not_change_with_outcomes_of_its_rows_their_overlaps_and_their_embargo(
    models,
):
    frame = training_frame()

    def held_out(changed):
        factor = pl.when(pl.Series(changed)).then(-50).otherwise(1)
        rows = training_arrays(
            frame.with_columns(target=factor * pl.col("target")), FEATURES, models.label_kind
        )
        return out_of_fold_predictions(rows, models, **OPTIONS)

    before = held_out(np.zeros(1200, dtype=bool))
    sessions = np.repeat(np.arange(120), 10)  # folds: sessions 0-39, 40-79, 80-119; labels reach 6 days ahead
    # Labels that start at session 34 reach 40; the fold's last outcome is session 85, its embargo 87.
    hidden = (sessions >= 34) & (sessions <= 87)
    after = held_out(hidden)
    fold = (sessions >= 40) & (sessions < 80)
    assert before[fold].tobytes() == after[fold].tobytes()
    assert not np.array_equal(before[~fold], after[~fold])
    for edge in (33, 88):  # one session further out does train
        assert not np.array_equal(before[fold], held_out(sessions == edge)[fold])


def test_the_stacker_does_not_depend_on_how_many_folds_are_fitted_at_once(data):
    one, three = (fit_stacker(data, SMALL_MODELS, **OPTIONS, n_jobs=n_jobs) for n_jobs in (1, 3))
    assert one == three


def test_out_of_fold_predictions_are_worse_than_in_sample_ones(data):
    from quant_assets.models.learners import fit_learner

    predictions = out_of_fold_predictions(data, SMALL_MODELS, **OPTIONS)
    for column, name in enumerate(SMALL_MODELS.learners):
        config = getattr(SMALL_MODELS, name)
        learner = fit_learner(name, config, data.features, data.target, seed=7, feature_names=FEATURES)
        inside = np.corrcoef(learner.predict(data.features), data.target)[0, 1]
        outside = np.corrcoef(predictions[:, column], data.target)[0, 1]
        assert 0.2 < outside < inside


def test_an_inner_fold_without_training_rows_is_refused(data):
    models = SMALL_MODELS.model_copy(update={"stacker": StackerConfig(inner_folds=2)})
    with pytest.raises(ModelError, match=r"testing fold 0, no row.*lower models\.stacker\.inner_folds"):
        fit_stacker(data, models, seed=7, feature_names=FEATURES, embargo_sessions=60)


def test_importance_of_a_stack_counts_each_learner_by_its_weight_in_the_score():
    shares = {"a": {"x": 1.0, "y": 0.0}, "b": {"x": 0.0, "y": 1.0}}
    stacker = Stacker(("a", "b"), (3.0, -0.5), 0.0, (0.1, 0.2))  # weights .3 and .1
    assert weighted_importance(stacker, shares) == {"x": pytest.approx(0.75), "y": pytest.approx(0.25)}
    without_splits = {"a": {"x": 0.0, "y": 0.0}, "b": shares["b"]}
    assert weighted_importance(stacker, without_splits) == {"x": 0.0, "y": 1.0}
    unheard = Stacker(("a", "b"), (0.0, 0.0), 0.0, (0.1, 0.2))
    assert weighted_importance(unheard, shares) == {"x": 0.0, "y": 0.0}
