"""Sessions of the exchange."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from quant_assets.common.errors import CalendarError
from quant_assets.common.settings import UniverseConfig
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


def test_an_extra_session_has_the_usual_hours_of_the_exchange_by_its_own_clock() -> None:
    saturday = date(2024, 3, 9)  # the day before the clocks of New York go forward
    summer = date(2024, 7, 6)
    times = session_times(f"XNYS+{saturday}+{summer}", saturday, saturday)
    assert times.row(0)[1:] == (
        datetime(2024, 3, 9, 14, 30, tzinfo=UTC),
        datetime(2024, 3, 9, 21, 0, tzinfo=UTC),
    )
    # Two days after one on which it closed at one o'clock.
    assert session_times(f"XNYS+{saturday}+{summer}", summer, summer)["close_at"].to_list() == [
        datetime(2024, 7, 6, 20, 0, tzinfo=UTC)
    ]


def test_extra_sessions_and_closures_change_those_days_and_no_other() -> None:
    usual = sessions("XNYS", date(2023, 1, 1), date(2024, 12, 31)).to_list()
    changed = sessions("XNYS+2024-01-06~2024-01-04", date(2023, 1, 1), date(2024, 12, 31)).to_list()
    assert set(changed) - set(usual) == {date(2024, 1, 6)}
    assert set(usual) - set(changed) == {date(2024, 1, 4)}
    assert changed == sorted(changed)


@pytest.mark.parametrize(
    ("calendar", "said"),
    [
        ("XNYS+2024-01-04", "extra_sessions of XNYS.*2024-01-04, a session already"),
        ("XNYS~2024-01-06", "closures of XNYS.*2024-01-06, no session"),
    ],
)
def test_a_day_that_changes_nothing_is_refused(calendar: str, said: str) -> None:
    with pytest.raises(CalendarError, match=said):
        sessions(calendar, date(2024, 1, 1), date(2024, 12, 31))


def test_a_universe_hands_its_extra_sessions_on_with_its_calendar() -> None:
    source = {"kind": "synthetic", "seed": 1, "n_symbols": 2}
    said = {"name": "uni", "source": source, "calendar": "XBOM", "start": "2020-01-01", "end": "2020-12-31"}
    universe = UniverseConfig.model_validate(
        {**said, "extra_sessions": ["2020-11-14", "2020-02-01"], "closures": ["2020-05-14"]}
    )
    assert universe.calendar == "XBOM+2020-02-01+2020-11-14~2020-05-14"
    assert UniverseConfig.model_validate(universe.model_dump()) == universe
    assert UniverseConfig.model_validate(said).calendar == "XBOM"
    for wrong in (
        {"calendar": "XBOM+2020-11-14"},
        {"extra_sessions": ["2020-05-14"], "closures": ["2020-05-14"]},
    ):
        with pytest.raises(ValueError, match="extra_sessions"):
            UniverseConfig.model_validate({**said, **wrong})


@pytest.mark.parametrize(
    ("calendar", "first", "last", "expected"),
    [
        ("24/7", date(2023, 12, 23), date(2023, 12, 26), [23, 24, 25, 26]),  # a weekend and Christmas
        ("24/5", date(2023, 12, 21), date(2023, 12, 27), [21, 22, 25, 26, 27]),  # no weekend, Christmas on
        ("CMES", date(2023, 11, 22), date(2023, 11, 27), [22, 23, 24, 27]),  # Thanksgiving is a short session
        ("XLON", date(2024, 3, 27), date(2024, 4, 3), [27, 28, 2, 3]),  # Good Friday and Easter Monday
        ("XTKS", date(2024, 4, 26), date(2024, 5, 7), [26, 30, 1, 2, 7]),  # Golden Week
        ("XBOM", date(2024, 1, 24), date(2024, 1, 29), [24, 25, 29]),  # Republic Day on Friday 26
        ("XBOM", date(2024, 1, 19), date(2024, 1, 23), [19, 20, 23]),  # a Saturday, and a Monday off
    ],
)
def test_a_week_with_a_holiday_has_the_sessions_of_its_market(
    calendar: str, first: date, last: date, expected: list[int]
) -> None:
    assert [day.day for day in sessions(calendar, first, last)] == expected


@pytest.mark.parametrize(
    ("calendar", "day", "opens", "closes"),
    [
        ("24/7", date(2023, 12, 25), (25, 0, 0), (26, 0, 0)),
        ("CMES", date(2023, 11, 22), (21, 23, 0), (22, 23, 0)),  # 17:00 in Chicago, the evening before
        ("CMES", date(2023, 11, 23), (22, 23, 0), (23, 18, 0)),  # until noon in Chicago
        ("XLON", date(2024, 3, 28), (28, 8, 0), (28, 16, 30)),
        ("XTKS", date(2024, 5, 2), (2, 0, 0), (2, 6, 0)),
        ("XBOM", date(2024, 1, 25), (25, 3, 45), (25, 10, 0)),
    ],
)
def test_a_session_opens_and_closes_when_its_market_does(
    calendar: str, day: date, opens: tuple[int, int, int], closes: tuple[int, int, int]
) -> None:
    ((_, opened, closed),) = session_times(calendar, day, day).rows()
    assert [(at.day, at.hour, at.minute) for at in (opened, closed)] == [opens, closes]


@pytest.mark.parametrize(
    ("calendar", "count"),
    # 2010 to 2023, 5,113 days: by hand 5 days a week for 24/5, the exchanges' own lists for the others.
    [("24/7", 5113), ("24/5", 3651), ("CMES", 3610), ("XLON", 3534), ("XTKS", 3426), ("XBOM", 3452)],
)
def test_a_year_has_as_many_periods_as_its_market_has_sessions(calendar: str, count: int) -> None:
    span = (calendar, date(2010, 1, 1), date(2023, 12, 31))
    assert sessions(*span).len() == count
    assert periods_per_year(*span) == pytest.approx(count * 365.25 / 5113)


@pytest.mark.parametrize(
    ("calendar", "together"),
    [("24/7", 1.0), ("24/5", 0.8), ("CMES", 0.77), ("XLON", 0), ("XTKS", 0), ("XBOM", 0)],
)
def test_a_session_never_opens_before_the_last_one_closed(calendar: str, together: float) -> None:
    times = session_times(calendar, date(2005, 1, 1), date(2023, 12, 31))
    pause = (times["open_at"].shift(-1) - times["close_at"]).drop_nulls().dt.total_seconds()
    assert pause.min() == 0 if together else pause.min() > 0
    assert (pause == 0).mean() == pytest.approx(together, abs=0.005)  # close and next open are one instant
