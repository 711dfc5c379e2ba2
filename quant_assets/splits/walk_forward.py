"""Purged walk-forward: train on the past, test on the next stretch of the calendar, move on."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from quant_assets.common.errors import ValidationError
from quant_assets.splits.purging import (
    Embargo,
    IntArray,
    PurgedSplitter,
    Spans,
    Split,
    checked_count,
    checked_embargo,
    shifted,
)

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
