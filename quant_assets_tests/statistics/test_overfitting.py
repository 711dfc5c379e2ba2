"""Backtest overfitting by CSCV against a literal oracle, effective trials, and HAC t against statsmodels."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.overfitting import (
    effective_number_of_trials,
    effective_rank,
    hac_t_statistic,
    probability_of_backtest_overfitting,
)


def cscv_step_by_step(returns, n_blocks):
    """Bailey et al. (2017), section 2, written as the paper describes it: one combination after another."""
    blocks = np.array_split(np.arange(len(returns)), n_blocks)
    winners, logits = [], []
    for chosen in combinations(range(n_blocks), n_blocks // 2):
        train = np.concatenate([blocks[b] for b in chosen])
        test = np.concatenate([blocks[b] for b in range(n_blocks) if b not in chosen])
        inside = returns[train].mean(0) / returns[train].std(0, ddof=1)
        outside = returns[test].mean(0) / returns[test].std(0, ddof=1)
        winner = int(inside.argmax())
        share = stats.rankdata(outside)[winner] / (returns.shape[1] + 1)
        winners.append((winner, inside[winner], outside[winner]))
        logits.append(math.log(share / (1 - share)))
    return np.array(winners), np.array(logits)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(2, 12), st.sampled_from([2, 4, 6, 8]), st.integers(0, 9),
)  # fmt: skip
def test_each_combination_is_the_papers_procedure(seed, trials, blocks, surplus):
    rng = np.random.default_rng(seed)
    returns = rng.standard_t(4, size=(blocks * 7 + surplus, trials)) * 0.01 + 0.002
    result = probability_of_backtest_overfitting(returns, blocks)
    winners, logits = cscv_step_by_step(returns, blocks)
    assert result.selected.tolist() == winners[:, 0].astype(int).tolist()
    assert result.in_sample_sharpe == pytest.approx(winners[:, 1], rel=1e-9)
    assert result.out_of_sample_sharpe == pytest.approx(winners[:, 2], rel=1e-9, abs=1e-12)
    assert result.logits == pytest.approx(logits, abs=1e-12)
    assert result.pbo == (logits <= 0).mean()
    assert (result.n_trials, result.n_blocks) == (trials, blocks)


def test_sixteen_blocks_make_12870_combinations():
    returns = np.random.default_rng(0).normal(size=(320, 3))
    assert probability_of_backtest_overfitting(returns).logits.shape == (12870,)


def test_combinations_worked_on_in_several_portions_give_the_same_result():
    returns = np.random.default_rng(4).normal(size=(60, 400))
    wide = probability_of_backtest_overfitting(returns, 14)  # 1716 pairs of halves, 2621 at once at the most
    wider = probability_of_backtest_overfitting(np.hstack([returns, returns - 5.0]), 14)  # 1310 at once
    assert wider.selected.tolist() == wide.selected.tolist()
    assert wider.out_of_sample_sharpe == pytest.approx(wide.out_of_sample_sharpe, rel=1e-9)


def test_noise_gives_about_one_half():
    rng = np.random.default_rng(12)
    found = [probability_of_backtest_overfitting(rng.normal(size=(400, 20)), 8).pbo for _ in range(300)]
    standard_error = np.std(found) / math.sqrt(len(found))
    assert abs(np.mean(found) - 0.5) < 3 * standard_error
    assert standard_error < 0.02


def test_one_dominating_trial_gives_zero():
    returns = np.random.default_rng(3).normal(size=(800, 10))
    returns[:, 6] += 1.0
    result = probability_of_backtest_overfitting(returns)
    assert result.pbo == 0.0
    assert set(result.selected) == {6}
    assert result.logits == pytest.approx(np.full(12870, math.log(10)))  # rank 10 of 10: w = 10/11
    assert result.probability_of_loss == 0.0


def test_identical_trials_tie_at_the_average_rank_and_count_as_overfitted():
    returns = np.repeat(np.random.default_rng(8).normal(size=(100, 1)) + 0.3, 7, axis=1)
    result = probability_of_backtest_overfitting(returns, 6)
    assert result.logits.tolist() == [0.0] * 20
    assert result.pbo == 1.0


def test_leveraged_copies_tie_although_their_sharpe_ratios_round_differently():
    base = np.random.default_rng(8).normal(size=(101, 1)) * 0.01 + 0.001
    result = probability_of_backtest_overfitting(base * np.array([[1.0, 3.0, 0.7, 11.0, 1 / 3]]), 6)
    assert result.logits.tolist() == [0.0] * 20


def test_a_trial_that_wins_only_by_luck_of_the_half_is_fully_overfitted():
    # each trial earns in one half of the blocks what it loses in the other: the winner must be the loser
    block = np.repeat(np.array([1.0, -1.0]), 20)
    noise = np.random.default_rng(2).normal(size=(40, 2)) * 0.01
    result = probability_of_backtest_overfitting(np.column_stack([block, -block]) + noise, 2)
    assert result.pbo == 1.0
    assert result.probability_of_loss == 1.0


def test_a_trial_that_never_trades_scores_zero_and_breaks_nothing():
    returns = np.random.default_rng(6).normal(size=(200, 4)) - 1.0
    returns[:, 2] = 0.0
    result = probability_of_backtest_overfitting(returns, 4)
    assert set(result.selected) == {2}
    assert result.out_of_sample_sharpe.tolist() == [0.0] * 6
    assert result.pbo == 0.0


@pytest.mark.parametrize("seed", range(10))
def test_a_trial_that_pauses_within_a_half_scores_zero_there(seed):
    returns = np.random.default_rng(seed).normal(size=(41, 2)) * 0.01 + np.array([0.03, 0.001])
    returns[21:, 0] = 0.0
    result = probability_of_backtest_overfitting(returns, 2)
    assert result.selected[0] == 0
    assert result.out_of_sample_sharpe[0] == 0.0


def test_the_degradation_slope_is_the_least_squares_slope():
    result = probability_of_backtest_overfitting(np.random.default_rng(1).normal(size=(300, 15)), 10)
    slope = stats.linregress(result.in_sample_sharpe, result.out_of_sample_sharpe).slope
    assert result.degradation_slope == pytest.approx(slope, rel=1e-9)


NOISE = np.random.default_rng(0).normal(size=(64, 4))
GAPPED = NOISE.copy()
GAPPED[5, 2] = math.nan


@pytest.mark.parametrize(
    ("returns", "blocks", "message"),
    [
        (NOISE[:, :1], 4, "at least 2 trial(s)"),
        (NOISE[:, 0], 4, "shape (64,)"),
        (NOISE, 5, "even integer"),
        (NOISE, 0, "even integer"),
        (NOISE, 26, "from 2 to 24"),
        (NOISE, 4.0, "4.0"),
        (NOISE[:31], 16, "at least 32 rows"),
        (GAPPED, 4, "nan in row 5, column 2"),
    ],
)
def test_tables_without_a_defined_probability_are_refused(returns, blocks, message):
    with pytest.raises(ValidationError) as refusal:
        probability_of_backtest_overfitting(returns, blocks)
    assert message in str(refusal.value)


def test_the_effective_rank_has_its_published_values():
    assert effective_rank(np.eye(3)) == pytest.approx(3.0, abs=1e-12)
    assert effective_rank(np.array([[10, 1], [1, 10]]) / 10) == pytest.approx(2.0, abs=0.02)
    assert effective_rank(np.array([[10, 1, 7], [1, 10, 8], [7, 8, 10]]) / 10) == pytest.approx(
        1.84, abs=0.01
    )
    assert effective_rank(np.ones((5, 5))) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("periods", "trials"), [(250, 100), (2500, 100), (1000, 5), (60, 200)])
def test_independent_trials_count_in_full_although_sampling_noise_correlates_them(periods, trials):
    returns = np.random.default_rng(21).normal(size=(periods, trials))
    assert effective_number_of_trials(returns) == pytest.approx(trials, rel=0.01)


def test_variants_of_ten_strategies_count_as_about_ten():
    rng = np.random.default_rng(5)
    strategies = rng.normal(size=(2520, 10))
    variants = strategies[:, np.arange(100) % 10] + 0.1 * rng.normal(size=(2520, 100))
    assert effective_number_of_trials(variants) == pytest.approx(10, rel=0.15)


def test_copies_count_once_whatever_their_scale():
    returns = np.random.default_rng(5).normal(size=(1000, 1)) * np.array([[1.0, 2.0, 0.5, -1.0]])
    assert effective_number_of_trials(returns) == pytest.approx(1.0, abs=0.01)


def test_a_record_too_short_to_tell_trials_apart_counts_each_one():
    returns = np.random.default_rng(5).normal(size=(2, 30))
    assert effective_number_of_trials(returns) == 30.0


def test_trials_that_never_trade_count_as_one_together():
    returns = np.zeros((500, 6))
    assert effective_number_of_trials(returns) == 1.0
    returns[:, :2] = np.random.default_rng(9).normal(size=(500, 2))
    assert effective_number_of_trials(returns) == pytest.approx(3.0, abs=0.02)
    assert effective_number_of_trials(returns[:, :1]) == 1.0


@pytest.mark.parametrize("returns", [np.zeros((10, 0)), np.zeros((1, 3)), np.zeros(10), GAPPED])
def test_trials_that_cannot_be_compared_are_refused(returns):
    with pytest.raises(ValidationError):
        effective_number_of_trials(returns)


@pytest.mark.parametrize("lag", [0, 1, 5, 20])
def test_the_hac_t_statistic_is_that_of_statsmodels(lag):
    import statsmodels.api as sm

    rng = np.random.default_rng(lag)
    series = np.convolve(rng.normal(size=520), np.ones(5) / 5, "valid") + 0.05
    fit = sm.OLS(series, np.ones_like(series)).fit(cov_type="HAC", cov_kwds={"maxlags": lag})
    assert hac_t_statistic(series, lag) == pytest.approx(float(fit.tvalues[0]), rel=1e-10)


def test_overlapping_labels_pass_a_plain_t_test_far_more_often_than_the_hac_one():
    rng = np.random.default_rng(10)
    noise = rng.normal(size=(2000, 504))
    overlapping = np.lib.stride_tricks.sliding_window_view(noise, 5, axis=1).mean(axis=2)
    plain = (hac_t_statistic(overlapping, 0) > 1.645).mean()
    hac = (hac_t_statistic(overlapping, 5) > 1.645).mean()
    assert plain > 0.2
    assert hac < 0.10  # Bartlett weights understate the variance of an MA(4) by design: not quite .05


def test_hac_is_vectorised_over_series_and_floats_stay_floats():
    series = np.random.default_rng(1).normal(size=(3, 50))
    together = hac_t_statistic(series, 4)
    assert together.tolist() == [hac_t_statistic(one, 4) for one in series]
    assert hac_t_statistic(series.T, 4, axis=0) == pytest.approx(together, rel=1e-12)
    assert type(hac_t_statistic(series[0], 4)) is float


def test_a_series_without_variation_or_with_nan_has_no_t_statistic():
    assert math.isnan(hac_t_statistic(np.full(20, 0.1), 3))
    assert math.isnan(hac_t_statistic(np.zeros(20), 3))
    assert math.isnan(hac_t_statistic([0.1, math.nan, 0.2], 1))


@pytest.mark.parametrize("lag", [-1, 20, 1.0, True])
def test_a_lag_without_a_meaning_is_refused(lag):
    with pytest.raises(ValidationError, match="lag"):
        hac_t_statistic(np.arange(20.0), lag)
