"""SPA and Reality Check: equal to the reference implementation, and right about noise, skill and hopeless trials."""

import numpy as np
import pytest
from arch.bootstrap import SPA
from arch.bootstrap import optimal_block_length as reference_block_length
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.superior_ability import optimal_block_length, superior_ability

Table = NDArray[np.float64]


def trials(seed: int, periods: int, count: int, *, rho: float = 0.3, skill: float = 0.0) -> Table:
    """Autocorrelated returns with a common factor; the last trial has this much more mean."""
    rng = np.random.default_rng(seed)
    shocks = rng.normal(size=(periods + 1, count)) + 0.5 * rng.normal(size=(periods + 1, 1))
    values = 0.01 * rng.uniform(0.5, 2.0, count) * (shocks[1:] + rho * shocks[:-1])
    values[:, -1] += skill
    return values


def reference(values: Table, block: int, resamples: int, seed: int) -> SPA:
    """The reference reads losses, and compares means that are not studentised."""
    test = SPA(np.zeros(len(values)), -values, block_size=block, reps=resamples, seed=seed)
    test.compute()
    return test


@pytest.mark.parametrize(
    ("seed", "periods", "count", "block"), [(1, 250, 2, 3), (2, 756, 20, 9), (3, 400, 60, 20)]
)
def test_p_values_are_those_of_arch_on_the_same_resamples(
    seed: int, periods: int, count: int, block: int
) -> None:
    values = trials(seed, periods, count, skill=0.0008)
    values[:, 0] -= 0.01  # a hopeless trial, which the three recentrings treat differently
    ours = superior_ability(values, block_length=block, n_resamples=400, seed=seed)
    plain = reference(values, block, 400, seed)
    assert ours.reality_check_p_value == plain.pvalues["upper"]
    plain._compute_variance()
    # Divided by their standard deviations, the same trials make the reference's statistic Hansen's.
    scaled = reference(values / np.sqrt(plain._loss_diff_var), block, 400, seed)
    assert (ours.p_value_lower, ours.p_value, ours.p_value_upper) == tuple(scaled.pvalues)
    ratios = values.mean(axis=0) / np.sqrt(plain._loss_diff_var / periods)
    assert ours.statistic == pytest.approx(ratios.max(), rel=1e-9)
    assert ours.best_trial == ratios.argmax()


def test_another_seed_gives_the_p_value_of_arch_within_monte_carlo_error() -> None:
    values = trials(5, 500, 12, skill=0.0015)
    ours = superior_ability(values, block_length=6, n_resamples=4000)
    plain = reference(values, 6, 4000, seed=99)
    plain._compute_variance()
    expected = reference(values / np.sqrt(plain._loss_diff_var), 6, 4000, seed=99).pvalues["consistent"]
    assert 0.01 < expected < 0.5
    assert abs(ours.p_value - expected) < 4 * np.sqrt(2 * expected * (1 - expected) / 4000)


@given(
    st.integers(0, 10_000), st.integers(40, 900), st.integers(1, 6), st.sampled_from([-0.5, 0.0, 0.4, 0.95])
)
@settings(max_examples=50, deadline=None)
def test_block_lengths_are_those_of_arch(seed: int, periods: int, count: int, rho: float) -> None:
    values = trials(seed, periods, count, rho=rho)
    expected = reference_block_length(values)["stationary"].to_numpy()
    np.testing.assert_allclose(optimal_block_length(values), expected, rtol=1e-9)


def test_dependence_makes_blocks_longer_and_the_median_trial_decides() -> None:
    rng = np.random.default_rng(8)
    noise = rng.normal(size=(3000, 3))
    smooth = np.apply_along_axis(lambda x: np.convolve(x, np.ones(20) / 20, "same"), 0, noise)
    free, bound = optimal_block_length(noise), optimal_block_length(smooth)
    assert free.max() < 6 < 20 < bound.min()
    assert superior_ability(smooth, n_resamples=10).block_length == np.ceil(np.median(bound))


def test_the_best_of_fifty_noise_trials_is_significant_in_one_of_twenty_searches() -> None:
    searches = 200
    found = sum(
        superior_ability(
            np.random.default_rng([6, search]).normal(size=(250, 50)), block_length=1, n_resamples=400
        ).p_value_upper
        <= 0.05
        for search in range(searches)
    )
    # 99.9 % of the binomial of 200 searches at a level of 5 %
    assert binom.ppf(0.0005, searches, 0.05) <= found <= binom.ppf(0.9995, searches, 0.05)


def test_each_of_those_best_trials_alone_would_look_significant() -> None:
    values = np.random.default_rng([6, 3]).normal(size=(250, 50))
    together = superior_ability(values, block_length=1)
    alone = superior_ability(values[:, [together.best_trial]], block_length=1)
    assert alone.p_value < 0.05 < together.p_value


def test_a_real_edge_is_found_and_hopeless_company_does_not_hide_it() -> None:
    good = trials(11, 1000, 5, rho=0.0, skill=0.0022)
    hopeless = trials(12, 1000, 40, rho=0.0) * 6.0 - 0.02
    before = superior_ability(good, block_length=2)
    after = superior_ability(np.hstack([good, hopeless]), block_length=2)
    assert before.p_value < 0.01
    assert after.p_value < 0.01
    # White's test compares with trials that are wild but cannot win: it is the one that loses power
    assert after.reality_check_p_value > 10 * max(after.p_value, 1e-3)


@given(st.integers(0, 1000), st.integers(1, 8), st.sampled_from([1e-6, 1.0, 50.0]))
@settings(max_examples=25, deadline=None)
def test_recentrings_are_ordered_and_neither_unit_nor_copies_matter(
    seed: int, count: int, unit: float
) -> None:
    values = trials(seed, 120, count)
    one = superior_ability(values, block_length=4, n_resamples=200, seed=1)
    assert 0.0 <= one.p_value_lower <= one.p_value <= one.p_value_upper <= 1.0
    other = superior_ability(unit * np.hstack([values, values]), block_length=4, n_resamples=200, seed=1)
    assert other.p_value == pytest.approx(one.p_value, abs=0.011)  # ties may round either way
    assert other.statistic == pytest.approx(one.statistic, rel=1e-9)


def test_the_same_trials_always_give_the_same_p_value() -> None:
    values = trials(2, 300, 4)
    assert superior_ability(values) == superior_ability(values.copy(order="F"))
    assert superior_ability(values, seed=1) != superior_ability(values, seed=2)
    changed = values.copy()
    changed[7, 2] += 1e-9
    assert superior_ability(changed).p_value != superior_ability(values).p_value


def test_trials_that_never_trade_compete_for_nothing() -> None:
    values = trials(4, 300, 3, skill=0.001)
    padded = np.insert(values, [0, 2], 0.0, axis=1)
    ours, alone = superior_ability(padded), superior_ability(values)
    assert (ours.p_value, ours.statistic) == (alone.p_value, alone.statistic)
    assert (ours.n_trials, ours.n_varying, alone.n_varying) == (5, 3, 3)
    assert padded[:, ours.best_trial].tolist() == values[:, alone.best_trial].tolist()


@pytest.mark.parametrize(
    ("values", "options", "words"),
    [
        (np.zeros((100, 2)), {}, "no trial varies"),
        (np.full((100, 1), np.nan), {}, "row 0, column 0"),
        (np.ones(100), {}, "too little to resample"),
        (np.ones((31, 2)), {}, "too little to resample"),
        (np.arange(200.0).reshape(100, 2), {"block_length": 0.5}, "block length"),
        (np.arange(200.0).reshape(100, 2), {"block_length": 101}, "block length"),
    ],
    ids=["still", "NaN", "vector", "short", "half", "long"],
)
def test_what_cannot_be_tested_is_refused(values: Table, options: dict[str, float], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        superior_ability(values, **options)
