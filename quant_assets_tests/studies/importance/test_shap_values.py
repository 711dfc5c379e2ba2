from itertools import combinations
from math import factorial

import numpy as np
import pytest

from quant_assets.models.ensemble import fit_ensemble
from quant_assets.studies.importance.out_of_sample import (
    ensemble_contributions,
    learner_contributions,
    shadow_rows,
)
from quant_assets.studies.importance.permutation import CrossSections
from quant_assets_tests.models.training_frames import (
    FEATURES,
    SMALL_DIRECTIONS,
    SMALL_MODELS,
    training_frame,
)


@pytest.fixture(scope="module", params=[SMALL_MODELS, SMALL_DIRECTIONS], ids=["returns", "directions"])
def fitted(request):
    frame = training_frame(60, 8)
    ensemble = fit_ensemble(frame, FEATURES, request.param, seed=3, embargo_sessions=2, recipe="test")
    return ensemble, np.ascontiguousarray(frame.select(FEATURES).to_numpy()[:300])


def test_contributions_and_base_sum_to_the_prediction_of_each_learner_and_of_the_ensemble(fitted):
    ensemble, rows = fitted
    for learner in ensemble.learners:
        values, base = learner_contributions(learner, rows)
        assert values.shape == rows.shape
        assert base + values.sum(axis=1) == pytest.approx(learner.predict(rows), abs=1e-6)
    shap = ensemble_contributions(ensemble.learners, ensemble.stacker, rows)
    assert shap.base + shap.values.sum(axis=1) == pytest.approx(ensemble.predict(rows), abs=1e-6)
    assert shap.mean_absolute.argmax() == 0  # feature_0 drives the target


def test_contributions_are_shapley_values_of_a_tree_worked_out_by_hand():
    """All subsets of features, by the tree's own path-dependent expectations (Lundberg et al. 2018, algorithm 1)."""
    frame = training_frame(80, 10)
    models = SMALL_MODELS.model_copy(
        update={
            "xgboost": None,
            "lightgbm": SMALL_MODELS.lightgbm.model_copy(
                update={"n_estimators": 1, "bagging_fraction": 1.0, "feature_fraction": 1.0}
            ),
        }
    )
    names = FEATURES[:3]
    ensemble = fit_ensemble(frame, names, models, seed=3, embargo_sessions=2, recipe="test")
    (learner,) = ensemble.learners
    rows = np.ascontiguousarray(frame.select(names).to_numpy()[:5])
    import lightgbm

    tree = lightgbm.Booster(model_str=learner.text).dump_model()["tree_info"][0]["tree_structure"]

    def count(node):
        return node.get("internal_count", node.get("leaf_count"))

    def expected(node, row, known):
        if "leaf_value" in node:
            return node["leaf_value"]
        left, right = node["left_child"], node["right_child"]
        if node["split_feature"] in known:
            side = left if row[node["split_feature"]] <= node["threshold"] else right
            return expected(side, row, known)
        a, b = count(left), count(right)
        return (a * expected(left, row, known) + b * expected(right, row, known)) / (a + b)

    def shapley(row, j):
        others = [k for k in range(3) if k != j]
        return sum(
            factorial(len(s)) * factorial(2 - len(s)) / 6
            * (expected(tree, row, {*s, j}) - expected(tree, row, set(s)))
            for size in range(3)
            for s in combinations(others, size)
        )  # fmt: skip

    values, base = learner_contributions(learner, rows)
    by_hand = [[shapley(row.astype(float), j) for j in range(3)] for row in rows]
    assert np.abs(values).max() > 1e-5
    assert values == pytest.approx(np.array(by_hand), abs=1e-12)
    assert base == pytest.approx(expected(tree, rows[0], set()), abs=1e-12)


def test_a_shadow_comes_from_another_name_and_from_far_away():
    sessions = CrossSections(np.repeat(np.arange(40), 6))
    rows = shadow_rows(sessions, np.random.default_rng(1))
    away = np.abs(rows // 6 - np.arange(240) // 6)
    assert np.all((away >= 10) & (away <= 30))
    assert np.all(rows % 6 != np.arange(240) % 6)
    # One shift and one turn for the whole history: what lasts in the feature lasts in its shadow.
    assert len(np.unique((rows % 6 - np.arange(240)) % 6)) == 1
