"""Fits that are kept: the same bytes as without, and exactly what a change touches is fitted again."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from quant_assets.common.model_settings import ModelsConfig
from quant_assets.common.settings import ValidationConfig
from quant_assets.models import fitting
from quant_assets.models.cross_prediction import cross_predict, walk_forward_predict
from quant_assets.models.draft_prediction import draft_predict, draft_split
from quant_assets.models.kept_fits import FitKeys, found_floats
from quant_assets.models.stacking import fit_stacker
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

THREE_ONE = ValidationConfig(n_groups=3, n_test_groups=1, embargo_sessions=2)
OPTIONS = {"seed": 7, "feature_names": FEATURES, "embargo_sessions": 2}


class Shelf(dict):
    """A store of fits in memory."""

    def find(self, key: str) -> bytes | None:
        return self.get(key)

    def keep(self, key: str, data: bytes) -> None:
        self[key] = data


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return training_frame(n_sessions=60, n_symbols=5)


@pytest.fixture(scope="module")
def shelf(frame: pl.DataFrame) -> Shelf:
    shelf = Shelf()
    scores(frame, SMALL_MODELS, shelf)
    return shelf


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the learners that are fitted from here on."""
    names: list[str] = []
    fit = fitting.fit_learner
    monkeypatch.setattr(
        fitting, "fit_learner", lambda name, *a, **o: (names.append(name), fit(name, *a, **o))[1]
    )
    return names


def scores(frame: pl.DataFrame, models: ModelsConfig, *shelf: Shelf) -> bytes:
    kept = {"fits": shelf[0]} if shelf else {}
    made = cross_predict(frame, FEATURES, models, THREE_ONE, seed=7, n_jobs=1, **kept)  # type: ignore[arg-type]
    return made.select(pl.col("^path_.*$")).to_numpy().tobytes()


def with_alpha(alpha: float) -> ModelsConfig:
    stacker = SMALL_MODELS.stacker.model_copy(update={"ridge_alpha": alpha})
    return SMALL_MODELS.model_copy(update={"stacker": stacker})


def test_found_fits_give_the_bytes_of_made_ones_and_nothing_is_fitted(frame, shelf, fitted):
    found = scores(frame, SMALL_MODELS, shelf)
    assert fitted == []
    assert found == scores(frame, SMALL_MODELS)
    assert len(fitted) == 3 * 2 * (1 + 3)  # splits, learners, the split's own fit and three folds


def test_another_penalty_of_the_stacker_gives_other_scores_from_no_fit_at_all(frame, shelf, fitted):
    other = scores(frame, with_alpha(1e6), shelf)
    assert fitted == []
    assert other != scores(frame, SMALL_MODELS, shelf)
    assert other == scores(frame, with_alpha(1e6))


def test_another_lightgbm_finds_every_xgboost(frame, shelf, fitted):
    lightgbm = SMALL_MODELS.lightgbm.model_copy(update={"num_leaves": 5})  # type: ignore[union-attr]
    models = SMALL_MODELS.model_copy(update={"lightgbm": lightgbm})
    made = scores(frame, models, Shelf(shelf))
    assert set(fitted) == {"lightgbm"}
    assert len(fitted) == 3 * 4
    assert made == scores(frame, models)


@pytest.mark.parametrize("column", ["target", FEATURES[0]])
def test_one_other_value_anywhere_finds_nothing(frame, shelf, fitted, column):
    """Also of a row that no split trains on: whatever a learner might read of it is in its name."""
    last = pl.int_range(pl.len()) == frame.height - 1
    moved = frame.with_columns(pl.when(last).then(pl.col(column) + 1).otherwise(pl.col(column)).alias(column))
    scores(moved, SMALL_MODELS, Shelf(shelf))
    assert len(fitted) == 3 * 2 * 4


def test_what_is_kept_and_of_another_length_is_not_taken(frame, shelf):
    cut = Shelf({key: data[:-8] for key, data in shelf.items()})
    assert scores(frame, SMALL_MODELS, cut) == scores(frame, SMALL_MODELS)
    assert found_floats(Shelf(a=b"12345678"), "a", (2,)) is None


def test_the_stacker_of_the_candidate_is_found_and_is_the_same(frame, fitted):
    data, shelf = training_arrays(frame, FEATURES), Shelf()
    first = fit_stacker(data, SMALL_MODELS, **OPTIONS, fits=shelf)
    assert len(fitted) == 6
    assert fit_stacker(data, SMALL_MODELS, **OPTIONS, fits=shelf) == first
    assert len(fitted) == 6
    assert fit_stacker(data, SMALL_MODELS, **OPTIONS) == first


def test_windows_are_found_too(fitted):
    frame = training_frame(n_sessions=120, n_symbols=5)
    shelf, options = Shelf(), {"seed": 7, "embargo_sessions": 2, "n_jobs": 1}
    first = walk_forward_predict(frame, FEATURES, SMALL_MODELS, **options, fits=shelf)
    made = len(fitted)
    assert made > 0
    assert walk_forward_predict(frame, FEATURES, SMALL_MODELS, **options, fits=shelf).equals(first)
    assert len(fitted) == made


def test_every_part_of_a_name_makes_another_one():
    keys = FitKeys("training", "unseen", SMALL_MODELS, 7, 2, FEATURES, "code")
    train, test = np.arange(3), np.arange(3, 5)
    own = keys.key("unseen", "lightgbm", train, test)
    weighted = SMALL_MODELS.model_copy(
        update={"weights": SMALL_MODELS.weights.model_copy(update={"uniqueness": True})}
    )
    others = [
        keys.key("draft", "lightgbm", train, test),
        keys.key("unseen", "xgboost", train, test),
        keys.key("unseen", "lightgbm", train[1:], test),
        keys.key("unseen", "lightgbm", train, test[1:]),
        keys.key("unseen", "lightgbm", None, test),
        *(
            replace(keys, **change).key("unseen", "lightgbm", train, test)
            for change in (
                {"training_set": "other"}, {"unseen": "other"}, {"models": weighted}, {"seed": 8},
                {"embargo_sessions": 3}, {"feature_names": FEATURES[1:]}, {"code": "other"},
            )
        ),
    ]  # fmt: skip
    assert len({own, *others}) == 1 + len(others)
    assert replace(keys, models=with_alpha(9.0)).key("unseen", "lightgbm", train, test) == own


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("weights", {"weights": {"uniqueness": True}}),
        ("early_stopping", {"early_stopping": {"rounds": 3}}),
        ("device", {"device": "cuda"}),
        ("binning", {"binning": "shared"}),
    ],
)
def test_a_learner_of_the_desks_own_that_is_called_like_a_section_hides_no_change_of_it(name, change):
    own = {"custom": {name: "quant_assets_tests.models.desk_learners:ridge"}}
    before, after = (
        FitKeys("t", "u", ModelsConfig.model_validate({**own, **more}), 7, 2, FEATURES, "c").key(
            "unseen", "lightgbm", np.arange(3), np.arange(3, 5)
        )
        for more in ({}, change)
    )
    assert before != after


# ------------------------------------------------------------------------------------------------------- drafts


def test_a_draft_fits_each_learner_once_in_a_split_and_then_never_again(frame, fitted):
    shelf = Shelf()
    first = draft_predict(frame, FEATURES, SMALL_MODELS, THREE_ONE, seed=7, n_jobs=1, fits=shelf)
    assert len(fitted) == 3 * 2
    again = draft_predict(frame, FEATURES, with_alpha(1e6), THREE_ONE, seed=7, n_jobs=1, fits=shelf)
    assert len(fitted) == 3 * 2
    assert again.equals(first)


def test_a_drafts_score_is_the_mean_of_predictions_in_spreads_of_the_training_rows(frame):
    data = training_arrays(frame, FEATURES)
    train, unseen = data.take(np.arange(200)), data.features[240:]
    scores, _ = draft_split(train, unseen, SMALL_MODELS, {}, **OPTIONS)
    expected = []
    for name in SMALL_MODELS.learners:
        learner = fitting.fit_base(name, train, SMALL_MODELS, **OPTIONS)
        seen = learner.predict(train.features)
        expected.append((learner.predict(unseen) - np.mean(seen)) / np.std(seen))
    assert np.array_equal(scores, np.mean(np.column_stack(expected), axis=1))


def test_other_tested_rows_move_no_draft_score_but_their_own(frame):
    data = training_arrays(frame, FEATURES)
    train, unseen = data.take(np.arange(200)), data.features[240:].copy()
    before, _ = draft_split(train, unseen, SMALL_MODELS, {}, **OPTIONS)
    unseen[::2] = 1e4
    after, _ = draft_split(train, unseen, SMALL_MODELS, {}, **OPTIONS)
    assert np.array_equal(before[1::2], after[1::2])
    assert not np.array_equal(before[::2], after[::2])
