"""Purge and embargo: which rows must not train while a window of rows is tested.

Definitions (Lopez de Prado 2018, *Advances in Financial Machine Learning*, ch. 7), intervals closed:

- purge: a row whose [t0, t1] meets [min t0, max t1] of the tested rows;
- embargo: a row after the tested rows whose t0 lies within the embargo of their max t1.

Both look at one window of consecutive sessions at a time.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from quant_assets.common.errors import ValidationError
from quant_assets.validation.spans import IntArray, Spans

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
