"""Bars that cannot give features are refused with the column, the row and the value."""

from datetime import date

import polars as pl
import pytest

from quant_assets.common.errors import FeatureError
from quant_assets.features import compute
from quant_assets_tests.features.panels import random_walks

BARS = random_walks(3, 40)


def with_value(column: str, value: object) -> pl.DataFrame:
    row = pl.int_range(pl.len()) == 50
    return BARS.with_columns(
        pl.when(row).then(pl.lit(value, BARS.schema[column])).otherwise(pl.col(column)).alias(column)
    )


@pytest.mark.parametrize("column", ["symbol", "session", "open", "high", "low", "close", "volume"])
def test_a_missing_column_is_named(column: str) -> None:
    with pytest.raises(FeatureError, match=rf"found no {column} among"):
        compute(BARS.drop(column))


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -1.0])
def test_a_value_that_is_no_number_is_named_with_its_symbol_and_session(
    column: str, value: float | None
) -> None:
    with pytest.raises(
        FeatureError, match=rf"column '{column}'.*symbol 'S001' in session 1970-01-11 \(row 50\)"
    ):
        compute(with_value(column, value))


@pytest.mark.parametrize("column", ["open", "high", "low", "close"])
def test_a_price_of_zero_is_refused(column: str) -> None:
    with pytest.raises(FeatureError, match=rf"column '{column}'.*found 0.0"):
        compute(with_value(column, 0.0))


def test_a_volume_of_zero_is_a_volume() -> None:
    assert compute(with_value("volume", 0.0)).height == 120


@pytest.mark.parametrize("column", ["symbol", "session"])
def test_a_null_key_is_refused(column: str) -> None:
    with pytest.raises(FeatureError, match=rf"column '{column}'.*a value in every row.*row 50"):
        compute(with_value(column, None))


def test_the_number_of_further_bad_bars_is_told() -> None:
    with pytest.raises(FeatureError, match="and 119 more"):
        compute(BARS.with_columns(close=pl.lit(float("nan"))))


def test_two_bars_of_a_symbol_in_one_session_are_refused() -> None:
    twice = pl.concat([BARS, BARS[50:51], BARS[50:51], BARS[90:91]])
    with pytest.raises(FeatureError, match="3 bars of symbol 'S001' in session 1970-01-11 and 1 more"):
        compute(twice)


def test_a_repeated_bar_beside_its_twin_is_refused_too() -> None:
    with pytest.raises(FeatureError, match="2 bars of symbol 'S000' in session 1970-01-01"):
        compute(pl.concat([BARS[:1], BARS]))


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(FeatureError, match="an empty frame"):
        compute(BARS[:0])


@pytest.mark.parametrize(
    ("column", "dtype", "kind"),
    [("symbol", pl.Int64, "text"), ("session", pl.String, "dates"), ("close", pl.String, "numbers")],
)
def test_a_column_of_the_wrong_kind_is_refused(column: str, dtype: type[pl.DataType], kind: str) -> None:
    wrong = BARS.with_columns(pl.lit("1").cast(dtype).alias(column))
    with pytest.raises(FeatureError, match=rf"column '{column}'.*expected {kind}"):
        compute(wrong)


def test_timestamps_serve_as_sessions() -> None:
    stamped = BARS.with_columns(pl.col("session").cast(pl.Datetime("us", "UTC")))
    features = compute(stamped)
    assert features.schema["session"] == pl.Datetime("us", "UTC")
    assert features["session"][0].date() == date(1970, 1, 1)
