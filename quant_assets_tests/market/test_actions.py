"""Splits and dividends read from the adjusted close, and bars adjusted by them."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import CalendarError
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.actions import ACTIONS_SCHEMA, adjust_bars, derive_corporate_actions, read_actions
from quant_assets.market.sources.contract import validate_bars
from quant_assets.market.sources.sources import read_bars


@pytest.fixture(scope="module")
def packaged() -> pl.DataFrame:
    return read_bars(
        UniverseConfig.model_validate(
            {
                "name": "packaged",
                "source": {"kind": "bokeh_sampledata"},
                "start": "2000-03-01",
                "end": "2013-03-01",
            }
        )
    ).bars


def history(closes: list[float], adjusted: list[float | None]) -> pl.DataFrame:
    """One symbol on consecutive days."""
    days = [date(2024, 1, 2) + timedelta(days=k) for k in range(len(closes))]
    frame = pl.DataFrame({"session": days, "close": closes, "adj_close": adjusted}).with_columns(
        pl.lit("A").alias("symbol"),
        pl.lit(100.0).alias("volume"),
        *(pl.col("close").alias(name) for name in ("open", "high", "low")),
    )
    return validate_bars(frame, origin="history")


def vendor(closes: list[float], steps: dict[int, float], decimals: int | None = None) -> pl.DataFrame:
    """Bars whose adj_close grows against close by ``steps`` (position of the ex-date to growth)."""
    ratio, adjusted = 1.0, []
    for position in range(len(closes) - 1, -1, -1):
        adjusted.append(closes[position] * ratio)
        ratio /= steps.get(position, 1.0)
    adjusted.reverse()
    return history(closes, [round(a, decimals) if decimals is not None else a for a in adjusted])


def splits(actions: pl.DataFrame) -> list[tuple[str, date, float]]:
    return actions.filter(pl.col("kind") == "split").select("symbol", "session", "ratio").rows()


REAL_SPLITS = [
    ("AAPL", date(2000, 6, 21), 2.0),
    ("AAPL", date(2005, 2, 28), 2.0),
    ("MSFT", date(2003, 2, 18), 2.0),
]


def test_the_three_real_splits_are_found_and_the_crash_of_29_september_2000_is_none(
    packaged: pl.DataFrame,
) -> None:
    actions = derive_corporate_actions(packaged)
    assert splits(actions) == REAL_SPLITS
    assert actions.filter(pl.col("session") == date(2000, 9, 29)).is_empty()
    assert actions.schema == ACTIONS_SCHEMA


def test_real_dividends_are_quarterly(packaged: pl.DataFrame) -> None:
    dividends = derive_corporate_actions(packaged).filter(pl.col("kind") == "dividend")
    assert dict(dividends["symbol"].value_counts().iter_rows()) == {"AAPL": 3, "IBM": 52, "MSFT": 37}
    ibm = dividends.filter(pl.col("symbol") == "IBM")
    gaps = ibm["session"].diff().drop_nulls().dt.total_days()
    assert gaps.min() >= 85
    assert gaps.max() <= 98
    # IBM paid 0.13 in May 2000 and 0.85 in February 2013; the vendor divides by the close after the ex-date.
    assert ibm["amount"][0] == pytest.approx(0.13, rel=0.03)
    assert ibm["amount"][-1] == pytest.approx(0.85, rel=0.03)


@pytest.mark.parametrize("decimals", [2, 3, 4, 6])
def test_rounding_of_the_adjusted_close_neither_adds_nor_hides_a_real_action(
    packaged: pl.DataFrame, decimals: int
) -> None:
    exact = derive_corporate_actions(packaged)
    rounded = derive_corporate_actions(packaged.with_columns(pl.col("adj_close").round(decimals)))
    assert rounded.select("symbol", "session", "kind").equals(exact.select("symbol", "session", "kind"))
    assert splits(rounded) == REAL_SPLITS


def test_adjusted_returns_equal_those_of_the_vendor(packaged: pl.DataFrame) -> None:
    bars = adjust_bars(packaged, derive_corporate_actions(packaged), "XNYS")
    ours = bars.select((pl.col("close") / pl.col("close").shift()).over("symbol"))["close"]
    theirs = packaged.select((pl.col("adj_close") / pl.col("adj_close").shift()).over("symbol"))["adj_close"]
    assert (ours / theirs - 1).abs().max() < 1e-12


def test_factors_of_real_bars_are_those_of_later_splits_and_dividends(packaged: pl.DataFrame) -> None:
    bars = adjust_bars(packaged, derive_corporate_actions(packaged), "XNYS")

    def at(symbol: str, day: date) -> dict[str, object]:
        return bars.filter(pl.col("symbol") == symbol, pl.col("session") == day).row(0, named=True)

    before, after = at("AAPL", date(2005, 2, 25)), at("AAPL", date(2005, 2, 28))
    assert (at("AAPL", date(2000, 3, 1))["volume_factor"], before["volume_factor"]) == (4.0, 2.0)
    assert after["volume_factor"] == 1.0
    assert after["price_factor"] == 2 * before["price_factor"]
    assert at("AAPL", date(2013, 3, 1))["close"] == 430.47
    assert at("GOOG", date(2004, 8, 19))["price_factor"] == 1.0
    assert after["known_at"] == datetime(2005, 2, 28, 21, 0, tzinfo=UTC)
    raw = packaged.filter(pl.col("symbol") == "AAPL", pl.col("session") == date(2000, 3, 1)).row(
        0, named=True
    )
    assert at("AAPL", date(2000, 3, 1))["volume"] == 4 * raw["volume"]


@pytest.mark.parametrize(
    ("growth", "ratio"),
    [(2, 2), (3, 3), (7, 7), (20, 20), (1.5, 1.5), (4 / 3, 4 / 3), (1.25, 1.25), (0.1, 0.1), (2 / 3, 2 / 3)],
)
def test_a_split_is_a_small_rational_that_the_price_follows(growth: float, ratio: float) -> None:
    raw = vendor([100.0, 101.0, 102.0 / growth, 101.0 / growth], {2: growth})
    actions = derive_corporate_actions(raw)
    assert actions.select("kind", "ratio", "price_factor").rows() == [
        ("split", ratio, pytest.approx(1 / ratio))
    ]
    assert actions["session"].to_list() == [date(2024, 1, 4)]


def test_a_split_and_a_dividend_on_one_day_are_two_actions() -> None:
    raw = vendor([100.0, 100.0, 49.7, 50.0], {2: 2.0 / 0.994})
    actions = derive_corporate_actions(raw)
    assert actions["kind"].to_list() == ["split", "dividend"]
    assert actions["ratio"].to_list() == [2.0, None]
    assert actions["amount"][1] == pytest.approx(0.30)  # 0.6 % of 50, the close before in new shares


def test_a_large_distribution_is_a_dividend_with_its_amount() -> None:
    # Symantec, 2020-02-03: 12 dollars out of 28.42; the ratio 1.7308 is no small rational.
    raw = vendor([28.42, 28.42, 17.15, 17.0], {2: 28.42 / 16.42})
    actions = derive_corporate_actions(raw)
    assert actions.select("kind", "ratio").rows() == [("dividend", None)]
    assert actions["amount"].item() == pytest.approx(12.0)


def test_a_spin_off_close_to_three_for_two_is_not_taken_for_a_split() -> None:
    # Kraft, 2012-10-02: the ratio was 1.499982 with prices of six decimals.
    raw = vendor([42.52, 42.1, 42.3, 42.0, 42.52, 42.52, 28.01, 28.0, 28.2, 28.1], {6: 1.499982}, decimals=6)
    assert derive_corporate_actions(raw)["kind"].to_list() == ["dividend"]


def test_rounding_noise_alone_is_no_dividend() -> None:
    closes = [1.0 + 0.01 * (k % 7) for k in range(200)]
    assert derive_corporate_actions(vendor(closes, {199: 2.7}, decimals=2).head(199)).is_empty()


@settings(max_examples=50, deadline=None)
@given(
    moves=st.lists(st.floats(-0.05, 0.05), min_size=12, max_size=40),
    where=st.integers(1, 11),
    growth=st.sampled_from([2.0, 3.0, 1.5, 0.1, 1.01, 1.0473]),
    decimals=st.sampled_from([4, 6, None]),
)
def test_one_action_in_any_history_is_found_alone_on_its_day(
    moves: list[float], where: int, growth: float, decimals: int | None
) -> None:
    closes, level = [], 80.0
    for position, move in enumerate(moves):
        level *= (1 + move) / (growth if position == where else 1.0)
        closes.append(level)
    actions = derive_corporate_actions(vendor(closes, {where: growth}, decimals))
    assert actions.height == 1
    assert actions["session"].item() == date(2024, 1, 2) + timedelta(days=where)
    assert actions["kind"].item() == ("dividend" if 1 < growth < 1.2 else "split")
    assert actions["price_factor"].item() == pytest.approx(1 / growth, rel=1e-3)


def test_without_an_adjusted_close_there_are_no_actions() -> None:
    actions = derive_corporate_actions(history([10.0, 5.0], [None, None]))
    assert actions.is_empty()
    assert actions.schema == ACTIONS_SCHEMA


@pytest.mark.parametrize(
    ("closes", "steps"),
    [
        (
            [100.0] * 9,
            {4: 0.995},
        ),  # newer download appended: its past is discounted, the older is not
        ([100.0, 100.0, 101.0], {2: 2.0}),  # adjusted for a split that the raw close never shows
        ([100.0, 100.0, 101.0], {2: 0.1}),
    ],
)
def test_a_ratio_that_no_action_can_move_is_a_contradiction_of_that_symbol_alone(
    closes: list[float], steps: dict[int, float]
) -> None:
    day = date(2024, 1, 2) + timedelta(days=next(iter(steps)))
    good = vendor([100.0, 101.0, 51.0, 50.0], {2: 2.0}).with_columns(symbol=pl.lit("B"))
    read = read_actions(pl.concat([vendor(closes, steps), good]))
    assert splits(read.actions) == [("B", date(2024, 1, 4), 2.0)]
    assert read.doubts.select("symbol", "session", "kind").rows() == [("A", day, "contradiction")]
    assert read.doubts["evidence"].item().startswith("adj_close/close x ")


def test_an_action_on_a_day_without_a_bar_takes_effect_on_the_next() -> None:
    days = [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 8)]
    raw = history([100.0, 100.0, 50.0], [None] * 3).with_columns(session=pl.Series(days))
    actions = pl.DataFrame(
        [
            ("A", date(2024, 1, 5), "split", 2.0, 0.5, None),
            ("A", date(2024, 2, 1), "split", 3.0, 1 / 3, None),
        ],
        schema=ACTIONS_SCHEMA,
        orient="row",
    )
    bars = adjust_bars(raw, actions, "XNYS")
    assert bars["close"].to_list() == [50.0, 50.0, 50.0]
    assert bars["volume"].to_list() == [200.0, 200.0, 100.0]


def test_adjustment_without_actions_changes_nothing_and_empty_bars_stay_empty() -> None:
    raw = history([10.0, 11.0], [None, None])
    none = derive_corporate_actions(raw)
    bars = adjust_bars(raw, none, "XNYS")
    assert bars["close"].to_list() == [10.0, 11.0]
    assert bars["price_factor"].to_list() == [1.0, 1.0]
    assert adjust_bars(raw.clear(), none, "XNYS").schema == bars.schema


def test_a_bar_on_a_day_when_the_exchange_was_closed_is_refused() -> None:
    raw = history([10.0] * 5, [None] * 5)  # 2024-01-02 to 01-06, a Saturday
    with pytest.raises(CalendarError, match="A 2024-01-06"):
        adjust_bars(raw, derive_corporate_actions(raw), "XNYS")
