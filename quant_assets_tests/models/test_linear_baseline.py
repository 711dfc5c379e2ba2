import numpy as np
import polars as pl
import pytest

from quant_assets.common.errors import EvidenceError
from quant_assets.common.settings import ValidationConfig
from quant_assets.gates.linear_comparison import LinearComparison, compare_with_linear
from quant_assets.models.cross_prediction import outer_splitter
from quant_assets.models.linear_baseline import PENALTY_SHARE, linear_predict
from quant_assets.models.training_arrays import training_arrays
from quant_assets_tests.models.training_frames import FEATURES, SMALL_DIRECTIONS, SMALL_MODELS, training_frame

VALIDATION = ValidationConfig(n_groups=5, n_test_groups=2, embargo_sessions=3)


def predicted(frame, models=SMALL_MODELS, validation=VALIDATION):
    return linear_predict(frame, FEATURES, models, validation, scored=frame)


@pytest.mark.parametrize("models", [SMALL_MODELS, SMALL_DIRECTIONS], ids=["returns", "directions"])
def test_every_path_is_scikit_learns_ridge_on_the_purged_rows_of_its_splits(models):
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    frame = training_frame().with_columns((pl.col("feature_3") * 1e4 + 1e5).alias("feature_3"))
    data = training_arrays(frame, FEATURES, models.label_kind)
    cv = outer_splitter(VALIDATION)
    made = predicted(frame, models)
    assert made.columns == ["symbol", "session", *(f"path_{p}" for p in range(cv.n_paths))]
    group_of, expected = cv.groups(data.t0), np.full((cv.n_paths, frame.height), np.nan)
    models_of = {
        split: make_pipeline(StandardScaler(), Ridge(alpha=PENALTY_SHARE * len(train))).fit(
            data.features[train].astype(float), data.target[train]
        )
        for split, (train, _) in enumerate(cv.split(data.t0, data.t1))
    }
    for path, steps in enumerate(cv.paths()):
        for group, split in steps:
            inside = group_of == group
            expected[path, inside] = models_of[split].predict(data.features[inside].astype(float))
    assert pytest.approx(expected, rel=1e-6, abs=1e-9) == made.select(pl.col("^path_.*$")).to_numpy().T


def test_tested_and_purged_rows_are_in_no_fit():
    frame, group = training_frame(), outer_splitter(VALIDATION).groups(training_frame()["t0"].to_numpy())
    changed = frame.with_columns(target=pl.when(pl.Series(group == 2)).then(50.0).otherwise(pl.col("target")))
    one, other = predicted(frame), predicted(changed)
    cv = outer_splitter(VALIDATION)
    tested = [2 in groups for groups in cv.test_groups()]
    for path, steps in enumerate(cv.paths()):
        for held, split in steps:
            inside = pl.Series(group == held)
            same = (one[f"path_{path}"].filter(inside) - other[f"path_{path}"].filter(inside)).abs().max()
            assert (same < 1e-9) == tested[split]


def test_a_feature_that_does_not_vary_counts_nothing():
    frame = training_frame().with_columns(pl.lit(7.0, dtype=pl.Float32).alias("feature_5"))
    assert predicted(frame).select(pl.col("^path_.*$").is_finite().all()).to_numpy().all()


def track(returns, paths=2):
    sessions = pl.date_range(
        pl.date(2020, 1, 1), pl.date(2020, 1, 1) + pl.duration(days=len(returns) - 1), eager=True
    )
    return pl.concat(
        pl.DataFrame(
            {
                "path": [path] * len(returns), "session": sessions, "net_return": returns + path * 1e-5,
                "gross_return": returns, "turnover": np.ones(len(returns)),
            }
        )
        for path in range(paths)
    )  # fmt: skip


def test_the_difference_is_that_of_the_median_paths_with_its_interval():
    from scipy.stats import t as student

    from quant_assets.statistics.sharpe_inference import sharpe_difference

    rng = np.random.default_rng(2)
    base = 0.01 * rng.standard_normal(500)
    own = base + 0.002 + 0.004 * rng.standard_normal(500)
    found = compare_with_linear(track(own), track(base), 252.0)
    ratio = [
        np.sqrt(252) * r.mean() / r.std(ddof=1) for r in (own, base)
    ]  # the lower of two is the first path
    assert (found.candidate_sharpe, found.baseline_sharpe) == pytest.approx(ratio, rel=1e-3)
    test = sharpe_difference(own, base)
    half = student.ppf(0.975, int(0.4 * 500 ** (2 / 3))) * test.standard_error * np.sqrt(252)
    assert (found.low, found.high) == pytest.approx(
        (found.difference - half, found.difference + half), rel=1e-9
    )
    assert found.low > 0
    assert found.sentence.endswith("more.")
    assert LinearComparison.from_json(found.to_json()) == found
    same = compare_with_linear(track(own), track(own), 252.0)
    assert (same.difference, same.low, same.high) == (0.0, 0.0, 0.0)
    assert "not to be told from nothing" in same.sentence


def test_a_candidate_that_never_traded_is_told_so_and_other_sessions_are_refused():
    rng = np.random.default_rng(3)
    returns = 0.01 * rng.standard_normal(100)
    never = compare_with_linear(track(np.zeros(100), paths=1), track(returns), 252.0)
    assert never.to_json()["low"] is None
    assert "nothing can be said" in LinearComparison.from_json(never.to_json()).sentence
    with pytest.raises(EvidenceError, match="the same sessions"):
        compare_with_linear(track(returns), track(returns[:-1]), 252.0)
    with pytest.raises(EvidenceError, match="materialise linear_baseline again"):
        LinearComparison.from_json({"low": 1})
