from dataclasses import replace

import numpy as np
import pytest

from quant_assets.common.errors import ModelError
from quant_assets.common.settings import EarlyStoppingConfig
from quant_assets.models import fitting
from quant_assets.models.fitting import best_count, chosen_trees, fit_base, inner_folds
from quant_assets.models.learners import fit_learner, learning_curve
from quant_assets.models.training_arrays import Samples, training_arrays
from quant_assets_tests.models.training_frames import (
    FEATURES,
    SMALL_DIRECTIONS,
    SMALL_MODELS,
    training_frame,
)

OPTIONS = {"seed": 7, "feature_names": FEATURES, "embargo_sessions": 2}
STOPPING = EarlyStoppingConfig(rounds=10, max_estimators=150)
LEARNERS = ("lightgbm", "xgboost")


@pytest.fixture(scope="module")
def data():
    return training_arrays(training_frame(), FEATURES)


@pytest.fixture(scope="module")
def directions():
    return training_arrays(training_frame(), FEATURES, "direction")


@pytest.mark.parametrize(
    ("losses", "rounds", "expected"),
    [
        ([5, 4, 3, 2, 1], 1, 5),
        ([5, 4, 3, 4, 1], 1, 3),  # one round without a better loss ends it
        ([5, 4, 3, 4, 1], 2, 5),
        ([5, 4, 4, 4, 4], 9, 2),  # the first of equals
        ([1, 2, 3, 4, 5], 3, 1),
        ([1], 1, 1),
    ],
)
def test_the_count_is_that_of_the_lowest_loss_before_patience_ends(losses, rounds, expected):
    assert best_count(np.array(losses, dtype=float), rounds) == expected


@pytest.mark.parametrize("name", LEARNERS)
def test_a_learning_curve_is_the_loss_of_fits_with_so_many_trees(name, data, directions):
    weights = np.random.default_rng(0).uniform(0.2, 3, 1200)
    for kind, rows, models in (
        ("return", data, SMALL_MODELS),
        ("direction", directions, SMALL_DIRECTIONS),
    ):
        config = getattr(models, name)
        half = np.arange(1200) < 700
        train = Samples(rows.features[half], rows.target[half], weights[half])
        unseen = Samples(rows.features[~half], rows.target[~half], weights[~half])
        curve = learning_curve(name, config, train, unseen, seed=7, feature_names=FEATURES)
        for trees in (1, 5, 12):
            learner = fit_learner(
                name, config.model_copy(update={"n_estimators": trees}), train.features, train.target,
                seed=7, feature_names=FEATURES, weights=train.weights,
            )  # fmt: skip
            score, y = learner.predict(unseen.features), unseen.target
            losses = np.logaddexp(0, score) - y * score if kind == "direction" else (y - score) ** 2
            loss = np.average(losses, weights=unseen.weights)
            loss = np.sqrt(loss) if (name, kind) == ("xgboost", "return") else loss
            assert curve[trees - 1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("kind", ["return", "direction"])
def test_the_base_learner_has_the_chosen_number_of_trees_and_all_training_rows(name, kind, data, directions):
    rows, models = (data, SMALL_MODELS) if kind == "return" else (directions, SMALL_DIRECTIONS)
    rows, models = rows.with_shared_bins(), models.model_copy(update={"early_stopping": STOPPING})
    number = chosen_trees(name, rows, models, STOPPING, **OPTIONS)
    assert 1 < number < 150
    config = getattr(models, name).model_copy(update={"n_estimators": number})
    expected = fit_learner(
        name, config, rows.features, rows.target,
        seed=7, feature_names=FEATURES, weights=rows.weights(models.weights), binned=rows.binned,
    )  # fmt: skip
    fitted = fit_base(name, rows, models, **OPTIONS)
    assert fitted.text == expected.text
    assert len(fitted.trees()) == number
    assert fit_base(name, rows, models, **OPTIONS) == fitted


def test_noise_stops_earlier_than_an_edge(data):
    noise = replace(data, target=np.random.default_rng(1).permutation(data.target))
    edge, none = (chosen_trees("lightgbm", rows, SMALL_MODELS, STOPPING, **OPTIONS) for rows in (data, noise))
    assert none < edge


def test_the_curve_is_measured_on_purged_folds_of_the_training_rows_and_on_nothing_else(data, monkeypatch):
    """Labels reach 6 days ahead, the embargo is 2 sessions: worked out here from the times of the rows seen."""
    seen = []

    def spy(name, config, rows, unseen, **options):
        seen.append((rows, unseen))
        return learning_curve(name, config, rows, unseen, **options)

    monkeypatch.setattr(fitting, "learning_curve", spy)
    kept = np.flatnonzero(np.repeat(np.arange(120), 10) % 60 < 50)
    # The last feature says which row is which.
    marked = data.features.copy()
    marked[:, -1] = np.arange(1200)
    train = replace(data, features=marked).take(kept)
    chosen_trees("lightgbm", train, SMALL_MODELS, EarlyStoppingConfig(rounds=3), **OPTIONS)
    assert len(seen) == 3
    tested = []
    for rows, unseen in seen:
        inside, outside = (s.features[:, -1].astype(int) // 10 for s in (rows, unseen))
        first, last = outside.min(), outside.max()
        sessions = np.unique(kept // 10)
        later = sessions[sessions > last + 6]  # the embargo counts sessions that there are
        free = (sessions + 6 < first) | np.isin(sessions, later[2:])
        assert np.unique(inside).tolist() == sessions[free].tolist()
        tested.append(unseen.features[:, -1].astype(int))
    assert np.sort(np.concatenate(tested)).tolist() == kept.tolist()


def test_without_early_stopping_the_configured_number_is_grown(data):
    assert len(fit_base("lightgbm", data, SMALL_MODELS, **OPTIONS).trees()) == 12


def test_the_ceiling_is_the_learners_own_number_unless_another_is_given(data):
    patient = EarlyStoppingConfig(rounds=5000)
    assert chosen_trees("lightgbm", data, SMALL_MODELS, patient, **OPTIONS) == 12


def test_a_fold_that_the_embargo_empties_names_the_setting(data):
    options = {**OPTIONS, "embargo_sessions": 100}
    with pytest.raises(ModelError, match=r"lower models\.early_stopping\.inner_folds"):
        chosen_trees("lightgbm", data, SMALL_MODELS, EarlyStoppingConfig(inner_folds=2), **options)
    assert inner_folds(data, 2, 0, setting="x")
