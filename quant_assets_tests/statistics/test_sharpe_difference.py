"""The test of two Sharpe ratios: its size, independent standard errors, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.sharpe_inference import below_the_worst, sharpe_difference

SD = 0.01


def tracks(n: int, rho: float, seed: int, *, a: float = 0.0, b: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two streams with a correlation, and their Sharpe ratios per period."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((2, n))
    return SD * (common + a), SD * (rho * common + np.sqrt(1 - rho**2) * own + b)


def test_the_standard_error_is_that_of_jobson_korkie_and_memmel_for_normal_returns() -> None:
    # Memmel (2003): Var = (2 - 2 rho + (Sa^2 + Sb^2 - 2 Sa Sb rho^2) / 2) / T.
    a, b, rho, n = 0.1, 0.25, 0.6, 4000
    variance = (2 - 2 * rho + (a**2 + b**2 - 2 * a * b * rho**2) / 2) / n
    errors = [sharpe_difference(*tracks(n, rho, seed, a=a, b=b)).standard_error for seed in range(40)]
    assert np.mean(np.square(errors)) == pytest.approx(variance, rel=0.06)  # of 40 with 100 cosines: sd 2 %


def test_the_standard_error_is_that_of_the_jackknife_for_heavy_tails() -> None:
    rng = np.random.default_rng(1)
    scale = np.sqrt(3 / rng.chisquare(5, 3000))
    x, y = (stream * scale for stream in tracks(3000, 0.7, 2, a=0.1, b=0.3))

    def ratio(sums: np.ndarray, squares: np.ndarray, n: int) -> np.ndarray:
        mean = sums / n
        return mean / np.sqrt((squares - n * mean**2) / (n - 1))

    left_out = [ratio(s.sum() - s, (s**2).sum() - s**2, s.size - 1) for s in (x, y)]
    jackknife = np.sqrt((left_out[0] - left_out[1]).var() * (x.size - 1))
    assert sharpe_difference(x, y).standard_error == pytest.approx(jackknife, rel=0.2)


def test_equal_skill_is_rejected_as_often_as_stated_and_a_gap_of_two_is_seen() -> None:
    p = np.array([sharpe_difference(*tracks(750, 0.6, seed)).p_value for seed in range(1500)])
    assert 0.004 <= (p < 0.01).mean() <= 0.02
    assert 0.037 <= (p < 0.05).mean() <= 0.065
    gap = 2 / np.sqrt(252)
    seen = [sharpe_difference(*tracks(1250, 0.6, seed, b=gap)).p_value < 0.01 for seed in range(100)]
    assert np.mean(seen) > 0.9


@given(st.integers(0, 1000), st.floats(-0.9, 0.9), st.floats(0.01, 100.0))
def test_it_is_antisymmetric_and_knows_no_leverage(seed: int, rho: float, leverage: float) -> None:
    x, y = tracks(80, rho, seed)
    there, back = sharpe_difference(x, y), sharpe_difference(leverage * y, x)
    assert there.difference == pytest.approx(-back.difference, abs=1e-12)
    assert there.p_value == pytest.approx(1 - back.p_value, abs=1e-9)


def test_the_same_track_twice_differs_by_nothing() -> None:
    x, _ = tracks(100, 0.0, 1)
    assert sharpe_difference(x, x).p_value == 0.5


def test_a_track_that_does_not_vary_has_no_p_value() -> None:
    x, _ = tracks(100, 0.0, 1)
    assert np.isnan(sharpe_difference(np.zeros(100), x).p_value)
    assert np.isnan(sharpe_difference(x, np.full(100, 0.01)).p_value)


def test_the_worst_path_is_the_one_that_the_track_is_held_against() -> None:
    x, y = tracks(100, 0.5, 3)
    worst, found = below_the_worst(x, np.stack([y + 0.01, y, y + 0.02]))
    assert worst == 1
    assert found == sharpe_difference(x, y)
    worst, found = below_the_worst(x, np.stack([y, np.zeros(100)]))
    assert worst == 1
    assert np.isnan(found.p_value)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.arange(59.0), np.arange(59.0), "60 periods or more"),
        (np.arange(70.0), np.arange(71.0), "70 and 71"),
        (np.array([*np.arange(69.0), np.nan]), np.arange(70.0), "1 values that are not finite"),
        (np.ones((70, 2)), np.arange(70.0), r"shape \(70, 2\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: np.ndarray, b: np.ndarray, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        sharpe_difference(a, b)
