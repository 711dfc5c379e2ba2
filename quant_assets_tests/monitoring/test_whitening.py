"""Whitened series: against statsmodels and scipy, by hand, and what they do without drift."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import binom, kurtosis, lomax, norm
from scipy.stats import t as student
from statsmodels.tsa.ar_model import AutoReg

from quant_assets.monitoring import whitening
from quant_assets.monitoring.whitening import (
    LONGEST_LAG,
    TAIL_DEGREES,
    TAIL_SHARE,
    Whitening,
    fit_whitening,
)
from quant_assets.monitoring.window_null import tail_chance
from quant_assets_tests.benchmarks.drift_power import simulated

WINDOW, FEATURES = 63, 6


def slow(seed: int, phi: float, n: int = 2000, tails: float = math.inf) -> np.ndarray:
    """AR(1) series of unit variance, (n, FEATURES)."""
    rng = np.random.default_rng(seed)
    shape = (n + 300, FEATURES)
    noise = (
        rng.standard_normal(shape)
        if math.isinf(tails)
        else rng.standard_t(tails, shape) / math.sqrt(tails / (tails - 2))
    )
    return lfilter([math.sqrt(1 - phi**2)], [1.0, -phi], noise, axis=0)[300:]


def fitted(values: np.ndarray, strongest: int = 3) -> Whitening:
    n_windows = len(values) // WINDOW - 1
    return fit_whitening(values, WINDOW, strongest, np.zeros((n_windows, values.shape[1])))[0]


@pytest.fixture(scope="module")
def whitened() -> Whitening:
    return fitted(slow(1, 0.98))


def test_autoregressions_are_those_of_statsmodels(whitened: Whitening) -> None:
    values = slow(1, 0.98)
    for j, series in enumerate(whitened.series):
        order = np.flatnonzero(series.coefficients).max() + 1
        # the same sessions for every order: the first 21 only serve as past
        y = (values[LONGEST_LAG - order :, j] - series.mean) / series.sd
        oracle = AutoReg(y, order).fit().params
        assert series.intercept == pytest.approx(oracle[0], abs=1e-8)
        assert series.coefficients[:order] == pytest.approx(oracle[1:], abs=1e-6)
        assert set(series.coefficients[order:]) <= {0.0}


def test_the_order_reaches_a_month_back_where_the_series_does() -> None:
    # the sum of 20 sessions' shocks, as a 20-session return is
    noise = np.random.default_rng(2).standard_normal((2100, FEATURES))
    sums = lfilter(np.ones(20), [1.0], noise, axis=0)[100:]
    for series in fitted(sums).series:
        assert np.flatnonzero(series.coefficients).max() + 1 == LONGEST_LAG


def test_a_jump_of_an_ar1_leaves_one_and_then_one_minus_phi() -> None:
    coefficients = np.zeros((1, LONGEST_LAG))
    coefficients[0, 0] = 0.9
    signature = whitening._signature(coefficients, 5)[:, 0]
    assert signature == pytest.approx([1.0, 0.1, 0.1, 0.1, 0.1], abs=1e-12)
    first = whitening._filters(coefficients, 5)[0, 0]
    assert first == pytest.approx(signature / math.sqrt(1.04), abs=1e-12)
    # a jump at the last session leaves nothing after it
    assert whitening._filters(coefficients, 5)[0, 4].tolist() == [0, 0, 0, 0, 1]


def test_a_planted_jump_is_found_where_it_was_planted(whitened: Whitening) -> None:
    values = slow(1, 0.98, n=2000 + 2 * WINDOW)[2000:].copy()
    values[WINDOW + 20 :, [0, 2, 4]] += [2.0, -2.0, 2.0]
    scores = whitened.score(values, follows=True)
    jump = whitened.judge(scores[WINDOW:])
    assert jump.session == 20
    assert jump.p_value < 1e-4
    assert np.sign([jump.scores[j] for j in (0, 2, 4)]).tolist() == [1, -1, 1]
    assert min(abs(jump.scores[j]) for j in (0, 2, 4)) > 4


def test_the_first_session_after_the_baseline_is_forecast_from_its_end(whitened: Whitening) -> None:
    values = slow(1, 0.98, n=2000 + WINDOW)[2000:]
    assert len(whitened.score(values, follows=True)) == WINDOW
    apart = whitened.score(values, follows=False)
    assert len(apart) == WINDOW - LONGEST_LAG
    # the moving scale starts elsewhere, and soon forgets it
    following = whitened.score(values, follows=True)[LONGEST_LAG:]
    assert np.abs(apart - following)[-5:].max() < 0.1
    jumped = whitened.score(values + 5.0, follows=True)[0]
    assert (jumped > 5).all()


def test_the_tail_is_that_of_lomax_over_as_many_sessions() -> None:
    one = 0.02 * lomax.sf((30 - 18) / 2.2, 120, scale=120)
    assert tail_chance(30.0, 18.0, 0.02, 2.2, 120.0, 63) == pytest.approx(1 - (1 - one) ** 63, rel=1e-9)
    assert tail_chance(18.0, 18.0, 0.02, 2.2, 120.0, 63) == 1.0
    assert 0 < tail_chance(400.0, 18.0, 0.02, 2.2, 120.0, 63) < 1e-40  # rare, and never impossible


@given(st.floats(1.0, 200.0), st.lists(st.floats(0.01, 1.0), min_size=9, max_size=9))
@settings(max_examples=60, deadline=None)
def test_the_tail_of_a_score_is_the_mixture_of_student_tails(ratio: float, parts: list[float]) -> None:
    weights = np.array(parts) / sum(parts)
    exact = 0.0
    for weight, degrees in zip(weights, TAIL_DEGREES, strict=True):
        law = norm if math.isinf(degrees) else student(degrees)
        exact += weight * law.sf(law.ppf(1 - TAIL_SHARE) * ratio)
    assert whitening._tail_chance(np.array([ratio]), weights[:, None])[0] == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("tails", [math.inf, 5.0, 3.0])
def test_scores_are_normal_whatever_the_tails_of_the_innovations(tails: float) -> None:
    values = slow(4, 0.9, n=6000, tails=tails)
    scores = fitted(values[:3000]).score(values[3000:], follows=True)
    assert abs(scores.mean()) < 0.05
    assert scores.std() == pytest.approx(1.0, abs=0.05)
    assert abs(kurtosis(scores, axis=None)) < 0.5  # of t(5) shocks themselves: 6
    assert (np.abs(scores) > norm.isf(0.0005)).mean() == pytest.approx(0.001, abs=0.001)


def test_scores_rise_with_the_value_and_beyond_the_largest_one_seen(whitened: Whitening) -> None:
    ends = np.array([s.knots[-1] for s in whitened.series])
    ladder = np.linspace(-40, 40, 801)[:, None] * ends
    steps = np.diff(whitened._fitted.score(ladder), axis=0)
    assert (steps >= 0).all()
    assert (steps[[0, 1, -2, -1]] > 0).all()


def test_a_series_that_stands_still_has_no_score(whitened: Whitening) -> None:
    values = slow(1, 0.98)
    values[:, 1] = 3.0
    still = fitted(values)
    assert [s.moves for s in still.series] == [True, False, True, True, True, True]
    moved = slow(1, 0.98, n=2000 + WINDOW)[2000:]
    assert set(still.score(moved, follows=True)[:, 1]) == {0.0}


@pytest.mark.parametrize(("phi", "kind"), [(0.98, "garch"), (0.5, "normal")])
def test_the_gate_keeps_its_rate_and_sees_doubled_spreads(phi: float, kind: str) -> None:
    found = simulated(phi, kind, ("none", "spread"), windows=60, per_baseline=30, seed=11)
    assert found["windows"] == 60
    # At 1.5 %, more alarms than this have a chance below 1e-3; at a power of 95 %, fewer finds.
    assert found["none"] <= binom.isf(1e-3, 60, 0.015)
    assert found["spread"] >= binom.ppf(1e-3, 60, 0.95)
