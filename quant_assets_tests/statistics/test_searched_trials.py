"""Whether trials were searched for: the test of their order, and the level that a search is charged by."""

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom, chi2, norm

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.overfitting import SEARCH_LEVEL, level_of_best, search_p_value

Returns = NDArray[np.float64]


def noise(n_trials: int, periods: int, seed: int) -> Returns:
    return np.random.default_rng(seed).standard_normal((periods, n_trials))


def searched(n_trials: int, periods: int, seed: int, rho: float = 0.8) -> Returns:
    """Each trial a change of the one with the best Sharpe ratio so far."""
    streams = noise(n_trials, periods, seed)
    for k in range(1, n_trials):
        best = (streams[:, :k].mean(axis=0) / streams[:, :k].std(axis=0)).argmax()
        streams[:, k] = rho * streams[:, best] + math.sqrt(1.0 - rho**2) * streams[:, k]
    return streams


def closeness(returns: Returns, order: tuple[int, ...]) -> float:
    """The statistic as its definition says it, one trial after another."""
    correlations = np.corrcoef(returns.T)
    ratios = returns.mean(axis=0) / returns.std(axis=0, ddof=1)
    found = 0.0
    for place in range(2, len(order)):
        earlier = list(order[:place])
        best = max(earlier, key=lambda trial: ratios[trial])
        found += correlations[order[place], best] - correlations[order[place], earlier].mean()
    return found


# --------------------------------------------------------------------------------------- the test of the order


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 6), st.booleans())
def test_the_p_value_is_the_share_of_all_orders_that_follow_the_best_as_closely(
    seed: int, n_trials: int, is_search: bool
) -> None:
    returns = searched(n_trials, 40, seed) if is_search else noise(n_trials, 40, seed)
    every = [closeness(returns, order) for order in permutations(range(n_trials))]
    share = np.mean(np.array(every) >= every[0] - 1e-9)
    assert search_p_value(returns) == pytest.approx(share)


@pytest.mark.parametrize("n_trials", [5, 7, 9, 12])
def test_trials_in_a_random_order_are_taken_for_a_search_as_often_as_stated(n_trials: int) -> None:
    # heavy tails, unequal skill and scale: the order alone is random
    rng, ledgers = np.random.default_rng(n_trials), 500
    found = 0
    for _ in range(ledgers):
        common = rng.standard_t(3, (60, 1))
        skill, scale = rng.normal(0.0, 0.2, n_trials), rng.uniform(0.5, 2.0, n_trials)
        found += search_p_value(scale * (common + rng.standard_t(3, (60, n_trials)) + skill)) <= SEARCH_LEVEL
    assert found <= binom.isf(0.001, ledgers, SEARCH_LEVEL)


@pytest.mark.parametrize("n_trials", [10, 12, 40])
def test_a_search_is_found(n_trials: int) -> None:
    found = [search_p_value(searched(n_trials, 504, seed)) <= SEARCH_LEVEL for seed in range(40)]
    assert np.mean(found) >= 0.85
    rng = np.random.default_rng(1)
    shuffled = [
        search_p_value(searched(n_trials, 504, seed)[:, rng.permutation(n_trials)]) <= SEARCH_LEVEL
        for seed in range(40)
    ]
    assert np.mean(shuffled) <= 0.1


def test_the_order_of_four_trials_or_fewer_shows_nothing_and_that_of_five_can() -> None:
    least = {n: min(search_p_value(searched(n, 504, seed)) for seed in range(60)) for n in (1, 2, 3, 4, 5)}
    # the first two trials may change places without a difference: 2 of 3!, 4! and 5! orders
    assert least == pytest.approx({1: 1.0, 2: 1.0, 3: 1 / 3, 4: 1 / 12, 5: 1 / 60})
    assert least[5] <= SEARCH_LEVEL < least[4]


def test_a_grid_that_is_walked_in_order_is_no_search() -> None:
    # a redrawn order alone takes 38 of 100 such grids for one
    found = 0
    for seed in range(50):
        grid = noise(40, 504, seed)
        for k in range(1, 40):
            grid[:, k] = 0.9 * grid[:, k - 1] + math.sqrt(1.0 - 0.81) * grid[:, k]
        found += search_p_value(grid) <= SEARCH_LEVEL
    assert found <= binom.isf(0.001, 50, 0.03)


def test_strategies_that_crash_together_are_no_search() -> None:
    # redrawn Sharpe ratios alone take 47 of 100 of them for one
    found = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        own, common = 1.0 - rng.exponential(size=(504, 40)), 1.0 - rng.exponential(size=(504, 1))
        found += search_p_value(math.sqrt(0.1) * own + math.sqrt(0.9) * common) <= SEARCH_LEVEL
    assert found <= binom.isf(0.001, 50, 0.03)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 14), st.booleans())
def test_neither_scale_nor_the_order_of_sessions_nor_the_layout_in_memory_matters(
    seed: int, n_trials: int, is_search: bool
) -> None:
    returns = searched(n_trials, 60, seed) if is_search else noise(n_trials, 60, seed)
    rng = np.random.default_rng(seed)
    before = search_p_value(returns)
    assert search_p_value(returns * rng.uniform(0.1, 10.0, n_trials)) == pytest.approx(before, abs=0.002)
    assert search_p_value(returns[rng.permutation(60)]) == pytest.approx(before, abs=0.002)
    assert search_p_value(np.asfortranarray(returns)) == pytest.approx(before, abs=0.002)


@pytest.mark.parametrize("n_trials", [8, 20])
def test_sharpe_ratios_that_differ_by_a_rounding_error_are_equal(n_trials: int) -> None:
    for seed in range(10):
        returns = noise(n_trials, 500, seed)
        returns -= returns.mean(axis=0)  # about 1e-17, another one in another layout
        assert search_p_value(returns) == search_p_value(np.asfortranarray(returns))


def test_equal_trials_have_equal_p_values() -> None:
    returns = searched(20, 300, 3)
    assert search_p_value(returns) == search_p_value(returns.copy())


def test_copies_say_nothing_and_trials_that_do_not_vary_break_nothing() -> None:
    one = noise(1, 200, 0)
    for n_trials in (6, 20):
        assert search_p_value(np.repeat(one, n_trials, axis=1)) == 1.0
        assert search_p_value(np.zeros((200, n_trials))) == 1.0
        mixed = noise(n_trials, 200, 1)
        mixed[:, ::2] = 0.001
        assert 0.0 < search_p_value(mixed) <= 1.0


def test_trials_of_different_sessions_and_more_trials_than_sessions_are_tested_too() -> None:
    returns = searched(20, 400, 5)
    returns[:100, ::3] = np.nan
    assert search_p_value(returns) <= SEARCH_LEVEL
    assert search_p_value(searched(60, 40, 6)) <= SEARCH_LEVEL
    assert search_p_value(noise(60, 40, 6)) > SEARCH_LEVEL


def test_trials_that_cannot_be_compared_are_refused() -> None:
    for broken in (np.zeros((10, 0)), np.zeros((1, 5)), np.full((10, 5), np.inf)):
        with pytest.raises(ValidationError):
            search_p_value(broken)


# ------------------------------------------------------------------------------------ the level of the best one


@pytest.mark.parametrize(
    ("n_trials", "errors"),
    # sqrt(chi2.isf(.01, N)): 6.635, 9.210, 15.086, 23.209 and 63.691 in any table of chi-square
    [(1, 2.5758), (2, 3.0349), (5, 3.8841), (10, 4.8176), (40, 7.9806)],
)
def test_a_search_is_charged_as_the_best_combination_of_its_trials(n_trials: int, errors: float) -> None:
    level = level_of_best(n_trials, 0.01, searched=True)
    assert norm.isf(level) == pytest.approx(errors, abs=1e-4)
    assert level == pytest.approx(norm.sf(math.sqrt(chi2.ppf(0.99, n_trials))))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20_000), st.floats(0.0005, 0.05))
def test_independent_trials_are_charged_by_sidak_and_a_search_never_less(n_trials: int, share: float) -> None:
    independent = level_of_best(n_trials, share)
    assert -math.expm1(n_trials * math.log1p(-independent)) == pytest.approx(share, rel=1e-9)
    assert 0.0 < level_of_best(n_trials, share, searched=True) <= independent


def test_no_search_however_clever_passes_more_often_than_stated() -> None:
    # The best that can be done knowing the bar: each step as large as makes it likeliest to get there, and from the
    # tangency portfolio of all trials so far, not from the best of them.
    rng, n_trials, share = np.random.default_rng(7), 8, 0.02
    bar = norm.isf(level_of_best(n_trials, share, searched=True))
    fresh = rng.standard_normal((400_000, n_trials))
    passed = np.zeros(400_000, dtype=bool)
    length = np.abs(fresh[:, 0])
    for k in range(1, n_trials):
        step = np.minimum(length / bar, 1.0)
        passed |= step * length + np.sqrt(1.0 - step**2) * fresh[:, k] >= bar
        length = np.hypot(length, fresh[:, k])
    assert 0.3 * share <= passed.mean() <= share
