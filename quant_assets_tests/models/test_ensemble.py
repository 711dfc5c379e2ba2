import copy
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from quant_assets.common.errors import ModelError
from quant_assets.common.hashing import bytes_digest, canonical_json
from quant_assets.models.ensemble import Ensemble, assemble_ensemble, fit_ensemble
from quant_assets.models.learners import fit_learner, from_text
from quant_assets.models.stacking import fit_stacker
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame


@pytest.fixture(scope="module")
def frame():
    return training_frame()


@pytest.fixture(scope="module")
def ensemble(frame):
    return fit_ensemble(frame, FEATURES, SMALL_MODELS, seed=7, embargo_sessions=2, recipe="r1")


def test_fitting_the_parts_one_by_one_gives_the_same_bits_as_fitting_the_whole(frame, ensemble):
    data = training_arrays(frame, FEATURES)
    stored = {
        name: fit_learner(
            name, getattr(SMALL_MODELS, name), data.features, data.target, seed=7, feature_names=FEATURES
        ).to_text()
        for name in SMALL_MODELS.learners
    }
    stacker = fit_stacker(
        data, SMALL_MODELS,
        seed=7, feature_names=FEATURES, embargo_sessions=2,
    )  # fmt: skip
    learners = [from_text(name, text) for name, text in reversed(stored.items())]
    parts = assemble_ensemble(learners, stacker, feature_names=FEATURES, recipe="r1")
    assert canonical_json(parts.to_json()) == canonical_json(ensemble.to_json())
    assert parts.predict(data.features).tobytes() == ensemble.predict(data.features).tobytes()


def test_another_process_fits_the_same_bits(ensemble):
    code = (
        "from quant_assets.common.hashing import json_digest\n"
        "from quant_assets.models.ensemble import fit_ensemble\n"
        "from quant_assets_tests.models.training_frames import *\n"
        "ensemble = fit_ensemble(training_frame(), FEATURES, SMALL_MODELS, seed=7, embargo_sessions=2,"
        " recipe='r1', n_jobs=2)\n"
        "print(json_digest(ensemble.to_json()))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == bytes_digest(canonical_json(ensemble.to_json()))


def test_a_score_is_the_stackers_combination_of_the_native_predictions(frame, ensemble):
    rows = training_arrays(frame, FEATURES).features
    base = [learner.predict(rows) for learner in ensemble.learners]
    expected = ensemble.stacker.intercept + sum(
        c * p for c, p in zip(ensemble.stacker.coefficients, base, strict=True)
    )
    assert ensemble.predict(rows) == pytest.approx(expected, rel=1e-12, abs=1e-18)
    assert np.corrcoef(ensemble.predict(rows), frame["target"].to_numpy())[0, 1] > 0.3


def test_a_stored_ensemble_comes_back_with_the_same_bits(frame, ensemble):
    again = Ensemble.from_json(json.loads(canonical_json(ensemble.to_json())))
    rows = training_arrays(frame, FEATURES).features
    assert again == ensemble
    assert again.predict(rows).tobytes() == ensemble.predict(rows).tobytes()
    assert again.importance() == ensemble.importance()
    assert sum(again.importance().values()) == pytest.approx(1.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, len(FEATURES) - 1])
def test_a_row_without_all_of_its_features_has_no_score(frame, ensemble, value, column):
    rows = training_arrays(frame, FEATURES).features[:3].copy()
    expected = ensemble.predict(rows)
    rows[1, column] = value
    assert np.isnan(ensemble.predict(rows)).tolist() == [False, True, False]
    assert ensemble.predict(rows)[[0, 2]].tolist() == expected[[0, 2]].tolist()


def damaged(data, change):
    data = copy.deepcopy(data)
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda d: d.pop("stacker"), "stacker: Field required"),
        (lambda d: d.update(extra=1), "extra: Extra inputs"),
        (lambda d: d.update(format="quant_assets.ensemble/0"), "format"),
        (lambda d: d["stacker"].update(intercept=float("nan")), "stacker.intercept"),
        (lambda d: d["stacker"].update(coefficients=[1.0]), "1 coefficients"),
        (lambda d: d["learners"].pop(), "learners lightgbm, xgboost"),
        (lambda d: d["learners"].append(d["learners"][0]), "learners lightgbm, xgboost"),
        (lambda d: d["learners"].clear(), "found none"),
        (lambda d: d.update(feature_names=d["feature_names"][::-1]), "in order"),
        (lambda d: d["feature_names"].pop(), "the 7 features"),
        (lambda d: d["learners"][0].update(text=d["learners"][0]["text"][:900]), "LightGBM model text"),
        (lambda d: d["learners"][1].update(text=d["learners"][1]["text"][:900]), "XGBoost model"),
        (lambda d: d["learners"][0].update(name="forest"), "one of lightgbm"),
    ],
)
def test_a_damaged_or_mixed_up_ensemble_is_refused(ensemble, change, found):
    with pytest.raises(ModelError, match=found):
        Ensemble.from_json(damaged(ensemble.to_json(), change))


@pytest.mark.parametrize("data", [None, [], "text", {}])
def test_something_else_than_an_ensemble_is_refused(data):
    with pytest.raises(ModelError, match="stored ensemble"):
        Ensemble.from_json(data)


def test_the_same_configuration_with_another_seed_is_another_model(frame, ensemble):
    other = fit_ensemble(frame, FEATURES, SMALL_MODELS, seed=8, embargo_sessions=2, recipe="r1")
    assert other.learners != ensemble.learners


def test_one_learner_is_an_ensemble_too(frame):
    models = SMALL_MODELS.model_copy(update={"xgboost": None})
    single = fit_ensemble(frame, FEATURES, models, seed=7, embargo_sessions=2, recipe="r")
    assert single.stacker.learners == ("lightgbm",)
    assert len(single.stacker.coefficients) == 1


def test_a_training_set_that_a_fit_would_hide_is_refused(frame):
    options = {"seed": 7, "embargo_sessions": 2, "recipe": "r"}
    cases = [
        (frame.drop("feature_2", "t1"), "t1, feature_2"),
        (frame.with_columns(pl.col("feature_2").cast(pl.Float64)), "Float64"),
        (
            frame.with_columns(feature_2=pl.when(pl.row_index() == 5).then(None).otherwise("feature_2")),
            "row 5",
        ),
        (
            frame.with_columns(target=pl.when(pl.row_index() == 5).then(None).otherwise("target")),
            "target, row 5",
        ),
    ]
    for broken, found in cases:
        with pytest.raises(ModelError, match=found):
            fit_ensemble(broken, FEATURES, SMALL_MODELS, **options)


def test_an_ensemble_cannot_be_changed_in_place(ensemble):
    with pytest.raises(dataclasses.FrozenInstanceError):
        ensemble.recipe = "other"
