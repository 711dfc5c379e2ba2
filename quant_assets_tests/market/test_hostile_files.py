"""Bar files that were made to harm, or only look like bars: one short error each, within bounds of memory."""

import gzip
import resource
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from quant_assets.common.errors import BarContractError, QuantAssetsError, SourceError
from quant_assets.common.settings import CsvSource, ParquetSource
from quant_assets.market.sources import plain_text, tables
from quant_assets.market.sources.bar_files import read_bar_file
from quant_assets.market.sources.delimited import read_delimited

HEADER = "symbol,session,open,high,low,close,volume"
ROW = "A,2024-01-02,10,11,9,10,100"


def read_csv(folder: Path, content: str | bytes, name: str = "bars.csv") -> pl.DataFrame:
    file = folder / name
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_bar_file(file, CsvSource(kind="csv", path=str(file))).bars


def refusal(folder: Path, content: str | bytes) -> QuantAssetsError:
    """The one short error about a CSV file."""
    started = time.monotonic()
    with pytest.raises((SourceError, BarContractError)) as caught:
        read_csv(folder, content)
    assert time.monotonic() - started < 20
    assert len(str(caught.value)) < 1500
    return caught.value


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('"A,2024-01-02,10,11,9,10,100', "line 2 has 7: '\"A"),
        ('A",2024-01-02,10,11,9,10,100', "line 2 has 7"),
        ('"A"x,2024-01-02,10,11,9,10,100', "line 2 has 7"),
        ('"A""",2024-01-02,10,11,9,10,100', "no symbol"),
        ("A\0,2024-01-02,10,11,9,10,100", "U+0000 in line 2"),
        ("\u202eA,2024-01-02,10,11,9,10,100", "U+202E in line 2"),
        ("A\r,2024-01-02,10,11,9,10,100", "a carriage return inside a line"),
        ("=1+1,2024-01-02,10,11,9,10,100", "value '=1+1' (no symbol)"),
        ("@SUM(A1),2024-01-02,10,11,9,10,100", "(no symbol)"),
        ("-A,2024-01-02,10,11,9,10,100", "(no symbol)"),
        ("A B,2024-01-02,10,11,9,10,100", "(no symbol)"),
        (f"{'A' * 33},2024-01-02,10,11,9,10,100", "(no symbol)"),
        ("Ä,2024-01-02,10,11,9,10,100", "(no symbol)"),
        ("A,9999-12-31,10,11,9,10,100", "value '9999-12-31' (impossible date)"),
        ("A,0001-01-01,10,11,9,10,100", "(impossible date)"),
        ("A,2024-01-02 99:99 xyz,10,11,9,10,100", "(unparsable date)"),
        ("A,２０２４-01-02,10,11,9,10,100", "(unparsable date)"),
        ("A,2024-01-02,10,11,9,10,1e300", "value '1e300' (too large)"),
        ("A,2024-01-02,10,11,9,10,1e400", "(not finite)"),
        ("A,2024-01-02,10,11,9,10,3.5e-310", "(too small)"),
        (f"A,{'9' * 5000},10,11,9,10,100", "(5002 characters) (unparsable date)"),
        ("A,2024-01-02,10,11,9,10,0x10", "(unparsable number)"),
    ],
)
def test_a_row_that_is_no_bar_is_named(tmp_path: Path, row: str, said: str) -> None:
    assert said in str(refusal(tmp_path, f"{HEADER}\n{row}\n"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{HEADER}\n{ROW}".encode("utf-16")[:-1], "UTF-16 text, as its first two bytes say"),
        (f"{HEADER}\nA\x81,".encode("latin-1"), "byte 0x81"),
        (f"{HEADER}\nÄ,2024-01-02,10,11,9,10,100".encode("latin-1"), "value 'Ä' (no symbol)"),
        (gzip.compress(f"{HEADER}\n{ROW}".encode(), mtime=0)[:-9], "do not unpack"),
        (gzip.compress(b"x" * 1000, mtime=0)[:12] + b"\xff" * 30, "do not unpack"),
        (",".join(f"c{n}" for n in range(10_001)), "10001 columns"),
        (f"{HEADER}\n{'A' * 600_000}\n", "line 2 of 600000 characters"),
        ("cl\0ose", "U+0000 in line 1"),
        ("", "an empty file"),
        (f'{HEADER},"note\n{ROW},x', "line 1 has 8"),
    ],
)
def test_a_file_that_is_no_table_is_refused_before_it_is_parsed(
    tmp_path: Path, content: str | bytes, said: str
) -> None:
    assert said in str(refusal(tmp_path, content))


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "MAX_TEXT_BYTES", 8 << 20)
    bomb = gzip.compress(b"0" * (256 << 20), compresslevel=1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "at most 8388608 bytes; found more, unpacked" in str(refusal(tmp_path, bomb))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # kB


def test_legal_tickers_that_look_like_other_things_are_read_as_text(tmp_path: Path) -> None:
    names = [
        "0700.HK",
        "7203",
        "BF/B",
        "BRK.B",
        "ES=F",
        "INF",
        "NA",
        "NAN",
        "NULL",
        "ON",
        "RDS-A",
        "TRUE",
        "^GSPC",
    ]
    rows = "\n".join(f"{name},2024-01-02,10,11,9,10,100" for name in names)
    assert read_csv(tmp_path, f"{HEADER}\n{rows}\n")["symbol"].to_list() == names


def test_quotes_that_are_whole_and_dates_with_a_clock_are_read(tmp_path: Path) -> None:
    rows = (
        '"A","2024-01-02",10,"11",9,10,100\n'
        "A,2024-01-03T16:00:00-05:00,10,11,9,10,100\n"
        "A,2024-01-04 04:00 PM EST,10,11,9,10,1\n"
    )
    assert read_csv(tmp_path, f"{HEADER}\n{rows}")["session"].dt.day().to_list() == [2, 3, 4]


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    file.write_text(HEADER)
    frame = read_delimited(file, delimiter=",")
    assert (frame.height, frame.columns) == (0, HEADER.split(","))


# --------------------------------------------------------------------------------------------------- Parquet


def read_parquet(folder: Path, frame: pl.DataFrame | bytes, **options: Any) -> pl.DataFrame:
    file = folder / "bars.parquet"
    if isinstance(frame, bytes):
        file.write_bytes(frame)
    else:
        frame.write_parquet(file, **options)
    return read_bar_file(file, ParquetSource(kind="parquet", path=str(file))).bars


def bars() -> pl.DataFrame:
    return pl.DataFrame({"symbol": ["A"], "session": ["2024-01-02"], "open": 10.0, "high": 11.0, "low": 9.0,
                         "close": 10.0, "volume": 100})  # fmt: skip


def test_a_parquet_file_is_read_whatever_types_it_has(tmp_path: Path) -> None:
    whole = read_parquet(tmp_path, bars()).rows()
    categorical = bars().with_columns(pl.col("symbol").cast(pl.Categorical), pl.col("volume").cast(pl.UInt32))
    stamped = bars().with_columns(
        pl.col("session").str.to_datetime().dt.replace_time_zone("America/New_York")
    )
    assert read_parquet(tmp_path, categorical).rows() == whole
    assert read_parquet(tmp_path, stamped).rows() == whole


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pl.DataFrame({f"c{n}": [1] for n in range(10_001)}), "10001 columns"),
        (bars().rename({"close": "cl\0ose"}), "U+0000"),
        (bars().with_columns(symbol=pl.lit("=1+1")), "(no symbol)"),
        (b"PAR1" + b"\xff" * 200 + b"PAR1", "a Parquet file of 208 bytes, cut off or damaged"),
        (b"", "a complete Parquet file"),
        (HEADER.encode(), "text that begins with 'symbol"),
    ],
)
def test_a_parquet_file_that_is_none_of_bars_is_refused(
    tmp_path: Path, frame: pl.DataFrame | bytes, said: str
) -> None:
    with pytest.raises((SourceError, BarContractError)) as caught:
        read_parquet(tmp_path, frame)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_a_parquet_file_that_would_unpack_to_too_much_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_PARQUET_BYTES", 1 << 20)
    wide = pl.DataFrame(
        {"symbol": pl.repeat("A", 1_000_000, eager=True), "close": pl.arange(0, 1_000_000, eager=True)}
    )
    with pytest.raises(SourceError, match="1048576 bytes when unpacked"):
        read_parquet(tmp_path, wide)
