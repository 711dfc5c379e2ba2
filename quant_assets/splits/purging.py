"""Purge and embargo over label intervals: which rows must not train while others are tested, for every splitter."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError

# ------------------------------------------------------ label intervals read from any array-like of times and

# A row of a training set is an interval: it was decided at ``t0`` and its outcome was known at ``t1``. Everything
# that purges works on these intervals, never on row counts, so that event labels and panels are treated alike.


IntArray = NDArray[np.int64]
WordArray = NDArray[np.uint64]
TickUnit = Literal["us", "ns"]

_FINER_THAN_MICROSECONDS = frozenset({"ns", "ps", "fs", "as"})
_LARGEST_EXACT_FLOAT = 2**53


@dataclass(frozen=True, eq=False)
class Spans:
    """Closed label intervals [t0, t1] in time order.

    Parameters
    ----------
    t0, t1 : ndarray, shape (n_rows,)
        Decision times (non-decreasing) and outcome times, as int64 or float64 ticks.
    order : ndarray or None
        ``order[i]`` is the caller's row that comes i-th in time; None when the caller's rows are in time order.
    first_rows : ndarray, shape (n_sessions,)
        First row (in time order) of each distinct ``t0``. A distinct decision time is called a session.
    unit : {"us", "ns"} or None
        What a tick is; None when the times are plain numbers.
    """

    t0: NDArray[Any]
    t1: NDArray[Any]
    order: IntArray | None
    first_rows: IntArray
    unit: TickUnit | None

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        return int(self.t0.size)

    @property
    def n_sessions(self) -> int:
        """Distinct decision times."""
        return int(self.first_rows.size)

    @cached_property
    def session_times(self) -> NDArray[Any]:
        """The distinct decision times, ascending."""
        times: NDArray[Any] = self.t0[self.first_rows]
        return times

    @cached_property
    def known_by(self) -> NDArray[Any]:
        """Latest outcome time of the rows up to each row; non-decreasing, so it can be searched."""
        return np.maximum.accumulate(self.t1)

    def row_of_session(self, session: int) -> int:
        """First row of a session, or the number of rows for any session past the last."""
        return int(self.first_rows[session]) if session < self.n_sessions else self.n_rows

    def in_caller_order(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values given per row in time order, rearranged to the caller's row order."""
        if self.order is None:
            return values
        arranged = np.empty_like(values)
        arranged[self.order] = values
        return arranged


def read_spans(t0: Any, t1: Any) -> Spans:
    """Read decision and outcome times and sort them by decision time.

    Parameters
    ----------
    t0, t1 : array-like, shape (n_rows,)
        numpy datetime64, integers or floats; pandas Series or DatetimeIndex; polars Series; lists of numbers,
        dates or datetimes. Time zones are honoured; either both carry one or neither does.

    Returns
    -------
    Spans

    Raises
    ------
    ValidationError
        Missing or non-finite times, unequal lengths, mixed kinds, or a ``t1`` before its ``t0``.
    """
    (starts, starts_zoned), (ends, ends_zoned) = _as_array(t0, "t0"), _as_array(t1, "t1")
    if starts.size != ends.size:
        raise ValidationError(
            "t0 and t1 describe the same rows",
            expected="equal lengths",
            found=f"{starts.size} values of t0 and {ends.size} of t1",
            action="take both columns from the same table",
        )
    if starts.size == 0:
        raise ValidationError(
            "t0 is empty",
            expected="at least one row",
            found="none",
            action="check the filters that were applied before splitting",
        )
    starts, ends, unit = _on_one_clock(starts, ends, starts_zoned, ends_zoned)
    backwards = np.flatnonzero(ends < starts)
    if backwards.size:
        row = int(backwards[0])
        raise ValidationError(
            f"{backwards.size} label(s) end before they begin",
            expected="t1 >= t0 in each row",
            found=f"row {row}: t0 = {_shown(starts[row], unit)}, t1 = {_shown(ends[row], unit)}",
            action="pass the time at which the outcome is known as t1",
        )
    order: IntArray | None = None
    if not bool(np.all(starts[1:] >= starts[:-1])):
        order = np.argsort(starts, kind="stable").astype(np.int64, copy=False)
        starts, ends = starts[order], ends[order]
    changes = np.flatnonzero(starts[1:] != starts[:-1]) + 1
    first_rows = np.concatenate(([0], changes)).astype(np.int64, copy=False)
    return Spans(starts, ends, order, first_rows, unit)


def _as_array(values: Any, name: str) -> tuple[NDArray[Any], bool]:
    """One-dimensional datetime64, int64 or float64 array, and whether its times carry a time zone."""
    if isinstance(values, pl.Series):
        return _from_polars(values, name)
    zone = getattr(getattr(values, "dtype", None), "tz", None)
    if zone is not None:  # pandas: numpy converts zoned times to UTC, and refuses nothing on the way
        array, zoned = np.asarray(values, dtype=f"datetime64[{values.dtype.unit}]"), True
    else:
        array, zoned = np.asarray(values), False
    if array.ndim != 1:
        raise ValidationError(
            f"{name} is not a column of times",
            expected="one dimension",
            found=f"shape {array.shape}",
            action="pass one value for each row",
        )
    if array.dtype == object:
        return _from_polars(_objects_as_series(array.tolist(), name), name)
    return _checked(array, name), zoned


def _objects_as_series(values: Sequence[Any], name: str) -> pl.Series:
    try:
        return pl.Series(name, values)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise ValidationError(
            f"{name} cannot be read as times",
            expected="values of one kind: datetimes, dates or numbers",
            found=f"{type(error).__name__}: {error}",
            action="convert the column to one time type first",
        ) from error


def _from_polars(series: pl.Series, name: str) -> tuple[NDArray[Any], bool]:
    if series.null_count():
        _refuse_missing(name, int(series.is_null().arg_max() or 0), series.null_count())
    if isinstance(series.dtype, pl.Datetime):
        ticks = series.to_physical().to_numpy()
        return ticks.view(f"datetime64[{series.dtype.time_unit}]"), series.dtype.time_zone is not None
    return _checked(series.to_numpy(), name), False


def _checked(array: NDArray[Any], name: str) -> NDArray[Any]:
    kind = array.dtype.kind
    if kind == "M":
        missing = np.isnat(array)
    elif kind == "f":
        array = array.astype(np.float64, copy=False)
        missing = ~np.isfinite(array)
    elif kind in "iu":
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise ValidationError(
                f"{name} is beyond 64-bit integers",
                expected=f"values up to {np.iinfo(np.int64).max}",
                found=f"{int(array.max())}",
                action="pass datetimes, or numbers with a coarser unit",
            )
        return array.astype(np.int64, copy=False)
    else:
        raise ValidationError(
            f"{name} does not hold times",
            expected="datetimes, dates, integers or floats",
            found=f"dtype {array.dtype}",
            action="parse the column to datetimes first",
        )
    if missing.any():
        _refuse_missing(name, int(missing.argmax()), int(missing.sum()))
    return array


def _refuse_missing(name: str, row: int, count: int) -> None:
    raise ValidationError(
        f"{name} has missing or non-finite times",
        expected="a time in each row",
        found=f"{count} missing, the first in row {row}",
        action="drop labels that have not matured before splitting",
    )


def _on_one_clock(
    t0: NDArray[Any], t1: NDArray[Any], t0_zoned: bool, t1_zoned: bool
) -> tuple[NDArray[Any], NDArray[Any], TickUnit | None]:
    """Both arrays as numbers that compare: int64 ticks of one unit, or float64."""
    kinds = {t0.dtype.kind, t1.dtype.kind}
    if kinds == {"M"} and t0_zoned == t1_zoned:
        units = {np.datetime_data(t0.dtype)[0], np.datetime_data(t1.dtype)[0]}
        unit: TickUnit = "ns" if units & _FINER_THAN_MICROSECONDS else "us"
        return _ticks(t0, unit, "t0"), _ticks(t1, unit, "t1"), unit
    if "M" in kinds:
        found = [
            f"{name} {dtype}{' with a time zone' if zoned else ''}"
            for name, dtype, zoned in (("t0", t0.dtype, t0_zoned), ("t1", t1.dtype, t1_zoned))
        ]
        raise ValidationError(
            "t0 and t1 are on different clocks",
            expected="both datetimes with a time zone, both without, or both numbers",
            found=" and ".join(found),
            action="convert both columns to UTC",
        )
    if kinds == {"i"}:
        return t0, t1, None
    for name, array in (("t0", t0), ("t1", t1)):
        if array.dtype.kind == "i" and int(np.abs(array).max()) > _LARGEST_EXACT_FLOAT:
            raise ValidationError(
                f"{name} would lose precision beside floats",
                expected=f"integers up to 2**53 = {_LARGEST_EXACT_FLOAT}",
                found=f"{int(np.abs(array).max())}",
                action="give t0 and t1 the same number type",
            )
    return t0.astype(np.float64, copy=False), t1.astype(np.float64, copy=False), None


def _ticks(array: NDArray[Any], unit: TickUnit, name: str) -> IntArray:
    if array.dtype == np.dtype(f"datetime64[{unit}]"):
        return np.ascontiguousarray(array).view(np.int64)
    converted = array.astype(f"datetime64[{unit}]", copy=False)
    # numpy wraps around silently: the year 9999 in nanoseconds lands in 1816
    wrong = converted.astype(array.dtype, copy=False) != array
    if wrong.any():
        row = int(wrong.argmax())
        raise ValidationError(
            f"{name} does not fit 64-bit {unit} ticks",
            expected="times that both columns' finest unit can hold (nanoseconds: 1678 to 2261)",
            found=f"row {row}: {array[row]}",
            action="use microseconds for both columns, or drop the placeholder date",
        )
    return np.ascontiguousarray(converted).view(np.int64)


def _shown(tick: Any, unit: TickUnit | None) -> str:
    return str(tick) if unit is None else str(np.datetime64(int(tick), unit))


# ------------------------------------------------------------------------------------------ purge and embargo

# Definitions (Lopez de Prado 2018, *Advances in Financial Machine Learning*, ch. 7), intervals closed:
#
# - purge: a row whose [t0, t1] meets [min t0, max t1] of the tested rows;
# - embargo: a row after the tested rows whose t0 lies within the embargo of their max t1.
#
# Both look at one window of consecutive sessions at a time.


Embargo = int | timedelta


@dataclass(frozen=True, slots=True)
class BlockedRows:
    """Rows, in time order, that may not train while rows ``[first, ...)`` are tested.

    ``before`` holds the rows ahead of the window whose label reaches into it. Rows ``[first, stop)`` are the
    window itself, then the rows that its labels or its embargo still cover.
    """

    before: IntArray
    first: int
    stop: int


def blocked_rows(spans: Spans, first: int, stop: int, embargo: Embargo) -> BlockedRows:
    """Rows that may not train while the rows ``[first, stop)`` (whole sessions, in time order) are tested.

    Parameters
    ----------
    spans : Spans
        Label intervals of all rows.
    first, stop : int
        The tested rows, half open, in time order.
    embargo : int or timedelta
        Sessions, or time, after the last outcome of the tested rows.

    Returns
    -------
    BlockedRows
    """
    window_start = spans.t0[first]
    window_end = spans.t1[first:stop].max()
    # Rows ahead of the window start before it, so they meet it iff they end at or after its start. The first
    # candidate is found on the running maximum of t1; with equal horizons all candidates are hits.
    candidate = int(np.searchsorted(spans.known_by[:first], window_start, side="left"))
    before = candidate + np.flatnonzero(spans.t1[candidate:first] >= window_start)
    # No label ends before it begins, so the sessions up to the window's end include the window itself.
    covered = int(np.searchsorted(spans.session_times, window_end, side="right"))
    if isinstance(embargo, timedelta):
        limit = shifted(window_end, embargo, spans)
        covered = int(np.searchsorted(spans.session_times, limit, side="right"))
    else:
        covered += embargo
    return BlockedRows(before.astype(np.int64, copy=False), first, spans.row_of_session(covered))


def shifted(time: Any, offset: timedelta, spans: Spans) -> Any:
    """``time`` moved by ``offset``, in the ticks of ``spans`` and held inside 64 bits."""
    if spans.unit is None:
        raise ValidationError(
            "an embargo or a window was given as a time span",
            expected="t0 and t1 as datetimes, on which a time span has a meaning",
            found=f"times of dtype {spans.t0.dtype}",
            action="give it as a number of sessions, or pass datetimes",
        )
    ticks = offset // timedelta(microseconds=1) * (1000 if spans.unit == "ns" else 1)
    bounds = np.iinfo(np.int64)
    return np.int64(min(max(int(time) + ticks, bounds.min + 1), bounds.max))


def checked_embargo(embargo: Any) -> Embargo:
    """The embargo as a non-negative number of sessions or time span.

    Raises
    ------
    ValidationError
        For anything else.
    """
    if isinstance(embargo, np.timedelta64) and not np.isnat(embargo):
        embargo = embargo.astype("timedelta64[us]").item()
    if isinstance(embargo, timedelta) and embargo >= timedelta(0):
        return embargo
    if isinstance(embargo, int | np.integer) and not isinstance(embargo, bool) and embargo >= 0:
        return int(embargo)
    raise ValidationError(
        "the embargo cannot be read",
        expected="sessions as an integer >= 0, or a timedelta >= 0",
        found=f"{embargo!r} ({type(embargo).__name__})",
        action="use embargo=0 for none, embargo=5 for five sessions, or embargo=timedelta(days=7)",
    )


def checked_count(value: Any, name: str, minimum: int, maximum: int | None, why: str) -> int:
    """``value`` as an integer within bounds.

    Raises
    ------
    ValidationError
        When it is not an integer (a bool is none) or out of bounds; the message gives ``why``.
    """
    is_count = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if is_count and value >= minimum and (maximum is None or value <= maximum):
        return int(value)
    bounds = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    raise ValidationError(
        f"{name} is out of bounds",
        expected=f"an integer {bounds}",
        found=f"{value!r} ({type(value).__name__})",
        action=why,
    )


# -------------------------------------------------------------------------- what every purged splitter offers


Split = tuple[IntArray, IntArray]


class PurgedSplitter(ABC):
    """A cross-validation scheme over label intervals; see the concrete splitters."""

    @abstractmethod
    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of splits; the arguments exist for scikit-learn and are not read."""

    @abstractmethod
    def splits_of(self, spans: Spans) -> Iterator[Split]:
        """Splits of label intervals that were already read; checks them before the first split is asked for."""

    def split(self, t0: Any, t1: Any, **of_scikit_learn: Any) -> Iterator[Split]:
        """Yield ``(train_idx, test_idx)`` for each split, lazily.

        Parameters
        ----------
        t0, t1 : array-like, shape (n_rows,)
            Decision time and time at which the outcome is known, of each row, in any row order. numpy, pandas and
            polars times, with or without time zones, or plain numbers.

        Returns
        -------
        iterator of (ndarray, ndarray)
            Row positions, int64, ascending. Bad input is refused here, not at the first split.

        Raises
        ------
        ValidationError
            Missing times, ``t1`` before ``t0``, unequal lengths, or too few sessions; when scikit-learn calls it as a
            ``cv`` object, with a table in place of times.
        """
        if of_scikit_learn:
            raise ValidationError(
                f"{type(self).__name__} as a scikit-learn cv object",
                expected="the times at which each label starts and is known: rows alone say nothing of overlap",
                found=f"a call with X and y ({', '.join(of_scikit_learn)})",
                action="pass cv=splitter.bind(t0, t1), with t0 and t1 of the rows of X",
            )
        return self.splits_of(read_spans(t0, t1))

    def bind(self, t0: Any, t1: Any) -> "BoundSplitter":
        """Return the same splits as a scikit-learn ``cv`` object for a table with these label times.

        Examples
        --------
        >>> from quant_assets.splits.cpcv import PurgedKFold
        >>> cv = PurgedKFold(n_splits=3).bind(t0=range(9), t1=range(2, 11))
        >>> [(train.tolist(), test.tolist()) for train, test in cv.split(X=[[0.0]] * 9)][1]
        ([0, 8], [3, 4, 5])
        """
        spans = read_spans(t0, t1)
        self.splits_of(spans)
        return BoundSplitter(self, spans)


@dataclass(frozen=True, eq=False)
class BoundSplitter:
    """A purged splitter tied to the label times of one table: usable wherever scikit-learn takes ``cv``."""

    splitter: PurgedSplitter
    spans: Spans

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of splits."""
        return self.splitter.get_n_splits()

    def split(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[Split]:
        """Yield ``(train_idx, test_idx)``; ``y`` and ``groups`` are not read.

        Raises
        ------
        ValidationError
            When ``X`` has another number of rows than the label times.
        """
        if X is not None:
            rows = X.shape[0] if hasattr(X, "shape") else len(X)
            if rows != self.spans.n_rows:
                raise ValidationError(
                    "the table does not belong to this cross-validation",
                    expected=f"{self.spans.n_rows} rows, one for each label time it was bound to",
                    found=f"{rows} rows",
                    action="bind the splitter to t0 and t1 of the rows that are passed as X",
                )
        return self.splitter.splits_of(self.spans)
