"""Sessions of the exchange."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from quant_assets.common.errors import CalendarError
from quant_assets.market.calendar import periods_per_year, session_times, sessions, with_close_times


@pytest.mark.parametrize(("year", "count"), [(2000, 252), (2012, 250), (2018, 251), (2020, 253), (2023, 250)])
def test_a_year_has_as_many_sessions_as_the_exchange_held(year: int, count: int) -> None:
    assert sessions("XNYS", date(year, 1, 1), date(year, 12, 31)).len() == count


@pytest.mark.parametrize("day", [date(2012, 10, 29), date(2012, 10, 30), date(2018, 12, 5), date(2024, 7, 4)])
def test_an_ad_hoc_closure_is_no_session(day: date) -> None:
    assert sessions("XNYS", day, day).len() == 0


def test_a_half_day_closes_at_one_in_new_york() -> None:
    times = session_times("XNYS", date(2024, 7, 2), date(2024, 7, 3))
    assert times["close_at"].to_list() == [
        datetime(2024, 7, 2, 20, 0, tzinfo=UTC),
        datetime(2024, 7, 3, 17, 0, tzinfo=UTC),
    ]
    assert times["open_at"].to_list()[1] == datetime(2024, 7, 3, 13, 30, tzinfo=UTC)
    assert times.schema == {
        "session": pl.Date,
        "open_at": pl.Datetime("us", "UTC"),
        "close_at": pl.Datetime("us", "UTC"),
    }


def test_winter_and_summer_time_move_the_close_in_utc() -> None:
    times = session_times("XNYS", date(2023, 3, 10), date(2023, 3, 13))
    assert [moment.hour for moment in times["close_at"]] == [21, 20]


def test_both_ends_are_included_and_an_alias_is_the_same_calendar() -> None:
    ends = [date(2000, 3, 1), date(2000, 3, 2), date(2000, 3, 3)]
    assert sessions("XNYS", date(2000, 3, 1), date(2000, 3, 3)).to_list() == ends
    assert sessions("NYSE", date(2000, 3, 1), date(2000, 3, 3)).to_list() == ends


def test_periods_per_year_counts_sessions_over_years_of_365_and_a_quarter_days() -> None:
    # 2023: 250 sessions in 365 days.
    assert periods_per_year("XNYS", date(2023, 1, 1), date(2023, 12, 31)) == pytest.approx(250 * 365.25 / 365)
    assert periods_per_year("24/7", date(2020, 1, 1), date(2023, 12, 31)) == 365.25


def test_an_unknown_calendar_names_the_closest() -> None:
    with pytest.raises(CalendarError, match=r"'XNYX'.*did you mean 'XNYS'"):
        sessions("XNYX", date(2023, 1, 1), date(2023, 12, 31))


def test_reversed_dates_are_refused() -> None:
    with pytest.raises(CalendarError, match="start 2023-12-31, end 2023-01-01"):
        sessions("XNYS", date(2023, 12, 31), date(2023, 1, 1))


def test_a_calendar_that_does_not_reach_so_far_says_so() -> None:
    with pytest.raises(CalendarError, match=r"XBOM.*1997"):
        sessions("XBOM", date(1990, 1, 1), date(1990, 12, 31))


def test_a_bar_on_a_closed_day_is_named() -> None:
    bars = pl.DataFrame({"symbol": ["A", "A"], "session": [date(2012, 10, 26), date(2012, 10, 29)]})
    with pytest.raises(CalendarError, match="A 2012-10-29"):
        with_close_times(bars, "XNYS", name="known_at")
