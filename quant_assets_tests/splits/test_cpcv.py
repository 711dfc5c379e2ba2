"""Combinatorial purged cross-validation: published counts and paths, a brute-force oracle, skfolio, time types."""

import doctest
import math
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import ValidationError
from quant_assets.splits import cpcv
from quant_assets.splits import cpcv as walk_forward
from quant_assets.splits import purging as splitting
from quant_assets.splits.cpcv import CombinatorialPurgedCV, PurgedKFold, PurgedWalkForward
from quant_assets.splits.purging import blocked_rows, read_spans
from quant_assets.statistics import sharpe
from quant_assets.statistics import sharpe_inference as selection

# AFML (2018) ch. 12: phi[N, k] = k/N C(N, k)
COUNTS = [
    (3, 2, 3, 2), (4, 2, 6, 3), (5, 2, 10, 4), (6, 2, 15, 5), (6, 3, 20, 10), (8, 2, 28, 7), (8, 4, 70, 35),
    (10, 2, 45, 9), (10, 3, 120, 36), (10, 5, 252, 126), (10, 8, 45, 36), (12, 2, 66, 11), (12, 6, 924, 462),
    (16, 8, 12870, 6435),
]  # fmt: skip


def runs_of(groups):
    """Contiguous runs (first, last) of a tuple of test groups."""
    cuts = [0, *(i + 1 for i, (a, b) in enumerate(pairwise(groups)) if b != a + 1), len(groups)]
    return [(groups[a], groups[b - 1]) for a, b in pairwise(cuts)]


def expected_split(t0, t1, group, tested, embargo):
    """The definition, row by row: purge and embargo of each contiguous run of test groups as one interval."""
    sessions = sorted(set(t0))
    train = []
    for i in range(len(t0)):
        keep = group[i] not in tested
        for first, last in runs_of(tested):
            rows = [j for j in range(len(t0)) if first <= group[j] <= last]
            start, end = min(t0[j] for j in rows), max(t1[j] for j in rows)
            following = [s for s in sessions if s > end][:embargo]
            if t0[i] <= end and start <= t1[i]:
                keep = False
            if t0[i] in following:
                keep = False
        if keep:
            train.append(i)
    return train, [i for i in range(len(t0)) if group[i] in tested]


@st.composite
def label_intervals(draw):
    """Panels with irregular sessions, gaps, duplicate times, any row order and labels of very different length."""
    gaps = draw(st.lists(st.integers(1, 9), min_size=6, max_size=24))
    sessions = np.cumsum(gaps)
    names = draw(st.lists(st.integers(1, 4), min_size=len(gaps), max_size=len(gaps)))
    t0 = np.repeat(sessions, names)
    # Long labels are rare: where every second one spans whole groups, hardly a split has a row left to train on.
    longest = draw(st.sampled_from([2, 12, 120]))
    horizons = draw(st.lists(st.integers(0, longest), min_size=t0.size, max_size=t0.size))
    horizons = [h if i % 9 == 0 else min(h, 6) for i, h in enumerate(horizons)]
    order = np.array(draw(st.permutations(range(t0.size)))) if draw(st.booleans()) else np.arange(t0.size)
    return t0[order], (t0 + np.array(horizons))[order]


@pytest.mark.parametrize(("n_groups", "n_test_groups", "splits", "paths"), COUNTS)
def test_split_and_path_counts_are_those_of_the_book(n_groups, n_test_groups, splits, paths):
    cv = CombinatorialPurgedCV(n_groups, n_test_groups)
    assert (cv.n_splits, cv.n_paths, cv.get_n_splits()) == (splits, paths, splits)


@pytest.mark.parametrize(
    ("n_groups", "n_test_groups", "times_trained"),
    [
        (3, 2, 1),
        (4, 2, 3),
        (5, 2, 6),
        (6, 2, 10),
        (6, 3, 10),
        (8, 4, 35),
        (10, 2, 36),
        (10, 8, 9),
        (12, 2, 55),
    ],
)
def test_each_group_trains_as_often_as_in_the_book(n_groups, n_test_groups, times_trained):
    cv = CombinatorialPurgedCV(n_groups, n_test_groups)
    t0 = np.arange(n_groups)  # one instantaneous label for each group: nothing is purged
    assert (
        np.bincount(np.concatenate([train for train, _ in cv.split(t0, t0)])).tolist()
        == [times_trained] * n_groups
    )


def test_six_groups_two_tested_give_the_five_paths_of_figure_12_1():
    split_by_group = {
        1: [1, 1, 2, 3, 4, 5],
        2: [2, 6, 6, 7, 8, 9],
        3: [3, 7, 10, 10, 11, 12],
        4: [4, 8, 11, 13, 13, 14],
        5: [5, 9, 12, 14, 15, 15],
    }
    paths = CombinatorialPurgedCV(6, 2).paths()
    assert {
        number: [split + 1 for _, split in path] for number, path in enumerate(paths, 1)
    } == split_by_group
    assert [[group for group, _ in path] for path in paths] == [[0, 1, 2, 3, 4, 5]] * 5


def test_the_splits_of_six_groups_come_in_the_order_of_figure_12_1():
    cv = CombinatorialPurgedCV(6, 2)
    expected = [
        [1, 2], [1, 3], [1, 4], [1, 5], [1, 6], [2, 3], [2, 4], [2, 5], [2, 6], [3, 4], [3, 5], [3, 6], [4, 5],
        [4, 6], [5, 6],
    ]  # fmt: skip
    assert [[g + 1 for g in groups] for groups in cv.test_groups()] == expected
    t0 = np.arange(6)
    assert [(test + 1).tolist() for _, test in cv.split(t0, t0)] == expected


def test_three_groups_two_tested_give_the_literal_splits_of_skfolio():
    t0 = np.arange(12)
    unpurged = [train.tolist() for train, _ in CombinatorialPurgedCV(3, 2).split(t0, t0)]
    assert unpurged == [[8, 9, 10, 11], [4, 5, 6, 7], [0, 1, 2, 3]]
    purged = [train.tolist() for train, _ in CombinatorialPurgedCV(3, 2).split(t0, t0 + 1)]
    assert purged == [[9, 10, 11], [5, 6], [0, 1, 2]]
    embargoed = [train.tolist() for train, _ in CombinatorialPurgedCV(3, 2, embargo=1).split(t0, t0 + 1)]
    assert embargoed == [[10, 11], [6], [0, 1, 2]]


@pytest.mark.parametrize("compiled_from", [0, 2**17], ids=["compiled", "numpy"])
@settings(max_examples=50, deadline=None)
@given(
    intervals=label_intervals(),
    shape=st.sampled_from([(2, 1), (3, 1), (3, 2), (5, 2), (6, 3), (6, 2), (6, 5)]),
    embargo=st.integers(0, 3),
)
def test_each_split_is_the_definition_applied_row_by_row(compiled_from, intervals, shape, embargo):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpcv, "_COMPILED_FROM", compiled_from)
        check_definition(intervals, shape, embargo)


def check_definition(intervals, shape, embargo):
    t0, t1 = intervals
    cv = CombinatorialPurgedCV(*shape, embargo=embargo)
    group = cv.groups(t0)
    wanted = [expected_split(t0.tolist(), t1.tolist(), group, tested, embargo) for tested in cv.test_groups()]
    if not all(train for train, _ in wanted):
        with pytest.raises(ValidationError, match="no row is left to train on"):
            cv.split(t0, t1)
        return
    splits = list(cv.split(t0, t1))
    assert len(splits) == cv.n_splits
    for (wanted_train, wanted_test), (train, test) in zip(wanted, splits, strict=True):
        assert train.tolist() == wanted_train
        assert test.tolist() == wanted_test
        assert train.dtype == test.dtype == np.int64


def trainable(cv, t0, t1):
    """Whether every split has a row to train on, by the definition."""
    group = cv.groups(t0)
    return all(expected_split(t0.tolist(), t1.tolist(), group, tested, 0)[0] for tested in cv.test_groups())


@settings(max_examples=50, deadline=None)
@given(label_intervals(), st.sampled_from([(3, 2), (5, 2), (6, 3)]))
def test_training_intervals_never_meet_a_test_interval_and_each_path_covers_each_row_once(intervals, shape):
    t0, t1 = intervals
    cv = CombinatorialPurgedCV(*shape)
    group = cv.groups(t0)
    tested_times = np.zeros(t0.size, dtype=int)
    tests = []
    assume(trainable(cv, t0, t1))
    for train, test in cv.split(t0, t1):
        tests.append(test)
        tested_times[test] += 1
        meets = (t0[train][:, None] <= t1[test]) & (t0[test] <= t1[train][:, None])
        assert not meets.any()
    assert set(tested_times) == {math.comb(shape[0] - 1, shape[1] - 1)}
    for path in cv.paths():
        rows = np.concatenate([tests[split][group[tests[split]] == g] for g, split in path])
        assert sorted(rows) == list(range(t0.size))


@settings(max_examples=50, deadline=None)
@given(label_intervals(), st.integers(2, 6), st.integers(0, 3))
def test_purged_k_fold_is_the_definition_applied_row_by_row(intervals, n_splits, embargo):
    t0, t1 = intervals
    group = CombinatorialPurgedCV(n_splits, 1).groups(t0)
    wanted = [expected_split(t0.tolist(), t1.tolist(), group, (fold,), embargo) for fold in range(n_splits)]
    if not all(train for train, _ in wanted):
        with pytest.raises(ValidationError, match="no row is left to train on"):
            PurgedKFold(n_splits, embargo).split(t0, t1)
        return
    splits = PurgedKFold(n_splits, embargo).split(t0, t1)
    assert [(train.tolist(), test.tolist()) for train, test in splits] == wanted


@pytest.mark.parametrize(("purge", "embargo"), [(0, 0), (1, 0), (3, 0), (0, 2), (3, 4)])
@pytest.mark.parametrize(("n_groups", "n_test_groups"), [(6, 2), (8, 3), (5, 4)])
def test_skfolio_agrees_where_purging_by_rows_and_by_time_coincide(purge, embargo, n_groups, n_test_groups):
    from skfolio.model_selection import CombinatorialPurgedCV as BySize

    rows = n_groups * 20
    t0 = np.arange(rows)
    theirs = BySize(n_groups, n_test_groups, purged_size=purge, embargo_size=embargo).split(
        np.zeros((rows, 1))
    )
    ours = CombinatorialPurgedCV(n_groups, n_test_groups, embargo=embargo).split(t0, t0 + purge)
    for (train, test), (their_train, their_tests) in zip(ours, theirs, strict=True):
        assert train.tolist() == their_train.tolist()
        assert test.tolist() == np.concatenate(their_tests).tolist()


def test_a_training_label_that_spans_a_whole_test_run_is_purged():
    # hudson-and-thames/mlfinlab#295: rows that envelop the test set stayed in training
    t0, t1 = np.arange(9), np.arange(9)
    t1[1] = 7
    splits = [train.tolist() for train, _ in CombinatorialPurgedCV(3, 1).split(t0, t1)]
    # its own group spans the second one too, so that only the last row trains when it is tested
    assert splits == [[8], [0, 2, 6, 7, 8], [0, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("splitter", "t1", "where"),
    [
        # a label of the first group that spans all later rows
        (CombinatorialPurgedCV(3, 1), [0, 8, 2, 3, 4, 5, 6, 7, 8], "testing groups 0"),
        # labels that reach from the middle to both ends
        (CombinatorialPurgedCV(3, 2), list(range(3, 12)), "testing groups 0, 1"),
        (CombinatorialPurgedCV(3, 1, embargo=6), list(range(9)), "testing groups 0"),
        (PurgedKFold(3, embargo=6), list(range(9)), "testing fold 0"),
        (PurgedKFold(2), [0, 1, 2, 8, 4, 5, 6, 7, 8], "testing fold 0"),
        (PurgedWalkForward(2, test_size=3), [5] * 5 + list(range(5, 9)), "testing window 0"),
        (PurgedWalkForward(2, test_size=3, embargo=3), list(range(9)), "testing window 0"),
    ],
)
def test_a_split_with_nothing_to_train_on_is_refused_before_the_first_one(splitter, t1, where):
    with pytest.raises(ValidationError, match=f"{where}, no row is left to train on.*9 sessions of 9 rows"):
        splitter.split(np.arange(9), np.array(t1))
    with pytest.raises(ValidationError, match="longer history or shorter labels"):
        splitter.bind(np.arange(9), np.array(t1))


def test_a_label_that_ends_when_the_test_begins_is_purged_because_intervals_are_closed():
    t0 = np.arange(8)
    t1 = t0.copy()
    t1[3] = 4
    assert [train.tolist() for train, _ in PurgedKFold(2).split(t0, t1)] == [[5, 6, 7], [0, 1, 2]]


def test_test_runs_that_do_not_touch_are_purged_one_by_one():
    t0 = np.arange(12)
    split = dict(
        zip(
            CombinatorialPurgedCV(4, 2).test_groups(),
            CombinatorialPurgedCV(4, 2).split(t0, t0 + 1),
            strict=True,
        )
    )
    train, test = split[(0, 2)]
    assert test.tolist() == [0, 1, 2, 6, 7, 8]
    assert train.tolist() == [
        4,
        10,
        11,
    ]  # 3 and 9 start where a run's last label ends; 5 ends where one begins


def test_the_embargo_counts_from_the_last_outcome_of_the_run_and_not_from_its_last_session():
    t0 = np.arange(12)
    t1 = t0.copy()
    t1[4] = 8  # the run 3, 4, 5 is known only at 8
    train, _ = list(PurgedKFold(4, embargo=2).split(t0, t1))[1]
    assert train.tolist() == [0, 1, 2, 11]


def test_an_embargo_as_time_span_ignores_how_many_sessions_lie_in_it():
    days = np.array(
        ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-08", "2024-01-09", "2024-01-20"], "M8[D]"
    )
    kept = {}
    for embargo in (1, timedelta(days=1), timedelta(days=6), np.timedelta64(6, "D"), timedelta(hours=143)):
        train, _ = next(PurgedKFold(2, embargo=embargo).split(days, days))
        kept[str(embargo)] = train.tolist()
    assert kept == {
        "1": [4, 5],
        "1 day, 0:00:00": [3, 4, 5],
        "6 days, 0:00:00": [5],
        "6 days": [5],
        "5 days, 23:00:00": [4, 5],
    }


def test_rows_of_one_session_of_a_panel_are_never_separated():
    t0 = np.repeat(np.arange(7), 5)
    group = CombinatorialPurgedCV(3, 1).groups(t0)
    assert group.reshape(7, 5).tolist() == [[g] * 5 for g in (0, 0, 0, 1, 1, 2, 2)]
    assert group.dtype == np.int64


def test_a_panel_sorted_by_name_gets_the_same_groups_as_one_sorted_by_time():
    t0 = np.tile(np.arange(7), 5)
    assert CombinatorialPurgedCV(3, 1).groups(t0).tolist() == [0, 0, 0, 1, 1, 2, 2] * 5


STAMPS = [datetime(2024, 1, day, 21, tzinfo=UTC) for day in range(1, 13)]
ENDS = [stamp + timedelta(days=1) for stamp in STAMPS]
NAIVE = np.array(STAMPS[0].replace(tzinfo=None), "M8[us]") + np.arange(12).astype("m8[D]")
DAYS = NAIVE.astype("M8[D]")
TIME_COLUMNS = {
    "numpy integers": (np.arange(12), np.arange(1, 13)),
    "numpy 32-bit integers": (np.arange(12, dtype=np.int32), np.arange(1, 13, dtype=np.uint8)),
    "numpy floats": (np.arange(12) / 4, np.arange(1, 13, dtype=np.float32) / 4),
    "integers beside floats": (np.arange(12), np.arange(12) + 1.5),
    "numpy nanoseconds": (NAIVE.astype("M8[ns]"), NAIVE.astype("M8[ns]") + np.timedelta64(1, "D")),
    "days beside nanoseconds": (DAYS, DAYS.astype("M8[ns]") + np.timedelta64(1, "D")),
    "lists of zoned datetimes": (STAMPS, ENDS),
    "lists of dates": ([s.date() for s in STAMPS], [e.date() for e in ENDS]),
    "ranges": (range(12), range(1, 13)),
    "pandas zoned series": (pd.Series(STAMPS, index=range(5, 17)), pd.Series(ENDS)),
    "pandas zones that differ": (
        pd.Series(STAMPS).dt.tz_convert("America/New_York"), pd.DatetimeIndex(ENDS).tz_convert("Asia/Tokyo"),
    ),
    "pandas naive index": (pd.DatetimeIndex(NAIVE), pd.DatetimeIndex(NAIVE + np.timedelta64(1, "D"))),
    "pandas integers": (pd.Series(range(12)), pd.Series(range(1, 13), dtype="Int64")),
    "polars zoned": (pl.Series(STAMPS), pl.Series(ENDS).dt.convert_time_zone("America/New_York")),
    "polars units that differ": (pl.Series(STAMPS).dt.cast_time_unit("ms"), pl.Series(ENDS).dt.cast_time_unit("ns")),
    "polars beside pandas": (pl.Series(STAMPS), pd.Series(ENDS)),
    "polars dates": (pl.Series(STAMPS).dt.date(), pl.Series(ENDS).dt.date()),
    "polars integers": (pl.Series(range(12)), pl.Series(range(1, 13), dtype=pl.UInt16)),
}  # fmt: skip


@pytest.mark.parametrize("kind", TIME_COLUMNS)
def test_times_of_every_library_give_the_same_splits(kind):
    t0, t1 = TIME_COLUMNS[kind]
    splits = [(train.tolist(), test.tolist()) for train, test in CombinatorialPurgedCV(3, 2).split(t0, t1)]
    assert splits[0] == ([9, 10, 11], list(range(8)))
    assert [train for train, _ in splits] == [[9, 10, 11], [5, 6], [0, 1, 2]]


BROKEN = {
    "t1 before t0": ([1, 2, 3], [1, 1, 4], "row 1: t0 = 2, t1 = 1"),
    "unequal lengths": ([1, 2, 3], [1, 2], "3 values of t0 and 2 of t1"),
    "no rows": ([], [], "at least one row"),
    "NaN": ([1.0, 2.0, 3.0], [1.0, math.nan, 4.0], "t1 has missing"),
    "infinite": ([1.0, 2.0, 3.0], [1.0, 2.0, math.inf], "the first in row 2"),
    "NaT": (
        np.array(["2024-01-01", "NaT"], "M8[D]"),
        np.array(["2024-01-01"] * 2, "M8[D]"),
        "t0 has missing",
    ),
    "pandas NaT": (pd.Series(STAMPS), pd.Series([*ENDS[:11], pd.NaT]), "t1 has missing"),
    "polars null": (pl.Series(STAMPS), pl.Series([*ENDS[:3], None, *ENDS[4:]]), "the first in row 3"),
    "None in a list": (STAMPS, [*ENDS[:11], None], "t1 has missing"),
    "one zoned": (STAMPS, [e.replace(tzinfo=None) for e in ENDS], "different clocks"),
    "number beside datetime": (STAMPS, range(12), "different clocks"),
    "strings": (["2024-01-01"], ["2024-01-02"], "does not hold times"),
    "mixed objects": (
        [date(2024, 1, 1), "x"],
        [date(2024, 1, 1), date(2024, 1, 2)],
        "cannot be read as times",
    ),
    "booleans": ([False, True], [True, True], "dtype bool"),
    "two dimensions": (np.zeros((3, 1)), np.zeros(3), "shape (3, 1)"),
    "too large": (
        np.array([1, 2**63], dtype=np.uint64),
        np.array([1, 2**63], dtype=np.uint64),
        "64-bit integers",
    ),
    "precision": (np.array([2**60, 2**60 + 1]), np.array([2.0**61, 2.0**61]), "lose precision"),
    "nanosecond overflow": (
        np.array(["2024-01-01"], "M8[ns]"),
        np.array(["9999-12-31"], "M8[us]"),
        "9999-12-31",
    ),
    "too few sessions": ([1, 1, 1, 2], [1, 1, 1, 2], "2 distinct times in 4 rows"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_label_times_that_cannot_be_split_are_refused_at_the_call_with_what_was_found(case):
    t0, t1, message = BROKEN[case]
    with pytest.raises(ValidationError) as refusal:
        CombinatorialPurgedCV(3, 2).split(t0, t1)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 1), "n_groups"),
        ((65, 2), "from 2 to 64"),
        ((6, 0), "n_test_groups"),
        ((6, 6), "leave at least one of the 6 groups"),
        ((6.0, 2), "6.0 (float)"),
        ((6, True), "True (bool)"),
        ((6, 2, -1), "embargo"),
        ((6, 2, 0.01), "0.01 (float)"),
        ((6, 2, True), "True (bool)"),
        ((6, 2, timedelta(days=-1)), "embargo"),
        ((6, 2, np.timedelta64("NaT")), "embargo"),
    ],
)
def test_parameters_without_a_meaning_are_refused_with_a_hint(arguments, message):
    with pytest.raises(ValidationError) as refusal:
        CombinatorialPurgedCV(*arguments)
    assert message in str(refusal.value)
    assert "To do:" in str(refusal.value)


def test_a_time_span_embargo_on_plain_numbers_is_refused():
    with pytest.raises(ValidationError, match="number of sessions"):
        next(CombinatorialPurgedCV(3, 2, timedelta(days=1)).split(range(9), range(9)))


def test_an_embargo_longer_than_any_clock_removes_all_later_rows():
    days = np.arange("2024-01-01", "2024-01-10", dtype="M8[D]")
    with pytest.raises(ValidationError, match="testing fold 0, no row is left"):
        PurgedKFold(3, embargo=timedelta.max).split(days, days)
    spans = read_spans(days, days)
    assert blocked_rows(spans, 3, 6, timedelta.max).stop == 9


def test_sixty_four_groups_use_the_whole_word():
    t0 = np.arange(128)
    train, test = next(CombinatorialPurgedCV(np.int64(64), np.int32(63)).split(t0, t0))
    assert (train.tolist(), test.size) == ([126, 127], 126)


@pytest.mark.parametrize("n_names", [60, 400])  # 24,000 rows and 160,000: by numpy, and compiled
def test_long_panels_split_alike_by_time_by_symbol_and_shuffled(n_names):
    rng = np.random.default_rng(7)
    t0 = np.repeat(np.arange(400), n_names)
    t1 = t0 + 5
    by_symbol = np.arange(t0.size).reshape(400, n_names).T.ravel()
    cv = CombinatorialPurgedCV(5, 2, embargo=3)
    for other in (by_symbol, rng.permutation(t0.size)):
        for (train, test), (other_train, other_test) in zip(
            cv.split(t0, t1), cv.split(t0[other], t1[other]), strict=True
        ):
            assert (train == np.sort(other[other_train])).all()
            assert (test == np.sort(other[other_test])).all()
            assert (np.diff(other_train) > 0).all()


def test_returned_positions_are_the_callers_own_and_may_be_changed():
    t0 = np.arange(40_000)
    cv = CombinatorialPurgedCV(4, 1)
    untouched = [(train.copy(), test.copy()) for train, test in cv.split(t0, t0)]
    for (train, test), (same_train, same_test) in zip(cv.split(t0, t0), untouched, strict=True):
        assert (train == same_train).all()
        assert (test == same_test).all()
        train[:] = -1
        test[:] = -1


def test_sixteen_groups_eight_tested_are_lazy():
    t0 = np.repeat(np.arange(1000), 20)
    splits = CombinatorialPurgedCV(16, 8).split(t0, t0 + 5)
    tracemalloc.start()
    first = list(islice(splits, 20))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(first) == 20
    assert peak < 20 * 20_000 * 8 * 2  # a dense matrix of 12,870 splits would hold 257 million cells


def test_a_bound_splitter_is_a_cross_validation_of_scikit_learn():
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, cross_val_score

    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 3))
    y = X @ [1.0, 0.0, -1.0] + rng.normal(size=60)
    t0 = np.arange(60)
    cv = CombinatorialPurgedCV(6, 2, embargo=1).bind(t0, t0 + 2)
    assert cv.get_n_splits(X, y) == 15
    assert cross_val_score(Ridge(), X, y, cv=cv).shape == (15,)
    assert GridSearchCV(Ridge(), {"alpha": [0.1, 1.0]}, cv=cv).fit(X, y).best_params_["alpha"] in (0.1, 1.0)
    direct = CombinatorialPurgedCV(6, 2, embargo=1).split(t0, t0 + 2)
    for (train, test), (same_train, same_test) in zip(cv.split(X), direct, strict=True):
        assert train.tolist() == same_train.tolist()
        assert test.tolist() == same_test.tolist()


def test_a_bound_splitter_refuses_a_table_of_another_length():
    cv = PurgedKFold(3).bind(range(9), range(9))
    assert cv.get_n_splits() == 3
    assert len(list(cv.split())) == 3
    with pytest.raises(ValidationError, match="9 rows"):
        cv.split(np.zeros((8, 2)))


@pytest.mark.parametrize("arguments", [(1,), (2.5,), (5, -1)])
def test_purged_k_fold_refuses_parameters_without_a_meaning(arguments):
    with pytest.raises(ValidationError):
        PurgedKFold(*arguments)


@pytest.mark.parametrize("module", [cpcv, walk_forward, splitting, sharpe, selection])
def test_the_examples_of_the_documentation_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    "splitter",
    [CombinatorialPurgedCV(6, 2), PurgedKFold(5), PurgedWalkForward(4)],
    ids=lambda s: type(s).__name__,
)
def test_a_splitter_that_was_not_bound_tells_scikit_learn_what_it_needs(splitter: Any) -> None:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import cross_val_score

    rows = np.arange(600, dtype=float)
    with pytest.raises(ValidationError, match=r"pass cv=splitter.bind\(t0, t1\)"):
        cross_val_score(Ridge(), rows[:, None], rows, cv=splitter)
    scores = cross_val_score(
        Ridge(), rows[:, None], rows, cv=splitter.bind(np.arange(600), np.arange(600) + 5)
    )
    assert len(scores) == splitter.get_n_splits()
