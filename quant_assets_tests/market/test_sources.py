"""Reading universes from packages, files and seeds."""

import gzip
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.settings import (
    BokehSource,
    CsvSource,
    ParquetSource,
    PlantedDefect,
    SyntheticSource,
    UniverseConfig,
)
from quant_assets.market.parsing import RAW_SCHEMA
from quant_assets.market.sources import describe_file, read_bars, read_year

HEADER = "Date,Open,High,Low,Close,Adj Close,Volume\n"
TWO_ROWS = "2024-01-02,10,11,9,10.5,5.25,1000\n2024-01-03,10.5,12,10,11,5.5,2000\n"


def universe(source: object, **changes: object) -> UniverseConfig:
    fields = {"name": "test", "source": source, "start": date(2024, 1, 1), "end": date(2024, 12, 31)}
    return UniverseConfig.model_validate(fields | changes)


def csv_universe(path: Path | str, **changes: object) -> UniverseConfig:
    return universe(CsvSource(kind="csv", path=str(path)), **changes)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


BOKEH = universe(
    BokehSource(kind="bokeh_sampledata"),
    symbols=("AAPL", "GOOG", "IBM", "MSFT"),
    start=date(2000, 3, 1),
    end=date(2013, 3, 1),
)


def test_the_packaged_bars_are_read_with_their_column_mapping() -> None:
    read = read_bars(BOKEH)
    assert read.bars.schema == RAW_SCHEMA
    assert read.bars.height == 3 * 3270 + 2148
    assert read.column_mapping["adj_close"] == "Adj Close"
    assert read.provider.startswith("bokeh_sampledata 20")
    assert read.n_files == 1
    close = read.bars.filter(pl.col("symbol") == "AAPL", pl.col("session") == date(2013, 2, 11))[
        "close"
    ].item()
    assert close == 479.93
    assert "bokeh_sampledata.stocks" not in sys.modules


def test_the_years_of_a_universe_add_up_to_the_whole() -> None:
    parts = [read_year(BOKEH, year).bars for year in BOKEH.years]
    assert pl.concat(parts).sort("symbol", "session").equals(read_bars(BOKEH).bars)
    assert parts[0]["session"].min() == date(2000, 3, 1)
    assert {d.year for d in parts[5]["session"]} == {2005}


def test_a_year_outside_the_universe_is_refused_and_a_year_without_bars_is_empty() -> None:
    with pytest.raises(SourceError, match="2000 to 2013"):
        read_year(BOKEH, "1999")
    facebook = BOKEH.model_copy(update={"symbols": ("FB",)})
    assert read_year(facebook, "2005").bars.is_empty()
    assert read_year(facebook, "2012").bars["session"].min() == date(2012, 5, 18)


def test_a_symbol_that_the_source_has_not_names_the_closest() -> None:
    with pytest.raises(SourceError, match=r"symbols GOGL.*AAPL, FB, GOOG, IBM, MSFT.*did you mean 'GOOG'"):
        read_bars(BOKEH.model_copy(update={"symbols": ("AAPL", "GOGL")}))


def test_dates_without_bars_are_refused_with_the_span_of_the_source() -> None:
    with pytest.raises(SourceError, match="spans 2000-03-01 to 2013-03-01"):
        read_bars(BOKEH.model_copy(update={"start": date(2020, 1, 1), "end": date(2021, 1, 1)}))


def test_one_csv_per_symbol_takes_the_symbol_from_the_file_name(tmp_path: Path) -> None:
    write(tmp_path / "AAA.csv", HEADER + TWO_ROWS)
    (tmp_path / "BBB.csv.gz").write_bytes(gzip.compress((HEADER + TWO_ROWS).encode()))
    read = read_bars(csv_universe(tmp_path / "*.csv*"))
    assert read.bars["symbol"].to_list() == ["AAA", "AAA", "BBB", "BBB"]
    assert read.bars["adj_close"].to_list() == [5.25, 5.5, 5.25, 5.5]
    assert read.n_files == 2
    assert any("named by its stem" in note for note in read.notes)


def test_a_relative_path_counts_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "AAA.csv", HEADER + TWO_ROWS)
    monkeypatch.chdir(tmp_path)
    assert read_bars(csv_universe("AAA.csv")).bars.height == 2
    assert read_bars(csv_universe("A*.csv")).bars.height == 2


def test_another_delimiter_quotes_a_byte_order_mark_and_dos_lines_are_read(tmp_path: Path) -> None:
    text = (
        '\ufeff"sym";Date;Open;High;Low;Close;Volume;Name\r\n'
        '"A";2024-01-02;10;11;9;10;5;"X; Inc"\r\n"B";2024-01-02;20;21;19;20;6;Y\r\n\r\n'
    )
    (tmp_path / "f.csv").write_bytes(text.encode())
    source = CsvSource(kind="csv", path=str(tmp_path / "f.csv"), delimiter=";")
    read = read_bars(universe(source))
    assert read.bars["close"].to_list() == [10.0, 20.0]
    assert read.column_mapping["symbol"] == "sym"
    assert "1 columns ignored: Name" in read.notes


def test_columns_named_in_the_configuration_are_used(tmp_path: Path) -> None:
    path = write(tmp_path / "A.csv", "when,first,high,low,last,volume\n2024-01-02,10,11,9,10.5,7\n")
    columns = {"session": "when", "open": "first", "close": "last"}
    read = read_bars(universe(CsvSource(kind="csv", path=str(path), columns=columns)))
    assert read.bars.select("open", "close").row(0) == (10.0, 10.5)
    with pytest.raises(BarContractError, match=r"A\.csv: column 'session', 'open', 'close'"):
        read_bars(csv_universe(path))


def test_an_error_page_inside_a_csv_is_refused_by_line(tmp_path: Path) -> None:
    page = '<html lang="en-us">\n  <head>\n    <title>Yahoo</title>\n</html>\n'
    path = write(tmp_path / "A.csv", HEADER + TWO_ROWS + page + "2024-01-04,10,11,9,10,5,1\n")
    with pytest.raises(BarContractError, match=r"A.csv: 4 of 8 lines.*line 4 has 1: '<html lang=\"en-us\">'"):
        read_bars(csv_universe(path))


@pytest.mark.parametrize(
    ("text", "error", "diagnosis"),
    [
        (HEADER + TWO_ROWS + "2024-01-04,10,11", BarContractError, "line 4 has 3: '2024-01-04,10,11'"),
        (HEADER + TWO_ROWS + "2024-01-04,10,11,9,10,5,1,1\n", BarContractError, "line 4 has 8"),
        (HEADER + TWO_ROWS + "<td>1,2,3,4,5,6,7</td>\n", BarContractError, "line 4 has 7: '<td>1,2"),
        (HEADER + "\n" + TWO_ROWS, BarContractError, "line 2 has 1: ''"),
        (
            HEADER + TWO_ROWS + HEADER,
            BarContractError,
            r"row 3, column session, value 'Date' \(header repeated",
        ),
        (HEADER + TWO_ROWS + TWO_ROWS, BarContractError, r"row 3, .* 'A 2024-01-02' \(repeats row 1\)"),
        (HEADER.replace("Open", "Close") + TWO_ROWS, BarContractError, "repeated names"),
        ("", SourceError, "an empty file"),
        ("\n" + HEADER + TWO_ROWS, SourceError, "an empty first line"),
        (HEADER, SourceError, "no rows at all"),
    ],
)
def test_a_csv_that_is_no_table_of_bars_says_what_and_where(
    tmp_path: Path, text: str, error: type[Exception], diagnosis: str
) -> None:
    with pytest.raises(error, match=diagnosis):
        read_bars(csv_universe(write(tmp_path / "A.csv", text)))


def test_bytes_that_are_no_text_or_no_archive_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"2024-01-02,\x81,1,1,1,1,1\n")
    with pytest.raises(SourceError, match="byte 0x81 at offset 53"):
        read_bars(csv_universe(tmp_path / "latin.csv"))
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress((HEADER + TWO_ROWS).encode())[:-9])
    with pytest.raises(SourceError, match="do not unpack"):
        read_bars(csv_universe(tmp_path / "cut.csv.gz"))


def test_a_parquet_file_is_read_and_a_truncated_one_refused(tmp_path: Path) -> None:
    frame = read_bars(BOKEH).bars.rename({"session": "date", "symbol": "ticker"})
    frame.write_parquet(tmp_path / "bars.parquet")
    source = ParquetSource(kind="parquet", path=str(tmp_path / "bars.parquet"))
    wide = {"start": BOKEH.start, "end": BOKEH.end}
    read = read_bars(universe(source, **wide))
    assert read.bars.equals(read_bars(BOKEH).bars)
    assert read.column_mapping["session"] == "date"
    (tmp_path / "bars.parquet").write_bytes((tmp_path / "bars.parquet").read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"bars\.parquet.*complete Parquet file"):
        read_bars(universe(source, **wide))


def test_no_file_at_all_is_refused_with_the_directory_looked_in(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="relative paths count from"):
        read_bars(csv_universe(tmp_path / "*.csv"))
    with pytest.raises(SourceError, match=r"nothing\.csv"):
        read_bars(csv_universe(tmp_path / "nothing.csv"))


def test_a_bar_in_two_files_names_both(tmp_path: Path) -> None:
    with_symbol = "symbol," + HEADER + "".join(f"A,{line}\n" for line in TWO_ROWS.splitlines())
    write(tmp_path / "a.csv", with_symbol)
    write(tmp_path / "b.csv", with_symbol)
    with pytest.raises(BarContractError, match=r"2 bars in 2 files.*A 2024-01-02 in a\.csv and b\.csv"):
        read_bars(csv_universe(tmp_path / "*.csv"))


def test_files_that_name_a_column_differently_are_noted(tmp_path: Path) -> None:
    write(tmp_path / "A.csv", HEADER + TWO_ROWS)
    write(tmp_path / "B.csv", HEADER.replace("Volume", "Vol") + TWO_ROWS)
    read = read_bars(csv_universe(tmp_path / "*.csv"))
    assert "B.csv: volume is 'Vol', elsewhere 'Volume'" in read.notes


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "A.csv", HEADER + TWO_ROWS)
    assert read_year(csv_universe(path), "2024").bars["close"].to_list() == [10.5, 11.0]
    write(path, HEADER + TWO_ROWS.replace("10.5,5.25", "10.6,5.25"))
    assert read_year(csv_universe(path), "2024").bars["close"].to_list() == [10.6, 11.0]


def test_a_file_is_described_well_enough_to_make_a_universe_of_it(tmp_path: Path) -> None:
    read_bars(BOKEH).bars.rename({"session": "Date"}).write_parquet(tmp_path / "f.parquet")
    summary = describe_file(tmp_path / "f.parquet")
    assert summary.symbols == ("AAPL", "GOOG", "IBM", "MSFT")
    assert (summary.start, summary.end, summary.n_rows) == (date(2000, 3, 1), date(2013, 3, 1), 11958)
    assert summary.columns["session"] == "Date"
    assert describe_file(write(tmp_path / "Z.csv", HEADER + TWO_ROWS)).symbols == ("Z",)
    with pytest.raises(SourceError, match="at least one row"):
        describe_file(write(tmp_path / "E.csv", HEADER))


def test_a_synthetic_universe_is_read_with_what_was_planted_in_its_notes() -> None:
    source = SyntheticSource.model_validate(
        {
            "kind": "synthetic",
            "seed": 3,
            "n_symbols": 3,
            "edge": {"transient_sd": 0.02, "half_life_sessions": 5},
            "drift": {"start": "2024-06-03"},
            "defects": [{"kind": "zero_volume", "symbol": 1, "session": 4}],
        }
    )
    read = read_bars(universe(source, symbols=("S001",)))
    assert read.bars["symbol"].unique().to_list() == ["S001"]
    assert read.provider == "synthetic seed 3"
    for planted in (
        "planted edge: transient sd 0.02",
        "planted drift from 2024-06-03",
        "zero_volume, symbol 1",
    ):
        assert any(planted in note for note in read.notes)


@pytest.mark.parametrize(
    ("kind", "diagnosis"),
    [
        ("null_close", r"row 5, column close, value nothing \(missing value\)"),
        ("negative_price", r"row 5, column close, value '-.*\(not positive\)"),
        ("high_below_low", r"row 5, column high.*\(high below low\)"),
        ("duplicate_row", r"row 6, column symbol, session, value 'S000 .*\(repeats row 5\)"),
    ],
)
def test_a_planted_defect_that_breaks_the_contract_is_refused(kind: str, diagnosis: str) -> None:
    defect = PlantedDefect.model_validate({"kind": kind, "symbol": 0, "session": 4})
    source = SyntheticSource(kind="synthetic", seed=3, n_symbols=2, defects=(defect,))
    with pytest.raises(BarContractError, match=diagnosis):
        read_bars(universe(source))
