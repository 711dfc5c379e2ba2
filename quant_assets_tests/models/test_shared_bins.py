"""Bins that fits share: the fit's own rows and no others, and the same scores wherever they are computed."""

import pickle
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from distributed import LocalCluster

from quant_assets.common.errors import ModelError
from quant_assets.common.model_settings import ModelsConfig, WeightsConfig
from quant_assets.common.processes import SCHEDULER_VARIABLE
from quant_assets.common.settings import ValidationConfig
from quant_assets.lineage.configured import load_settings
from quant_assets.lineage.pipeline import cross_predictions
from quant_assets.models.cross_prediction import cross_predict
from quant_assets.models.ensemble import fit_ensemble
from quant_assets.models.fitting import fit_base, inner_folds
from quant_assets.models.learners import fit_learner
from quant_assets.models.stacking import out_of_fold_predictions
from quant_assets.models.training_arrays import BinnedRows, SharedBins, TrainingArrays, training_arrays
from quant_assets.splits.cpcv import CombinatorialPurgedCV
from quant_assets.studies.leakage.fitted import Probe, fitted_inside_splits, probe_of
from quant_assets_tests.models.training_frames import FEATURES, SMALL_DIRECTIONS, SMALL_MODELS, training_frame

THREE_ONE = ValidationConfig(n_groups=3, n_test_groups=1, embargo_sessions=2)
OPTIONS = {"seed": 7, "feature_names": FEATURES, "embargo_sessions": 2}
KINDS = pytest.mark.parametrize("models", [SMALL_MODELS, SMALL_DIRECTIONS], ids=["returns", "directions"])


def shared(models: ModelsConfig) -> ModelsConfig:
    return models.model_copy(update={"binning": "shared"})


@pytest.fixture(scope="module")
def frame() -> pl.DataFrame:
    return training_frame(n_sessions=150, n_symbols=5)


@pytest.fixture(scope="module")
def coarse(frame: pl.DataFrame) -> pl.DataFrame:
    """Five values in each feature, so frequent that each split has all of them: bins are equal for any rows."""
    return frame.with_columns(pl.col(FEATURES).round().clip(-2, 2))


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address=None) as running:
        yield running


def scores(frame: pl.DataFrame, models: ModelsConfig, **options: object) -> bytes:
    made = cross_predict(frame, FEATURES, models, THREE_ONE, seed=7, **options)  # type: ignore[arg-type]
    return made.select(pl.col("^path_.*$")).to_numpy().tobytes()


def a_split(data: TrainingArrays) -> np.ndarray:
    return list(CombinatorialPurgedCV(3, 1, embargo=2).split(data.t0, data.t1))[1][0]


@KINDS
def test_scores_are_those_of_exact_bins_when_few_values_make_the_bins_equal(coarse, models):
    assert scores(coarse, shared(models)) == scores(coarse, models)


def test_many_values_make_other_bins_and_other_scores(frame):
    assert scores(frame, shared(SMALL_MODELS)) != scores(frame, SMALL_MODELS)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
@KINDS
def test_only_bins_come_from_rows_outside_of_the_split(coarse, name, models):
    """Outcomes of other rows are destroyed and their features put in each other's places: the same five values."""
    data = training_arrays(coarse, FEATURES, models.label_kind)
    train = a_split(data)
    others = np.setdiff1d(np.arange(len(data.target)), train)
    assert len(others)
    moved = data.features.copy()
    moved[others] = moved[others[::-1]]
    target = data.target.copy()
    target[others] = 1e6
    tampered = replace(data, features=moved, target=target).with_shared_bins().take(train)
    one_less = data.with_shared_bins().take(train[1:])

    def predictions(rows: TrainingArrays) -> bytes:  # texts differ in the sign of a zero, which XGBoost keeps
        return fit_base(name, rows, models, **OPTIONS).predict(data.features).tobytes()

    fitted = predictions(data.with_shared_bins().take(train))
    assert predictions(tampered) == fitted
    assert predictions(one_less) != fitted


@KINDS
def test_bits_do_not_depend_on_the_number_of_workers(frame, models):
    assert scores(frame, shared(models), n_jobs=3) == scores(frame, shared(models), n_jobs=1)


def test_processes_and_a_cluster_give_the_same_bits_and_the_training_set_travels_once(
    frame, cluster, monkeypatch
):
    models = shared(SMALL_MODELS)
    expected = scores(frame, models)
    assert scores(frame, models, n_jobs=2, locally="processes") == expected
    sent = []
    plain = SharedBins.__reduce__
    monkeypatch.setattr(SharedBins, "__reduce__", lambda bins: (sent.append(bins), plain(bins))[1])
    monkeypatch.setenv(SCHEDULER_VARIABLE, cluster.scheduler_address)
    assert scores(frame, models) == expected
    assert len(sent) == 1  # for three splits


def test_bins_are_made_once_and_travel_as_the_matrix_alone():
    calls = []
    bins = SharedBins(np.zeros((3, 1), dtype=np.float32))

    def make(features: np.ndarray) -> int:
        calls.append(features)
        return len(calls)

    assert [bins.of("a", make), bins.of("a", make), bins.of("b", make)] == [1, 1, 2]
    copy = pickle.loads(pickle.dumps(bins))
    assert copy.of("a", make) == 3
    assert np.array_equal(copy.features, bins.features)


def test_rows_of_rows_are_positions_in_the_whole_matrix():
    rows = BinnedRows(SharedBins(np.zeros((9, 1), dtype=np.float32)), np.array([1, 4, 6, 8]))
    assert rows.take(np.array([0, 2, 3])).rows.tolist() == [1, 6, 8]


@pytest.mark.parametrize("order", [[2, 1], [1, 1]])
def test_rows_out_of_order_are_refused_because_their_labels_would_be_those_of_others(order):
    with pytest.raises(ModelError, match="ascending positions, each once; found 1 of 2 out of order"):
        BinnedRows(SharedBins(np.zeros((3, 1), dtype=np.float32)), np.array(order))


def test_the_leakage_prover_refuses_shared_bins_and_lets_exact_ones_pass(frame):
    found = {}
    for binning in ("exact", "shared"):
        models = SMALL_MODELS.model_copy(update={"binning": binning})
        probe = Probe(models, THREE_ONE, seed=7)
        found[binning] = fitted_inside_splits(frame, FEATURES, probe, cross_predictions)[0]
    assert found["exact"].checked > 0
    assert found["exact"].violations == 0
    assert found["shared"].violations > 0


@pytest.mark.parametrize("binning", ["exact", "shared"])
def test_the_prover_puts_the_strategys_own_bins_on_trial(frame, binning):
    models = SMALL_MODELS.model_copy(update={"binning": binning})
    strategy = load_settings().strategies["us_tech_daily"].model_copy(update={"models": models})
    assert probe_of(strategy, frame.height).models.binning == binning


def test_the_candidate_itself_has_equal_bits_with_either(frame):
    one, other = (
        fit_ensemble(frame, FEATURES, m, seed=7, embargo_sessions=2, recipe="")
        for m in (SMALL_MODELS, shared(SMALL_MODELS))
    )
    assert one == other


def test_exact_bins_are_the_default():
    assert ModelsConfig().binning == "exact"


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
@KINDS
def test_a_learner_of_all_rows_has_the_bits_of_one_that_found_bins_for_itself(frame, name, models):
    data = training_arrays(frame, FEATURES, models.label_kind)
    plain = models.model_copy(update={"early_stopping": None})
    own = fit_learner(
        name, getattr(plain, name), data.features, data.target, seed=7, feature_names=FEATURES,
        weights=data.weights(plain.weights) if name == "lightgbm" else None,
    )  # fmt: skip
    if name == "xgboost":  # it would weigh the quantiles too: bins are those of the rows
        plain = plain.model_copy(update={"weights": WeightsConfig()})
    assert (
        fit_base(name, data, plain, **OPTIONS).predict(data.features).tobytes()
        == own.predict(data.features).tobytes()
    )


@KINDS
def test_bins_of_a_split_are_the_same_whether_the_split_or_a_fold_of_it_asks_first(frame, models):
    data = training_arrays(frame, FEATURES, models.label_kind)
    fold = a_split(data)
    for name in ("lightgbm", "xgboost"):
        found = []
        for order in ((data, fold), (fold, data)):
            binned, made = data.with_shared_bins(), {}
            for rows in order:
                part = binned if rows is data else binned.take(fold)
                made[rows is data] = fit_base(name, part, models, **OPTIONS).predict(data.features).tobytes()
            found.append(made)
        assert found[0] == found[1]


def test_no_row_beside_the_training_rows_of_a_split_shapes_the_bins_of_its_folds(frame):
    data = training_arrays(frame, FEATURES)
    train = a_split(data)
    features = data.features.copy()
    features[np.setdiff1d(np.arange(len(data.target)), train)] = 1e4

    def folds(matrix: np.ndarray) -> bytes:
        return out_of_fold_predictions(
            replace(data, features=matrix).take(train), SMALL_MODELS, **OPTIONS
        ).tobytes()

    assert folds(features) == folds(data.features)


def test_a_fold_knows_where_the_features_of_its_held_out_rows_lie_and_nothing_else_of_them(frame):
    """What is shared, said aloud: their quantiles shape the bins, their outcomes shape nothing."""
    data = training_arrays(frame, FEATURES)
    (_, held_out), *_ = inner_folds(data, SMALL_MODELS.stacker.inner_folds, 2, setting="inner_folds")
    features, target = data.features.copy(), data.target.copy()
    features[held_out[::2]] *= 3.0
    target[held_out] = 1e6
    kept = held_out[1::2]

    def of_kept(**other: np.ndarray) -> bytes:
        rows = replace(data, **other)
        return out_of_fold_predictions(rows, SMALL_MODELS, **OPTIONS)[kept].tobytes()

    assert of_kept(features=features) != of_kept()
    assert of_kept(target=target) == of_kept()
