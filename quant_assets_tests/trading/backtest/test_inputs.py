"""Tables that cannot be judged are refused with the row, the column and what to do."""

from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from quant_assets.common.errors import BarContractError, SourceError, ValidationError
from quant_assets.trading.backtest import BacktestSettings, panel_of, read_panel, run_backtest
from quant_assets_tests.trading.backtest.tables import market, three_symbols

HEADER = "symbol,session,score,forward_return\n"
GOOD = "A,2024-01-02,1,0.1\nB,2024-01-02,2,0.2\nA,2024-01-03,1,0.1\n"


def csv(folder: Path, text: str, name: str = "data.csv") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("rows", "place", "told"),
    [
        (",2024-01-03,2,0.1\n", "row 4, column 'symbol'", "found nothing"),
        ("B,,2,0.1\n", "row 4, column 'session'", "expected a session in every row; found nothing"),
        ("B,03/01/2024,2,0.1\n", "row 4, column 'session'", "year first, as 2024-07-03; found '03/01/2024'"),
        ("B,2024-02-30,2,0.1\n", "row 4, column 'session'", "found '2024-02-30'"),
        ("B,2024-01-03,high,0.1\n", "row 4, column 'score'", "found 'high'"),
        (
            "B,2024-01-03,inf,0.1\n",
            "row 4, column 'score'",
            "expected a finite number, or nothing; found 'inf'",
        ),
        ("B,2024-01-03,2,-5.3\n", "row 4, column 'forward_return'", "not below -1 (-100 %); found '-5.3'"),
        ('B,2024-01-03,2,"0,1"\n', "row 4, column 'forward_return'", "with a decimal point"),
        ("B,2024-01-02,2,0.1\n", "row 4", "found B on 2024-01-02, which row 2 has"),
        (
            "A,2024-01-03,2,0.1\nB,2024-01-02,2,0.1\n",
            "row 4",
            "A on 2024-01-03, which row 3 has, and 1 more repeated rows",
        ),
        ("B,2024-01-03,x,0.1\nC,2024-01-03,y,0.1\n", "row 4, column 'score'", "'x', and 1 more such rows"),
    ],
)
def test_a_broken_row_is_named(tmp_path: Path, rows: str, place: str, told: str) -> None:
    file = csv(tmp_path, HEADER + GOOD + rows)
    with pytest.raises(ValidationError) as refused:
        read_panel(file)
    assert str(refused.value).startswith(f"[QA601] {file}: {place}")
    assert told in str(refused.value)
    assert "nothing was computed" in str(refused.value)


@pytest.mark.parametrize("absent", ["", "NaN", "nan", "NA", "n/a", "NULL", "None", "  "])
def test_the_usual_ways_to_write_nothing_are_read_as_nothing(tmp_path: Path, absent: str) -> None:
    panel = read_panel(csv(tmp_path, HEADER + GOOD + f"B,2024-01-03,{absent},{absent}\n"))
    assert np.isnan(panel.score[1, 1])
    assert panel.forward_return is not None
    assert np.isnan(panel.forward_return[1, 1])
    assert panel.listed.all()


def test_a_cut_line_is_refused_by_number(tmp_path: Path) -> None:
    with pytest.raises(BarContractError, match="line 5 has 2"):
        read_panel(csv(tmp_path, HEADER + GOOD + "B,2024-01\n"))


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"", b"\x1f\x8bdamaged"])
def test_bytes_that_are_no_csv_are_a_source_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes(content)
    with pytest.raises(SourceError, match=r"data\.csv"):
        read_panel(file)


def test_a_truncated_parquet_file_is_a_source_error(tmp_path: Path) -> None:
    file = tmp_path / "data.parquet"
    three_symbols().write_parquet(file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(SourceError, match="a complete Parquet file"):
        read_panel(file)


def test_a_missing_file_and_a_folder_are_source_errors(tmp_path: Path) -> None:
    for file in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(SourceError, match="expected a readable file"):
            read_panel(file)


def test_a_header_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="at least one row; found a header only"):
        read_panel(csv(tmp_path, HEADER))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["symbol", "session", "forward_return"], "column score"),
        (["session", "score", "forward_return"], "column symbol"),
        (["symbol", "session", "score"], r"column forward_return \(or close\)"),
        (["symbol", "session", "score", "open"], r"column forward_return \(or close\)"),
        (["symbol", "date", "session", "score", "close"], "'session' and 'date'|'date' and 'session'"),
        (["symbol", "session", "score", "prediction", "close"], "'score' and 'prediction'"),
    ],
)
def test_a_missing_or_ambiguous_column_is_named(columns: list[str], told: str) -> None:
    with pytest.raises(ValidationError, match=told) as refused:
        panel_of(pl.DataFrame({name: ["1"] for name in columns}), name="t")
    assert "--column" in str(refused.value)


def test_usual_names_and_given_names_are_understood() -> None:
    frame = three_symbols().rename(
        {"symbol": "Ticker", "session": "Date", "score": "my_model", "forward_return": "Fwd Ret"}
    )
    panel = panel_of(frame, name="t", columns={"score": "my_model"})
    assert dict(panel.facts.columns) == {
        "symbol": "Ticker",
        "session": "Date",
        "score": "my_model",
        "forward_return": "Fwd Ret",
    }
    assert panel.score.tolist() == [[3, 2, 1], [1, 3, 2], [1, 1, 0]]


@pytest.mark.parametrize("mapping", [{"score": "absent"}, {"rating": "score"}])
def test_a_given_name_that_does_not_exist_is_refused(mapping: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="column option"):
        panel_of(three_symbols(), name="t", columns=mapping)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("close", 0.0, "a number above zero; found 0.0"),
        ("open", -1.0, "a number above zero"),
        ("volume", -1.0, "a volume of zero or more"),
        ("market_cap", 0.0, "a number above zero"),
        ("close", float("inf"), "a finite number"),
    ],
)
def test_impossible_prices_volumes_and_sizes_are_refused(column: str, value: float, told: str) -> None:
    frame = market(5, 2).with_columns(
        pl.when(pl.int_range(pl.len()) == 3).then(value).otherwise(pl.col(column)).alias(column)
    )
    with pytest.raises(ValidationError, match=told) as refused:
        panel_of(frame, name="t")
    assert f"row 4, column '{column}'" in str(refused.value)


def test_a_gap_in_adjusted_closes_is_refused() -> None:
    frame = market(3, 2).with_columns(adj_close=pl.when(pl.int_range(pl.len()) != 4).then(pl.col("close")))
    with pytest.raises(ValidationError, match="row 5, column 'adj_close'"):
        panel_of(frame, name="t")


def test_a_column_of_a_type_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError, match="expected numbers; found values of type Boolean"):
        panel_of(three_symbols().with_columns(score=pl.lit(value=True)), name="t")


@pytest.mark.parametrize(
    ("changes", "settings", "told"),
    [
        ({"score": None}, {}, "some scores; found none"),
        ({}, {"returns_from": "prices"}, "a column close"),
        ({}, {"horizon_sessions": 2, "top_k": 1}, None),
        ({}, {"horizon_sessions": 3}, "at least two periods of 3 session"),
        ({"forward_return": None}, {}, "at least two periods"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    changes: dict[str, None], settings: dict[str, Any], told: str | None
) -> None:
    frame = three_symbols().with_columns(
        pl.lit(value, dtype=pl.Float64).alias(name) for name, value in changes.items()
    )
    panel, asked = panel_of(frame, name="t"), BacktestSettings(**settings)
    if told is None:
        assert run_backtest(panel, asked).period_sessions == 2
    else:
        with pytest.raises(ValidationError, match=told):
            run_backtest(panel, asked)


def test_returns_asked_for_that_the_file_lacks_are_refused() -> None:
    panel = panel_of(market(5, 2), name="t")
    with pytest.raises(ValidationError, match="a column forward_return"):
        run_backtest(panel, BacktestSettings(returns_from="forward_return"))


def test_parquet_and_csv_give_the_same_numbers(tmp_path: Path) -> None:
    frame = market(40, 4).with_columns(session=pl.col("session").cast(pl.Datetime("ns", "UTC")))
    frame.write_parquet(tmp_path / "d.parquet")
    csv_frame = frame.with_columns(session=pl.col("session").dt.strftime("%Y-%m-%d"))
    csv_frame.write_csv(tmp_path / "d.csv")
    reports = [
        run_backtest(read_panel(tmp_path / name), BacktestSettings(top_k=2, extended_metrics=True))
        for name in ("d.parquet", "d.csv")
    ]
    assert reports[0].model == reports[1].model
    assert reports[0].by_session is not None
    assert reports[1].by_session is not None
    assert reports[0].by_session.session == reports[1].by_session.session


def test_two_times_of_one_day_are_one_session_twice() -> None:
    frame = pl.DataFrame(
        {
            "symbol": ["A", "A"],
            "session": [datetime(2024, 1, 2, 9), datetime(2024, 1, 2, 16)],
            "score": [1.0, 2.0],
            "forward_return": [0.0, 0.0],
        }
    )
    with pytest.raises(ValidationError, match="A on 2024-01-02, which row 1 has"):
        panel_of(frame, name="t")


def test_a_panel_with_gaps_keeps_absent_apart_from_empty() -> None:
    frame = three_symbols().filter((pl.col("symbol") != "B") | (pl.col("session") != date(2024, 1, 2)))
    panel = panel_of(frame.with_columns(pl.col("score").replace(2.0, None)), name="t")
    assert panel.listed.tolist() == [[True, True, True], [True, False, True], [True, True, True]]
    assert np.isnan(panel.score).sum() == 3  # B and C without a number, B without a row
