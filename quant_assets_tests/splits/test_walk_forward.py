"""Purged walk-forward: literal splits, calendar periods, rolling windows, and a brute-force oracle."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import TimeSeriesSplit

from quant_assets.common.errors import ValidationError
from quant_assets.splits.cpcv import PurgedWalkForward


def as_lists(splits):
    return [(train.tolist(), test.tolist()) for train, test in splits]


def test_instantaneous_labels_give_the_splits_of_scikit_learn():
    t0 = np.arange(23)
    theirs = TimeSeriesSplit(n_splits=4, test_size=3).split(t0)
    assert as_lists(PurgedWalkForward(4, test_size=3).split(t0, t0)) == as_lists(theirs)


def test_without_a_test_size_the_sessions_are_shared_out_evenly():
    t0 = np.arange(11)
    tests = [test.tolist() for _, test in PurgedWalkForward(4).split(t0, t0)]
    assert tests == [[3, 4], [5, 6], [7, 8], [9, 10]]


def test_training_labels_that_end_at_or_after_the_start_of_the_test_are_purged():
    t0 = np.arange(10)
    assert as_lists(PurgedWalkForward(2, test_size=3).split(t0, t0 + 2)) == [
        ([0, 1], [4, 5, 6]),
        ([0, 1, 2, 3, 4], [7, 8, 9]),
    ]


def test_an_embargo_in_sessions_moves_the_end_of_training_back():
    t0 = np.arange(10)
    trains = [train.tolist() for train, _ in PurgedWalkForward(2, test_size=3, embargo=2).split(t0, t0)]
    assert trains == [[0, 1], [0, 1, 2, 3, 4]]


def test_an_embargo_in_time_is_measured_from_the_last_outcome_to_the_test():
    days = np.array(["2024-01-01", "2024-01-03", "2024-01-05", "2024-01-08"], "M8[D]")
    ends = days + np.array([0, 1, 0, 0])
    trains = [
        next(PurgedWalkForward(1, test_size=1, embargo=timedelta(days=d)).split(days, ends))[0].tolist()
        for d in (0, 2, 3, 4)
    ]
    assert trains == [[0, 1, 2], [0, 1, 2], [0, 1], [0]]
    with pytest.raises(ValidationError, match="testing window 0, no row is left to train on"):
        PurgedWalkForward(1, test_size=1, embargo=timedelta(days=7)).split(days, ends)


def test_a_rolling_window_in_sessions_forgets_the_oldest():
    t0 = np.arange(10)
    walk = PurgedWalkForward(2, test_size=2, train_size=3)
    assert as_lists(walk.split(t0, t0)) == [([3, 4, 5], [6, 7]), ([5, 6, 7], [8, 9])]


def test_a_rolling_window_in_time_keeps_sessions_from_its_first_instant():
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-06", "2024-01-09", "2024-01-10"], "M8[D]")
    walk = PurgedWalkForward(1, test_size=1, train_size=timedelta(days=8))
    assert as_lists(walk.split(days, days)) == [([1, 2, 3], [4])]


@pytest.mark.parametrize(
    ("period", "first_days"),
    [
        ("month", ["2023-12-01", "2024-01-01", "2024-02-01"]),
        ("quarter", ["2023-07-01", "2023-10-01", "2024-01-01"]),
        ("year", ["2022-01-01", "2023-01-01", "2024-01-01"]),
    ],
)
def test_calendar_windows_begin_with_the_first_session_of_their_period(period, first_days):
    days = np.arange("2021-06-15", "2024-02-10", dtype="M8[D]")
    starts = [days[test[0]] for _, test in PurgedWalkForward(3, test_size=period).split(days, days)]
    assert [str(start) for start in starts] == first_days


def test_windows_of_a_time_span_end_with_the_last_session():
    start = datetime(2024, 1, 1, 21, tzinfo=UTC)
    t0 = pl.Series([start + timedelta(days=d) for d in (0, 1, 2, 5, 6, 8, 9)])
    walk = PurgedWalkForward(2, test_size=timedelta(days=3))
    assert [test.tolist() for _, test in walk.split(t0, t0)] == [[3, 4], [5, 6]]


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_each_walk_is_its_definition_applied_row_by_row(data):
    gaps = data.draw(st.lists(st.integers(1, 5), min_size=9, max_size=20))
    names = data.draw(st.lists(st.integers(1, 3), min_size=len(gaps), max_size=len(gaps)))
    t0 = np.repeat(np.cumsum(gaps), names)
    t1 = t0 + np.array(data.draw(st.lists(st.integers(0, 20), min_size=t0.size, max_size=t0.size)))
    order = np.array(data.draw(st.permutations(range(t0.size))))
    t0, t1 = t0[order], t1[order]
    train_size, embargo = data.draw(st.sampled_from([None, 1, 4])), data.draw(st.integers(0, 3))
    sessions = np.unique(t0)
    starts = (len(sessions) - 4, len(sessions) - 2)
    wanted = []
    for start in starts:
        oldest = sessions[0] if train_size is None else sessions[start - train_size]
        quarantine = set(sessions[max(start - embargo, 0) : start].tolist())
        train = [
            i
            for i in range(t0.size)
            if oldest <= t0[i] < sessions[start]
            and t1[i] < sessions[start]
            and not any(s <= t1[i] for s in quarantine)
        ]
        wanted.append((train, [i for i in range(t0.size) if t0[i] in sessions[start : start + 2]]))
    walk = PurgedWalkForward(2, test_size=2, train_size=train_size, embargo=embargo)
    if not all(train for train, _ in wanted):
        with pytest.raises(ValidationError, match="no row is left to train on"):
            walk.split(t0, t1)
        return
    assert as_lists(walk.split(t0, t1)) == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_splits": 0}, "n_splits"),
        ({"test_size": 0}, "test_size"),
        ({"test_size": "week"}, "'month', 'quarter', 'year'"),
        ({"test_size": timedelta(0)}, "positive timedelta"),
        ({"train_size": -3}, "train_size"),
        ({"train_size": 2.0}, "2.0 (float)"),
        ({"embargo": -1}, "embargo"),
    ],
)
def test_walks_without_a_meaning_are_refused_with_a_hint(arguments, message):
    with pytest.raises(ValidationError) as refusal:
        PurgedWalkForward(**arguments)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"n_splits": 4, "test_size": 3},
        {"n_splits": 20},
        {"n_splits": 2, "test_size": 3, "train_size": np.int64(7)},
        {"n_splits": 3, "test_size": "year"},
        {"n_splits": 2, "test_size": timedelta(hours=1)},
    ],
)
def test_a_history_too_short_for_the_walk_is_refused_at_the_call(arguments):
    days = np.arange("2023-12-26", "2024-01-07", dtype="M8[D]")
    with pytest.raises(ValidationError, match="too short for this walk"):
        PurgedWalkForward(**arguments).split(days, days)


def test_calendar_windows_on_plain_numbers_are_refused():
    with pytest.raises(ValidationError, match="datetimes"):
        PurgedWalkForward(2, test_size="month").split(range(50), range(50))


def test_a_walk_binds_to_scikit_learn():
    t0 = np.arange(12)
    cv = PurgedWalkForward(3, test_size=2).bind(t0, t0 + 1)
    assert cv.get_n_splits() == 3
    assert as_lists(cv.split(np.zeros((12, 1)))) == as_lists(
        PurgedWalkForward(3, test_size=2).split(t0, t0 + 1)
    )
