"""Weights against the book's own numbers, vectors worked out by hand, and a loop over its definitions."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.datasets.labels import (
    average_uniqueness,
    bar_ranges,
    concurrency,
    decay_factors,
    direction,
    sample_weights,
)

ONE = np.zeros(3, dtype=np.int64)


def ints(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_concurrency_and_uniqueness_are_those_of_the_books_example() -> None:
    """AFML section 4.5.3: labels over returns (0, 3], (2, 4] and (4, 6], that is bars 0-2, 2-3 and 4-5."""
    first, last = ints(0, 2, 4), ints(2, 3, 5)
    assert concurrency(ONE, first, last).tolist() == [[1, 1, 2, 1, 1, 1]]
    assert average_uniqueness(ONE, first, last) == pytest.approx([5 / 6, 3 / 4, 1.0], abs=1e-15)


def test_a_label_drawn_beside_the_books_second_one_has_the_published_probabilities() -> None:
    """AFML section 4.5.3: with label 2 drawn, the next draws have probabilities 5/14, 3/14 and 6/14."""
    candidates = [(0, 2), (2, 3), (4, 5)]
    unique = [
        average_uniqueness(ONE[:2], ints(2, first), ints(3, last))[1] for first, last in candidates
    ]  # fmt: skip
    assert np.array(unique) / np.sum(unique) == pytest.approx([5 / 14, 3 / 14, 6 / 14], abs=1e-15)


def test_labels_compete_within_their_symbol_only() -> None:
    symbol = ints(7, 3, 7, 3)
    first, last = ints(0, 0, 1, 5), ints(2, 2, 3, 6)
    # symbol 7: bars 0-2 and 1-3 overlap in two of three; symbol 3: no overlap
    assert average_uniqueness(symbol, first, last) == pytest.approx([2 / 3, 1.0, 2 / 3, 1.0], abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15), st.integers(0, 6)), min_size=1, max_size=25))
def test_uniqueness_is_what_a_loop_over_snippets_4_1_and_4_2_gives(
    labels: list[tuple[int, int, int]],
) -> None:
    symbol, first, length = (np.array(column) for column in zip(*labels, strict=True))
    expected = []
    for own, begin, n in labels:
        counts = [
            sum(s == own and b <= bar <= b + m for s, b, m in labels) for bar in range(begin, begin + n + 1)
        ]
        expected.append(np.mean([1 / count for count in counts]))
    found = average_uniqueness(symbol, first, first + length)
    assert found == pytest.approx(expected, abs=1e-12)
    assert ((found > 0) & (found <= 1 + 1e-12)).all()


OPENS = np.datetime64("2024-01-01T14:30") + np.arange(40) * np.timedelta64(1, "D")
CLOSES = np.datetime64("2024-01-01T21:00") + np.arange(40) * np.timedelta64(1, "D")


def times(*sessions: int, horizon: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array(sessions)
    return CLOSES[rows], OPENS[rows + 1 + horizon]


def test_a_label_lives_from_its_decision_close_to_the_last_close_before_its_exit_at_an_open() -> None:
    first, last = bar_ranges(*times(0, 1, 2, 3, 4, 5))
    assert first.tolist() == [0, 1, 2, 3, 4, 5]
    assert last.tolist() == [2, 3, 4, 5, 6, 7]  # closes 6 and 7 follow the opens at which 3 and 4 ended


def test_labels_before_a_purged_gap_reach_into_it_and_not_across_it() -> None:
    first, last = bar_ranges(*times(0, 1, 2, 3, 4, 5, 12, 13, 14, 15))
    # sessions 0-5, then 6 and 7 which the outcomes reveal, then 12 and on
    assert first.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert last.tolist() == [2, 3, 4, 5, 6, 7, 10, 11, 12, 13]


def test_uniqueness_of_overlapping_daily_labels_is_one_over_their_number_and_rises_at_both_ends() -> None:
    """Bars 0-7 hold 1, 2, 3, 3, 3, 3, 2, 1 labels of three bars each."""
    unique = average_uniqueness(np.zeros(6, dtype=np.int64), *bar_ranges(*times(0, 1, 2, 3, 4, 5)))
    assert unique == pytest.approx([11 / 18, 7 / 18, 1 / 3, 1 / 3, 7 / 18, 11 / 18], abs=1e-15)


def test_decay_is_linear_in_cumulated_uniqueness() -> None:
    """Snippet 4.11 on uniqueness 5/6, 3/4, 1: cumulated 10/12, 19/12, 31/12, by hand."""
    unique = np.array([5 / 6, 3 / 4, 1.0])
    t0 = CLOSES[:3]
    assert decay_factors(t0, unique, oldest=0.0) == pytest.approx([10 / 31, 19 / 31, 1.0], abs=1e-15)
    assert decay_factors(t0, unique, oldest=0.5) == pytest.approx([41 / 62, 50 / 62, 1.0], abs=1e-15)
    assert decay_factors(t0[::-1], unique[::-1], oldest=0.5) == pytest.approx([1.0, 50 / 62, 41 / 62])
    assert decay_factors(t0, unique, oldest=1.0).tolist() == [1.0, 1.0, 1.0]


def test_rows_of_one_time_decay_alike_whatever_their_symbol() -> None:
    t0 = CLOSES[[0, 0, 1, 1]]
    assert decay_factors(t0, np.ones(4), oldest=0.0).tolist() == [0.5, 0.5, 1.0, 1.0]


def test_weights_multiply_uniqueness_by_decay_and_average_one() -> None:
    t0, t1 = times(0, 1, 2, 3, 4, 5)
    symbol = np.zeros(6, dtype=np.int64)
    unique = np.array([11, 7, 6, 6, 7, 11]) / 18
    decayed = unique * (np.cumsum(unique) / unique.sum())
    cases = {(True, 1.0): unique, (True, 0.0): decayed, (False, 0.0): np.arange(1, 7) / 6}
    for (uniqueness, time_decay), expected in cases.items():
        found = sample_weights(symbol, t0, t1, uniqueness=uniqueness, time_decay=time_decay)
        assert found == pytest.approx(expected / expected.mean(), abs=1e-14)
        assert found.mean() == pytest.approx(1.0, abs=1e-14)


def test_a_direction_is_above_the_median_of_its_session_and_ties_are_not() -> None:
    frame = pl.DataFrame(
        {
            "t0": [1, 1, 1, 1, 2, 2, 2, 3, 4, 4],
            "r": [0.3, -0.1, 0.2, -0.2, -0.5, -0.1, -0.3, 0.9, 0.1, 0.1],
        }
    )
    # an even number: upper half; an odd one: the middle name is not above; alone or tied: not above
    expected = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert frame.select(direction("r")).to_series().to_list() == expected
