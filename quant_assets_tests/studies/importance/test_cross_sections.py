import numpy as np
import pytest
from scipy.stats import spearmanr

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.overfitting import dependent_mean
from quant_assets.studies.importance.permutation import (
    CrossSections,
    MeanWithError,
    mean_with_error,
    thinned_sessions,
)


def test_the_interval_of_a_mean_is_the_test_of_a_mean_turned_round():
    series = np.convolve(np.random.default_rng(1).standard_normal(404), np.ones(5), "valid") * 0.01 + 0.003
    found = mean_with_error(series)
    assert found.mean == pytest.approx(series.mean(), rel=1e-12)
    for end in (found.low, found.high):
        assert dependent_mean(series - end).p_value == pytest.approx(0.05, rel=1e-9)
    # B = .41 * 400^(2/3) = 22 cosines, by the plain sum of Lazarus et al. (2018), eq. 3 and 4
    time = (np.arange(400) + 0.5) / 400
    squares = [2 / 400 * (series @ np.cos(np.pi * j * time)) ** 2 for j in range(1, 23)]
    assert found.error == pytest.approx(np.sqrt(np.mean(squares) / 400), rel=1e-10)


def test_the_interval_covers_the_mean_as_often_as_it_says_where_labels_overlap():
    """1,000 records of 2,500 sessions whose labels span 20. (Of 500 sessions it misses 8.6 %.)"""
    draws = np.random.default_rng(3).standard_normal((1000, 2519))
    sums = np.cumsum(draws, axis=1)
    series = sums[:, 19:] - np.concatenate([np.zeros((1000, 1)), sums[:, :-20]], axis=1)
    missed = sum(not (m.low <= 0.0 <= m.high) for m in map(mean_with_error, series))
    assert 35 <= missed <= 70


def test_a_series_that_does_not_vary_has_no_error():
    assert mean_with_error(np.zeros(40)) == MeanWithError(0.0, 0.0, 0.0, 0.0)


def test_too_few_sessions_are_refused():
    with pytest.raises(ValidationError, match=r"at least 32 sessions.*found 31.*give the universe more"):
        mean_with_error(np.zeros(31))


def test_rank_ic_is_spearmans_with_ties_and_sessions_of_one_name_do_not_count():
    rng = np.random.default_rng(2)
    sessions = np.concatenate([np.repeat(np.arange(9), 6), [9]])
    scores, outcome = rng.integers(0, 4, 55).astype(float), rng.standard_normal(55)
    mixed = rng.permutation(55)
    sections = CrossSections(sessions[mixed])
    found = sections.rank_ic(scores[mixed], sections.unit_ranks(outcome[mixed]))
    expected = [spearmanr(scores[sessions == s], outcome[sessions == s]).statistic for s in range(9)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_thinning_keeps_whole_sessions_evenly_and_never_too_many_rows():
    sessions = np.repeat(np.arange(100), 7)
    rows, step = thinned_sessions(sessions, 150)
    assert step == 5
    assert np.unique(sessions[rows]).tolist() == list(range(0, 100, 5))
    assert len(rows) == 140
    assert thinned_sessions(sessions, 700)[1] == 1
