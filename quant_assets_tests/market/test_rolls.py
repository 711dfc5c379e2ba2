"""Futures rolls by hand: which contract is held when, at which ratio, and that nothing later decides it."""

from datetime import date

import polars as pl
import pytest
from pydantic import ValidationError

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.roll_settings import ContractConfig, RollsConfig
from quant_assets.market.actions import adjust_bars
from quant_assets.market.calendar import sessions
from quant_assets.market.rolls import (
    as_actions,
    aside_of_roots,
    contracts_of,
    derive_rolls,
    front_bars,
    in_units,
    prove_rolls,
)
from quant_assets.market.set_aside import ASIDE

# Six sessions of CMES: Monday 4 to Monday 11 March 2024.
DAYS = sessions("CMES", date(2024, 3, 4), date(2024, 3, 11)).to_list()
VOLUME = RollsConfig()


def bars_of(**contracts: tuple[list[float | None], list[float]]) -> pl.DataFrame:
    """Bars of contracts: closes (None for no bar) and volumes of each session; opens a point below."""
    rows = [
        (symbol, day, close - 1.0, close, close - 1.0, close, volume, None)
        for symbol, (closes, volumes) in contracts.items()
        for day, close, volume in zip(DAYS, closes, volumes, strict=True)
        if close is not None
    ]
    names = ("symbol", "session", "open", "high", "low", "close", "volume", "adj_close")
    schema = dict.fromkeys(names, pl.Float64) | {"symbol": pl.String, "session": pl.Date}
    return pl.DataFrame(rows, schema=schema, orient="row")


# The June contract lies 2 % above; it trades more from Wednesday on (index 2).
ES = bars_of(
    ESH24=([100.0, 101.0, 102.0, 103.0, 104.0, 105.0], [90, 80, 40, 30, 20, 10]),
    ESM24=([102.0, 103.02, 104.04, 106.09, 107.12, 108.15], [10, 20, 60, 70, 80, 90]),
)


def test_the_front_is_left_the_session_after_the_next_contract_traded_more() -> None:
    (roll,) = derive_rolls(ES, VOLUME, "CMES").to_dicts()
    assert roll == {
        "root": "ES",
        "session": date(2024, 3, 7),  # Thursday: decided at Wednesday's close
        "decided_on": date(2024, 3, 6),
        "from_contract": "ESH24",
        "to_contract": "ESM24",
        "priced_on": date(2024, 3, 6),
        "close_from": 102.0,
        "close_to": 104.04,
        "ratio": pytest.approx(1.02),
        "reason": "volume",
    }


def test_equal_volume_is_no_roll_and_a_roll_is_never_taken_back() -> None:
    tied = ES.with_columns(volume=pl.lit(50.0))
    assert derive_rolls(tied, VOLUME, "CMES").is_empty()
    # The old contract trades more again on Friday: the new one stays.
    back = ES.with_columns(
        volume=pl.when((pl.col("symbol") == "ESH24") & (pl.col("session") == date(2024, 3, 8)))
        .then(500.0)
        .otherwise("volume")
    )
    assert derive_rolls(back, VOLUME, "CMES")["to_contract"].to_list() == ["ESM24"]


def test_a_roll_on_the_last_bar_is_in_force_from_the_next_session_of_the_exchange() -> None:
    until_friday = ES.filter(pl.col("session") <= date(2024, 3, 8)).with_columns(
        volume=pl.when((pl.col("symbol") == "ESM24") & (pl.col("session") < date(2024, 3, 8)))
        .then(1.0)
        .otherwise("volume")
    )
    (roll,) = derive_rolls(until_friday, VOLUME, "CMES").to_dicts()
    assert (roll["decided_on"], roll["session"]) == (date(2024, 3, 8), date(2024, 3, 11))  # over the weekend


LISTED = RollsConfig(
    rule="days_before_expiry",
    days=2,
    contracts=(
        ContractConfig(symbol="ESH24", root="ES", last_trade=date(2024, 3, 11)),
        ContractConfig(symbol="ESM24", root="ES", last_trade=date(2024, 6, 21)),
    ),
)


def test_the_next_contract_is_held_so_many_sessions_before_the_last_trade() -> None:
    # Last trade on Monday 11, two sessions before it is Thursday 7.
    (roll,) = derive_rolls(ES, LISTED, "CMES").to_dicts()
    assert (roll["decided_on"], roll["session"], roll["reason"]) == (
        date(2024, 3, 6), date(2024, 3, 7), "days_before_expiry",
    )  # fmt: skip


def test_without_a_next_contract_on_the_day_the_roll_is_late() -> None:
    late = ES.filter((pl.col("symbol") == "ESH24") | (pl.col("session") > date(2024, 3, 7)))
    (roll,) = derive_rolls(late, LISTED, "CMES").to_dicts()
    assert (roll["decided_on"], roll["session"], roll["reason"]) == (
        date(2024, 3, 8), date(2024, 3, 11), "late",
    )  # fmt: skip


def test_the_last_trade_ends_a_contract_that_was_never_traded_less() -> None:
    thin = ES.with_columns(volume=pl.when(pl.col("symbol") == "ESM24").then(1.0).otherwise("volume"))
    by_volume = RollsConfig(
        contracts=(
            ContractConfig(symbol="ESH24", root="ES", last_trade=date(2024, 3, 7)),
            ContractConfig(symbol="ESM24", root="ES", last_trade=date(2024, 6, 21)),
        )
    )
    (roll,) = derive_rolls(thin, by_volume, "CMES").to_dicts()
    assert (roll["decided_on"], roll["session"], roll["reason"]) == (
        date(2024, 3, 7), date(2024, 3, 8), "last_trade",
    )  # fmt: skip


def test_one_silent_session_is_no_end_and_three_are() -> None:
    volumes = [90, 90, 90, 90, 90, 90]
    hole = bars_of(ESH24=([100.0, 101.0, None, 103.0, 104.0, 105.0], volumes), ESM24=([102.0] * 6, [1.0] * 6))
    assert derive_rolls(hole, VOLUME, "CMES").is_empty()
    gone = bars_of(ESH24=([100.0, 101.0, None, None, None, None], volumes), ESM24=([102.0] * 6, [1.0] * 6))
    (roll,) = derive_rolls(gone, VOLUME, "CMES").to_dicts()
    assert (roll["decided_on"], roll["priced_on"], roll["reason"]) == (
        date(2024, 3, 8), date(2024, 3, 5), "stopped",
    )  # fmt: skip
    assert roll["ratio"] == pytest.approx(102.0 / 101.0)


def test_a_contract_without_a_price_in_common_is_not_rolled_into() -> None:
    apart = bars_of(
        ESH24=([100.0, 101.0, None, None, None, None], [9.0] * 6),
        ESM24=([None, None, None, 106.0, 107.0, 108.0], [9.0] * 6),
    )
    assert derive_rolls(apart, VOLUME, "CMES").is_empty()


def test_serial_months_that_hardly_trade_are_passed_over() -> None:
    serial = pl.concat([ES, bars_of(ESJ24=([101.0] * 6, [1.0] * 6))])
    assert derive_rolls(serial, VOLUME, "CMES")["to_contract"].to_list() == ["ESM24"]


def test_the_continuous_series_has_the_returns_of_one_contract_at_a_time() -> None:
    rolls = derive_rolls(ES, VOLUME, "CMES")
    held = front_bars(ES, rolls, VOLUME)
    assert held["contract"].to_list() == ["ESH24"] * 3 + ["ESM24"] * 3
    assert held["close"].to_list() == [100.0, 101.0, 102.0, 106.09, 107.12, 108.15]  # as quoted: a gap of 4 %
    bars = adjust_bars(held.drop("contract"), as_actions(rolls), "CMES")
    moves = (bars["close"] / bars["close"].shift()).drop_nulls().to_list()
    # Until Wednesday those of March, from Thursday those of June: 106.09 over June's 104.04.
    assert moves == pytest.approx([1.01, 102 / 101, 106.09 / 104.04, 107.12 / 106.09, 108.15 / 107.12])
    assert bars["price_factor"].to_list() == pytest.approx([1.02] * 3 + [1.0] * 3)
    assert bars["volume"].to_list() == [90, 80, 40, 70, 80, 90]  # volumes are not rescaled
    assert bars["volume_factor"].to_list() == [1.0] * 6


def test_traded_value_is_price_times_contracts_times_the_multiplier() -> None:
    held = front_bars(ES, derive_rolls(ES, VOLUME, "CMES"), VOLUME)
    assert in_units(held, {"ES": 50.0}, held["symbol"])["volume"].to_list() == [
        4500,
        4000,
        2000,
        3500,
        4000,
        4500,
    ]
    assert in_units(held, {}, held["symbol"]).equals(held)
    with pytest.raises(ConfigurationError, match="'NQ'"):
        in_units(held, {"NQ": 20.0}, held["symbol"])


def test_the_multiplier_of_a_root_that_is_set_aside_stops_no_other() -> None:
    held = front_bars(ES, derive_rolls(ES, VOLUME, "CMES"), VOLUME)
    both = in_units(held, {"ES": 50.0, "NQ": 20.0}, pl.Series(["ES", "NQ"]))
    assert both["volume"].to_list() == [4500, 4000, 2000, 3500, 4000, 4500]


def test_rows_that_are_no_bars_are_told_of_under_the_root_of_their_contract() -> None:
    symbols = ["ESH24", "cash", None, "ESM24"]
    aside = pl.DataFrame([{**dict.fromkeys(ASIDE), "symbol": symbol} for symbol in symbols], schema=ASIDE)
    assert aside_of_roots(aside, VOLUME)["symbol"].to_list() == ["ES", "cash", None, "ES"]
    # Where contracts are listed, the list alone says whose they are.
    listed = RollsConfig(contracts=(ContractConfig(symbol="cash", root="SPX", last_trade=DAYS[-1]),))
    assert aside_of_roots(aside, listed)["symbol"].to_list() == ["ESH24", "SPX", None, "ESM24"]


def test_the_usual_names_of_contracts_are_read() -> None:
    named = ES.head(1)
    symbols = ["ESZ4", "6EH05", "CLF2031", "ZBU9"]
    frame = pl.concat([named.with_columns(symbol=pl.lit(symbol)) for symbol in symbols])
    got = {row["symbol"]: (row["root"], row["delivery"]) for row in contracts_of(frame, VOLUME).to_dicts()}
    assert got == {
        "ESZ4": ("ES", date(2024, 12, 1)),
        "6EH05": ("6E", date(2105, 3, 1)),  # never before its first bar of 2024
        "CLF2031": ("CL", date(2031, 1, 1)),
        "ZBU9": ("ZB", date(2029, 9, 1)),
    }


def test_a_symbol_that_is_no_contract_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'AAPL'"):
        contracts_of(ES.head(1).with_columns(symbol=pl.lit("AAPL")), VOLUME)
    with pytest.raises(ConfigurationError, match="'ESU24'"):
        contracts_of(ES.head(1).with_columns(symbol=pl.lit("ESU24")), LISTED)


def test_a_rule_by_expiry_needs_expiries() -> None:
    with pytest.raises(ValidationError, match="last trade of each"):
        RollsConfig(rule="days_before_expiry")


@pytest.mark.parametrize("settings", [VOLUME, LISTED])
def test_every_roll_is_proven_to_be_known_at_its_close(settings: RollsConfig) -> None:
    rolls = derive_rolls(ES, settings, "CMES")
    proof = prove_rolls(ES, rolls, settings, "CMES")
    assert (proof.n_compared, proof.n_cuts, proof.violations) == (2, 2, ())


def test_a_rule_that_looks_at_tomorrows_volume_is_caught() -> None:
    def peeks(raw: pl.DataFrame, rolls: RollsConfig, calendar: str) -> pl.DataFrame:
        tomorrow = raw.with_columns(pl.col("volume").shift(-1).over("symbol").fill_null(pl.col("volume")))
        return derive_rolls(tomorrow, rolls, calendar)

    stated = peeks(ES, VOLUME, "CMES")
    assert stated["decided_on"].to_list() == [date(2024, 3, 5)]
    assert prove_rolls(ES, stated, VOLUME, "CMES", peeks).violations


def test_a_ratio_of_the_last_bar_and_a_price_of_later_are_caught() -> None:
    def anchored(raw: pl.DataFrame, rolls: RollsConfig, calendar: str) -> pl.DataFrame:
        last = raw.filter(pl.col("session") == raw["session"].max())["close"]
        return derive_rolls(raw, rolls, calendar).with_columns(ratio=pl.lit(last[-1] / last[0]))

    assert prove_rolls(ES, anchored(ES, VOLUME, "CMES"), VOLUME, "CMES", anchored).violations
    later = derive_rolls(ES, VOLUME, "CMES").with_columns(priced_on=pl.col("session"))
    assert "priced 2024-03-07" in prove_rolls(ES, later, VOLUME, "CMES").violations[0]


def test_a_symbol_that_comes_back_after_ten_years_is_no_single_contract() -> None:
    """ESM4 of 2014 was held on in 2024, with the move of ten years as a return of one session."""
    again = ES.with_columns(pl.col("symbol").str.replace("24", "4"))
    assert contracts_of(again, VOLUME)["delivery"].to_list() == [date(2024, 3, 1), date(2024, 6, 1)]
    before = again.with_columns(pl.col("session").dt.offset_by("-10y"))
    with pytest.raises(ConfigurationError, match=r"'ESH4'.*March 2014.*two contracts"):
        contracts_of(pl.concat([before, again]), VOLUME)
