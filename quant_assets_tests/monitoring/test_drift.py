"""Distances: published values, scipy and statsmodels as oracles, invariants."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon
from scipy.stats import false_discovery_control, ks_2samp

from quant_assets.common.errors import DriftError
from quant_assets.monitoring.drift import (
    PSI_CELL_FLOOR,
    benjamini_hochberg,
    js_distance,
    js_distances,
    ks_statistic,
    population_stability_index,
)

QUARTERS, TILTED = [0.25, 0.25, 0.25, 0.25], [0.40, 0.30, 0.20, 0.10]
counts = arrays(np.float64, 7, elements=st.integers(0, 50).map(float)).filter(lambda a: a.sum() > 0)
# Multiples of .25, so that samples hold ties, and a wide range, so that some do not.
values = st.integers(-40, 40).map(lambda i: i / 4)
samples = st.lists(values, min_size=1, max_size=60)


def test_psi_of_a_tilted_quarter_is_the_worked_value() -> None:
    assert population_stability_index(QUARTERS, TILTED) == pytest.approx(0.22821740957339182, rel=1e-13)


def test_js_distance_of_the_worked_pair_in_bits_and_in_nats() -> None:
    assert js_distance([0.5, 0.5], [0.9, 0.1]) == pytest.approx(0.3831358798599423, rel=1e-13)
    assert js_distance([0.5, 0.5], [0.9, 0.1], base=math.e) == pytest.approx(0.31898154347735663, rel=1e-13)
    assert js_distance([1.0, 0.0], [0.5, 0.5], base=math.e) == pytest.approx(0.464501404022459, rel=1e-13)


def test_js_distance_of_disjoint_distributions_is_one_in_bits() -> None:
    assert js_distance([1.0, 0.0], [0.0, 1.0]) == 1.0


def test_an_emptied_cell_of_a_tenth_adds_its_floored_term_to_psi() -> None:
    expected, actual = [0.1, 0.9], [0.0, 1.0]
    by_hand = (PSI_CELL_FLOOR - 0.1) * math.log(PSI_CELL_FLOOR / 0.1) + 0.1 * math.log(1 / 0.9)
    assert population_stability_index(expected, actual) == pytest.approx(by_hand, rel=1e-12)
    assert by_hand == pytest.approx(0.7006, abs=1e-4)


@given(counts, counts)
@settings(max_examples=50, deadline=None)
def test_js_distance_equals_scipy_and_is_symmetric(p: np.ndarray, q: np.ndarray) -> None:
    oracle = float(np.nan_to_num(jensenshannon(p, q, base=2)))
    assert js_distance(p, q) == pytest.approx(oracle, abs=2e-8)
    assert js_distance(p, q) == pytest.approx(js_distance(q, p), abs=1e-12)
    assert js_distance(p, p) == 0.0


@given(counts, counts)
@settings(max_examples=50, deadline=None)
def test_psi_is_symmetric_non_negative_and_blind_to_scale(p: np.ndarray, q: np.ndarray) -> None:
    psi = population_stability_index(p, q)
    assert psi >= 0
    assert psi == pytest.approx(population_stability_index(q, p), abs=1e-12)
    assert psi == pytest.approx(population_stability_index(p * 3, q), abs=1e-12)


def test_js_distances_of_rows_equal_the_distances_one_by_one() -> None:
    rows = np.array([[0.2, 0.8], [0.5, 0.5], [0.0, 1.0]])
    one_by_one = [js_distance([0.3, 0.7], row) for row in rows]
    assert js_distances(np.array([0.3, 0.7]), rows).tolist() == pytest.approx(one_by_one, abs=1e-15)


@given(samples, samples)
@settings(max_examples=50, deadline=None)
def test_ks_statistic_equals_scipy_with_ties(a: list[float], b: list[float]) -> None:
    assert ks_statistic(a, b) == ks_2samp(a, b, method="asymp").statistic  # to the bit: it is scipy's formula


def test_ks_statistic_of_interleaved_samples_is_counted_by_hand() -> None:
    # F_a reaches 1 at 2 while F_b is 1/3.
    assert ks_statistic([1.0, 2.0], [1.5, 3.0, 4.0]) == pytest.approx(2 / 3)
    assert ks_statistic([1.0, 1.0], [1.0]) == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=50, deadline=None)
def test_adjusted_p_values_equal_scipy(p_values: list[float]) -> None:
    np.testing.assert_allclose(
        benjamini_hochberg(p_values), false_discovery_control(p_values), rtol=1e-12, atol=0
    )


def test_adjusted_p_values_of_the_1995_paper_reject_its_first_four() -> None:
    # Benjamini and Hochberg 1995, section 3.2: 15 p-values, q = .05 rejects 4 where Bonferroni rejects 3.
    paper = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459,
        0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
    ]  # fmt: skip
    assert (benjamini_hochberg(paper) <= 0.05).tolist() == [True] * 4 + [False] * 11


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        # of the three that were made: .01 x 3/1, .03 x 3/2, .04 x 3/3, each at most the next
        ([0.01, math.nan, 0.04, 0.03], [0.03, math.nan, 0.04, 0.04]),
        ([math.nan, 0.2], [math.nan, 0.2]),
        ([math.nan, math.nan], [math.nan, math.nan]),
        ([[0.01, 0.04], [math.nan, 0.04]], [[0.02, 0.04], [math.nan, 0.04]]),
    ],
)
def test_a_test_that_could_not_be_made_stays_without_a_p_value_and_spoils_no_other(
    p_values: list[float], adjusted: list[float]
) -> None:
    np.testing.assert_allclose(benjamini_hochberg(p_values), adjusted, rtol=1e-12)


@pytest.mark.parametrize("outside", [-1e-9, 1.0000001, math.inf, -math.inf])
def test_what_is_no_p_value_is_refused(outside: float) -> None:
    with pytest.raises(DriftError, match="1 outside, the first"):
        benjamini_hochberg([0.5, outside, math.nan])


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ([0.5, 0.5], [0.2, 0.3, 0.5], "2 and 3"),
        ([0.5, math.nan], [0.5, 0.5], "nan"),
        ([1.5, -0.5], [0.5, 0.5], "-0.5"),
        ([0.0, 0.0], [0.5, 0.5], "positive sum"),
        ([], [], "positive sum"),
    ],
)
def test_frequencies_that_are_none_are_refused_with_their_values(
    first: list[float], second: list[float], text: str
) -> None:
    for distance in (population_stability_index, js_distance):
        with pytest.raises(DriftError, match=text):
            distance(first, second)


@pytest.mark.parametrize("bad", [[], [1.0, math.nan], [math.inf]])
def test_ks_statistic_refuses_empty_and_non_finite_samples(bad: list[float]) -> None:
    with pytest.raises(DriftError, match="sample b"):
        ks_statistic([1.0, 2.0], bad)


@pytest.mark.parametrize("base", [1.0, 0.5, math.nan, math.inf])
def test_a_base_that_gives_no_logarithm_is_refused(base: float) -> None:
    with pytest.raises(DriftError, match="base"):
        js_distance([0.5, 0.5], [0.9, 0.1], base=base)
