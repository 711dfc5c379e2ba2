"""Rates and their exact intervals."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.rates import Rate, clopper_pearson


def test_at_each_end_of_the_interval_what_was_seen_has_a_chance_of_one_in_forty() -> None:
    low, high = Rate(4, 20).interval
    assert (low, high) == pytest.approx((0.0573, 0.4366), abs=5e-5)
    assert binom.sf(3, 20, low) == pytest.approx(0.025, rel=1e-9)
    assert binom.cdf(4, 20, high) == pytest.approx(0.025, rel=1e-9)


def test_no_failure_in_370_trials_bounds_the_rate_by_one_percent() -> None:
    low, high = Rate(0, 370).interval
    assert low == 0.0
    assert high == pytest.approx(1.0 - 0.025 ** (1 / 370), rel=1e-12)
    assert high < 0.01 < Rate(0, 366).interval[1]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_scipys_exact_one_and_holds_the_estimate(case: tuple[int, int]) -> None:
    rate = Rate(*case)
    exact = binomtest(*case).proportion_ci(0.95, method="exact")
    assert rate.interval == pytest.approx((exact.low, exact.high), abs=1e-12)
    assert rate.contains(rate.estimate)
    assert not rate.contains(float("nan"))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 5000).flatmap(lambda n: st.tuples(st.integers(1, n - 1), st.just(n))))
def test_the_bounds_are_quantiles_of_scipys_beta_to_the_bit(case: tuple[int, int]) -> None:
    k, n = case
    assert clopper_pearson(k, n, 0.9) == (
        beta.ppf((1 - 0.9) / 2, k, n - k + 1),
        beta.ppf(1 - (1 - 0.9) / 2, k + 1, n - k),
    )
    assert Rate(k, n).interval == clopper_pearson(k, n, 0.95)


@pytest.mark.parametrize("case", [(1, 0), (-1, 5), (6, 5)])
def test_an_impossible_count_is_refused(case: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match="at least one trial"):
        Rate(*case)
