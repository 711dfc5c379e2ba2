"""Listings: what a file must say, which instrument a bar is of, and how names ended, as known at a time."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.configuration import parse
from quant_assets.common.errors import ConfigurationError, ListingError, SourceError
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.actions import ACTIONS_SCHEMA
from quant_assets.market.listings import (
    LISTINGS,
    by_instrument,
    inside,
    instruments,
    require_listings,
    survivorship,
    with_ends,
)
from quant_assets.market.rules import quarantine
from quant_assets.market.sources.spell_files import listings_of
from quant_assets.market.spells import as_known, validated

COLUMNS = list(LISTINGS.schema)
ALWAYS = datetime(2000, 1, 1, tzinfo=UTC)


def spell(symbol: str, first: str, last: str | None = None, **fields: Any) -> dict[str, Any]:
    told = {
        "instrument_id": f"{symbol}-{first}",
        "symbol": symbol,
        "exchange": "XNYS",
        "valid_from": first,
        "valid_to": last,
        "end_kind": None if last is None else "other",
        "delisting_return": None,
        "known_at": last or first,
        "source": "by hand",
    }
    return told | fields


def listings(*rows: dict[str, Any]) -> pl.DataFrame:
    frame = pl.DataFrame(rows, schema_overrides={"delisting_return": pl.Float64}, infer_schema_length=None)
    return require_listings(validated(frame.select(COLUMNS), LISTINGS, origin="by hand"), "by hand")


def universe(**fields: Any) -> UniverseConfig:
    content = {
        "name": "test",
        "source": {"kind": "parquet", "path": "bars.parquet"},
        "start": "1997-01-02",
        "end": "2013-12-31",
    }
    return parse(UniverseConfig, content | fields, Path("test.yaml"))


def bars(symbol: str, *days: str, close: float = 10.0) -> pl.DataFrame:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    frame = pl.DataFrame({"symbol": symbol, "session": [date.fromisoformat(day) for day in days], **prices})
    return frame.with_columns(volume=pl.lit(1e6), adj_close=pl.col("close"))


# FB was another company until 2003, and nobody until the social network of 2012.
FB = listings(
    spell("FB", "1997-01-02", "2003-04-01", end_kind="merger_cash", delisting_return=0.02),
    spell("FB", "2012-05-18", instrument_id="facebook"),
)


def test_a_symbol_used_twice_is_two_instruments() -> None:
    found = by_instrument(bars("FB", "2003-04-01", "2012-05-18", "2012-05-21"), FB)
    assert found.select("symbol", "session").rows() == [
        ("FB", date(2012, 5, 18)),
        ("FB", date(2012, 5, 21)),
        ("FB:19970102", date(2003, 4, 1)),
    ]


def test_three_companies_of_one_symbol_are_three_and_the_last_keeps_it() -> None:
    three = listings(
        spell("V", "1990-01-02", "1995-06-30"),
        spell("V", "1999-03-01", "2004-02-27"),
        spell("V", "2008-03-19"),
    )
    assert instruments(three)["name"].to_list() == ["V", "V:19900102", "V:19990301"]


def test_a_company_that_changed_its_symbol_has_the_last_one_throughout() -> None:
    meta = listings(
        spell("META", "2021-06-30", "2022-01-28"),  # a fund
        spell("FB", "2012-05-18", "2022-06-08", instrument_id="facebook", end_kind="moved"),
        spell("META", "2022-06-09", instrument_id="facebook"),
    )
    days = bars("FB", "2021-08-02"), bars("META", "2013-05-01", "2021-08-02", "2022-06-09")
    assert by_instrument(pl.concat(days), meta).select("symbol", "session").rows() == [
        # a source may have the history under today's symbol; where the fund had it, the bar is the fund's
        ("META", date(2013, 5, 1)),
        ("META", date(2021, 8, 2)),
        ("META", date(2022, 6, 9)),
        ("META:20210630", date(2021, 8, 2)),
    ]


def test_a_move_to_another_exchange_is_no_end_and_no_new_instrument() -> None:
    moved = listings(
        spell("ABC", "2000-01-03", "2005-06-30", instrument_id="abc", end_kind="moved"),
        spell("ABC", "2005-07-01", instrument_id="abc", exchange="XNAS"),
    )
    (only,) = instruments(moved).rows(named=True)
    assert (only["name"], only["listed_until"], only["end_kind"]) == ("ABC", None, None)
    named = by_instrument(bars("ABC", "2005-06-30", "2005-07-01"), moved)
    assert named["symbol"].to_list() == ["ABC", "ABC"]
    gone_on = listings(spell("ABC", "2000-01-03", "2005-06-30", end_kind="moved"))  # where to, nobody says
    assert instruments(gone_on).select("listed_until", "end_kind").row(0) == (None, None)


def test_bars_outside_every_spell_are_quarantined_with_the_spells_there_are() -> None:
    named = by_instrument(bars("FB", "2003-04-01", "2003-04-02", "2012-05-17", "2012-05-18"), FB)
    assert inside(named).height == 2
    strict = universe(calendar="XNYS")
    parted = quarantine(named, pl.DataFrame(schema=ACTIONS_SCHEMA), strict, listings=FB)
    assert parted.quarantined.select("symbol", "session", "rule", "evidence", "known_on").rows() == [
        (
            "FB:unlisted", day, "outside_listing",
            "its symbol was listed 1997-01-02 to 2003-04-01, 2012-05-18 to now", day,
        )
        for day in (date(2003, 4, 2), date(2012, 5, 17))
    ]  # fmt: skip
    assert parted.kept["symbol"].to_list() == ["FB", "FB:19970102"]
    # all bars of no instrument were taken, and the feed of the two is not wrong for it
    assert {f.rule: f.passed for f in parted.findings}["quarantined_fraction"]


def test_a_symbol_without_any_listing_stays_as_it_is() -> None:
    assert by_instrument(bars("XYZ", "2003-04-02"), FB)["symbol"].to_list() == ["XYZ"]


def test_a_bar_of_two_instruments_and_two_bars_of_one_are_refused() -> None:
    both = listings(spell("ABC", "2000-01-03"), spell("ABC", "2001-01-02", exchange="XLON"))
    with pytest.raises(ListingError, match=r"one instrument.*ABC on 2001-01-03: ABC and ABC:20000103"):
        by_instrument(bars("ABC", "2000-06-01", "2001-01-03"), both)
    changed = listings(
        spell("OLD", "2000-01-03", "2000-12-29", instrument_id="one", end_kind="moved"),
        spell("NEW", "2001-01-02", instrument_id="one"),
    )
    twice = pl.concat([bars("OLD", "2000-06-01"), bars("NEW", "2000-06-01")])
    with pytest.raises(ListingError, match=r"NEW on 2000-06-01: NEW and OLD"):
        by_instrument(twice, changed)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_naming_loses_no_bar_and_named_bars_stay_as_they_are(data: st.DataObject) -> None:
    rows, at = [], date(2000, 1, 3)
    for number in range(data.draw(st.integers(1, 4))):
        first = at + timedelta(days=data.draw(st.integers(1, 50)))
        at = first + timedelta(days=data.draw(st.integers(0, 50)))
        symbol = data.draw(st.sampled_from(["A", "B"]))
        rows.append(spell(symbol, str(first), str(at), instrument_id=f"{number}"))
    told = listings(*rows)
    offsets = data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=20, unique=True))
    days = [str(date(2000, 1, 3) + timedelta(days=n)) for n in offsets]
    raw = pl.concat([bars(symbol, *days, close=n) for n, symbol in enumerate(("A", "B", "C"), start=1)])
    named = by_instrument(raw, told)
    assert sorted(named.select("session", "close").rows()) == sorted(raw.select("session", "close").rows())
    kept = inside(named)
    assert by_instrument(kept, told).equals(kept)
    spells = {(row["symbol"], row["instrument_id"]): row for row in rows}
    names = dict(instruments(told).select("name", "instrument_id").iter_rows())
    for symbol, day, close in (
        kept.filter(pl.col("symbol").is_in(list(names))).select("symbol", "session", "close").rows()
    ):
        row = spells["AB"[int(close) - 1], names[symbol]]
        assert row["valid_from"] <= str(day) <= row["valid_to"]


# ---------------------------------------------------------------------------------------------- what was known when


REVISED = listings(
    spell("DIE", "2000-01-03", instrument_id="die"),
    spell("DIE", "2000-01-03", "2008-09-15", instrument_id="die", end_kind="unknown", known_at="2008-09-16"),
    spell(
        "DIE", "2000-01-03", "2008-09-15", instrument_id="die", end_kind="bankruptcy", delisting_return=-1.0,
        known_at="2009-03-02T15:00:00Z",
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("at", "kind", "told"),
    [
        ("2008-09-16T23:59:59+00:00", None, None),  # a day is known once it is over
        ("2008-09-17T00:00:00+00:00", "unknown", None),
        ("2009-03-02T14:59:59+00:00", "unknown", None),
        ("2009-03-02T15:00:00+00:00", "bankruptcy", -1.0),
    ],
)
def test_an_end_is_what_was_known_of_it(at: str, kind: str | None, told: float | None) -> None:
    (found,) = instruments(REVISED, datetime.fromisoformat(at)).rows(named=True)
    assert (found["end_kind"], found["delisting_return"]) == (kind, told)


def test_the_last_bar_of_a_name_says_how_it_ended_as_known_by_the_last_close_of_all() -> None:
    panel = pl.concat([bars("DIE", "2008-09-12", "2008-09-15"), bars("OTHER", "2008-09-15", "2008-09-16")])

    def told(last_close: datetime) -> list[tuple[Any, ...]]:
        closes = panel.with_columns(known_at=pl.lit(last_close))
        found = with_ends(closes, REVISED)
        columns = ("symbol", "session", "listed_until", "delisting_return")
        return found.filter(pl.col("listed_until").is_not_null()).select(columns).rows()

    day = date(2008, 9, 15)
    assert told(datetime(2010, 1, 4, tzinfo=UTC)) == [("DIE", day, day, -1.0)]
    assert told(datetime(2008, 12, 31, tzinfo=UTC)) == [("DIE", day, day, None)]
    unknown = panel.with_columns(known_at=pl.lit(datetime(2008, 9, 16, 20, tzinfo=UTC)))
    assert with_ends(unknown, REVISED).equals(unknown)


# ------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [spell("FB", "1997-01-02", "2012-06-01"), spell("FB", "2012-05-18")],
            r"overlap.*FB XNYS: rows 1 \(1997-01-02 to 2012-06-01\) and 2 \(2012-05-18 to now\)",
        ),
        (
            [spell("FB", "1997-01-02", "2003-04-01"), spell("FB", "2003-04-01", "2003-04-01")],
            r"rows 1 \(1997-01-02 to 2003-04-01\) and 2 \(2003-04-01 to 2003-04-01\)",
        ),
        (
            [spell("FB", "2003-04-01", "1997-01-02")],
            "valid_from on or before valid_to; found row 1: 2003-04-01, 1997-01-02",
        ),
        ([spell("FB", "1997-01-02", known_at=None)], "a day or a time.* in known_at; found row 1: nothing"),
        ([spell("FB", "1997-01-02", known_at="soon")], "in known_at; found row 1: soon"),
        ([spell("FB", "01/02/1997")], "a day, year first in valid_from; found row 1: 01/02/1997"),
        ([spell("FB", "1997-01-02", instrument_id=None)], "text in instrument_id; found row 1: nothing"),
        ([spell("F B", "1997-01-02")], "symbols of letters.*F B"),
        (
            [spell("FB", "1997-01-02", "2003-04-01", end_kind="merger")],
            "did you mean 'merger_[a-z]+'.*found row 1: .*merger",
        ),
        ([spell("FB", "1997-01-02", "2003-04-01", delisting_return=-1.01)], "-1 to 5, a frac.*; found row 1.*-1.01"),
        ([spell("FB", "1997-01-02", "2003-04-01", delisting_return=30.0)], "-1 to 5, a fraction; found row 1.*30"),
        ([spell("FB", "1997-01-02", "2003-04-01", delisting_return=float("nan"))], "-1 to 5"),
        ([spell("FB", "1997-01-02", end_kind="bankruptcy")], r"spell that has ended \(valid_to\)"),
        ([spell("FB", "1997-01-02"), spell("FB", "1997-01-02")], "one row for each spell and known_at"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(rows: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ListingError, match=message):
        listings(*rows)


def test_a_return_of_minus_one_and_a_spell_of_one_day_can_be() -> None:
    told = listings(spell("A", "2001-01-02", "2001-01-02", delisting_return=-1.0))
    assert told.select("valid_to", "delisting_return").row(0) == (date(2001, 1, 2), -1.0)


def test_one_symbol_on_two_exchanges_does_not_overlap() -> None:
    assert listings(spell("ABC", "2000-01-03"), spell("ABC", "2000-01-03", exchange="XLON")).height == 2


def test_an_end_of_which_no_kind_is_told_is_unknown() -> None:
    told = listings(spell("A", "2001-01-02", "2001-06-29", end_kind=None))
    assert told["end_kind"].to_list() == ["unknown"]


# ------------------------------------------------------------------------------------------------------------ files


def write(folder: Path, text: str, name: str = "listings.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


HEADER = "id,symbol,exchange,valid_from,valid_to,end_kind,delisting_return,known_at,source,note\n"


def test_a_csv_file_and_a_parquet_file_say_the_same(tmp_path: Path) -> None:
    text = HEADER + (
        "x,FB,XNYS,1997-01-02,2003-04-01,merger_cash,0.02,2003-04-01 21:00:00,desk,bought\n"
        "y,FB,XNYS,2012-05-18,,,,2012-05-18,desk,\n"
    )
    columns = {"instrument_id": "id"}
    csv = universe(listings={"kind": "csv", "path": write(tmp_path, text), "columns": columns})
    found = listings_of(csv)
    assert dict(found.schema) == dict(LISTINGS.schema)
    assert found.rows() == [
        ("x", "FB", "XNYS", date(1997, 1, 2), date(2003, 4, 1), "merger_cash", 0.02,
         datetime(2003, 4, 1, 21, tzinfo=UTC), "desk"),
        ("y", "FB", "XNYS", date(2012, 5, 18), None, None, None,
         datetime(2012, 5, 18, 23, 59, 59, 999999, tzinfo=UTC), "desk"),
    ]  # fmt: skip
    found.rename({"instrument_id": "id"}).write_parquet(tmp_path / "listings.parquet")
    path = str(tmp_path / "listings.parquet")
    parquet = universe(listings={"kind": "parquet", "path": path, "columns": columns})
    assert listings_of(parquet).equals(found)


def test_a_column_that_is_missing_or_misnamed_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + "x,FB,XNYS,1997-01-02,,,,1997-01-02,desk,\n")
    with pytest.raises(ListingError, match=r"column 'instrument_id'.*name the file's under `columns:`"):
        listings_of(universe(listings={"kind": "csv", "path": path}))
    for columns, near in (({"instrument": "id"}, "instrument_id"), ({"instrument_id": "idd"}, "id")):
        with pytest.raises(ListingError, match=f"did you mean '{near}'"):
            listings_of(universe(listings={"kind": "csv", "path": path, "columns": columns}))
    with pytest.raises(SourceError, match=r"nowhere\.csv.*correct `path:`"):
        listings_of(universe(listings={"kind": "csv", "path": "nowhere.csv"}))


def test_qlibs_file_is_read_as_spells(tmp_path: Path) -> None:
    text = "SH600000\t1999-11-10\t2020-09-25\nSH600001\t2000-01-04\t2009-12-29\n"
    found = listings_of(universe(listings={"kind": "qlib", "path": write(tmp_path, text, "all.txt")}))
    newest = as_known(found, LISTINGS)
    assert newest.select("instrument_id", "valid_from", "valid_to", "end_kind").rows() == [
        ("SH600000", date(1999, 11, 10), date(2020, 9, 25), "unknown"),
        ("SH600001", date(2000, 1, 4), date(2009, 12, 29), "unknown"),
    ]
    # on its last day nobody knows yet that it is the last
    then = as_known(found, LISTINGS, datetime(2009, 12, 29, 20, tzinfo=UTC))
    assert then["valid_to"].to_list() == [None, None]
    over = as_known(found, LISTINGS, datetime(2009, 12, 30, tzinfo=UTC))
    assert over["valid_to"].to_list() == [None, date(2009, 12, 29)]


def test_qlibs_overlapping_spells_are_refused_with_their_rows(tmp_path: Path) -> None:
    text = "SZ000001\t2005-01-01\t2010-06-30\nSZ000002\t2005-01-01\t2010-06-30\nSZ000001\t2010-06-30\t2020-01-01\n"
    told = {"kind": "qlib", "path": write(tmp_path, text, "csi300.txt")}
    with pytest.raises(
        ListingError, match=r"SZ000001 unknown: rows 1 \(2005.*2010-06-30\) and 3 \(2010-06-30"
    ):
        listings_of(universe(listings=told))
    told["path"] = write(tmp_path, "SZ000001 2005-01-01\n", "short.txt")
    with pytest.raises(ListingError, match=r"short\.txt, line 1.*SZ000001 2005-01-01"):
        listings_of(universe(listings=told))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"listings": {"kind": "csv", "path": "x", "column": {}}}, r"listings\.csv\.column|listings.*column"),
        ({"listings": {"kind": "excel", "path": "x"}}, "listings"),
        ({"members": {"group": "sp500"}}, "needs `memberships:`"),
        ({"members": {"grup": "sp500"}, "memberships": {"kind": "csv", "path": "x"}}, "grup|group"),
        (
            {
                "source": {"kind": "synthetic", "seed": 1, "n_symbols": 2, "lives": {"delisted_per_year": 0.1}},
                "listings": {"kind": "csv", "path": "x"},
            },
            "makes its own listings",
        ),
        ({"source": {"kind": "synthetic", "seed": 1, "n_symbols": 2, "lives": {"delisted": 0.1}}}, "delisted"),
    ],
)  # fmt: skip
def test_unknown_keys_and_contradictions_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        universe(**fields)


# ----------------------------------------------------------------------------------------------------- survivorship


def test_without_listings_survivorship_is_not_proven() -> None:
    found = survivorship(pl.Series(["A", "B"]), None, universe())
    assert not found.proven
    assert found.sentence.startswith("survivorship: not proven. No listings say")
    made_up = universe(source={"kind": "synthetic", "seed": 1, "n_symbols": 2})
    assert survivorship(pl.Series(["S000"]), None, made_up).proven


def test_listings_of_every_name_prove_it_and_say_how_names_ended() -> None:
    told = listings(
        spell("A", "1997-01-02", "2003-04-01", end_kind="merger_cash", delisting_return=0.0),
        spell("B", "1997-01-02", "2001-02-01", end_kind="bankruptcy", delisting_return=-1.0),
        spell("C", "1997-01-02", "2001-02-01"),
        spell("D", "1997-01-02"),
    )
    found = survivorship(pl.Series(["A", "B", "C", "D"]), told, universe())
    assert found.proven
    assert found.sentence == (
        "listings of 4 instruments, of which 3 ended (1 bankruptcy, 1 merger_cash, 1 other; "
        "the final return of 2 is known)"
    )
    assert found.ended == {"bankruptcy": 1, "merger_cash": 1, "other": 1}


def test_a_name_without_listing_and_a_listing_without_bars_are_named() -> None:
    told = listings(spell("A", "1997-01-02"), spell("GONE", "1997-01-02", "2001-02-01"))
    found = survivorship(pl.Series(["A", "NEW"]), told, universe())
    assert not found.proven
    assert "1 names have no listing (NEW); 1 listed instruments have no bars (GONE)" in found.sentence
    # of a universe that names its symbols, only those must have bars; what ended before it began need not
    assert survivorship(pl.Series(["A"]), told, universe(symbols=["A"])).proven
    assert survivorship(pl.Series(["A"]), told, universe(start="2001-02-02")).proven
    assert not survivorship(pl.Series(["A"]), told, universe(start="2001-02-01")).proven
    # and of one that trades a group, its members, which is for the check of the mask to say
    assert survivorship(pl.Series(["A"]), told, universe(), of_a_group=True).proven
    assert not survivorship(pl.Series(["A", "NEW"]), told, universe(), of_a_group=True).proven
