from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.artifacts.onnx.export import converted
from quant_assets.artifacts.onnx.parity import extreme_rows, on_threshold_rows
from quant_assets.common.errors import ModelError
from quant_assets.common.settings import ModelsConfig
from quant_assets.models.conversion import run_graph
from quant_assets.models.ensemble import fit_ensemble
from quant_assets.models.fitting import fit_base, learning_curves
from quant_assets.models.learners import fit_learner, from_text
from quant_assets.models.ranking import ranked
from quant_assets.models.training_arrays import Samples, training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

OBJECTIVES = [("lightgbm", "lambdarank"), ("xgboost", "rank:pairwise"), ("xgboost", "rank:ndcg")]


@pytest.fixture(scope="module")
def data():
    return training_arrays(training_frame(), FEATURES)


def config_of(name, objective, **update):
    update = {"objective": objective, **({"min_child_weight": 1.0} if name == "xgboost" else {}), **update}
    return getattr(SMALL_MODELS, name).model_copy(update=update)


def fitted(name, objective, data, **options):
    return fit_learner(
        name, config_of(name, objective), data.features, data.target,
        seed=7, feature_names=FEATURES, session=data.t0, **options,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "objective"), OBJECTIVES)
def test_the_graph_of_a_ranking_gives_its_raw_scores_on_real_on_threshold_and_extreme_rows(
    name, objective, data
):
    learner = fitted(name, objective, data)
    assert from_text(name, learner.text) == learner
    assert learner.label_kind == "return"
    graph = converted(learner).SerializeToString()
    rows = np.concatenate(
        [data.features, *on_threshold_rows(learner.trees(), data.features), extreme_rows(data.features)]
    )
    native = learner.predict(rows)
    assert native.std() > 0
    assert np.abs(run_graph(graph, rows) - native).max() < 1e-5 * native.std()


@pytest.mark.parametrize(("name", "objective"), OBJECTIVES)
def test_a_ranking_is_the_librarys_own(name, objective, data):
    from scipy.stats import rankdata

    grades = np.concatenate(
        [np.floor((rankdata(t) - 0.5) / 10 * 5) for t in data.target.reshape(120, 10)]
    ).astype(int)
    if name == "lightgbm":
        import lightgbm

        config = config_of(name, objective)
        model = lightgbm.LGBMRanker(
            n_estimators=config.n_estimators, learning_rate=config.learning_rate, num_leaves=config.num_leaves,
            min_child_samples=config.min_data_in_leaf, colsample_bytree=config.feature_fraction,
            subsample=config.bagging_fraction, subsample_freq=1, reg_lambda=config.lambda_l2, min_child_weight=1e-3,
            random_state=7, n_jobs=1, deterministic=True, force_col_wise=True, feature_pre_filter=False, verbose=-1,
        ).fit(data.features, grades, group=[10] * 120)  # fmt: skip
    else:
        import xgboost

        config = config_of(name, objective)
        model = xgboost.XGBRanker(
            objective=objective, n_estimators=config.n_estimators, learning_rate=config.learning_rate,
            max_depth=config.max_depth, min_child_weight=1.0, colsample_bytree=config.colsample_bytree,
            subsample=config.subsample, reg_lambda=config.reg_lambda, random_state=7, n_jobs=1, tree_method="hist",
        ).fit(data.features, grades, group=[10] * 120)  # fmt: skip
    assert fitted(name, objective, data).predict(data.features) == pytest.approx(
        np.asarray(model.predict(data.features), dtype=np.float64), rel=1e-6, abs=1e-7
    )


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.integers(2, 31), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_grades_follow_the_order_within_a_session_and_ties_share_one(targets, grades, sessions):
    rows = Samples(
        np.zeros((len(targets), 1), dtype=np.float32), np.array(targets, dtype=float),
        session=np.arange(len(targets)) % sessions,
    )  # fmt: skip
    made = ranked("lambdarank", rows, grades)
    assert made.sizes.sum() == len(targets)
    order = np.argsort(rows.session, kind="stable")
    start = 0
    for size in made.sizes:
        grade, target = made.rows.target[start : start + size], rows.target[order][start : start + size]
        assert ((grade >= 0) & (grade < grades) & (grade == grade.astype(int))).all()
        for one in range(size):
            assert (grade[target > target[one]] >= grade[one]).all()
            assert (grade[target == target[one]] == grade[one]).all()
        start += size


def test_ten_names_in_five_buckets_are_two_each():
    rows = Samples(np.zeros((10, 1), dtype=np.float32), np.arange(10.0)[::-1].copy(), session=np.zeros(10))
    assert ranked("rank:ndcg", rows, None).rows.target.tolist() == [4, 4, 3, 3, 2, 2, 1, 1, 0, 0]
    assert ranked("regression", rows, None).rows is rows


@pytest.mark.parametrize(("name", "objective"), OBJECTIVES)
def test_the_level_of_a_session_teaches_nothing(name, objective, data):
    moved = replace(data, target=data.target + np.repeat(np.arange(120.0), 10))
    assert fitted(name, objective, moved).text == fitted(name, objective, data).text


@pytest.mark.parametrize(("name", "objective"), OBJECTIVES)
def test_rows_in_another_order_are_sorted_into_their_sessions(name, objective, data):
    mixed = data.take(np.random.default_rng(1).permutation(120).repeat(10) * 10 + np.tile(np.arange(10), 120))
    assert fitted(name, objective, mixed).text == fitted(name, objective, data).text
    with pytest.raises(ModelError, match="the session of each row"):
        fit_learner(
            name, config_of(name, objective), data.features, data.target, seed=7, feature_names=FEATURES
        )


def test_a_session_of_xgboost_weighs_the_mean_of_its_rows():
    rows = Samples(
        np.zeros((4, 1), dtype=np.float32),
        np.arange(4.0),
        np.array([1.0, 3.0, 5.0, 0.0]),
        session=np.array([0, 0, 1, 1]),
    )
    assert ranked("rank:pairwise", rows, None).session_weights.tolist() == [2.0, 2.5]


@pytest.mark.parametrize(("name", "objective"), OBJECTIVES)
def test_sessions_of_weight_zero_teach_nothing(name, objective, data):
    weights = np.where(np.arange(1200) < 600, 0.0, 2.0)
    turned = replace(data, target=np.where(np.arange(1200) < 600, -data.target, data.target))
    one, other = (fitted(name, objective, d, weights=weights) for d in (data, turned))
    assert one.predict(data.features) == pytest.approx(other.predict(data.features), abs=1e-7)
    assert fitted(name, objective, turned).text != other.text


def test_rankings_are_stacked_with_returns_and_have_curves_and_early_stopping(data):
    models = ModelsConfig.model_validate(
        {
            "lightgbm": config_of("lightgbm", "lambdarank").model_dump(),
            "xgboost": SMALL_MODELS.xgboost.model_dump(),
            "weights": {"uniqueness": True},
            "early_stopping": {"rounds": 4, "max_estimators": 10},
        }
    )
    ensemble = fit_ensemble(training_frame(), FEATURES, models, seed=1, embargo_sessions=2, recipe="r")
    assert ensemble.score_unit == "forward_return"
    assert np.corrcoef(ensemble.predict(data.features), data.target)[0, 1] > 0.2
    options = {"seed": 1, "feature_names": FEATURES, "embargo_sessions": 2}
    curves = learning_curves("lightgbm", data, models, **options)
    assert curves.loss == "one_minus_ndcg"
    assert all(0 < loss < 1 for loss in (*curves.train, *curves.valid))
    assert curves.train[-1] < curves.train[0]
    assert 1 <= len(fit_base("lightgbm", data, models, **options).trees()) <= 10


def test_shared_bins_rank_the_same_rows(data):
    models = SMALL_MODELS.model_copy(update={"lightgbm": config_of("lightgbm", "lambdarank")})
    options = {"seed": 1, "feature_names": FEATURES, "embargo_sessions": 2}
    exact, shared = (fit_base("lightgbm", d, models, **options) for d in (data, data.with_shared_bins()))
    assert shared.text == exact.text  # all rows: the bins are the same
