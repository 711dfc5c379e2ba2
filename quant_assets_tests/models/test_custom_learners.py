import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from quant_assets.common.errors import ArtifactError, GateClosedError, ModelError
from quant_assets.common.model_settings import CustomLearnerConfig, ModelsConfig, WeightsConfig
from quant_assets.models.conversion import Reach, converted, graph_bytes, run_graph
from quant_assets.models.custom_learner import UnexportedLearner, fit_custom, one_thread, seeded
from quant_assets.models.ensemble import Ensemble, fit_ensemble
from quant_assets.models.graph_learner import document_of
from quant_assets.models.learner_proof import prove_learner, prove_weights, proven_fit
from quant_assets.models.learners import from_text
from quant_assets.models.training_arrays import Samples, training_arrays
from quant_assets_tests.models import desk_learners
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

DESK = "quant_assets_tests.models.desk_learners:"


@pytest.fixture(scope="module")
def data():
    return training_arrays(training_frame(60), FEATURES)


@pytest.fixture(scope="module")
def classes():
    return training_arrays(training_frame(60), FEATURES, "direction")


def config_of(name, target="number", **options):
    return CustomLearnerConfig(use=DESK + name, target=target, options=options)


def fitted(name, data, target="number", weights=None, research_only=False, seed=7, **options):
    rows = Samples(data.features, data.target, weights)
    return fit_custom(
        name,
        config_of(name, target, **options),
        rows,
        seed=seed,
        feature_names=FEATURES,
        research_only=research_only,
    )


# ------------------------------------------------------------------------------------- what is exported with parity


@pytest.mark.parametrize("name", ["ridge", "forest", "boosted", "perceptron", "perceptron_of_a_newer_opset"])
def test_a_learner_read_back_from_its_text_predicts_the_same_bits(name, data):
    made = fitted(name, data)
    assert made.agreement.exact
    again = from_text(name, made.learner.to_text())
    assert again == made.learner
    assert again.predict(data.features).tobytes() == made.learner.predict(data.features).tobytes()
    assert again.label_kind == "return"
    assert again.feature_names == FEATURES
    assert b"pickle" not in document_of(again.text).graph
    assert np.corrcoef(again.predict(data.features), data.target)[0, 1] > 0.1


def test_the_predictions_are_those_of_scikit_learn(data):
    native = desk_learners.ridge().fit(data.features, data.target).predict(data.features)
    graph = fitted("ridge", data).learner.predict(data.features)
    assert np.abs(native - graph).max() < 1e-5 * native.std()


@pytest.mark.parametrize("name", ["logit", "forest_of_classes"])
def test_the_score_of_a_classifier_is_the_log_odds_of_class_one(name, classes):
    made = fitted(name, classes, "class")
    native = seeded(getattr(desk_learners, name)(), 7).fit(classes.features, classes.target.astype(int))
    share = native.predict_proba(classes.features)[:, 1]
    assert made.learner.predict(classes.features) == pytest.approx(np.log(share / (1 - share)), abs=1e-4)
    assert made.learner.label_kind == "direction"


def test_fits_in_threads_are_the_same_and_leave_the_libraries_as_they_were(data):
    from threadpoolctl import threadpool_info

    alone = fitted("forest", data).learner.text
    before = sorted((i["user_api"], i["num_threads"]) for i in threadpool_info())
    with ThreadPoolExecutor(3) as pool:
        beside = list(pool.map(lambda _: fitted("forest", data).learner.text, range(3)))
    assert set(beside) == {alone}
    assert sorted((i["user_api"], i["num_threads"]) for i in threadpool_info()) == before


def test_linear_algebra_has_one_thread_until_the_last_fit_has_left():
    from threadpoolctl import threadpool_info, threadpool_limits

    def blas():
        return {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}

    inside, leave = threading.Event(), threading.Event()

    def stays():
        with one_thread():
            inside.set()
            leave.wait(20)

    with threadpool_limits(2, user_api="blas"):
        other = threading.Thread(target=stays)
        other.start()
        inside.wait(20)
        with one_thread():
            assert blas() == {1}
        assert blas() == {1}  # the other is still at it
        leave.set()
        other.join()
        assert blas() == {2}


def test_seed_and_jobs_are_set_in_every_part():
    from sklearn.ensemble import BaggingRegressor, RandomForestRegressor
    from sklearn.pipeline import make_pipeline

    made = seeded(make_pipeline(BaggingRegressor(RandomForestRegressor(n_jobs=4), n_jobs=3)), 11)
    parameters = made.get_params(deep=True)
    assert {v for k, v in parameters.items() if k.endswith("random_state")} == {11}
    assert {v for k, v in parameters.items() if k.endswith("n_jobs")} == {1}


def test_another_seed_is_another_forest_and_options_are_passed_on(data):
    text = fitted("forest", data).learner.text
    assert fitted("forest", data).learner.text == text
    assert fitted("forest", data, seed=8).learner.text != text
    assert fitted("forest", data, n_estimators=3).learner.text != text


@pytest.mark.parametrize("name", ["ridge", "forest", "perceptron"])
def test_rows_of_weight_zero_teach_nothing(name, data):
    half = np.arange(len(data.target)) < 300
    weights = np.where(half, 0.0, 2.0)
    turned = replace(data, target=np.where(half, -50 * data.target, data.target))
    one, other = (fitted(name, d, weights=weights) for d in (data, turned))
    assert one.weights_taken
    if name != "perceptron":  # which scales its target without weights
        assert one.learner.predict(data.features) == pytest.approx(
            other.learner.predict(data.features), abs=1e-9
        )
    assert fitted(name, turned).learner.text != other.learner.text


def test_features_far_outside_are_held_and_every_score_is_finite(data):
    reach = Reach.of(data.features)
    far = data.features[:1].repeat(2, axis=0)
    far[0], far[1] = np.finfo(np.float32).max, reach.high
    scores = fitted("ridge", data).learner.predict(far)
    assert np.isfinite(scores).all()
    assert scores[0] == scores[1]


# ---------------------------------------------------------- what cannot be: silently wrong, or without a converter


# Measured on these rows: largest error in spreads of the native predictions, on training rows and around them.
@pytest.mark.parametrize(
    ("name", "target", "says"),
    [
        ("scaled_forest", "number", "spreads at the worst"),  # rows cross thresholds behind a scaler
        ("scaled_boosted", "number", "spreads at the worst"),
        ("discriminant", "class", "spreads at the worst"),  # its converter doubles the log-odds
        ("splines", "number", "MissingShapeCalculator"),
        ("subclassed", "number", "MissingShapeCalculator"),
        ("neighbours", "number", "Scan"),
    ],
)
def test_a_wrong_or_missing_conversion_is_refused_and_allowed_for_research(name, target, says, data, classes):
    rows = classes if target == "class" else data
    with pytest.raises(ModelError, match=says) as refused:
        fitted(name, rows, target)
    assert "research_only: true" in str(refused.value)
    made = fitted(name, rows, target, research_only=True)
    assert isinstance(made.learner, UnexportedLearner)
    assert np.isfinite(made.learner.predict(rows.features)).all()
    assert "marked for research only" in made.learner.research_only
    stored = from_text(name, made.learner.to_text())
    assert stored.research_only == made.learner.research_only
    with pytest.raises(GateClosedError, match="research only"):
        stored.predict(rows.features)


def test_training_rows_alone_would_not_show_what_the_conversion_of_boosting_gets_wrong(data, monkeypatch):
    from sklearn.ensemble import HistGradientBoostingRegressor

    from quant_assets.models import conversion

    monkeypatch.setattr(conversion, "_floor_thresholds", lambda estimator: None)
    rows = training_arrays(training_frame(100), FEATURES)
    model = HistGradientBoostingRegressor(max_iter=10, max_leaf_nodes=15, random_state=0)
    with one_thread():
        model.fit(rows.features, rows.target)
    graph = graph_bytes(converted(model, len(FEATURES)), Reach.of(rows.features), "score")
    there = np.abs(run_graph(graph, rows.features) - model.predict(rows.features)).max()
    assert there < 1e-5 * model.predict(rows.features).std()
    found = conversion.compared(model, graph, rows.features, Reach.of(rows.features), seed=1)
    assert found.error > 0.01
    assert not found.exact


def test_thresholds_of_boosting_are_rounded_down_and_its_own_predictions_stay(data):
    from sklearn.ensemble import HistGradientBoostingRegressor

    from quant_assets.models import conversion

    with one_thread():
        model = HistGradientBoostingRegressor(max_iter=10, random_state=0).fit(data.features, data.target)
    before = model.predict(data.features)
    graph = graph_bytes(converted(model, len(FEATURES)), Reach.of(data.features), "score")
    assert model.predict(data.features).tobytes() == before.tobytes()
    assert conversion.compared(model, graph, data.features, Reach.of(data.features), seed=1).exact


def test_a_mark_for_research_stays_with_a_learner_that_converts(data):
    made = fitted("ridge", data, research_only=True)
    assert made.agreement.exact
    assert made.learner.research_only == "marked for research only"
    assert from_text("ridge", made.learner.text).predict(data.features).any()


# ----------------------------------------------------------------------------------------------- graphs of networks


def test_a_score_that_depends_on_the_batch_is_refused(data):
    with pytest.raises(ModelError, match="other rows beside"):
        fitted("batch_mean", data)


@given(st.integers(0, 2**31), st.integers(1, 60))
@settings(max_examples=20, deadline=None)
def test_a_rows_score_is_the_same_in_every_batch(seed, size):
    rows = training_arrays(training_frame(30), FEATURES)
    learner = _perceptron(rows)
    chosen = np.random.default_rng(seed).choice(len(rows.features), size, replace=False)
    whole = learner.predict(rows.features)[chosen]
    assert learner.predict(rows.features[chosen]) == pytest.approx(whole, abs=1e-6 * np.abs(whole).max())


_KEPT = {}


def _perceptron(rows):
    if not _KEPT:
        _KEPT["made"] = fitted("perceptron", rows).learner
    return _KEPT["made"]


def test_a_graph_that_draws_numbers_is_refused(data):
    with pytest.raises(ModelError, match="RandomNormalLike"):
        fitted("noise", data)


def network(data_of):
    return type("N", (), {"fit": lambda self, features, target, weights, seed: data_of(features)})()


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda x: b"\x80\x04\x95", "pickle"),
        (lambda x: "text", "str"),
        (lambda x: b"", "0 bytes"),
        (lambda x: b"\x08\x09rubbish", "not ONNX"),
        (lambda x: desk_learners.graph_of([helper.make_node("Loop", ["x"], ["y"])], {}, x.shape[1]), "found"),
        (
            lambda x: desk_learners.graph_of(
                [helper.make_node("MatMul", ["x", "w"], ["y"])],
                {"w": np.full((x.shape[1], 1), np.nan)},
                x.shape[1],
            ),
            "that are not",
        ),
        (
            lambda x: desk_learners.graph_of(
                [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((x.shape[1], 2))}, x.shape[1]
            ),
            "found",
        ),
    ],
)
def test_what_is_no_graph_of_one_finite_score_a_row_is_refused(returned, says, data, monkeypatch):
    monkeypatch.setattr(desk_learners, "perceptron", lambda: network(returned))
    with pytest.raises(ModelError, match=says):
        fitted("perceptron", data)


def test_external_tensors_are_refused(data, monkeypatch):
    def external(features):
        model = helper.make_model(
            helper.make_graph(
                [helper.make_node("MatMul", ["x", "w"], ["y"])],
                "g",
                [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", features.shape[1]])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
                [
                    helper.make_tensor(
                        "w", TensorProto.FLOAT, [features.shape[1], 1], np.ones(features.shape[1])
                    )
                ],
            ),
            opset_imports=[helper.make_opsetid("", 17)],
        )
        tensor = model.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
        return model.SerializeToString()

    monkeypatch.setattr(desk_learners, "perceptron", lambda: network(external))
    with pytest.raises(ModelError, match="external data"):
        fitted("perceptron", data)


# -------------------------------------------------------------------------------------------- what is not a learner


@pytest.mark.parametrize(
    ("name", "target", "says"),
    [
        ("not_a_learner", "number", "fit\\(features, target, weights, seed\\)"),
        ("fails", "number", "RuntimeError: no"),
        ("ridge", "class", "a classifier with predict_proba"),
        ("logit", "number", "a regressor"),
        ("forest", "number", "unexpected keyword"),
    ],
)
def test_what_is_no_such_learner_is_refused_with_the_reason(name, target, says, data, classes):
    options = {"trees": 3} if name == "forest" else {}
    with pytest.raises(ModelError, match=says):
        fitted(name, classes if target == "class" else data, target, **options)


def test_an_estimator_that_is_kept_in_its_module_is_refused_at_its_second_fit(data):
    with pytest.raises(ModelError, match="one that is fitted"):
        [fitted("kept_estimator", data) for _ in range(2)]


def test_a_text_that_was_changed_is_refused(data):
    text = fitted("ridge", data).learner.text
    changed = json.loads(text)
    for key, value in (
        ("graph", "AAAA"),
        ("graph", "?"),
        ("objective", "graph:rank"),
        ("feature_names", ["a"]),
    ):
        with pytest.raises(ModelError):
            from_text("ridge", json.dumps({**changed, key: value}, sort_keys=True, separators=(",", ":")))
    with pytest.raises(ModelError, match="one of lightgbm"):
        from_text("lightgmb", "tree\n")
    none = {**changed, "graph": ""}
    with pytest.raises(ModelError, match="neither a graph"):
        from_text("ridge", json.dumps(none, sort_keys=True, separators=(",", ":")))


# ------------------------------------------------------------------------------------------------ planted dishonesty


def proof(name, data, **options):
    rows = Samples(data.features, data.target)
    return prove_learner(name, config_of(name, **options), rows, seed=7, feature_names=FEATURES)


@pytest.mark.parametrize("name", ["ridge", "forest", "perceptron"])
def test_honest_learners_are_proven(name, data):
    proof(name, data).require(name)


def test_a_memory_of_earlier_fits_is_named(data):
    assert "it remembers" in proof("memory", data).remembers
    with pytest.raises(ModelError, match="it remembers"):
        proven_fit(
            "memory", config_of("memory"), Samples(data.features, data.target), seed=7, feature_names=FEATURES
        )


def test_a_memory_in_a_file_is_named_also_when_it_knows_all_rows_already(data, tmp_path):
    path = str(tmp_path / "seen.npy")
    fitted("memory_in_a_file", data, path=path)
    for _ in range(2):  # the second proof finds the rows of the first in the file
        found = proof("memory_in_a_file", data, path=path)
        assert "differ" in found.repeats or "it remembers" in found.remembers


def test_a_fit_that_does_not_repeat_is_named(data):
    with pytest.raises(ModelError, match="two fits of the same rows differ"):
        proof("restless", data).require("restless")


def test_draws_from_the_shared_generator_are_named_though_the_fit_repeats(data):
    found = proof("global_draws", data)
    assert found.repeats == ""
    with pytest.raises(ModelError, match="global generator"):
        found.require("global_draws")


# ------------------------------------------------------------------------------------------------------ in a stack


def models_of(**custom):
    return ModelsConfig.model_validate(
        {**SMALL_MODELS.model_dump(), "xgboost": None, "custom": {k: DESK + v for k, v in custom.items()}}
    )


def test_custom_learners_are_stacked_stored_and_exported_beside_ours(data):
    from quant_assets.artifacts.onnx.export import export_onnx
    from quant_assets.artifacts.onnx.parity import compare_graph

    models = models_of(ridge="ridge", net="perceptron")
    assert models.learners == ("lightgbm", "net", "ridge")
    ensemble = fit_ensemble(training_frame(60), FEATURES, models, seed=1, embargo_sessions=2, recipe="r")
    assert all(ensemble.stacker.coefficients)
    again = Ensemble.from_json(json.loads(json.dumps(ensemble.to_json())))
    assert again.predict(data.features).tobytes() == ensemble.predict(data.features).tobytes()
    graph = export_onnx(again, subject="s")
    assert graph == export_onnx(again, subject="s")
    found, details = compare_graph(again, graph, "s", data.features)
    assert found.max_error_over_sd < 1e-3
    assert found.flipped_decisions == 0, details


def test_a_learner_for_research_only_is_not_exported(data):
    from quant_assets.artifacts.onnx.export import export_onnx

    models = models_of(ridge="ridge").model_copy(update={"research_only": True})
    assert models.research_learners == ("ridge",)
    ensemble = fit_ensemble(training_frame(60), FEATURES, models, seed=1, embargo_sessions=2, recipe="r")
    with pytest.raises(ArtifactError, match="ridge: marked for research only"):
        export_onnx(ensemble, subject="s")


# ---------------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ({"custom": {"lightgbm": DESK + "ridge"}}, "none of"),
        ({"custom": {"Ridge": DESK + "ridge"}}, "small letters"),
        ({"custom": {"up": {"use": DESK + "logit", "target": "class"}}}, "one kind of label"),
        ({"custom": {"ridge": "no reference"}}, "module:object"),
        ({"lightgbm": None, "xgboost": None}, "at least one"),
        ({"research_only": True}, "without custom learners"),
        ({"lightgbm": {"relevance_grades": 5}}, "relevance_grades"),
        ({"custom": {"ridge": {"use": DESK + "ridge", "reserach_only": True}}}, "Extra"),
    ],
)
def test_settings_that_make_no_sense_are_refused(models, says):
    with pytest.raises(ValueError, match=says):
        ModelsConfig.model_validate(models)


def test_the_plugins_of_one_learner_are_its_own_and_the_weights():
    models = models_of(ridge="ridge", net="perceptron").model_copy(
        update={"weights": WeightsConfig.model_validate({"custom": DESK + "young"})}
    )
    assert [p.use for p in models.plugins("ridge")] == [DESK + "ridge", DESK + "young"]
    assert [p.use for p in models.plugins("lightgbm")] == [DESK + "young"]
    assert [p.use for p in models.plugins()] == [DESK + "perceptron", DESK + "ridge", DESK + "young"]


# ------------------------------------------------------------------------------------------------------------ weights


def weights_by(name, **options):
    return WeightsConfig.model_validate({"custom": {"use": DESK + name, "options": options}})


def test_weights_are_given_the_training_rows_without_outcomes_and_scaled_to_mean_one(data):
    assert data.weights(weights_by("columns_told")) == pytest.approx(np.ones(600), abs=1e-12)
    young = data.weights(weights_by("young", half_life=10.0))
    assert young.mean() == pytest.approx(1.0, abs=1e-12)
    # Ten rows a day, 60 days: the newest weighs 2 ** (59 / 10) times the oldest.
    assert young[-1] / young[0] == pytest.approx(2.0**5.9, rel=1e-9)
    part = data.take(np.arange(100))
    assert part.weights(weights_by("young"))[-1] > part.weights(weights_by("young"))[0]


def test_custom_weights_multiply_uniqueness(data):
    both = WeightsConfig.model_validate({"uniqueness": True, "custom": DESK + "young"})
    product = data.weights(WeightsConfig(uniqueness=True)) * data.weights(weights_by("young"))
    assert data.weights(both) == pytest.approx(product / product.mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("negative", "-1.0 in row 0"),
        ("missing", "nan in row 3"),
        ("none", "600 zeros"),
        ("too_few", r"shape \(599,\)"),
    ],
)
def test_weights_that_are_none_are_refused(name, says, data):
    with pytest.raises(ModelError, match=says):
        data.weights(weights_by(name))


def test_weights_that_change_from_call_to_call_are_refused(data):
    with pytest.raises(ModelError, match="asked twice"):
        prove_weights(weights_by("counted"), data)
    prove_weights(weights_by("young"), data)
