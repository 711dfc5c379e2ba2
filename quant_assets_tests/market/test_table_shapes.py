"""Tables as people have them: each shape ends in the same bars, or is refused with its cause and what to do."""

import re
import zipfile
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from quant_assets.common.errors import BarContractError, SourceError, UndecidedTableError
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.sources.inspection import inspect
from quant_assets.market.sources.sources import read_bars
from quant_assets.market.sources.tables import source_of
from quant_assets_tests.market import table_shapes as shapes
from quant_assets_tests.market.table_shapes import REFUSED, SHAPES, Refusal, Shape

BARS = shapes.bars()


def universe(path: Path, calendar: str = "XNYS", **said: object) -> UniverseConfig:
    return UniverseConfig.model_validate(
        {
            "name": "shape",
            "source": source_of(path, said).model_dump(),
            "calendar": calendar,
            "start": shapes.START,
            "end": shapes.END,
            "quality": {"strict": True},
        }
    )


@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
def test_a_shape_is_read_to_the_same_bars(shape: Shape, tmp_path: Path) -> None:
    path = shape.write(BARS, tmp_path)
    read = read_bars(universe(path, **shape.said))
    assert_frame_equal(read.bars, BARS.filter(pl.col("symbol").is_in(shape.symbols)))
    found = inspect(path, shape.said, "XNYS")
    assert (found.outcome, found.exit_code, found.problems) == ("usable", 0, ())
    assert re.search(shape.layout, found.facts["layout"]), found.facts
    assert found.mapping == read.column_mapping
    assert found.next_command.startswith(f"quant-assets run --universe-file {path}")


@pytest.mark.parametrize("case", REFUSED, ids=[case.name for case in REFUSED])
def test_a_shape_that_cannot_be_read_is_refused_with_its_cause_and_what_to_do(
    case: Refusal, tmp_path: Path
) -> None:
    path = case.write(BARS, tmp_path)
    found = inspect(path, None, "XNYS")
    said = " ".join(found.problems)
    assert re.search(case.said, said), said
    assert case.todo in said or case.todo in found.next_command, said
    assert found.exit_code == case.exit_code
    for wrong in ("repeated downloads", "vendor's error page", "byte 0x"):
        assert wrong not in said


def test_causes_are_told_apart(tmp_path: Path) -> None:
    for case in REFUSED:
        (tmp_path / case.name).mkdir()
    said = {
        c.name: " ".join(inspect(c.write(BARS, tmp_path / c.name), None, "XNYS").problems) for c in REFUSED
    }
    confused = [
        (one.name, other.name)
        for one in REFUSED
        for other in REFUSED
        if one.said != other.said and re.search(one.said, said[other.name])
    ]
    assert confused == []


# -------------------------------------------------------------------------------------- minutes put together


def written(frame: pl.DataFrame, folder: Path, name: str = "h.csv") -> Path:
    return shapes.file(folder, name, shapes.text(frame))


def test_hourly_bars_are_put_together_when_that_is_asked(tmp_path: Path) -> None:
    path = written(shapes.minutes(BARS), tmp_path)
    read = read_bars(universe(path, resample="session"))
    assert_frame_equal(read.bars, BARS)
    assert any(
        "bars of 1 hour put together to sessions; each stamped with its start" in note for note in read.notes
    )
    with pytest.raises(UndecidedTableError, match="bars of 1 hour: 7 for each symbol and session"):
        read_bars(universe(path))


def test_what_trades_outside_the_regular_hours_makes_no_high(tmp_path: Path) -> None:
    early = shapes.minutes(BARS).group_by("symbol", pl.col("session").dt.date().alias("day")).agg(
        pl.col("session").min() - timedelta(hours=2), high=pl.col("high").max() * 3, open=pl.col("open").first(),
        low=pl.col("low").first(), close=pl.col("close").first(), volume=pl.lit(9.0),
    )  # fmt: skip
    hours = shapes.minutes(BARS)
    both = pl.concat([hours, early.select(hours.columns)]).sort("symbol", "session")
    read = read_bars(universe(written(both, tmp_path), resample="session"))
    assert_frame_equal(read.bars, BARS)
    assert any("248 of 1984 outside the regular hours of XNYS left out" in note for note in read.notes)


def test_times_of_another_zone_are_refused_until_it_is_said(tmp_path: Path) -> None:
    shifted = shapes.minutes(BARS).with_columns(
        pl.col("session")
        .dt.replace_time_zone("America/New_York")
        .dt.convert_time_zone("Asia/Tokyo")
        .dt.replace_time_zone(None)
    )
    path = written(shifted, tmp_path)
    with pytest.raises(SourceError, match=r"1736 of 1736 outside, as 2024-01-02 23:30:00.*--time-zone"):
        read_bars(universe(path, resample="session"))
    assert_frame_equal(read_bars(universe(path, resample="session", time_zone="Asia/Tokyo")).bars, BARS)


def test_a_session_that_is_still_running_is_left_out(tmp_path: Path) -> None:
    cut = shapes.minutes(BARS).filter(pl.col("session") < pl.datetime(2024, 6, 28, 13))
    read = read_bars(universe(written(cut, tmp_path), resample="session"))
    assert_frame_equal(read.bars, BARS.filter(pl.col("session") < shapes.END))
    assert any(
        "the session 2024-06-28 left out: its bars end 210 minutes before its close" in n for n in read.notes
    )


def test_a_broken_bar_of_an_hour_spoils_no_session_silently(tmp_path: Path) -> None:
    hours = shapes.minutes(BARS).with_row_index("n")
    broken = hours.with_columns(low=pl.when(pl.col("n") == 77).then(-1.0).otherwise("low")).drop("n")
    with pytest.raises(BarContractError, match=r"1 of 1736 rows: .*row 78, symbol AAPL"):
        read_bars(universe(written(broken, tmp_path), resample="session"))
    twice = pl.concat([hours.drop("n"), hours.drop("n").head(1)])
    with pytest.raises(BarContractError, match="2 of 1737 rows"):
        read_bars(universe(written(twice, tmp_path, "t.csv"), resample="session"))


def test_hours_of_a_clock_in_a_column_of_its_own_are_no_repetition(tmp_path: Path) -> None:
    day, clock = pl.col("session").dt.strftime("%Y%m%d"), pl.col("session").dt.strftime("%H%M%S")
    apart = shapes.minutes(BARS).with_columns(day.alias("date"), clock.alias("time")).drop("session")
    path = written(apart, tmp_path)
    assert "bars of 1 hour" in inspect(path, None, "XNYS").problems[0]
    assert_frame_equal(read_bars(universe(path, resample="session")).bars, BARS)


# ------------------------------------------------------------------------------------------ nothing is guessed


def test_a_single_date_among_many_proves_no_format(tmp_path: Path) -> None:
    """Of 200 dates of which one could only be day first, that one is rather a broken cell."""
    young = BARS.filter(shapes.YOUNG)
    many = pl.concat(
        young.with_columns(pl.col("session").dt.offset_by(f"{months}mo")) for months in range(0, 60, 6)
    ).with_columns(pl.col("session").dt.strftime("%m/%d/%Y"))
    odd = pl.DataFrame({**many.row(0, named=True), "session": "13/01/2024"}, schema=many.schema)
    found = inspect(written(pl.concat([many, odd]), tmp_path), None, "XNYS")
    assert found.exit_code == 1
    assert "1 could prove a reading (too few: rather broken cells)" in found.problems[0]


def test_two_files_of_two_formats_put_together_are_refused(tmp_path: Path) -> None:
    first, second = BARS.head(124), BARS.tail(124)
    both = pl.concat([shapes.dated("%d/%m/%Y")(first), shapes.dated("%m/%d/%Y")(second)])
    found = inspect(written(both, tmp_path), None, "XNYS")
    assert "two files were put together" in found.problems[0]
    assert found.exit_code == 2


@pytest.mark.parametrize(("form", "month"), [("%d/%m/%Y", 1), ("%m/%d/%Y", 2)])
def test_what_is_said_of_ambiguous_dates_decides(form: str, month: int, tmp_path: Path) -> None:
    days = BARS.filter((pl.col("session").dt.day() == 2) & (pl.col("session").dt.month() == 1))
    path = written(days.with_columns(session=pl.lit("02/01/2024")), tmp_path)
    read = read_bars(universe(path, date_format=form))
    assert {day.month for day in read.bars["session"]} == {month}


def test_a_format_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = written(shapes.dated("%d/%m/%Y")(BARS), tmp_path)
    with pytest.raises(BarContractError, match=r"of the format '%m/%d/%Y', as `date_format:` says"):
        read_bars(universe(path, date_format="%m/%d/%Y"))


def test_midnights_of_tokyo_in_utc_are_the_days_of_tokyo(tmp_path: Path) -> None:
    """15:00 of the day before in UTC: by UTC's days the week would begin on Sunday."""
    local = pl.col("session").cast(pl.Datetime("us")).dt.replace_time_zone("Asia/Tokyo")
    path = tmp_path / "t.parquet"
    BARS.drop("adj_close").with_columns(local.dt.convert_time_zone("UTC")).write_parquet(path)
    assert_frame_equal(read_bars(universe(path, "XTKS")).bars, BARS)
    assert read_bars(universe(path, "24/7")).bars["session"].dt.weekday().unique().to_list() == [
        1,
        2,
        3,
        4,
        7,
    ]


def test_the_calendar_of_instants_is_found_by_the_days_in_its_own_zone(tmp_path: Path) -> None:
    found = inspect(shapes.in_utc(BARS, tmp_path, 20))
    assert found.facts["calendar"] == "XNYS: the same days"
    assert found.facts["bars"] == "248 of 2 symbols, 124 sessions, 2024-01-02 to 2024-06-28"


def test_prices_are_called_adjusted_when_they_have_the_decimals_of_computed_ones(tmp_path: Path) -> None:
    computed = BARS.with_columns(pl.col(name) / 1.0137 for name in shapes.FIELDS[:4])
    assert "close adjusted already" in inspect(written(computed, tmp_path), None, "XNYS").facts["prices"]
    assert "close as traded" in inspect(written(BARS, tmp_path, "b.csv"), None, "XNYS").facts["prices"]
    beside = BARS.with_columns(adj_close=pl.col("close") * 0.98)
    path = shapes.file(tmp_path, "a.csv", beside.write_csv())
    assert "248 rows differ" in inspect(path, None, "XNYS").facts["prices"]


def test_a_zip_of_several_files_or_with_a_table_of_another_format_says_to_unpack_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.csv", "x")
        archive.writestr("b.csv", "x")
    found = inspect(tmp_path / "two.zip")
    assert "2 files: 'a.csv, b.csv'" in found.problems[0]
    assert "unpack it into a folder" in found.problems[0]
    assert found.exit_code == 2


def test_a_clock_of_half_days_is_read_in_its_order(tmp_path: Path) -> None:
    """1:30 PM comes after 9:30 AM: read as 1:30 its bar would be the session's first."""
    clock = pl.col("session").dt.strftime("%m/%d/%Y %I:%M:%S %p")
    path = written(shapes.minutes(BARS).with_columns(clock), tmp_path)
    assert_frame_equal(read_bars(universe(path, resample="session")).bars, BARS)


def test_columns_that_share_a_word_are_of_no_symbol_of_that_name(tmp_path: Path) -> None:
    worded = shapes.one(BARS).rename({name: f"day_{name}" for name in shapes.FIELDS})
    found = inspect(written(worded, tmp_path, "AAPL.csv"), None, "XNYS")
    assert found.exit_code != 0
    assert "day" not in found.mapping.values()


def test_a_header_written_twice_is_no_second_level(tmp_path: Path) -> None:
    text = shapes.text(BARS).splitlines()
    path = shapes.file(tmp_path, "twice.csv", "\n".join([text[0], *text, ""]))
    with pytest.raises(BarContractError, match=r"header repeated: 1"):
        read_bars(universe(path))


def test_dates_parted_by_points_year_first_have_one_reading(tmp_path: Path) -> None:
    path = written(BARS.with_columns(pl.col("session").dt.strftime("%Y.%m.%d")), tmp_path)
    assert_frame_equal(read_bars(universe(path)).bars, BARS)
