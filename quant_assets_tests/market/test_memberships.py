"""Memberships: a row counts only where its instrument was in the group, and was known to be, at its close."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from quant_assets.common.errors import ListingError
from quant_assets.common.listing_settings import QlibFile, SpellFile
from quant_assets.market.memberships import (
    MEMBERSHIPS,
    members_between,
    members_without_bars,
    rows_of_members,
)
from quant_assets.market.sources.spell_files import memberships_of
from quant_assets.market.spells import validated
from quant_assets_tests.market.test_listings import FB, universe

DAYS = [date(2012, 6, 1) + timedelta(days=n) for n in range(5)]  # 1 to 5 June


def memberships(*rows: tuple[str, str, str, str | None, str]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(MEMBERSHIPS.schema, pl.String), orient="row")
    return validated(frame, MEMBERSHIPS, origin="by hand")


def panel(*symbols: str) -> pl.DataFrame:
    """A bar a day, known at its close at 20:00 UTC."""
    closes = [datetime(day.year, day.month, day.day, 20, tzinfo=UTC) for day in DAYS]
    days = pl.DataFrame({"session": DAYS, "known_at": closes})
    return pl.DataFrame({"symbol": symbols}).join(days, how="cross")


def days_of(found: pl.DataFrame, symbol: str = "A") -> list[int]:
    return [day.day for day in found.filter(pl.col("symbol") == symbol)["session"]]


@pytest.mark.parametrize(
    ("known_at", "days"),
    [
        ("2012-05-01", [2, 3, 4]),
        ("2012-06-02T20:00:00Z", [2, 3, 4]),  # at the very close
        ("2012-06-02T20:00:01Z", [3, 4]),
        ("2012-06-03", [4]),  # a day is known once it is over
        ("2012-06-04T21:00:00Z", []),
    ],
)
def test_a_row_is_a_members_once_that_is_known(known_at: str, days: list[int]) -> None:
    told = memberships(
        ("g", "A", "2012-06-02", "2012-06-04", known_at), ("g", "B", "2012-01-02", None, "2012-01-02")
    )
    found = rows_of_members(panel("A", "B"), told, "g")
    assert days_of(found) == days
    assert days_of(found, "B") == [1, 2, 3, 4, 5]
    assert found.select("session", "symbol").rows() == sorted(found.select("session", "symbol").rows())


def test_an_end_that_was_not_known_yet_changes_no_decision_before() -> None:
    told = memberships(
        ("g", "A", "2012-01-02", None, "2012-01-02"),
        ("g", "A", "2012-01-02", "2012-06-01", "2012-06-03T12:00:00Z"),  # told two days late
    )
    assert days_of(rows_of_members(panel("A"), told, "g")) == [1, 2]


def test_an_end_announced_and_taken_back_is_as_it_was_known_at_each_close() -> None:
    told = memberships(
        ("g", "A", "2012-01-02", None, "2012-01-02"),
        ("g", "A", "2012-01-02", "2012-06-02", "2012-06-02T09:00:00Z"),
        ("g", "A", "2012-01-02", None, "2012-06-04T09:00:00Z"),
    )
    assert days_of(rows_of_members(panel("A"), told, "g")) == [1, 2, 4, 5]


def test_a_name_may_come_back_into_a_group() -> None:
    told = memberships(
        ("g", "A", "2012-06-01", "2012-06-02", "2012-05-01"), ("g", "A", "2012-06-04", None, "2012-05-02"),
        ("other", "A", "2012-06-01", None, "2012-05-01"),
    )  # fmt: skip
    assert days_of(rows_of_members(panel("A"), told, "g")) == [1, 2, 4, 5]


def test_with_listings_the_instrument_is_the_member_not_the_symbol() -> None:
    told = memberships(
        ("g", "facebook", "2012-06-03", None, "2012-06-01"),
        ("g", "FB-1997-01-02", "1997-01-02", None, "1997-01-02"),
    )
    found = rows_of_members(panel("FB", "FB:19970102"), told, "g", FB)
    assert days_of(found, "FB") == [3, 4, 5]
    assert days_of(found, "FB:19970102") == [1, 2, 3, 4, 5]


def test_members_that_are_none_of_the_panel_are_refused_with_both_names() -> None:
    told = memberships(("g", "FB", "2012-06-01", None, "2012-05-01"))
    with pytest.raises(
        ListingError, match=r"called as \['FB'\], the panel's instruments as \['FB-1997-01-02'"
    ):
        rows_of_members(panel("FB"), told, "g", FB)
    with pytest.raises(ListingError, match=r"group 'sp500'.*'g'.*choose one"):
        rows_of_members(panel("FB"), told, "sp500")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [("g", "A", "2012-01-02", None, "2012-01-02"), ("g", "A", "2012-06-01", None, "2012-06-01")],
            r"memberships that overlap.*g A: rows 1 \(2012-01-02 to now\) and 2 \(2012-06-01 to now\)",
        ),
        ([("g", "A", "2012-06-01", "2012-05-01", "2012-01-02")], "valid_from on or before valid_to"),
        ([(None, "A", "2012-06-01", None, "2012-01-02")], "text in group"),
        ([("g", "A", "2012-06-01", None, None)], "in known_at; found row 1: nothing"),
    ],
)
def test_what_cannot_be_is_refused(rows: list[Any], message: str) -> None:
    with pytest.raises(ListingError, match=message):
        memberships(*rows)


def test_groups_of_files(tmp_path: Path) -> None:
    csv = tmp_path / "groups.csv"
    csv.write_text("group,instrument_id,valid_from,valid_to,known_at\nsp500,A,2012-06-02,,2012-05-30\n")
    told = memberships_of(SpellFile(kind="csv", path=str(csv)))
    assert days_of(rows_of_members(panel("A"), told, "sp500")) == [2, 3, 4, 5]
    qlib = tmp_path / "csi300.txt"
    qlib.write_text("A\t2012-06-02\t2012-06-03\nA\t2012-06-05\t2099-12-31\n")
    told = memberships_of(QlibFile(kind="qlib", path=str(qlib)))
    assert told["group"].unique().to_list() == ["csi300"]
    # that 3 June is the last day is known once it is over: the decision of its close is a member's
    assert days_of(rows_of_members(panel("A"), told, "csi300")) == [2, 3, 5]


def test_members_of_a_universe_are_those_of_any_of_its_days() -> None:
    told = memberships(
        ("g", "before", "1990-01-02", "1997-01-01", "1990-01-02"),
        ("g", "first_day", "1990-01-02", "1997-01-02", "1990-01-02"),
        ("g", "last_day", "2013-12-31", None, "1990-01-02"),
        ("g", "after", "2014-01-02", None, "1990-01-02"),
    )
    assert members_between(told, "g", universe()).to_list() == ["first_day", "last_day"]
    assert members_without_bars(panel("first_day"), told, "g", universe()) == (["last_day"], 2)
    facebook = memberships(("g", "facebook", "2012-06-01", None, "2012-06-01"))
    assert members_without_bars(panel("FB"), facebook, "g", universe(), FB) == ([], 1)
    assert members_without_bars(panel("FB:19970102"), facebook, "g", universe(), FB) == (["facebook"], 1)
