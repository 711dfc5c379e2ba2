import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from quant_assets.artifacts.onnx.parity import Decisions, plain, rank_correlation, spread_of

DECISIONS = Decisions(cutoffs=(0.0, 1.0), resolution=1e-6, spread=2.0)


def compared(native, graph):
    return DECISIONS.compare(np.array(native, dtype=np.float64), np.array(graph, dtype=np.float32))


def test_identical_scores_agree():
    found = compared([-1.0, 0.5, 3.0], [-1.0, 0.5, 3.0])
    assert (found.rows, found.max_error, found.flipped_decisions, found.undecided_rows) == (3, 0.0, 0, 0)


def test_a_score_on_the_other_side_of_zero_or_of_the_median_is_a_flip_and_counts_once():
    found = compared([-0.1, 0.9, 1.5, -2.0, 0.4], [0.1, 1.1, 0.9, 3.0, 0.6])
    assert found.flipped_decisions == 4
    assert found.max_error == pytest.approx(5.0)
    assert found.max_error_over_sd == pytest.approx(2.5)


def test_a_row_within_float32_resolution_of_a_cutoff_is_undecided_and_not_a_flip():
    found = compared([5e-7, 1.0 - 5e-7, 2e-6], [-5e-7, 1.0 + 5e-7, -2e-6])
    assert found.undecided_rows == 2
    assert found.flipped_decisions == 1


def test_undecided_at_one_cutoff_still_counts_at_the_other():
    found = compared([5e-7], [1.5])  # near zero, but far below the median that the graph says it exceeds
    assert (found.undecided_rows, found.flipped_decisions) == (1, 1)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_missing_score_is_a_flip_and_its_error_never_meets_a_limit(broken):
    found = compared([0.5, 2.0], [0.5, broken])
    assert found.flipped_decisions == 1
    assert not found.max_error_over_sd <= 1e-3
    assert found.to_json()["max_error_over_sd"] is None


def test_scores_without_spread_give_no_relative_error():
    found = Decisions((0.0, 1.0), 1e-6, 0.0).compare(np.ones(2), np.ones(2, dtype=np.float32))
    assert math.isnan(found.max_error_over_sd)
    assert spread_of(np.full(1000, 0.1)) == 0.0
    assert spread_of(np.array([1.0, 3.0])) == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_rank_correlation_is_spearmans_with_ties(pairs):
    a, b = np.array(pairs, dtype=np.float64).T
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(rank_correlation(a, b))
    else:
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_rank_correlation_of_broken_scores_is_not_a_number():
    assert math.isnan(rank_correlation(np.array([1.0, 2.0, math.nan]), np.array([1.0, 2.0, 3.0])))
    assert math.isnan(rank_correlation(np.array([1.0]), np.array([1.0])))


def test_plain_data_holds_no_number_that_json_cannot_carry():
    assert plain({"a": math.nan, "b": math.inf, "c": 1.5, "d": 3}) == {"a": None, "b": None, "c": 1.5, "d": 3}
