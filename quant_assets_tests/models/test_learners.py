import importlib
import importlib.util
import inspect
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from quant_assets.common.errors import ModelError
from quant_assets.common.model_settings import label_kind_of
from quant_assets.common.provenance import closure_of
from quant_assets.common.settings import CatBoostConfig, LightGBMConfig, XGBoostConfig
from quant_assets.models.learners import Library, fit_learner, from_text, objectives
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

LEARNERS = ("lightgbm", "xgboost")


@pytest.fixture(scope="module")
def data():
    return training_arrays(training_frame(), FEATURES)


def fitted(name, data, seed=7, **options):
    config = getattr(SMALL_MODELS, name)
    return fit_learner(name, config, data.features, data.target, seed=seed, feature_names=FEATURES, **options)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_same_fit_has_the_same_bits_alone_and_beside_others(name, data):
    alone = fitted(name, data)
    with ThreadPoolExecutor(4) as pool:
        beside_others = list(pool.map(lambda _: fitted(name, data), range(4)))
    assert {learner.text for learner in beside_others} == {alone.text}
    assert fitted(name, data, seed=8).text != alone.text


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learner_read_back_from_its_text_predicts_the_same_bits(name, data):
    learner = fitted(name, data)
    again = from_text(name, learner.to_text())
    assert again == learner
    assert again.feature_names == FEATURES
    assert again.predict(data.features).tobytes() == learner.predict(data.features).tobytes()
    assert again.predict(data.features).dtype == np.float64


@pytest.mark.parametrize("name", LEARNERS)
def test_a_rows_prediction_does_not_depend_on_the_rows_beside_it(name, data):
    learner = fitted(name, data)
    whole = learner.predict(data.features[:50])
    one_by_one = np.concatenate([learner.predict(data.features[n : n + 1]) for n in range(50)])
    assert whole.tobytes() == one_by_one.tobytes()
    # a column-major matrix, which polars hands out
    assert learner.predict(np.asfortranarray(data.features[:50])).tobytes() == whole.tobytes()


@pytest.mark.parametrize("name", LEARNERS)
def test_gain_shares_sum_to_one_and_name_the_feature_that_drives_the_target(name, data):
    shares = fitted(name, data).importance()
    assert tuple(shares) == FEATURES
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-12)
    assert max(shares, key=shares.get) == "feature_0"


def test_gain_shares_are_those_of_the_libraries(data):
    import lightgbm
    import xgboost

    ours = fitted("lightgbm", data).importance()
    gains = lightgbm.Booster(model_str=fitted("lightgbm", data).text).feature_importance("gain")
    assert list(ours.values()) == pytest.approx(list(gains / gains.sum()), rel=1e-5)
    ours = fitted("xgboost", data).importance()
    booster = xgboost.Booster(model_file=bytearray(fitted("xgboost", data).text.encode()))
    gains = booster.get_score(importance_type="total_gain")
    total = sum(gains.values())
    assert [ours[f"feature_{n[1:]}"] for n in gains] == pytest.approx(
        [v / total for v in gains.values()], rel=1e-5
    )


@pytest.mark.parametrize("name", LEARNERS)
def test_a_model_without_a_single_split_predicts_one_value_and_has_no_importance(name, data):
    config = getattr(SMALL_MODELS, name)
    large = {"lightgbm": {"min_data_in_leaf": 10**6}, "xgboost": {"min_child_weight": 1e9}}[name]
    learner = fit_learner(
        name, config.model_copy(update=large), data.features, data.target, seed=7, feature_names=FEATURES
    )
    assert len(set(learner.predict(data.features).tolist())) == 1
    assert set(learner.importance().values()) == {0.0}
    assert all(tree.n_splits == 0 for tree in learner.trees())


@pytest.mark.parametrize("name", LEARNERS)
def test_a_row_of_weight_zero_teaches_nothing_and_one_of_weight_one_does(name, data):
    first_half = np.arange(len(data.target)) < 600
    tampered = replace(data, target=np.where(first_half, -50 * data.target, data.target))
    weights = np.where(first_half, 0.0, 1.0)
    assert fitted(name, tampered, weights=weights).text == fitted(name, data, weights=weights).text
    assert fitted(name, tampered).text != fitted(name, data).text
    assert fitted(name, data, weights=np.ones(1200)).predict(data.features) == pytest.approx(
        fitted(name, data).predict(data.features), abs=1e-6
    )


@pytest.mark.parametrize("name", LEARNERS)
def test_fitting_and_reading_print_nothing(name, data, capfd):
    learner = fitted(name, data)
    from_text(name, learner.text).predict(data.features[:3])
    assert capfd.readouterr() == ("", "")


def test_xgboost_trains_without_nccl(data):
    assert importlib.util.find_spec("nvidia") is None
    assert fitted("xgboost", data).predict(data.features).std() > 0


def test_an_objective_outside_the_whitelist_is_refused_even_past_the_settings(data):
    assert objectives("lightgbm") == ("regression", "huber", "binary", "lambdarank")
    assert objectives("xgboost") == ("reg:squarederror", "binary:logistic", "rank:pairwise", "rank:ndcg")
    assert objectives("catboost") == ("RMSE", "Logloss")
    for name, config in (
        ("lightgbm", LightGBMConfig.model_construct(**{**dict(LightGBMConfig()), "objective": "mape"})),
        ("xgboost", XGBoostConfig.model_construct(**{**dict(XGBoostConfig()), "objective": "reg:gamma"})),
    ):
        with pytest.raises(ModelError, match=config.objective):
            fit_learner(name, config, data.features, data.target, seed=1, feature_names=FEATURES)


def test_every_whitelisted_objective_fits(data):
    classes = (data.target > 0).astype(float)
    for name in LEARNERS:
        for objective in objectives(name):
            config = getattr(SMALL_MODELS, name).model_copy(update={"objective": objective})
            kind = label_kind_of(objective)
            target = classes if kind == "direction" else data.target
            learner = fit_learner(
                name, config, data.features, target, seed=1, feature_names=FEATURES, session=data.t0
            )
            assert objective in learner.text
            assert learner.label_kind == kind
            assert from_text(name, learner.text) == learner


def test_input_that_a_fit_would_hide_is_refused_with_its_place(data):
    config = SMALL_MODELS.lightgbm
    holed = data.features.copy()
    holed[17, 3] = np.nan
    holed[40, 3] = np.inf
    cases = [
        (holed, data.target, r"'feature_3', row 17.*2 such rows"),
        (data.features.astype(np.float64), data.target, "float64"),
        (data.features[:, :5], data.target, r"\(1200, 5\)"),
        (data.features, data.target[:-1], r"\(1199,\)"),
        (data.features, np.where(np.arange(1200) == 9, np.nan, data.target), "target, row 9"),
    ]
    for features, target, found in cases:
        with pytest.raises(ModelError, match=found):
            fit_learner("lightgbm", config, features, target, seed=1, feature_names=FEATURES)
    for weights in (np.full(1200, -1.0), np.full(1200, np.nan), np.ones(3)):
        with pytest.raises(ModelError, match="sample weights"):
            fitted("lightgbm", data, weights=weights)
    with pytest.raises(ModelError, match="XGBoostConfig"):
        fit_learner("xgboost", config, data.features, data.target, seed=1, feature_names=FEATURES)
    with pytest.raises(ModelError, match="lightgbm, xgboost, catboost"):
        from_text("sklearn", "")


def test_prediction_refuses_another_type_or_width_instead_of_converting(data):
    learner = fitted("lightgbm", data)
    for features in (data.features.astype(np.float64), data.features[:, :7], data.features[0]):
        with pytest.raises(ModelError, match=r"float32 of shape \(n, 8\)"):
            learner.predict(features)
    assert learner.predict(data.features[:0]).shape == (0,)


def test_catboost_is_a_learner_where_its_extra_is_installed_and_says_so_where_it_is_not(data):
    config = CatBoostConfig(n_estimators=8, depth=3)

    def fit():
        return fit_learner("catboost", config, data.features, data.target, seed=7, feature_names=FEATURES)

    if importlib.util.find_spec("catboost") is None:
        with pytest.raises(ModelError, match="uv sync --extra catboost"):
            fit()
        return
    learner = fit()
    assert fit().text == learner.text
    assert learner.feature_names == FEATURES
    assert not {"model_guid", "train_finish_time"} & set(json.dumps(json.loads(learner.text)).split('"'))
    assert np.corrcoef(learner.predict(data.features), data.target)[0, 1] > 0.3
    assert sum(learner.importance().values()) == pytest.approx(1.0)
    assert {tree.n_splits for tree in learner.trees()} == {7}


def test_whoever_reads_imports_sees_the_module_of_every_learner_and_its_library():
    closure = closure_of(fit_learner)
    names = {"lightgbm", "xgboost", "catboost"}
    assert {f"quant_assets.models.{name}_learner" for name in names} <= set(closure.modules)
    assert names <= {library.partition("==")[0] for library in closure.libraries}


@pytest.mark.parametrize("name", ["lightgbm", "xgboost", "catboost"])
def test_a_learner_module_has_everything_that_the_protocol_asks_of_a_library(name):
    module = importlib.import_module(f"quant_assets.models.{name}_learner")
    asked = [member for member in vars(Library) if not member.startswith("_")]
    assert len(asked) == 10
    for member in asked:
        wanted = list(inspect.signature(getattr(Library, member)).parameters)[1:]
        assert len(inspect.signature(getattr(module, member)).parameters) == len(wanted), member


def test_a_misspelt_learner_is_answered_with_the_nearest_name():
    with pytest.raises(ModelError, match=r"did you mean 'xgboost'"):
        objectives("xgbost")


def test_importing_the_package_loads_no_learning_library():
    heavy = "lightgbm", "xgboost", "catboost", "sklearn", "scipy", "joblib", "onnx", "onnxruntime"
    code = (
        "import sys, quant_assets.models.cross_prediction, quant_assets.models.ensemble\n"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
