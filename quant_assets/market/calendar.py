"""Exchange sessions: which days trade, when they open and close (UTC), how many there are in a year."""

import re
from collections.abc import Iterable
from datetime import date
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import CalendarError, closest

DAYS_PER_YEAR = 365.25

SESSION_TIMES_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "session": pl.Date,
    "open_at": pl.Datetime("us", "UTC"),
    "close_at": pl.Datetime("us", "UTC"),
}


def session_times(calendar: str, start: date, end: date) -> pl.DataFrame:
    """Opening and closing time of every session from ``start`` to ``end``, both included.

    Parameters
    ----------
    calendar : str
        A name that `exchange_calendars` knows, such as ``XNYS``, or one of its aliases (``NYSE``); with days added to
        and taken from it as a universe with `extra_sessions` has it: ``XBOM+2020-11-14~2021-05-13``.
    start, end : datetime.date
        First and last calendar day.

    Returns
    -------
    polars.DataFrame
        ``session`` Date, ``open_at`` and ``close_at`` Datetime[us, UTC], in order. Half days and ad-hoc
        closures are those of the exchange.

    Raises
    ------
    CalendarError
        When the calendar is unknown, the dates are reversed, or the calendar does not reach so far.
    """
    if end < start:
        raise CalendarError(
            f"sessions of {calendar}",
            expected="start on or before end",
            found=f"start {start}, end {end}",
            action="swap the dates",
        )
    return _schedule(calendar, start.year, end.year).filter(pl.col("session").is_between(start, end))


def sessions(calendar: str, start: date, end: date) -> pl.Series:
    """Every session from ``start`` to ``end``, both included, as a Date series in order.

    Raises
    ------
    CalendarError
        As `session_times`.
    """
    return session_times(calendar, start, end)["session"]


def session_shares(days: pl.Series, calendar: str) -> pl.DataFrame:
    """Every session from the first to the last of these days, and how long it was as a share of the usual one.

    Parameters
    ----------
    days : polars.Series
        Dates in any order, one at least.

    Returns
    -------
    polars.DataFrame
        ``session`` and ``share``: 1.0 on a usual day, about 0.54 where XNYS closes at 13:00.

    Raises
    ------
    CalendarError
        As `session_times`.
    """
    first, last = _first_and_last(days)
    length = (pl.col("close_at") - pl.col("open_at")).dt.total_seconds()
    return session_times(calendar, first, last).select("session", share=length / length.median())


def periods_per_year(calendar: str, start: date, end: date) -> float:
    """Sessions per year of 365.25 days between ``start`` and ``end`` (both included): about 252 for XNYS.

    Raises
    ------
    CalendarError
        As `session_times`.
    """
    years = ((end - start).days + 1) / DAYS_PER_YEAR
    return sessions(calendar, start, end).len() / years


def with_close_times(bars: pl.DataFrame, calendar: str, *, name: str) -> pl.DataFrame:
    """Append the closing time of each row's session as column ``name``: the moment a bar becomes known.

    Raises
    ------
    CalendarError
        When a row's session is not a session of the calendar.
    """
    if bars.is_empty():
        return bars.with_columns(pl.lit(None, dtype=pl.Datetime("us", "UTC")).alias(name))
    first, last = _first_and_last(bars["session"])
    times = session_times(calendar, first, last).select("session", pl.col("close_at").alias(name))
    timed = bars.join(times, on="session", how="left", maintain_order="left")
    strangers = timed.filter(pl.col(name).is_null())
    if strangers.height:
        shown = ", ".join(f"{s} {d}" for s, d in strangers.select("symbol", "session").head(5).iter_rows())
        raise CalendarError(
            f"{strangers.height} bars of {strangers['symbol'].n_unique()} symbols",
            expected=f"sessions of {calendar}",
            found=f"bars on days when the exchange was closed: {shown}",
            action="remove those rows from the source, or set the universe's `calendar:` to its exchange",
        )
    return timed


def _first_and_last(series: pl.Series) -> tuple[date, date]:
    first, last = series.min(), series.max()
    if not isinstance(first, date) or not isinstance(last, date):
        raise CalendarError(
            "bars", expected="a session in every row", found="only nulls", action="validate the bars first"
        )
    return first, last


# Names that people have for an exchange, beside the aliases of exchange_calendars.
EXCHANGES = {
    "NSE": "XBOM", "XNSE": "XBOM", "EURONEXT": "XPAR", "XETRA": "XETR", "TSE": "XTKS", "TYO": "XTKS", "AMEX": "XNYS",
    "ARCA": "XNYS", "B3": "BVMF", "CRYPTO": "24/7", "FX": "24/5", "FOREX": "24/5", "SIX SWISS": "XSWX",
}  # fmt: skip


def canonical_calendar(name: str) -> str:
    """The calendar of a name, an alias, a MIC or an exchange as people call it: ``nasdaq`` is XNYS.

    Raises
    ------
    CalendarError
        When there is none; names the closest.
    """
    import exchange_calendars

    asked = EXCHANGES.get(name.strip().upper(), name.strip())
    known = exchange_calendars.get_calendar_names(include_aliases=True)
    for candidate in (asked, asked.upper()):
        if candidate in known:
            return str(exchange_calendars.resolve_alias(candidate))
    raise _unknown(name, [*known, *EXCHANGES])


@lru_cache(maxsize=128)
def zone_of(calendar: str) -> str:
    """The time zone of an exchange, by a name as `session_times` takes it.

    Raises
    ------
    CalendarError
        When the calendar is unknown.
    """
    import exchange_calendars

    return str(exchange_calendars.get_calendar(canonical_calendar(_CHANGE.sub("", calendar))).tz)


_CHANGE = re.compile(r"([+~])(\d{4}-\d{2}-\d{2})")


@lru_cache(maxsize=16)
def _schedule(calendar: str, first_year: int, last_year: int) -> pl.DataFrame:
    name = _CHANGE.sub("", calendar)
    changes = _CHANGE.findall(calendar)
    if not changes:
        return _known_schedule(calendar, first_year, last_year)
    added, closed = (
        {
            day
            for sign, text in changes
            if sign == kind and first_year <= (day := date.fromisoformat(text)).year <= last_year
        }
        for kind in "+~"
    )
    known = _known_schedule(name, first_year, last_year)
    twice, absent = sorted(added & set(known["session"])), sorted(closed - set(known["session"]))
    if twice or absent:
        day, what = (twice[0], "a session already") if twice else (absent[0], "no session")
        raise CalendarError(
            f"{'extra_sessions' if twice else 'closures'} of {name}",
            expected=f"days on which {name} is {'closed' if twice else 'open'}",
            found=f"{day}, {what}",
            action="remove the day from the universe's file",
        )
    open_ = known.filter(~pl.col("session").is_in(sorted(closed)))
    return pl.concat([open_, *(_usual_hours(known, day, name) for day in sorted(added))]).sort("session")


# Sessions around an extra one whose hours it takes: two weeks to either side at most.
_NEAR = 21


def _usual_hours(known: pl.DataFrame, day: date, name: str) -> pl.DataFrame:
    """An extra session with the hours of most sessions around it, by the clock of the exchange."""
    zone = zone_of(name)
    hours = (
        known.with_columns(apart=(pl.col("session") - day).abs())
        .sort("apart", "session")
        .head(_NEAR)
        .select(
            opens=pl.col("open_at").dt.convert_time_zone(zone).dt.replace_time_zone(None)
            - pl.col("session").cast(pl.Datetime("us")),
            closes=pl.col("close_at").dt.convert_time_zone(zone).dt.replace_time_zone(None)
            - pl.col("session").cast(pl.Datetime("us")),
        )
        .group_by("opens", "closes")
        .len()
        .sort("len", "closes", descending=True)
    )
    opens, closes, _ = hours.row(0)
    local = pl.DataFrame({"session": [day]}).with_columns(start=pl.col("session").cast(pl.Datetime("us")))
    return local.select(
        "session",
        open_at=(pl.col("start") + opens).dt.replace_time_zone(zone).dt.convert_time_zone("UTC"),
        close_at=(pl.col("start") + closes).dt.replace_time_zone(zone).dt.convert_time_zone("UTC"),
    )


def _known_schedule(calendar: str, first_year: int, last_year: int) -> pl.DataFrame:
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    # Whole years, stated: the library's default is the last 20 years only, and 2000 would not exist.
    start, end = f"{first_year}-01-01", f"{last_year}-12-31"
    try:
        exchange = exchange_calendars.get_calendar(calendar, start=start, end=end)
    except InvalidCalendarName as error:
        raise _unknown(calendar, exchange_calendars.get_calendar_names(include_aliases=True)) from error
    except ValueError as error:  # some calendars record holidays for a bounded span only
        raise CalendarError(
            f"calendar {calendar}",
            expected=f"holidays recorded from {start} to {end}",
            found=str(error).rstrip("."),
            action="choose dates within that span",
        ) from error
    schedule = exchange.schedule
    return pl.DataFrame(
        {
            "session": pl.Series(schedule.index.to_numpy()).cast(pl.Date),
            "open_at": _utc(schedule["open"].dt.tz_convert(None).to_numpy()),
            "close_at": _utc(schedule["close"].dt.tz_convert(None).to_numpy()),
        },
        schema=SESSION_TIMES_SCHEMA,
    )


def _utc(instants: NDArray[np.datetime64]) -> pl.Series:
    return pl.Series(instants).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _unknown(calendar: str, names: Iterable[str]) -> CalendarError:
    known = sorted(names)
    hint = closest(calendar.upper(), known, cutoff=0.0)
    return CalendarError(
        f"calendar {calendar!r}",
        expected="a calendar of exchange_calendars, such as XNYS, XLON, XETR, XTKS",
        found="no calendar of that name",
        action=f"{hint} Set `calendar:` in the universe YAML" if hint else "set `calendar:`",
    )
