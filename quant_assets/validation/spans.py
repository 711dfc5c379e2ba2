"""Label intervals read from any array-like of times and put into time order.

A row of a training set is an interval: it was decided at ``t0`` and its outcome was known at ``t1``. Everything
that purges works on these intervals, never on row counts, so that event labels and panels are treated alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError

IntArray = NDArray[np.int64]
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
