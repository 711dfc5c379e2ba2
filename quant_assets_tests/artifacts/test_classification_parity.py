"""The exported graph of a classification: log-odds in one graph, judged by the same gate as returns."""

import numpy as np
import onnx
import pytest

from quant_assets.artifacts.onnx.export import export_onnx
from quant_assets.artifacts.onnx.scoring import metadata_of, open_session, score
from quant_assets.gates.limits import GatesConfig
from quant_assets.models.ensemble import fit_ensemble
from quant_assets.models.lightgbm_learner import exact_thresholds
from quant_assets_tests.artifacts.conftest import SUBJECT, judge_parity
from quant_assets_tests.artifacts.test_parity import attribute, edited, replaced
from quant_assets_tests.models.training_frames import FEATURES, SMALL_DIRECTIONS, training_frame

LIMITS = GatesConfig()
OPTIONS = {"seed": 7, "embargo_sessions": 2, "recipe": "r1"}


@pytest.fixture(scope="module")
def classifier():
    return fit_ensemble(training_frame(), FEATURES, SMALL_DIRECTIONS, **OPTIONS)


@pytest.fixture(scope="module")
def graph(classifier):
    return export_onnx(classifier, subject=SUBJECT)


def test_no_decision_flips_on_any_kind_of_row(classifier, graph, training_data):
    verdict, details = judge_parity(classifier, graph, SUBJECT, training_data.features, LIMITS)
    assert verdict.status == "pass"
    assert verdict.observed < 1e-5
    splits = sum(tree.n_splits for learner in classifier.learners for tree in learner.trees())
    assert details["row_sets"]["on_threshold"]["rows"] == 3 * splits > 300
    assert all(found["flipped_decisions"] == 0 for found in details["row_sets"].values())
    assert details["not_finite_rows"]["answered_with_a_number"] == 0


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_each_learner_alone_converts_to_its_log_odds(name, training_data):
    without = {"lightgbm": "xgboost", "xgboost": "lightgbm"}[name]
    models = SMALL_DIRECTIONS.model_copy(update={without: None})
    single = fit_ensemble(training_frame(), FEATURES, models, **OPTIONS)
    verdict, _ = judge_parity(
        single, export_onnx(single, subject=SUBJECT), SUBJECT, training_data.features, LIMITS
    )
    assert verdict.status == "pass"


def test_the_graph_holds_sums_of_trees_and_no_labels_or_probabilities(classifier, graph, training_data):
    kinds = [node.op_type for node in onnx.load_from_string(graph).graph.node]
    assert kinds.count("TreeEnsembleRegressor") == 2
    assert not {"TreeEnsembleClassifier", "ZipMap", "ArgMax", "Sigmoid"} & set(kinds)
    session = open_session(graph)
    base = session.run(["base"], {"features": training_data.features})[0]
    expected = classifier.base_predictions(training_data.features)
    assert np.abs(base - expected).max() < 1e-6 * expected.std()
    assert metadata_of(session)["score_unit"] == "log_odds"
    assert np.isnan(score(session, np.full((1, len(FEATURES)), np.nan, dtype=np.float32))).all()


def test_the_same_classifier_gives_the_same_bytes(classifier, graph):
    assert export_onnx(classifier, subject=SUBJECT) == graph


def test_thresholds_rounded_to_the_nearest_float32_are_caught(classifier, graph, training_data):
    """The planted bug, with thresholds between two float32: the upper one of the two instead of the lower."""

    def round_up_half(model):
        values = attribute(model, "lightgbm", "nodes_values").floats
        floored = np.array(values, dtype=np.float32)
        above = np.nextafter(floored, np.float32(np.inf))
        exact = floored + 0.75 * (above.astype(np.float64) - floored)
        split = np.abs(floored) > 1e-30  # leaves hold 0, and zeros have a rule of their own
        assert exact_thresholds(exact)[split].tolist() == floored[split].tolist()
        values[:] = np.where(split, exact.astype(np.float32), floored).tolist()

    verdict, details = judge_parity(
        classifier, edited(graph, round_up_half), SUBJECT, training_data.features, LIMITS
    )
    assert verdict.status == "fail"
    assert details["row_sets"]["on_threshold"]["max_error_over_sd"] > LIMITS.parity_max_error_over_sd


def test_probabilities_in_place_of_log_odds_are_caught(classifier, graph, training_data):
    """Half of a quarter of the log-odds plus one half: same order, every row long."""

    def as_probability(model):
        replaced(model, "stacker/weights", lambda v: v / 4)
        replaced(model, "stacker/intercept", lambda v: v / 4 + np.float32(0.5))

    verdict, details = judge_parity(
        classifier, edited(graph, as_probability), SUBJECT, training_data.features, LIMITS
    )
    assert verdict.status == "fail"
    assert details["rank_correlation"]["real"] > 0.999
    assert details["row_sets"]["real"]["flipped_decisions"] > 300
