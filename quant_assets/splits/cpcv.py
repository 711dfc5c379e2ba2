"""Purged splits over label intervals: combinatorial, k-fold, and walk-forward."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.splits.purging import (
    BlockedRows,
    BoundSplitter,
    Embargo,
    IntArray,
    PurgedSplitter,
    Spans,
    Split,
    blocked_rows,
    checked_count,
    checked_embargo,
    read_spans,
    shifted,
)

# ---------------------------------------------------------------------- combinatorial purged cross-validation


__all__ = ["BoundSplitter", "CombinatorialPurgedCV", "PurgedKFold", "PurgedWalkForward"]

_MOST_GROUPS = 64  # one bit for each group in a row's word
# Rows from which on a compiled kernel gives the positions: 45 splits of 1.26 million rows by symbol take 78 ms with
# it and 182 ms without.
_COMPILED_FROM = 2**17


@dataclass(frozen=True)
class CombinatorialPurgedCV(PurgedSplitter):
    """Every choice of ``n_test_groups`` out of ``n_groups`` groups of consecutive sessions is tested once.

    Parameters
    ----------
    n_groups : int, default 6
        Groups of consecutive distinct decision times (sessions), sizes as equal as possible; 2 to 64. All rows of
        one session fall into one group, so panels are split by time and never by name.
    n_test_groups : int, default 2
        Groups tested in each split.
    embargo : int or timedelta, default 0
        Sessions, or time, after the last outcome of each contiguous run of test groups in which no row trains.

    Notes
    -----
    There are C(N, k) splits and C(N-1, k-1) paths (AFML ch. 12.3). Training rows whose closed interval [t0, t1]
    meets [min t0, max t1] of a contiguous run of test groups are purged; separate runs are purged separately.

    A training row never has its t0 inside a run, so it meets the run iff it meets one of the run's groups: from
    the left it ends at or after the first group's start, from the right it starts at or before the latest
    outcome of any of them. Which rows a group makes unusable is therefore found once for each group and kept as
    one bit for each row, and a split costs one AND for each row, or for each run of rows with equal bits.

    Examples
    --------
    >>> cv = CombinatorialPurgedCV(n_groups=3, n_test_groups=2)
    >>> cv.n_splits, cv.n_paths
    (3, 2)
    >>> [train.tolist() for train, _ in cv.split(t0=range(12), t1=range(1, 13))]
    [[9, 10, 11], [5, 6], [0, 1, 2]]
    """

    n_groups: int = 6
    n_test_groups: int = 2
    embargo: Embargo = 0

    def __post_init__(self) -> None:
        n_groups = checked_count(
            self.n_groups,
            "n_groups",
            2,
            _MOST_GROUPS,
            "6 to 16 groups are usual: n_groups=10, n_test_groups=2",
        )
        n_test_groups = checked_count(
            self.n_test_groups,
            "n_test_groups",
            1,
            n_groups - 1,
            f"leave at least one of the {n_groups} groups to train on",
        )
        object.__setattr__(self, "n_groups", n_groups)
        object.__setattr__(self, "n_test_groups", n_test_groups)
        object.__setattr__(self, "embargo", checked_embargo(self.embargo))

    @property
    def n_splits(self) -> int:
        """C(N, k): models to fit."""
        return math.comb(self.n_groups, self.n_test_groups)

    @property
    def n_paths(self) -> int:
        """C(N-1, k-1): full-length out-of-sample tracks, equal to k/N times the number of splits."""
        return math.comb(self.n_groups - 1, self.n_test_groups - 1)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of splits; the arguments exist for scikit-learn and are not read."""
        return self.n_splits

    def test_groups(self) -> Iterator[tuple[int, ...]]:
        """Yield the groups tested in each split, 0-based, in the order of the splits (lexicographic)."""
        return combinations(range(self.n_groups), self.n_test_groups)

    def paths(self) -> list[list[tuple[int, int]]]:
        """Which split supplies each group of each path (AFML figures 12.1 and 12.2).

        Returns
        -------
        list of n_paths lists of (group, split)
            0-based, groups in time order. Path p takes, for each group, the p-th split that tests it; so each
            (group, split) pair is used exactly once.
        """
        testing: list[list[int]] = [[] for _ in range(self.n_groups)]
        for split, tested in enumerate(self.test_groups()):
            for group in tested:
                testing[group].append(split)
        return [
            [(group, testing[group][path]) for group in range(self.n_groups)] for path in range(self.n_paths)
        ]

    def groups(self, t0: Any) -> IntArray:
        """Group of each row, 0-based and in time order; rows in the caller's order."""
        spans = read_spans(t0, t0)
        sizes = np.diff(_group_rows(spans, self.n_groups, "n_groups"))
        return spans.in_caller_order(np.repeat(np.arange(self.n_groups, dtype=np.int64), sizes))

    def splits_of(self, spans: Spans) -> Iterator[Split]:
        """Splits of label intervals that were already read."""
        return self._splits(spans, _group_rows(spans, self.n_groups, "n_groups"))

    def _splits(self, spans: Spans, rows: IntArray) -> Iterator[Split]:
        word = np.min_scalar_type(2**self.n_groups - 1)
        tested = np.zeros(spans.n_rows, dtype=word)
        unusable = np.zeros(spans.n_rows, dtype=word)
        for group in range(self.n_groups):
            bit = word.type(1 << group)
            first, stop = int(rows[group]), int(rows[group + 1])
            blocked = blocked_rows(spans, first, stop, self.embargo)
            tested[first:stop] |= bit
            unusable[first : blocked.stop] |= bit
            unusable[blocked.before] |= bit
        test_rows = _RowsByBits(spans.in_caller_order(tested))
        train_rows = _RowsByBits(spans.in_caller_order(unusable))
        splits = [(chosen, word.type(sum(1 << group for group in chosen))) for chosen in self.test_groups()]
        left = train_rows.distinct()
        for chosen, mask in splits:
            if ((left & mask) != 0).all():
                raise _nothing_to_train_on(
                    f"testing groups {', '.join(map(str, chosen))}", spans, self.embargo
                )
        return ((train_rows.without(mask), test_rows.having(mask)) for _, mask in splits)


@dataclass(frozen=True)
class PurgedKFold(PurgedSplitter):
    """``n_splits`` contiguous folds of sessions, each tested once against the purged rest.

    Parameters
    ----------
    n_splits : int, default 5
        Folds of consecutive sessions, sizes as equal as possible.
    embargo : int or timedelta, default 0
        Sessions, or time, after the last outcome of the test fold in which no row trains.

    Examples
    --------
    >>> folds = PurgedKFold(n_splits=3, embargo=1).split(t0=range(9), t1=range(1, 10))
    >>> [(train.tolist(), test.tolist()) for train, test in folds]
    [([5, 6, 7, 8], [0, 1, 2]), ([0, 1, 8], [3, 4, 5]), ([0, 1, 2, 3, 4], [6, 7, 8])]
    """

    n_splits: int = 5
    embargo: Embargo = 0

    def __post_init__(self) -> None:
        n_splits = checked_count(self.n_splits, "n_splits", 2, None, "5 to 10 folds are usual: n_splits=5")
        object.__setattr__(self, "n_splits", n_splits)
        object.__setattr__(self, "embargo", checked_embargo(self.embargo))

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds; the arguments exist for scikit-learn and are not read."""
        return self.n_splits

    def splits_of(self, spans: Spans) -> Iterator[Split]:
        """Splits of label intervals that were already read."""
        rows = _group_rows(spans, self.n_splits, "n_splits").tolist()
        folds = [(blocked_rows(spans, first, stop, self.embargo), stop) for first, stop in pairwise(rows)]
        for fold, (blocked, _) in enumerate(folds):
            if blocked.first - blocked.before.size + spans.n_rows - blocked.stop == 0:
                raise _nothing_to_train_on(f"testing fold {fold}", spans, self.embargo)
        return self._splits(spans, folds)

    def _splits(self, spans: Spans, folds: list[tuple[BlockedRows, int]]) -> Iterator[Split]:
        for blocked, stop in folds:
            first = blocked.first
            usable = np.ones(spans.n_rows, dtype=np.bool_)
            usable[first : blocked.stop] = False
            usable[blocked.before] = False
            tested = np.zeros(spans.n_rows, dtype=np.bool_)
            tested[first:stop] = True
            yield (
                np.flatnonzero(spans.in_caller_order(usable)).astype(np.int64, copy=False),
                np.flatnonzero(spans.in_caller_order(tested)).astype(np.int64, copy=False),
            )


def _group_rows(spans: Spans, n_groups: int, parameter: str) -> IntArray:
    """First row (in time order) of each group of sessions, and the number of rows at the end."""
    if spans.n_sessions < n_groups:
        raise ValidationError(
            "there are fewer sessions than groups",
            expected=f"at least {n_groups} distinct times in t0 ({parameter}={n_groups})",
            found=f"{spans.n_sessions} distinct times in {spans.n_rows} rows",
            action=f"lower {parameter}, or pass a longer history",
        )
    size, longer = divmod(spans.n_sessions, n_groups)
    first_sessions = [group * size + min(group, longer) for group in range(n_groups)]
    return np.append(spans.first_rows[first_sessions], spans.n_rows)


def _nothing_to_train_on(where: str, spans: Spans, embargo: Embargo) -> ValidationError:
    return ValidationError(
        f"{where}, no row is left to train on",
        expected="training rows in each split, outside the labels of the tested rows and the embargo after them",
        found=f"{spans.n_sessions} sessions of {spans.n_rows} rows, all of them tested, purged or under embargo "
        f"(embargo={embargo!r})",
        action="pass a longer history or shorter labels, test fewer groups at a time, or lower the embargo",
    )


class _RowsByBits:
    """Positions of rows by the bits of their words."""

    def __init__(self, words: NDArray[Any]) -> None:
        self.words = words
        self.compiled = words.size >= _COMPILED_FROM
        if self.compiled:
            changes = np.flatnonzero(words[1:] != words[:-1]) + 1
            self.edges = np.concatenate(([0], changes, [words.size])).astype(np.int64, copy=False)
            self.words = words[self.edges[:-1]].astype(np.uint64)

    def distinct(self) -> NDArray[Any]:
        """Every word that a row has, at least once."""
        return np.unique(self.words)

    def having(self, mask: Any) -> IntArray:
        """Rows with at least one bit of ``mask``."""
        return self._where(mask, having=True)

    def without(self, mask: Any) -> IntArray:
        """Rows with no bit of ``mask``."""
        return self._where(mask, having=False)

    def _where(self, mask: Any, *, having: bool) -> IntArray:
        if self.compiled:
            from quant_assets.splits.run_positions import positions_of

            return positions_of(self.edges, self.words, np.uint64(mask), having)
        return np.flatnonzero(((self.words & mask) != 0) == having).astype(np.int64, copy=False)


# ---------------------------------------------------------------------------------------- purged walk-forward


CalendarPeriod = Literal["month", "quarter", "year"]
_MONTHS: dict[str, int] = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True)
class PurgedWalkForward(PurgedSplitter):
    """Consecutive test windows that end with the last session; each is tested after training on its past.

    Parameters
    ----------
    n_splits : int, default 5
        Test windows.
    test_size : int, timedelta, {"month", "quarter", "year"} or None, default None
        Length of a test window: sessions, time, or calendar periods (UTC; the last one may be incomplete).
        None divides the sessions into ``n_splits + 1`` stretches of which the first only trains.
    train_size : int, timedelta or None, default None
        Rolling training window: sessions, or time, before the test window. None: expanding, all of the past.
    embargo : int or timedelta, default 0
        Sessions, or time, which must lie between the last outcome in training and the start of the test window.

    Notes
    -----
    Purge: a training row is dropped iff its t1 is at or after the first t0 of the test window (closed intervals);
    the embargo moves that limit further back.

    Examples
    --------
    >>> folds = PurgedWalkForward(n_splits=2, test_size=3).split(t0=range(10), t1=range(1, 11))
    >>> [(train.tolist(), test.tolist()) for train, test in folds]
    [([0, 1, 2], [4, 5, 6]), ([0, 1, 2, 3, 4, 5], [7, 8, 9])]
    """

    n_splits: int = 5
    test_size: int | timedelta | CalendarPeriod | None = None
    train_size: int | timedelta | None = None
    embargo: Embargo = 0

    def __post_init__(self) -> None:
        n_splits = checked_count(
            self.n_splits, "n_splits", 1, None, "give the number of test windows: n_splits=5"
        )
        object.__setattr__(self, "n_splits", n_splits)
        if not (self.test_size is None or (isinstance(self.test_size, str) and self.test_size in _MONTHS)):
            examples = "21 for sessions, timedelta(days=30), or 'month', 'quarter', 'year'"
            object.__setattr__(self, "test_size", _checked_length(self.test_size, "test_size", examples))
        if self.train_size is not None:
            examples = "504 for sessions or timedelta(days=730); None expands"
            object.__setattr__(self, "train_size", _checked_length(self.train_size, "train_size", examples))
        object.__setattr__(self, "embargo", checked_embargo(self.embargo))

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of test windows; the arguments exist for scikit-learn and are not read."""
        return self.n_splits

    def splits_of(self, spans: Spans) -> Iterator[Split]:
        """Splits of label intervals that were already read."""
        starts = self._window_starts(spans)
        needed = self.train_size if isinstance(self.train_size, int) else 1
        if len(starts) <= self.n_splits or starts[0] < needed or min(np.diff(starts)) < 1:
            raise ValidationError(
                "the history is too short for this walk",
                expected=f"{self.n_splits} test windows with at least one session each, after at least "
                f"{needed} session(s) of training",
                found=f"{spans.n_sessions} sessions, windows starting at sessions {starts[:-1]}",
                action="lower n_splits, test_size or train_size, or pass a longer history",
            )
        for window, start in enumerate(starts[:-1]):
            first, oldest = spans.row_of_session(start), self._first_training_row(spans, start)
            if not (spans.t1[oldest:first] < self._limit(spans, start)).any():
                raise _nothing_to_train_on(f"testing window {window}", spans, self.embargo)
        return self._splits(spans, starts)

    def _splits(self, spans: Spans, starts: list[int]) -> Iterator[Split]:
        for start, stop in pairwise(starts):
            first, last = spans.row_of_session(start), spans.row_of_session(stop)
            oldest = self._first_training_row(spans, start)
            usable = np.zeros(spans.n_rows, dtype=np.bool_)
            usable[oldest:first] = spans.t1[oldest:first] < self._limit(spans, start)
            tested = np.zeros(spans.n_rows, dtype=np.bool_)
            tested[first:last] = True
            yield (
                np.flatnonzero(spans.in_caller_order(usable)).astype(np.int64, copy=False),
                np.flatnonzero(spans.in_caller_order(tested)).astype(np.int64, copy=False),
            )

    def _window_starts(self, spans: Spans) -> list[int]:
        """First session of each test window, and the number of sessions at the end."""
        total, times = spans.n_sessions, spans.session_times
        if self.test_size is None:
            size, longer = divmod(total, self.n_splits + 1)
            return [part * size + min(part, longer) for part in range(1, self.n_splits + 1)] + [total]
        if isinstance(self.test_size, str):
            changes = np.flatnonzero(np.diff(_calendar_periods(spans, self.test_size))) + 1
            starts = np.concatenate(([0], changes))
            return [*starts[-self.n_splits :].tolist(), total]
        if isinstance(self.test_size, timedelta):
            cuts = [shifted(times[-1], -part * self.test_size, spans) for part in range(self.n_splits, 0, -1)]
            return [int(np.searchsorted(times, cut, side="right")) for cut in cuts] + [total]
        return [total - part * self.test_size for part in range(self.n_splits, -1, -1)]

    def _first_training_row(self, spans: Spans, start: int) -> int:
        if self.train_size is None:
            return 0
        if isinstance(self.train_size, timedelta):
            oldest = shifted(spans.session_times[start], -self.train_size, spans)
            return spans.row_of_session(int(np.searchsorted(spans.session_times, oldest, side="left")))
        return spans.row_of_session(start - self.train_size)

    def _limit(self, spans: Spans, start: int) -> Any:
        """Time before which the outcome of a training row must be known."""
        if isinstance(self.embargo, timedelta):
            return shifted(spans.session_times[start], -self.embargo, spans)
        return spans.session_times[max(start - self.embargo, 0)]


def _calendar_periods(spans: Spans, period: str) -> IntArray:
    shifted(spans.session_times[0], timedelta(0), spans)  # refuses plain numbers: they have no calendar
    months = spans.session_times.view(f"datetime64[{spans.unit}]").astype("datetime64[M]").astype(np.int64)
    return months // _MONTHS[period]


def _checked_length(value: Any, name: str, examples: str) -> int | timedelta:
    if isinstance(value, timedelta):
        if value > timedelta(0):
            return value
        raise ValidationError(
            f"{name} is out of bounds",
            expected="a positive timedelta",
            found=repr(value),
            action=f"use for example {examples}",
        )
    return checked_count(value, name, 1, None, f"use for example {examples}")
