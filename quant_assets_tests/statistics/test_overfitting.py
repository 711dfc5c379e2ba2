"""Backtest overfitting by CSCV against a literal oracle, effective trials, and the mean of a dependent series."""

import math
from itertools import combinations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.signal import lfilter

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.overfitting import (
    dependent_mean,
    effective_number_of_trials,
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
        (NOISE[:, :0], 4, "at least one trial"),
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


def test_one_trial_has_a_probability_of_loss_and_no_choice_that_could_be_overfitted():
    returns = np.random.default_rng(4).normal(0.05, 1.0, size=(640, 1))
    result = probability_of_backtest_overfitting(returns)
    assert math.isnan(result.pbo)
    halves = [
        np.concatenate([returns[40 * block : 40 * block + 40, 0] for block in half])
        for half in combinations(range(16), 8)
    ]
    assert result.probability_of_loss == np.mean([half.mean() <= 0 for half in halves])
    assert 0.0 < result.probability_of_loss < 0.5


def test_copies_of_a_trial_change_nothing_about_the_probability_of_loss():
    one = np.random.default_rng(4).normal(0.02, 1.0, size=(640, 1))
    alone = probability_of_backtest_overfitting(one).probability_of_loss
    copies = probability_of_backtest_overfitting(np.hstack([one, 2 * one, 0.5 * one]))
    assert copies.probability_of_loss == alone > 0
    assert copies.pbo == 1.0  # which is why it decides nothing


def test_a_winner_that_does_not_move_out_of_sample_has_not_gained():
    falling = np.random.default_rng(2).normal(-0.5, 1.0, size=(64, 1))
    assert (
        probability_of_backtest_overfitting(np.hstack([falling, np.zeros((64, 1))])).probability_of_loss
        == 1.0
    )


@pytest.mark.parametrize(("periods", "trials"), [(250, 100), (2500, 100), (1000, 5), (2520, 40)])
def test_independent_trials_count_in_full_but_for_the_noise_of_their_correlations(periods, trials):
    returns = np.random.default_rng(21).normal(size=(periods, trials))
    expected = trials * (1 - trials / (9 * periods))
    assert effective_number_of_trials(returns) == pytest.approx(expected, rel=0.01)


def test_the_number_is_the_logarithm_of_a_determinant():
    angle = math.acos(0.95)
    draws = np.random.default_rng(3).normal(size=(500, 2))
    base = np.linalg.qr(draws - draws.mean(axis=0))[0]  # two columns of mean 0, at right angles
    pair = np.column_stack([base[:, 0], math.cos(angle) * base[:, 0] + math.sin(angle) * base[:, 1]])
    expected = math.log(81**2 - (80 * 0.95) ** 2) / math.log(81)
    assert effective_number_of_trials(pair) == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(1.5, abs=0.02)  # a tenth of its own counts half


def test_near_copies_of_one_of_twenty_do_not_hide_the_other_nineteen():
    rng = np.random.default_rng(8)
    twenty = rng.normal(size=(2520, 20))
    copies = twenty[:, :1] + 0.03 * rng.normal(size=(2520, 400))
    before, after = (
        effective_number_of_trials(twenty),
        effective_number_of_trials(np.hstack([twenty, copies])),
    )
    assert 19.9 < before < after < 30


@given(
    st.integers(1, 12), st.integers(4, 60), st.floats(0.0, 1.0), st.integers(0, 2**32 - 1), st.integers(0, 3)
)
@settings(max_examples=200, deadline=None)
def test_the_effective_number_never_falls_when_a_trial_is_added(trials, periods, alike, seed, kind):
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(periods, 1))
    returns = math.sqrt(alike) * common + math.sqrt(1 - alike) * rng.normal(size=(periods, trials))
    absent = rng.random(returns.shape) < 0.2 * rng.random()
    absent[:2] = False
    returns[absent] = np.nan
    added = (
        returns[:, rng.integers(trials)] + 1e-6 * rng.normal(size=periods),  # a near copy
        np.zeros(periods),  # one that never trades
        rng.normal(size=periods),
        np.where(np.arange(periods) < periods - 2, np.nan, rng.normal(size=periods)),  # a later one
    )[kind]
    before = effective_number_of_trials(returns)
    after = effective_number_of_trials(np.column_stack([returns, added]))
    assert 1.0 <= before <= trials
    assert before - 1e-9 <= after <= before + 1.0 + 1e-9
    order = rng.permutation(trials)
    assert effective_number_of_trials(returns[:, order]) == pytest.approx(before)


def test_copies_count_as_little_more_than_one_whatever_their_scale():
    returns = np.random.default_rng(5).normal(size=(1000, 1)) * np.array([[1.0, 2.0, 0.5, -1.0]])
    assert effective_number_of_trials(returns) == pytest.approx(math.log(321) / math.log(81))  # 1.31


def test_trials_that_never_trade_count_as_one_together():
    returns = np.zeros((500, 6))
    assert effective_number_of_trials(returns) == 1.0
    returns[:, :2] = np.random.default_rng(9).normal(size=(500, 2))
    assert effective_number_of_trials(returns) == pytest.approx(3.0, abs=0.02)
    assert effective_number_of_trials(returns[:, :1]) == 1.0


def test_trials_without_a_session_in_common_count_in_full():
    returns = np.full((200, 2), np.nan)
    returns[:100, 0], returns[100:, 1] = np.random.default_rng(3).normal(size=(2, 100))
    assert effective_number_of_trials(returns) == pytest.approx(2.0)


INFINITE = NOISE.copy()
INFINITE[5, 2] = math.inf
ABSENT = NOISE.copy()
ABSENT[1:, 2] = math.nan


@pytest.mark.parametrize(
    "returns",
    [np.zeros((10, 0)), np.zeros((1, 3)), np.zeros(10), INFINITE, ABSENT],
    ids=lambda r: str(r.shape),
)
def test_trials_that_cannot_be_compared_are_refused(returns):
    with pytest.raises(ValidationError):
        effective_number_of_trials(returns)


def test_the_standard_error_is_that_of_the_cosines_one_by_one():
    # Lazarus, Lewis, Stock and Watson (2018): 0.41 T^(2/3) cosines, 26 for 500 periods
    series = lfilter([1.0], [1.0, -0.6], np.random.default_rng(3).normal(0.1, 1.0, 500))
    periods, cosines = 500, 26
    time = (np.arange(1, periods + 1) - 0.5) / periods
    transforms = [
        math.sqrt(2 / periods) * (np.cos(math.pi * j * time) * series).sum() for j in range(1, cosines + 1)
    ]
    statistic = series.mean() / math.sqrt(np.mean(np.square(transforms)) / periods)
    found = dependent_mean(series)
    assert found.degrees_of_freedom == cosines
    assert found.statistic == pytest.approx(statistic, rel=1e-10)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(statistic), cosines), rel=1e-10)


@pytest.mark.parametrize("horizon", [5, 20])
@pytest.mark.parametrize("persistence", [0.0, 0.9, 0.98])
def test_the_mean_information_coefficient_of_a_score_without_skill_is_rejected_as_often_as_stated(
    horizon, persistence
):
    # scores that persist, times returns over overlapping horizons: what an information coefficient is made of
    rng = np.random.default_rng([horizon, round(100 * persistence)])
    series, periods = 3000, 1260
    shocks = rng.normal(size=(series, periods + 300))
    scores = lfilter([math.sqrt(1 - persistence**2)], [1.0, -persistence], shocks, axis=1)[:, 300:]
    sums = np.cumsum(rng.normal(size=(series, periods + horizon)), axis=1)
    coefficients = scores * (sums[:, horizon:] - sums[:, :-horizon])
    rejected = (dependent_mean(coefficients).p_value < 0.05).mean()
    assert 0.04 <= rejected <= 0.072  # the standard error of the share is .004
    if (horizon, persistence) == (20, 0.98):
        kernel = [
            sm.OLS(row, np.ones_like(row))
            .fit(cov_type="HAC", cov_kwds={"maxlags": horizon, "use_correction": False})
            .pvalues[0]
            for row in coefficients[:800]
        ]
        assert np.mean(np.array(kernel) < 0.05) > 0.085  # what it replaces: 11 % here


def test_many_series_at_once_are_each_one_of_them():
    series = np.random.default_rng(3).normal(size=(3, 200))
    together = dependent_mean(series)
    assert together.statistic == pytest.approx([dependent_mean(one).statistic for one in series], rel=1e-12)
    assert dependent_mean(series.T, axis=0).statistic == pytest.approx(together.statistic, rel=1e-12)
    assert type(dependent_mean(series[0]).statistic) is float


def test_a_series_without_variation_or_with_nan_has_no_t_statistic():
    for series in (np.full(20, 0.1), np.zeros(20), np.where(np.arange(20) == 3, math.nan, 0.1)):
        found = dependent_mean(series)
        assert math.isnan(found.statistic)
        assert math.isnan(found.p_value)


def test_a_series_too_short_for_two_cosines_is_refused():
    with pytest.raises(ValidationError, match="at least 8 periods"):
        dependent_mean(np.arange(7.0))
