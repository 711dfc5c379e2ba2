"""Metrics of splits, read back from the paths: against scores worked out split by split, and by hand."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from quant_assets.common.errors import EvidenceError
from quant_assets.common.settings import ValidationConfig
from quant_assets.models.cross_prediction import cross_predict
from quant_assets.models.ensemble import fit_ensemble
from quant_assets.registry.run_figures import split_metrics, spread
from quant_assets.splits.cpcv import CombinatorialPurgedCV
from quant_assets_tests.models.training_frames import FEATURES, SMALL_MODELS, training_frame

VALIDATION = ValidationConfig(n_groups=4, n_test_groups=2, embargo_sessions=2)
FRAME = training_frame(80, 6)


def test_a_split_has_the_metrics_of_an_ensemble_that_was_fitted_to_its_training_rows() -> None:
    predictions = cross_predict(FRAME, FEATURES, SMALL_MODELS, VALIDATION, seed=5, n_jobs=2)
    found = split_metrics(predictions, FRAME, VALIDATION, "return")
    splits = list(
        CombinatorialPurgedCV(4, 2, embargo=2).split(FRAME["t0"].to_numpy(), FRAME["t1"].to_numpy())
    )
    assert len(found) == len(splits) == 6
    for number in (0, 4):
        train, test = splits[number]
        ensemble = fit_ensemble(
            FRAME[train], FEATURES, SMALL_MODELS, seed=5, embargo_sessions=2, recipe="of one split"
        )
        tested = FRAME[test]
        score, target = ensemble.predict(tested.select(FEATURES).to_numpy()), tested["target"].to_numpy()
        by_session = [
            spearmanr(score[rows], target[rows]).statistic
            for day in tested["session"].unique()
            for rows in [(tested["session"] == day).to_numpy()]
        ]
        assert found[number] == pytest.approx(
            {
                "rows_trained": len(train),
                "rows_tested": len(test),
                "rmse": math.sqrt(float(np.mean((score - target) ** 2))),
                "rank_ic": float(np.mean(by_session)),
            }
        )


def chance_tracks(value: float, frame: pl.DataFrame = FRAME) -> pl.DataFrame:
    return frame.select("symbol", "session").with_columns(
        pl.lit(value).alias(f"path_{path}") for path in range(3)
    )


def test_even_odds_on_directions_cost_the_logarithm_of_two_and_rank_nothing() -> None:
    for split in split_metrics(chance_tracks(0.0), FRAME, VALIDATION, "direction"):
        assert split["log_loss"] == pytest.approx(math.log(2))
        assert "rank_ic" not in split
        assert split["rows_tested"] == 240


def test_a_log_loss_of_far_off_odds_is_finite() -> None:
    # Half of the six names of a session beat its median: one in two is wrong by 800 nats.
    for split in split_metrics(chance_tracks(800.0), FRAME, VALIDATION, "direction"):
        assert split["log_loss"] == pytest.approx(400.0)


@pytest.mark.parametrize(
    "predictions",
    [chance_tracks(0.0).head(10), chance_tracks(0.0).drop("path_2")],
    ids=["fewer rows", "fewer paths"],
)
def test_predictions_of_another_training_set_are_refused(predictions: pl.DataFrame) -> None:
    with pytest.raises(EvidenceError, match="3 paths over the 480 rows"):
        split_metrics(predictions, FRAME, VALIDATION, "return")


def test_predictions_are_found_by_name_and_session_in_whatever_order() -> None:
    tracks = chance_tracks(0.1)
    assert split_metrics(tracks.reverse(), FRAME, VALIDATION, "return") == split_metrics(
        tracks, FRAME, VALIDATION, "return"
    )


def test_the_spread_of_eleven_values_has_its_worst_decile_on_the_bad_side() -> None:
    rows = [{"sharpe": float(i), "rmse": float(i), "autocorrelation": float(i)} for i in range(11)]
    found = spread(rows)
    assert found["sharpe.mean"] == found["sharpe.median"] == 5.0
    assert found["sharpe.sd"] == pytest.approx(math.sqrt(11.0))
    assert (found["sharpe.worst_decile"], found["rmse.worst_decile"]) == (1.0, 9.0)
    assert "autocorrelation.worst_decile" not in found


def test_what_is_missing_or_not_finite_is_left_out_of_a_spread() -> None:
    assert spread([{"a": None, "b": math.nan}, {"a": 2.0}]) == {
        "a.mean": 2.0,
        "a.median": 2.0,
        "a.worst_decile": 2.0,
    }


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
@settings(max_examples=50, deadline=None)
def test_a_worst_decile_was_observed_and_at_most_a_tenth_is_worse(values: list[float]) -> None:
    found = spread({"sharpe": v, "rmse": v} for v in values)
    low, high = found["sharpe.worst_decile"], found["rmse.worst_decile"]
    assert {low, high} <= set(values)
    assert sum(v < low for v in values) <= 0.1 * len(values)
    assert sum(v > high for v in values) <= 0.1 * len(values)
