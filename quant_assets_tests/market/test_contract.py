"""What is a bar, what is not, and how a source's columns become ours."""

from datetime import date, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import BarContractError
from quant_assets.market.parsing import RAW_SCHEMA
from quant_assets.market.sources.contract import conform, validate_bars


def rows(n: int = 4, **changed: list[Any]) -> pl.DataFrame:
    columns: dict[str, list[Any]] = {
        "symbol": ["A"] * n,
        "session": [date(2024, 1, 2 + k) for k in range(n)],
        "open": [10.0] * n,
        "high": [11.0] * n,
        "low": [9.0] * n,
        "close": [10.5] * n,
        "volume": [1000.0] * n,
    }
    return pl.DataFrame(columns | changed, strict=False)


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.all().cast(pl.String))


def test_valid_rows_come_back_typed_and_sorted_with_a_null_adjusted_close() -> None:
    bars = validate_bars(as_text(rows(symbol=["B", "B", "A", "A"])), origin="f.csv")
    assert bars.schema == RAW_SCHEMA
    assert bars["symbol"].to_list() == ["A", "A", "B", "B"]
    assert bars["session"].to_list() == [date(2024, 1, d) for d in (4, 5, 2, 3)]
    assert bars["adj_close"].null_count() == 4


DEFECTS: list[tuple[str, list[Any], str]] = [
    ("close", [10, None, 10, 10], r"row 2, column close, value nothing \(missing value\)"),
    ("close", [10, 10, float("nan"), 10], r"row 3, column close, value 'NaN' \(not finite\)"),
    ("open", [10, 10, 10, float("inf")], r"row 4, column open, value 'inf' \(not finite\)"),
    ("low", [9, -9, 9, 9], r"row 2, column low, value '-9' \(not positive\)"),
    ("close", [0, 10, 10, 10], r"row 1, column close, value '0' \(not positive\)"),
    ("high", [11, 8, 11, 11], r"row 2, column high, value '8' \(high below low\)"),
    ("volume", [1, 2, 3, -4], r"row 4, column volume, value '-4' \(negative\)"),
    ("volume", [1, None, 3, 4], r"row 2, column volume, value nothing \(missing value\)"),
    ("volume", ["1", "1,200", "3", "4"], r"row 2, column volume, value '1,200' \(thousands separator\)"),
    ("close", ["10", "10", "null", "10"], r"row 3, column close, value 'null' \(no value but a word\)"),
    ("symbol", ["A", None, "A", "A"], r"row 2, column symbol, value nothing \(missing value\)"),
    ("symbol", ["A", "  ", "A", "A"], r"row 2, column symbol, value nothing \(missing value\)"),
    (
        "session",
        ["2024-01-02", "01/03/2024", "2024-01-04", "2024-01-05"],
        r"value '01/03/2024' \(another date format",
    ),
    (
        "session",
        ["2024-01-02", "2024-02-30", "2024-01-04", "2024-01-05"],
        r"value '2024-02-30' \(unparsable date",
    ),
    (
        "session",
        ["2024-01-02", "2024-01/03", "2024-01-04", "2024-01-05"],
        r"value '2024-01/03' \(unparsable date",
    ),
    (
        "session",
        ["2024-01-02", None, "2024-01-04", "2024-01-05"],
        r"column session, value nothing \(missing value",
    ),
    ("adj_close", [10, None, 10, 10], r"row 2, column adj_close, value nothing \(partly missing\)"),
    ("adj_close", [10, -1, 10, 10], r"row 2, column adj_close, value '-1' \(not positive\)"),
    ("adj_close", [10, float("nan"), 10, 10], r"row 2, column adj_close, value 'NaN' \(not finite\)"),
]


@pytest.mark.parametrize(("column", "values", "diagnosis"), DEFECTS)
def test_a_broken_cell_is_refused_with_row_column_and_value(
    column: str, values: list[Any], diagnosis: str
) -> None:
    with pytest.raises(BarContractError, match=diagnosis) as refusal:
        validate_bars(rows(**{column: values}), origin="feed.csv")
    assert "feed.csv: 1 of 4 rows" in str(refusal.value)


def test_an_exact_repetition_and_a_contradiction_are_told_apart() -> None:
    days = [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 2), date(2024, 1, 3)]
    with pytest.raises(BarContractError) as refusal:
        validate_bars(rows(session=days, close=[10.0, 10.0, 10.0, 10.2]), origin="f")
    message = str(refusal.value)
    assert "repeats: 1, contradicts: 1" in message
    assert "value 'A 2024-01-02' (repeats row 1)" in message
    assert "value 'A 2024-01-03' (contradicts row 2)" in message


def test_one_frequent_problem_does_not_hide_a_rare_one() -> None:
    volume = [-1.0] * 19 + [5.0]
    close = [10.0] * 19 + [-3.0]
    frame = rows(20, session=[date(2024, 1, 2 + k) for k in range(20)], volume=volume, close=close)
    with pytest.raises(BarContractError) as refusal:
        validate_bars(frame, origin="f")
    assert "row 20, column close, value '-3.0' (not positive)" in str(refusal.value)
    assert "negative: 19, not positive: 1" in str(refusal.value)
    assert "and 15 more" in str(refusal.value)


def test_what_is_odd_but_possible_is_left_to_the_quality_rules() -> None:
    odd = rows(open=[11.5, 10, 10, 10], close=[10, 8.5, 10, 10], volume=[0, 1, 1, 1])
    assert validate_bars(odd, origin="f").height == 4


def test_two_symbols_may_differ_in_whether_they_have_an_adjusted_close() -> None:
    bars = validate_bars(rows(symbol=["A", "A", "B", "B"], adj_close=[5.0, 5.0, None, None]), origin="f")
    assert bars["adj_close"].to_list() == [5.0, 5.0, None, None]


@pytest.mark.parametrize(
    "written", ["2024-07-03", "20240703", "2024/07/03", "2024-07-03 13:30:00", "2024-07-03T00:00:00-04:00"]
)
def test_a_date_is_read_year_first_and_a_time_of_day_is_dropped(written: str) -> None:
    bars = validate_bars(rows(1, session=[written]), origin="f")
    assert bars["session"].to_list() == [date(2024, 7, 3)]


def test_an_aware_timestamp_keeps_the_day_of_its_own_time_zone() -> None:
    # Midnight in Tokyo is the day before in UTC.
    moment = pl.Series([datetime(2024, 7, 3)]).dt.replace_time_zone("Asia/Tokyo")
    assert validate_bars(rows(1).with_columns(session=moment), origin="f")["session"].to_list() == [
        date(2024, 7, 3)
    ]


def test_a_column_of_a_type_that_is_no_number_is_refused_by_type() -> None:
    with pytest.raises(BarContractError, match=r"column 'close'.*type List"):
        validate_bars(rows(1).with_columns(close=pl.Series([[1.0]])), origin="f")
    with pytest.raises(BarContractError, match=r"column 'volume'.*type Boolean"):
        validate_bars(rows(1).with_columns(volume=pl.Series([True])), origin="f")


def test_a_missing_column_is_refused() -> None:
    with pytest.raises(BarContractError, match="column 'close'"):
        validate_bars(rows().drop("close"), origin="f")


def test_usual_column_names_are_recognised_and_reported() -> None:
    theirs = ["Ticker", "Date", "Open", "High", "Low", "Close", "Vol", "Adj Close", "Sector"]
    frame = pl.DataFrame({name: ["1"] for name in theirs})
    conformed = conform(frame, origin="f")
    assert conformed.column_mapping == {
        "symbol": "Ticker",
        "session": "Date",
        "open": "Open",
        "high": "High",
        "low": "Low",
        "close": "Close",
        "volume": "Vol",
        "adj_close": "Adj Close",
    }
    assert conformed.bars.columns == list(RAW_SCHEMA)
    assert conformed.ignored_columns == ("Sector",)


@pytest.mark.parametrize(
    "name", ["Adj Close", "adj_close", "adjclose", "Adjusted_close", "ADJ. CLOSE", "closeadj", "AdjClose"]
)
def test_every_usual_spelling_of_the_adjusted_close_is_recognised(name: str) -> None:
    frame = as_text(rows()).with_columns(pl.lit("1").alias(name))
    assert conform(frame, origin="f").column_mapping["adj_close"] == name


def test_a_missing_required_column_names_the_file_its_columns_and_the_remedy() -> None:
    with pytest.raises(BarContractError) as refusal:
        conform(rows().drop("close").rename({"open": "First"}), origin="mine.csv")
    message = str(refusal.value)
    assert "mine.csv: column 'open', 'close'" in message
    assert "'First'" in message
    assert "set `columns:` in the universe YAML" in message


def test_two_columns_that_could_be_the_session_are_refused_until_one_is_named() -> None:
    frame = rows().with_columns(Date=pl.col("session")).rename({"session": "timestamp"})
    with pytest.raises(BarContractError, match=r"column 'session'.*'timestamp' and 'Date'"):
        conform(frame, origin="f")
    assert conform(frame, origin="f", mapping={"session": "Date"}).column_mapping["session"] == "Date"


def test_a_mapping_to_a_column_that_is_not_there_names_the_closest() -> None:
    with pytest.raises(BarContractError, match=r"`open: opening`.*did you mean 'open'"):
        conform(rows(), origin="f", mapping={"open": "opening"})
    with pytest.raises(BarContractError, match=r"`clse: close`.*did you mean 'close'"):
        conform(rows(), origin="f", mapping={"clse": "close"})


def test_without_a_symbol_column_the_given_symbol_is_used() -> None:
    conformed = conform(rows().drop("symbol"), origin="f", symbol="XYZ")
    assert conformed.bars["symbol"].to_list() == ["XYZ"] * 4
    assert "symbol" not in conformed.column_mapping
    with pytest.raises(BarContractError, match="column 'symbol'"):
        conform(rows().drop("symbol"), origin="f")


def test_a_table_of_no_readable_date_is_refused_as_any_other() -> None:
    with pytest.raises(BarContractError, match=r"4 of 4 rows are no bars \(ambiguous date: 4\)"):
        validate_bars(rows(session=["03/04/2024", "04/04/2024", "05/04/2024", "06/04/2024"]), origin="f")


def test_many_repetitions_are_counted_and_said_to_be_appended_downloads() -> None:
    twice = pl.concat([as_text(rows(20, session=[date(2024, 1, 2 + k) for k in range(20)]))] * 2)
    with pytest.raises(BarContractError, match=r"repeats: 20\).*20 of 20 sessions stand up to 2 times;"):
        validate_bars(twice, origin="f")


@pytest.mark.parametrize("last", ["2024-01-21 14:30:00", "2024-01-21 13:30:00", "2024-01-21 21:30:00"])
def test_a_stamp_off_by_whole_hours_is_another_zone_and_no_running_session(last: str) -> None:
    stamps = [f"2024-01-{2 + k:02d} 14:30:00" for k in range(19)] + [last]
    assert validate_bars(rows(20, session=stamps), origin="f").height == 20
    with pytest.raises(BarContractError, match=r"row 20, column session, value .* \(unfinished session\)"):
        validate_bars(rows(20, session=[*stamps[:-1], "2024-01-21 16:48:07"]), origin="f")


def test_a_running_session_is_known_by_typed_stamps_too() -> None:
    stamps = [datetime(2024, 1, 2 + k, 14, 30) for k in range(19)] + [datetime(2024, 1, 21, 16, 48, 7)]
    with pytest.raises(BarContractError, match="unfinished session: 1"):
        validate_bars(rows(20, session=stamps), origin="f")


def test_a_tick_feed_of_many_stamps_tells_nothing_of_its_last_one() -> None:
    stamps = [f"2024-01-{2 + k:02d} 14:{30 + k}:00" for k in range(20)]
    assert validate_bars(rows(20, session=stamps), origin="f").height == 20


def test_the_rarer_spelling_of_a_symbol_is_refused() -> None:
    with pytest.raises(
        BarContractError, match=r"row 3, column symbol, value 'brk.b' \(differs only in case\)"
    ):
        validate_bars(rows(symbol=["BRK.B", "BRK.B", "brk.b", "BRK.B"]), origin="f")


price = st.floats(min_value=1e-4, max_value=1e6, allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(
    bars=st.lists(st.tuples(price, price, price, price, st.integers(0, 10**12)), min_size=1, max_size=25),
    broken=st.sampled_from(["open", "high", "low", "close", "volume", "session", "symbol", "duplicate"]),
    where=st.integers(0, 24),
)
def test_any_valid_frame_passes_and_any_single_defect_in_it_is_refused(
    bars: list[tuple[float, float, float, float, int]], broken: str, where: int
) -> None:
    n, at = len(bars), where % len(bars)
    frame = rows(
        n,
        session=[date(2024, 1, 2 + k) for k in range(n)],
        open=[b[0] for b in bars],
        high=[max(b[:4]) for b in bars],
        low=[min(b[:4]) for b in bars],
        close=[b[3] for b in bars],
        volume=[float(b[4]) for b in bars],
    )
    assert (
        validate_bars(frame, origin="f")
        .sort("session")
        .equals(frame.with_columns(adj_close=pl.lit(None, dtype=pl.Float64)))
    )
    if broken == "duplicate":
        spoiled = pl.concat([frame, frame.slice(at, 1)])
    else:
        here = pl.int_range(pl.len()) == at
        spoiled = frame.with_columns(pl.when(~here).then(pl.col(broken)).alias(broken))
    with pytest.raises(BarContractError, match=f"row {n + 1 if broken == 'duplicate' else at + 1}, column"):
        validate_bars(spoiled, origin="f")


def test_a_feed_without_volume_is_told_that_nothing_is_judged_without_costs() -> None:
    frame = pl.DataFrame(
        {"symbol": ["A"], "date": ["2021-01-04"], "open": [1.0], "high": [1.0], "low": [1.0], "close": [1.0]}
    )
    with pytest.raises(
        BarContractError, match=r"column 'volume': expected what was traded.*its future or fund"
    ):
        conform(frame, origin="index.csv")
