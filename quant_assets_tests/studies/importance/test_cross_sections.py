import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import spearmanr

from quant_assets.common.errors import ValidationError
from quant_assets.studies.importance.permutation import (
    CrossSections,
    mean_with_error,
    newey_west_lags,
    thinned_sessions,
)


@pytest.mark.parametrize("overlap", [0, 9])
def test_the_error_of_a_mean_is_that_of_statsmodels(overlap):
    rng = np.random.default_rng(1)
    series = np.convolve(rng.standard_normal(404), np.ones(5), "valid") * 0.01 + 0.003
    lags = max(5, overlap)  # 4 (400 / 100)^(2/9) = 5.4
    theirs = sm.OLS(series, np.ones(400)).fit(
        cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False}
    )
    found = mean_with_error(series, overlap=overlap)
    assert newey_west_lags(400, overlap) == lags
    assert found.mean == pytest.approx(theirs.params[0], rel=1e-12)
    assert found.error == pytest.approx(theirs.bse[0], rel=1e-10)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.conf_int()[0]), rel=1e-9)


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
