"""Many trials judged together: exact numbers, the sign of StepM, and how often each method is wrong without skill."""

import numpy as np
import pytest
from arch.bootstrap import StepM
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.multiple_testing import (
    HAIRCUTS,
    false_discovery_rates,
    haircut_sharpe,
    rademacher_bounds,
    rademacher_complexity,
    stepwise_superior_trials,
)
from quant_assets.statistics.sharpe import probabilistic_sharpe_ratio, sharpe_ratio

Table = NDArray[np.float64]


def noise(seed: int, periods: int, count: int, common: float = 0.5) -> Table:
    """Returns without skill that share a factor."""
    rng = np.random.default_rng(seed)
    return 0.01 * (rng.normal(size=(periods, count)) + common * rng.normal(size=(periods, 1)))


def at_most(rate: float, of: int) -> int:
    """A count that a rate exceeds in one of a thousand tests."""
    return int(stats.binom.ppf(0.999, of, rate))


# ------------------------------------------------------------------------------------- haircut Sharpe ratios


def sharpe_of(p_value: float, periods: int) -> float:
    """The Sharpe ratio per period with this two-sided p-value."""
    return float(stats.t.isf(p_value / 2, periods - 1) / np.sqrt(periods))


def test_the_adjustments_are_those_that_can_be_done_by_hand() -> None:
    # Four tests: Bonferroni 4 p; Holm 4, 3, 2, 1 times p, never falling; Benjamini-Hochberg-Yekutieli
    # min over later ranks of p 4/i (1 + 1/2 + 1/3 + 1/4).
    p_values = [0.001, 0.01, 0.02, 0.6]
    found = haircut_sharpe([sharpe_of(p, 500) for p in p_values], [500] * 4)
    np.testing.assert_allclose(found.p_values, p_values, rtol=1e-9)
    np.testing.assert_allclose(found.adjusted["bonferroni"], [0.004, 0.04, 0.08, 1.0], rtol=1e-9)
    np.testing.assert_allclose(found.adjusted["holm"], [0.004, 0.03, 0.04, 0.6], rtol=1e-9)
    harmonic = 25 / 12
    bhy = [0.004 * harmonic, 0.02 * harmonic, 0.08 / 3 * harmonic, 1.0]
    np.testing.assert_allclose(found.adjusted["bhy"], bhy, rtol=1e-9)
    mean = np.mean([[0.004, 0.04, 0.08, 1.0], [0.004, 0.03, 0.04, 0.6], bhy], axis=0)
    np.testing.assert_allclose(found.adjusted["mean"], mean, rtol=1e-9)
    for method in HAIRCUTS:
        expected = [sharpe_of(p, 500) for p in found.adjusted[method]]
        np.testing.assert_allclose(found.sharpes[method], expected, atol=1e-12)


def test_ten_years_of_months_at_three_quarters_are_worth_nothing_among_two_hundred() -> None:
    # scipy: t = .75 sqrt(10) = 2.3717, p = .01931 with 119 degrees of freedom; 200 p is above 1.
    found = haircut_sharpe([0.75 / np.sqrt(12)] + [0.0] * 199, 120)
    assert found.p_values[0] == pytest.approx(0.0193108, rel=1e-5)
    assert [found.haircuts[method][0] for method in HAIRCUTS] == [1.0] * 4
    assert np.isnan(found.haircuts["holm"][1])


def test_the_p_value_is_the_one_of_the_authors_program() -> None:
    # The program's worked case as a port's test states it: 10 years of months, an annual Sharpe ratio of 1, less what
    # an autocorrelation of .1 takes (Lo 2002, a factor of .91224), 100 tests: .465 after Bonferroni.
    found = haircut_sharpe([0.91224 / np.sqrt(12)] + [0.0] * 99, 120)
    assert found.adjusted["bonferroni"][0] == pytest.approx(0.465, abs=0.002)


def test_twenty_years_at_one_keep_most_of_it_among_ten() -> None:
    # By scipy: p = 1.1975e-5, times 10 it is 1.1975e-4, whose quantile t(239) is 3.9111: .8746 a year.
    found = haircut_sharpe([1.0 / np.sqrt(12)] + [0.0] * 9, 240)
    assert found.p_values[0] == pytest.approx(1.19751e-5, rel=1e-4)
    assert found.sharpes["bonferroni"][0] * np.sqrt(12) == pytest.approx(0.87456, abs=1e-4)
    assert found.haircuts["bonferroni"][0] == pytest.approx(0.12544, abs=1e-4)
    assert found.haircuts["bhy"][0] == pytest.approx(0.18902, abs=1e-4)


def test_one_trial_has_no_haircut_and_a_loser_keeps_its_sign() -> None:
    alone = haircut_sharpe([0.05], [1000])
    assert [alone.sharpes[m][0] for m in HAIRCUTS] == pytest.approx([0.05] * 4)
    loser = haircut_sharpe([-0.1, 0.1], [1000, 1000])
    assert loser.sharpes["holm"][0] == -loser.sharpes["holm"][1] < 0


def test_a_lost_trial_counts_as_one_that_found_nothing() -> None:
    lost, known = haircut_sharpe([0.1, 0.05], [900, 900], n_lost=3), haircut_sharpe([0.1, 0.05, 0, 0, 0], 900)
    for method in HAIRCUTS:
        np.testing.assert_array_equal(lost.sharpes[method], known.sharpes[method][:2])


def test_a_ratio_beyond_the_smallest_number_keeps_itself() -> None:
    found = haircut_sharpe([3.0, 0.0], [5000, 5000])  # t = 212: no float holds its p-value
    assert found.p_values[0] == 0.0
    assert found.sharpes["bonferroni"][0] == pytest.approx(3.0)


@given(st.lists(st.floats(-0.4, 0.4), min_size=1, max_size=30), st.integers(2, 4000), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_no_adjustment_makes_a_ratio_larger_and_holm_never_takes_more_than_bonferroni(
    ratios: list[float], periods: int, lost: int
) -> None:
    found = haircut_sharpe(ratios, periods, lost)
    for method in HAIRCUTS:
        assert (np.abs(found.sharpes[method]) <= np.abs(ratios)).all()
        assert (found.adjusted[method] >= found.p_values * (1 - 1e-12)).all()
    assert (found.adjusted["holm"] <= found.adjusted["bonferroni"] * (1 + 1e-12)).all()


@pytest.mark.parametrize("n_trials", [1, 2, 17, 300])
def test_the_adjustments_are_those_of_statsmodels(n_trials: int) -> None:
    ratios = np.random.default_rng(n_trials).normal(0.03, 0.04, n_trials)
    ratios[: n_trials // 3] = ratios[-1]  # equal ones share what they pay
    found = haircut_sharpe(ratios, 1000, n_lost=2)
    every = np.append(found.p_values, [1.0, 1.0])
    for ours, theirs in (("bonferroni", "bonferroni"), ("holm", "holm"), ("bhy", "fdr_by")):
        expected = multipletests(every, method=theirs)[1][:n_trials]
        np.testing.assert_allclose(found.adjusted[ours], expected, rtol=1e-12)


def test_what_is_no_ratio_is_refused_and_no_trial_has_no_haircut() -> None:
    assert [haircut_sharpe([], []).sharpes[method].size for method in HAIRCUTS] == [0] * 4
    for ratios, periods, lost in (([np.nan], [10], 0), ([0.1], [1], 0), ([0.1], [10], -1)):
        with pytest.raises(ValidationError, match="haircut Sharpe ratios"):
            haircut_sharpe(ratios, periods, lost)


# ------------------------------------------------------------------------------------- false discovery rate


def test_q_values_are_those_of_benjamini_and_yekutieli_by_hand() -> None:
    found = false_discovery_rates([0.01, np.nan, 0.002])
    harmonic = 11 / 6
    np.testing.assert_allclose(found, [0.015 * harmonic, 1.0, 0.006 * harmonic])
    assert false_discovery_rates([]).size == 0


# ----------------------------------------------------------------------------------------------------- StepM


def test_a_planted_edge_among_noise_is_found_and_a_planted_loss_is_not() -> None:
    values = noise(3, 1000, 12)
    values[:, 4] += 0.002
    values[:, 7] -= 0.002  # were losses and returns confused, this one would be the find
    found = stepwise_superior_trials(values)
    assert found.superior == (4,)
    assert (found.n_trials, found.n_obs, found.size) == (12, 1000, 0.05)


def test_a_quiet_edge_is_not_hidden_by_a_volatile_trial() -> None:
    values = noise(5, 1000, 3, common=0.0)
    values[:, 0] = values[:, 0] / 20 + 0.0001  # an annual Sharpe ratio of 3, a twentieth of the volatility
    assert stepwise_superior_trials(values).superior == (0,)
    undivided = StepM(np.zeros(1000), -values, block_size=2, reps=1000, seed=2005)
    undivided.compute()
    assert undivided.superior_models == []


def test_a_later_step_finds_what_the_first_one_missed_even_when_nothing_is_left() -> None:
    # The first step's limit is that of both trials; once the first is found the second has its own.
    rng = np.random.default_rng(0)
    shocks = rng.normal(size=(600, 2))
    shocks = (shocks - shocks.mean(axis=0)) / shocks.std(axis=0)
    values = 0.01 * (shocks + np.array([6.0, 1.83]) / np.sqrt(600))
    bare = StepM(np.zeros(600), -values, block_size=1, reps=1000, seed=2005)
    with pytest.raises(ValueError, match="zero-size"):
        bare.compute()
    assert stepwise_superior_trials(values, block_length=1).superior == (0, 1)


def test_the_same_trials_give_the_same_list_and_a_constant_one_is_in_none() -> None:
    values = noise(9, 400, 5)
    values[:, 2] = 0.001
    values[:, 3] += 0.004
    first, second = stepwise_superior_trials(values), stepwise_superior_trials(values.copy())
    assert first == second
    assert first.superior == (3,)
    assert stepwise_superior_trials(values[:, [2]]).superior == ()


def test_too_little_or_broken_returns_are_refused() -> None:
    for values in (noise(1, 20, 2), np.full((100, 2), np.nan)):
        with pytest.raises(ValidationError, match="StepM"):
            stepwise_superior_trials(values)


def test_without_skill_stepm_and_false_discovery_are_wrong_about_as_often_as_they_say() -> None:
    of, wrong = 150, {"stepm": 0, "false discovery": 0}
    for seed in range(of):
        values = noise(seed, 300, 6)
        wrong["stepm"] += bool(stepwise_superior_trials(values, n_resamples=200).superior)
        ratios = sharpe_ratio(values, axis=0)
        p_values = 1.0 - probabilistic_sharpe_ratio(ratios, 300, standard="2025")
        wrong["false discovery"] += bool((false_discovery_rates(p_values) <= 0.05).any())
    assert wrong["stepm"] <= at_most(0.05, of)
    assert wrong["false discovery"] <= at_most(0.05, of)
    assert wrong["stepm"] > 0  # a test that never rejects would have no level at all


# -------------------------------------------------------------------------------------- Rademacher anti-serum


def test_the_complexity_of_a_series_and_its_opposite_is_that_of_a_random_walk() -> None:
    # max(s, -s) = |sum of four tosses| / 4, which is 4, 2, 0 with chances 1/8, 1/2, 3/8: 1.5 / 4.
    values = np.ones((4, 1)) * [1.0, -1.0]
    assert rademacher_complexity(values, n_draws=40_000) == pytest.approx(0.375, abs=0.005)


def test_the_complexity_of_independent_series_is_the_largest_of_as_many_normals() -> None:
    # E max of 100 standard normals is 2.5076 (Tippett 1925).
    values = np.random.default_rng(2).normal(size=(2000, 100))
    assert rademacher_complexity(values) * np.sqrt(2000) == pytest.approx(2.5076, rel=0.04)


def test_copies_of_one_series_are_as_complex_as_the_one() -> None:
    one = np.random.default_rng(4).normal(size=(300, 1))
    assert rademacher_complexity(one) == pytest.approx(0.0, abs=1e-12)
    assert rademacher_complexity(np.repeat(one, 30, axis=1)) == pytest.approx(0.0, abs=1e-12)
    pair = np.random.default_rng(5).normal(size=(300, 2))
    twice = rademacher_complexity(np.repeat(pair, 5, axis=1))
    assert twice == pytest.approx(rademacher_complexity(pair), rel=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 80), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_complexity_never_falls_when_a_trial_is_added(seed: int, periods: int, count: int) -> None:
    values = np.random.default_rng(seed).normal(size=(periods, count + 1))
    fewer, more = (rademacher_complexity(values[:, :n], n_draws=50) for n in (count, count + 1))
    assert more >= fewer - 1e-12


def test_the_bound_is_the_formula_of_the_book() -> None:
    values = noise(6, 500, 8)
    found = rademacher_bounds(values, confidence=0.9)
    standardised = values / values.std(axis=0, ddof=1)
    off = 2 * rademacher_complexity(standardised)
    off += 3 * np.sqrt(2 * np.log(20) / 500) + np.sqrt(2 * np.log(160) / 500)
    np.testing.assert_allclose(found.lower, sharpe_ratio(values, axis=0) - off)
    assert found.data_snooping + found.estimation_error == pytest.approx(off)


@pytest.mark.parametrize("count", [1, 20])
def test_the_bound_holds_at_least_as_often_as_it_says(count: int) -> None:
    of = 120
    failed = sum(
        bool((rademacher_bounds(noise(seed, 250, count, 0.0), n_draws=50).lower > 0.0).any())
        for seed in range(of)
    )
    assert failed <= at_most(0.05, of)


def test_a_trial_without_variance_has_no_bound_and_changes_no_other() -> None:
    values = noise(8, 300, 3)
    idle = np.column_stack([values, np.zeros(300)])
    with_idle, without = rademacher_bounds(idle), rademacher_bounds(values)
    np.testing.assert_allclose(with_idle.lower[:3], without.lower)
    assert np.isnan(with_idle.lower[3])
    assert with_idle.n_trials == 3
    with pytest.raises(ValidationError, match="Rademacher bounds"):
        rademacher_bounds(np.zeros((300, 2)))
    with pytest.raises(ValidationError, match="confidence"):
        rademacher_bounds(values, confidence=1.0)
