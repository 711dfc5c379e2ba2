from itertools import combinations

import numpy as np
import polars as pl
import pytest

from quant_assets.common.errors import ModelError, ValidationError
from quant_assets.common.settings import ValidationConfig
from quant_assets.models.cross_prediction import cross_predict
from quant_assets.models.ensemble import fit_ensemble
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_DIRECTIONS, SMALL_MODELS, training_frame

SIX_TWO = ValidationConfig(n_groups=6, n_test_groups=2, embargo_sessions=2)


@pytest.fixture(scope="module")
def frame():
    return training_frame(n_sessions=120, n_symbols=8)


@pytest.fixture(scope="module")
def predictions(frame):
    return cross_predict(frame, FEATURES, SMALL_MODELS, SIX_TWO, seed=7, n_jobs=1)


def test_every_row_is_predicted_on_each_of_the_five_paths_in_the_order_of_the_training_set(
    frame, predictions
):
    assert predictions.columns == ["symbol", "session", *(f"path_{p}" for p in range(5))]
    assert predictions.select("symbol", "session").equals(frame.select("symbol", "session"))
    assert predictions.select(pl.selectors.float().is_finite().all()).row(0) == (True,) * 5


def test_scores_have_the_same_bits_for_one_worker_and_for_two(frame, predictions):
    steps = []
    parallel = cross_predict(
        frame, FEATURES, SMALL_MODELS, SIX_TWO, seed=7, n_jobs=2, progress=lambda *s: steps.append(s)
    )
    for path in range(5):
        ours, theirs = predictions[f"path_{path}"].to_numpy(), parallel[f"path_{path}"].to_numpy()
        assert ours.tobytes() == theirs.tobytes()
    assert steps == [(n, 15) for n in range(1, 16)]


@pytest.mark.parametrize("models", [SMALL_MODELS, SMALL_DIRECTIONS], ids=["returns", "directions"])
def test_paths_hold_what_an_ensemble_fitted_on_the_purged_rest_of_the_sessions_says(frame, models):
    """Splits, purge and paths worked out by hand here: groups of 20 sessions, labels 6 days, embargo 2.

    The ensemble is given the training rows alone, so weights and numbers of trees can come from no others.
    """
    predictions = cross_predict(frame, FEATURES, models, SIX_TWO, seed=7, n_jobs=2)
    rows = training_arrays(frame, FEATURES).features
    session = np.repeat(np.arange(120), 8)
    splits = list(combinations(range(6), 2))
    tested_so_far = dict.fromkeys(range(6), 0)
    for number, groups in enumerate(splits):
        path_of = {}
        for group in groups:
            path_of[group] = tested_so_far[group]
            tested_so_far[group] += 1
        if number not in (0, 7, 13):
            continue
        train = np.ones(len(session), dtype=bool)
        runs = [groups] if groups[1] == groups[0] + 1 else [(g,) for g in groups]
        for run in runs:
            first, last = 20 * run[0], 20 * run[-1] + 19
            train &= ~((session + 6 >= first) & (session <= last + 6 + 2))
        ensemble = fit_ensemble(
            frame.filter(pl.Series(train)), FEATURES, models, seed=7, embargo_sessions=2, recipe=""
        )
        for group, path in path_of.items():
            inside = session // 20 == group
            expected = ensemble.predict(rows[inside])
            assert predictions[f"path_{path}"].to_numpy()[inside].tobytes() == expected.tobytes()


def test_scores_of_a_group_do_not_change_with_the_outcomes_around_it(frame, predictions):
    session = np.repeat(np.arange(120), 8)
    hidden = (session >= 34) & (session <= 67)  # group 2 is sessions 40-59; last outcome 65, embargo 67
    tampered = frame.with_columns(
        target=pl.when(pl.Series(hidden)).then(-50 * pl.col("target")).otherwise("target")
    )
    after = cross_predict(tampered, FEATURES, SMALL_MODELS, SIX_TWO, seed=7, n_jobs=2)
    group = session // 20 == 2
    for path in range(5):
        before, now = predictions[f"path_{path}"].to_numpy(), after[f"path_{path}"].to_numpy()
        assert before[group].tobytes() == now[group].tobytes()
        # path 1 takes group 0 from the split that tests groups 0 and 2, which trains on none of it either
        assert np.array_equal(before[session // 20 == 0], now[session // 20 == 0]) == (path == 1)


def test_a_planted_edge_is_found_out_of_sample_on_every_path_and_noise_is_not(frame, predictions):
    target = frame["target"].to_numpy()
    noise = frame.with_columns(target=pl.Series(np.random.default_rng(0).permutation(target)))
    found = cross_predict(noise, FEATURES, SMALL_MODELS, SIX_TWO, seed=7, n_jobs=2)
    for path in range(5):
        # The standard error of a correlation of 960 rows is .032. A leak shows above zero; without one there
        # is a bias below zero, because a test group with a high mean leaves training rows with a low one.
        assert np.corrcoef(predictions[f"path_{path}"], target)[0, 1] > 4 * 0.032
        assert np.corrcoef(found[f"path_{path}"], noise["target"])[0, 1] < 3 * 0.032


def test_too_few_sessions_are_refused(frame):
    with pytest.raises(ValidationError, match="fewer sessions than groups"):
        cross_predict(frame.head(32), FEATURES, SMALL_MODELS, SIX_TWO, seed=7)


def test_a_split_that_the_embargo_empties_is_refused(frame):
    swallowing = ValidationConfig(n_groups=3, n_test_groups=2, embargo_sessions=100)
    with pytest.raises(ModelError, match=r"testing groups 0, 1, no row.*lower validation\.n_test_groups"):
        cross_predict(frame, FEATURES, SMALL_MODELS, swallowing, seed=7, n_jobs=1)


def test_rows_without_an_outcome_are_scored_by_fits_that_know_nothing_of_them(frame, predictions):
    rows = frame.select("symbol", "session", "t0", *FEATURES)
    ended = (pl.col("symbol") == rows["symbol"][0]) & (
        pl.col("session") > rows["session"].unique().sort()[-9]
    )
    trained = frame.filter(~ended)
    validation = ValidationConfig(n_groups=6, n_test_groups=2, embargo_sessions=2)
    options = {"seed": 7, "n_jobs": 1}
    only = cross_predict(trained, FEATURES, SMALL_MODELS, validation, **options)
    scored = cross_predict(trained, FEATURES, SMALL_MODELS, validation, scored=rows, **options)
    keys = ["symbol", "session"]
    assert scored.select(keys).equals(rows.select(keys))
    # what can be trained on has the bits that it would have alone
    assert scored.join(trained.select(keys), on=keys, how="semi", maintain_order="left").equals(only)
    rest = scored.join(trained.select(keys), on=keys, how="anti")
    assert rest.height == frame.height - trained.height > 0
    assert rest.drop(keys).null_count().sum_horizontal().item() == 0
    assert not rest.select(pl.all_horizontal(pl.exclude(keys).is_nan())).to_series().any()
