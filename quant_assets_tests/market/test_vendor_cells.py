"""Dates and numbers as vendors write them: read and noted where there is one reading, refused where there are two."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.settings import CsvSource, UniverseConfig
from quant_assets.common.universe_settings import SetAside
from quant_assets.market.set_aside import Terms
from quant_assets.market.sources.contract import conform, part_bars, settled, validate_bars
from quant_assets.market.sources.delimited import read_delimited
from quant_assets.market.sources.sources import read_bars
from quant_assets_tests.market.test_contract import rows

DAYS = [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4), date(2024, 1, 5)]
MIDNIGHTS = [1704153600 + 86400 * k for k in range(4)]  # 2024-01-02 00:00 UTC and the days after


@pytest.mark.parametrize(
    "written",
    [
        ["02-Jan-2024", "03-Jan-2024", "04-Jan-2024", "05-Jan-2024"],
        ["2024-Jan-02", "2024-Jan-03", "2024-Jan-04", "2024-Jan-05"],
        ["2 January 2024", "3 January 2024", "4 January 2024", "5 January 2024"],
        ["Jan 2, 2024", "Jan 3, 2024", "Jan 4, 2024", "Jan 5, 2024"],
        ["January 2, 2024", "January 3, 2024", "January 4, 2024", "January 5, 2024"],
        ["02/Jan/2024 16:00", "03/Jan/2024 16:00", "04/Jan/2024 16:00", "05/Jan/2024 16:00"],
        ["20240102", "20240103", "20240104", "20240105"],
        [20240102, 20240103, 20240104, 20240105],
        MIDNIGHTS,
        [str(second) for second in MIDNIGHTS],
        [second * 1000 for second in MIDNIGHTS],
        [second * 1000 + 999 for second in MIDNIGHTS],
        [(second + 50_400) * 10**6 for second in MIDNIGHTS],
        [second * 10**9 for second in MIDNIGHTS],
    ],
)
def test_a_date_that_can_be_read_in_one_way_is_read(written: list[Any]) -> None:
    assert validate_bars(rows(session=written), origin="f")["session"].to_list() == DAYS


@pytest.mark.parametrize(
    "written",
    [
        ["02-Jan-24", "03-Jan-24", "04-Jan-24", "05-Jan-24"],  # of which century
        ["30-Feb-2024"] * 4,
        [1704153600, 1704153600000, 1704153600000000, 1704153600000000000],  # no one unit
        [19724, 19725, 19726, 19727],  # days since 1970, or what else
        ["02.01.2024", "03.01.2024", "04.01.2024", "05.01.2024"],
        [-86400, -172800, -259200, -345600],
    ],
)
def test_a_date_of_several_readings_is_refused(written: list[Any]) -> None:
    with pytest.raises(BarContractError, match=r"4 of 4 rows are no bars"):
        validate_bars(rows(session=written), origin="f")


def test_one_stray_number_among_dates_is_no_count_of_seconds() -> None:
    with pytest.raises(BarContractError, match=r"value '1704412800' \(unparsable date\)"):
        validate_bars(rows(session=["2024-01-02", "2024-01-03", "2024-01-04", "1704412800"]), origin="f")


def universe(folder: Path, frame: pl.DataFrame) -> UniverseConfig:
    frame.write_csv(folder / "f.csv")
    source = CsvSource(kind="csv", path=str(folder / "f.csv"))
    return UniverseConfig.model_validate(
        {"name": "test", "source": source, "start": "2024-01-01", "end": "2024-12-31"}
    )


@pytest.mark.parametrize(
    ("written", "note"),
    [
        ([m * 1000 for m in MIDNIGHTS], "read as milliseconds since 1970 and taken for the day in UTC"),
        (MIDNIGHTS, "read as seconds since 1970 and taken for the day in UTC"),
        (
            ["02-Jan-2024", "03-Jan-2024", "04-Jan-2024", "05-Jan-2024"],
            "months written by their English names",
        ),
    ],
)
def test_a_reading_that_took_interpretation_is_a_note(tmp_path: Path, written: list[Any], note: str) -> None:
    read = read_bars(universe(tmp_path, rows(session=written)))
    assert read.bars["session"].to_list() == DAYS
    assert any(note in told for told in read.notes)
    plain = read_bars(universe(tmp_path, rows()))
    assert not any("session:" in told for told in plain.notes)


def test_seconds_late_in_the_day_stay_on_the_day_of_utc() -> None:
    late = [int(datetime(2024, 1, day, 23, 59, 59, tzinfo=UTC).timestamp()) for day in (2, 3, 4, 5)]
    assert validate_bars(rows(session=late), origin="f")["session"].to_list() == DAYS


@pytest.mark.parametrize("volume", [2**53 - 1, 2**53, 2**53 + 2, 4 * 10**17])
def test_a_volume_that_a_float_holds_exactly_is_kept(volume: int) -> None:
    for written in ([volume] * 4, [str(volume)] * 4):
        assert [int(v) for v in validate_bars(rows(volume=written), origin="f")["volume"]] == [volume] * 4


@pytest.mark.parametrize("volume", [2**53 + 1, 2**53 + 3, 10**18 + 1])
def test_a_volume_of_which_digits_would_be_lost_is_refused_with_the_reason(volume: int) -> None:
    for written in ([1, 2, 3, volume], ["1", "2", "3", str(volume)]):
        with pytest.raises(BarContractError, match=rf"row 4, column volume, value '{volume}' \(not exact\)"):
            validate_bars(rows(volume=written), origin="f")


# ---------------------------------------------------------------------------------------------------- number marks


def written(folder: Path, prices: list[str], volumes: list[str], **source: str) -> UniverseConfig:
    """One price in all four columns of a session, and a volume."""
    n = len(prices)
    text = pl.DataFrame(
        {"symbol": ["A"] * n, "session": DAYS[:n]} | dict.fromkeys(("open", "high", "low", "close"), prices)
    )
    text.with_columns(volume=pl.Series(volumes)).write_csv(folder / "f.csv", separator=";")
    config = {"kind": "csv", "path": str(folder / "f.csv"), "delimiter": ";", **source}
    return UniverseConfig.model_validate(
        {"name": "test", "source": config, "start": "2024-01-01", "end": "2024-12-31"}
    )


@pytest.mark.parametrize(
    ("prices", "volumes", "close", "volume"),
    [
        (["10,5", "1000,25"], ["1200", "900"], [10.5, 1000.25], [1200, 900]),
        (["1.234,50", "999,00"], ["1.200.300", "900"], [1234.5, 999.0], [1200300, 900]),
        (["1,234.50", "999.00"], ["1,200,300", "900"], [1234.5, 999.0], [1200300, 900]),
        (["1 234,50", "999,00"], ["1 200 300", "900"], [1234.5, 999.0], [1200300, 900]),
        (["1'234.50", "999.00"], ["1'200", "900"], [1234.5, 999.0], [1200, 900]),
        (["10.50", "11.00"], ["1,200", "900"], [10.5, 11.0], [1200, 900]),  # one file has one decimal mark
        (["0,125", "0,250"], ["1.200", "900"], [0.125, 0.25], [1200, 900]),
    ],
)
def test_marks_that_a_whole_file_proves_are_read_and_noted(
    tmp_path: Path, prices: list[str], volumes: list[str], close: list[float], volume: list[int]
) -> None:
    read = read_bars(written(tmp_path, prices, volumes))
    assert read.bars["close"].to_list() == close
    assert read.bars["volume"].to_list() == volume
    assert [note for note in read.notes if note.startswith("numbers read with decimal ")]


@pytest.mark.parametrize(
    ("prices", "volumes"),
    [
        (["1,234", "5,678"], ["1200", "900"]),  # a thousand, or one and a bit
        (["1,234", "5,678"], ["1,200", "900"]),
        (["10,5", "11.5"], ["1200", "900"]),  # two marks for one thing
        (["10.5", "11.5"], ["12,00,300", "900"]),
        (["10.5", "11.5"], ["1,200,300", "1200300"]),  # parted here, not there
    ],
)
def test_marks_of_several_readings_are_refused(tmp_path: Path, prices: list[str], volumes: list[str]) -> None:
    with pytest.raises(BarContractError, match=r"rows are no bars"):
        read_bars(written(tmp_path, prices, volumes))


@pytest.mark.parametrize(
    ("source", "close"),
    [
        ({"decimal": ","}, [1.234, 5.678]),
        ({"thousands": ","}, [1234.0, 5678.0]),
        ({"decimal": ",", "thousands": "."}, [1.234, 5.678]),
    ],
)
def test_what_a_file_does_not_prove_the_universe_says(
    tmp_path: Path, source: dict[str, str], close: list[float]
) -> None:
    read = read_bars(written(tmp_path, ["1,234", "5,678"], ["1200", "900"], **source))
    assert read.bars["close"].to_list() == close
    assert any(note.endswith("as the universe says") for note in read.notes)


def test_plain_numbers_take_no_reading(tmp_path: Path) -> None:
    read = read_bars(written(tmp_path, ["1234.567", "1.234"], ["1200", "9e3"]))
    assert read.bars["close"].to_list() == [1234.567, 1.234]
    assert read.bars["volume"].to_list() == [1200.0, 9000.0]
    assert not any(note.startswith("numbers read") for note in read.notes)


def test_a_header_in_angle_brackets_is_no_page(tmp_path: Path) -> None:
    frame = rows(session=["20240102", "20240103", "20240104", "20240105"])
    named = ["<TICKER>", "<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"]
    frame.rename(dict(zip(frame.columns, named, strict=True))).write_csv(tmp_path / "f.txt")
    assert read_delimited(tmp_path / "f.txt", delimiter=",").columns == named
    config = UniverseConfig.model_validate(
        {
            "name": "aa",
            "source": {"kind": "csv", "path": str(tmp_path / "f.txt")},
            "start": DAYS[0],
            "end": DAYS[3],
        }
    )
    assert read_bars(config).bars["session"].to_list() == DAYS
    (tmp_path / "f.txt").write_text("<html>,<body>,b,c,d,e,f\n1,2,3,4,5,6,7\n")
    with pytest.raises(SourceError, match="a web page"):
        read_delimited(tmp_path / "f.txt", delimiter=",")


def test_a_column_of_names_is_the_symbol_where_there_is_no_other_and_it_holds_symbols() -> None:
    frame = rows().rename({"symbol": "Name"})
    assert conform(frame, origin="f", symbol="stem").column_mapping["symbol"] == "Name"
    company = frame.with_columns(Name=pl.lit("Apple Inc."))
    assert conform(company, origin="f", symbol="stem").bars["symbol"].unique().to_list() == ["stem"]
    both = company.with_columns(ticker=pl.lit("AAPL"))
    assert conform(both, origin="f").column_mapping["symbol"] == "ticker"


def test_a_repeated_header_is_a_row_and_no_name_that_is_set_aside() -> None:
    days = [date(2024, 1, 1 + k) for k in range(30)]
    names = [
        rows(30, symbol=[f"S{k}"] * 30, session=days).with_columns(pl.all().cast(pl.String))
        for k in range(40)
    ]
    header = pl.DataFrame({name: [name] for name in names[0].columns})
    terms = Terms(most=SetAside(symbols=0.0, rows=0.001))
    done = settled([part_bars(pl.concat([*names[:20], header, *names[20:]]), origin="f", terms=terms)], terms)
    assert done.bars.height == 1200
    assert done.aside.select("symbol", "row", "problem").rows() == [(None, 601, "header repeated")]
