"""Synthetic markets: the same market with and without its edge, drift and defects."""

from datetime import date
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quant_assets.common.errors import SourceError
from quant_assets.common.hashing import frame_digest
from quant_assets.common.settings import SyntheticSource
from quant_assets.market.parsing import RAW_SCHEMA
from quant_assets.market.sources.contract import validate_bars
from quant_assets.market.synthetic import generate, listings

START, END = date(2014, 1, 2), date(2023, 12, 29)
EDGE = {"transient_sd": 0.02, "half_life_sessions": 5}


def market(start: date = START, end: date = END, **fields: Any) -> pl.DataFrame:
    source = SyntheticSource.model_validate({"kind": "synthetic", "seed": 11, "n_symbols": 20} | fields)
    return generate(source, "XNYS", start, end)


def wide(frame: pl.DataFrame, column: str) -> NDArray[np.float64]:
    """Sessions by symbols."""
    return frame.pivot(on="symbol", index="session", values=column).drop("session").to_numpy()


def log_returns(frame: pl.DataFrame) -> NDArray[np.float64]:
    return np.diff(np.log(wide(frame, "close")), axis=0)


@pytest.fixture(scope="module")
def noise() -> pl.DataFrame:
    return market()


@pytest.fixture(scope="module")
def edge() -> pl.DataFrame:
    return market(edge=EDGE)


def test_a_market_is_the_same_bytes_on_every_python_and_numpy() -> None:
    # Python 3.11 with numpy 2.4.6, Python 3.12 with numpy 2.5.5, and without vector instructions.
    frame = market(n_symbols=3, edge=EDGE, end=date(2014, 12, 31))
    assert frame_digest(frame) == "3edf77cd7011d398c776332d08e0e2123ca754dc5213cd7832b87de475ab44d4"


def test_every_symbol_has_a_valid_bar_in_every_session(noise: pl.DataFrame) -> None:
    bars = validate_bars(noise, origin="synthetic")
    assert bars.schema == RAW_SCHEMA
    assert bars.height == 20 * 2516
    assert bars["symbol"].unique().sort().to_list() == [f"S{n:03d}" for n in range(20)]
    assert bars["volume"].to_list() == [float(int(v)) for v in bars["volume"]]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    volatility=st.floats(0.01, 3.0),
    freedom=st.floats(2.2, 100.0),
    share=st.floats(0.0, 1.0),
    planted=st.booleans(),
)
def test_open_and_close_lie_within_low_and_high_whatever_the_parameters(
    seed: int, volatility: float, freedom: float, share: float, planted: bool
) -> None:
    bars = market(
        end=date(2014, 6, 30),
        seed=seed,
        n_symbols=4,
        annual_volatility=volatility,
        tail_degrees_of_freedom=freedom,
        market_share=share,
        edge=EDGE if planted else None,
    )
    assert (bars["low"] > 0).all()
    assert (bars["volume"] >= 1).all()
    assert bars.filter(pl.col("low") > pl.min_horizontal("open", "close")).is_empty()
    assert bars.filter(pl.col("high") < pl.max_horizontal("open", "close")).is_empty()
    validate_bars(bars, origin="synthetic")


def test_the_edge_is_the_same_market_plus_a_bounded_stationary_component(
    noise: pl.DataFrame, edge: pl.DataFrame
) -> None:
    transient = np.log(wide(edge, "close")) - np.log(wide(noise, "close"))
    transient -= transient[0]  # both start from the same price, so the first level is lost
    assert wide(edge, "volume") == pytest.approx(wide(noise, "volume"), abs=0)
    assert transient.std(axis=0).mean() == pytest.approx(0.02, rel=0.05)
    lagged = [np.corrcoef(transient[5:, k], transient[:-5, k])[0, 1] for k in range(20)]
    assert np.mean(lagged) == pytest.approx(0.5, abs=0.03)  # one half-life later


def past_and_future(frame: pl.DataFrame, horizon: int = 5) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    moves = np.log(wide(frame, "close"))
    change = moves[horizon:] - moves[:-horizon]
    return change[:-horizon].ravel(), change[horizon:].ravel()


def test_with_an_edge_the_next_week_reverses_the_last_one_and_without_it_does_not() -> None:
    # 60 independent symbols over some 500 disjoint weeks: standard error .0058, the bands are over 3 of them.
    noise, edge = (market(n_symbols=60, market_share=0.0, edge=planted) for planted in (None, EDGE))
    assert abs(np.corrcoef(*past_and_future(noise))[0, 1]) < 0.02
    # -sd^2 (1 - phi^5)^2 / (5 daily variances + 2 sd^2 (1 - phi^5)) = -1e-4 / 1.543e-3.
    assert np.corrcoef(*past_and_future(edge))[0, 1] == pytest.approx(-0.0648, abs=0.02)
    # Against the component itself: -sd^2 (1 - phi^5) / (sd x .03928) = -.2546.
    transient = np.log(wide(edge, "close")) - np.log(wide(noise, "close"))
    transient -= transient.mean(axis=0)
    moves = np.log(wide(edge, "close"))
    known = np.corrcoef(transient[:-5].ravel(), (moves[5:] - moves[:-5]).ravel())[0, 1]
    assert known == pytest.approx(-0.2546, abs=0.03)


def test_returns_have_the_volatility_the_tails_and_the_common_factor_asked_for() -> None:
    returns = log_returns(market(n_symbols=40, annual_volatility=0.24, market_share=0.3))
    assert returns.std() * np.sqrt(252) == pytest.approx(0.24, rel=0.05)
    correlation = np.corrcoef(returns.T)[np.triu_indices(40, 1)]
    assert correlation.mean() == pytest.approx(0.3, abs=0.05)
    excess = ((returns - returns.mean(0)) ** 4).mean() / returns.var() ** 2 - 3
    assert excess > 0.5
    thin = log_returns(market(n_symbols=40, tail_degrees_of_freedom=100.0))
    assert ((thin - thin.mean(0)) ** 4).mean() / thin.var() ** 2 - 3 < 0.3


def test_a_price_is_a_martingale_without_an_edge() -> None:
    simple = np.expm1(log_returns(market(n_symbols=200, market_share=0.0)))
    assert abs(simple.mean()) < 4 * simple.std() / np.sqrt(simple.size)


def test_three_tenths_of_the_variance_come_overnight_and_uncorrelated_with_the_day(
    noise: pl.DataFrame,
) -> None:
    opens, closes = np.log(wide(noise, "open")), np.log(wide(noise, "close"))
    overnight, day = opens[1:] - closes[:-1], closes[1:] - opens[1:]
    assert overnight.var() / (overnight.var() + day.var()) == pytest.approx(0.3, abs=0.02)
    assert abs(np.corrcoef(overnight.ravel(), day.ravel())[0, 1]) < 0.05


def test_volume_remembers_itself_and_rises_with_the_move(noise: pl.DataFrame) -> None:
    volume, moves = np.log(wide(noise, "volume"))[1:], np.abs(log_returns(noise))
    assert np.mean([np.corrcoef(volume[1:, k], volume[:-1, k])[0, 1] for k in range(20)]) > 0.5
    assert np.mean([np.corrcoef(volume[:, k], moves[:, k])[0, 1] for k in range(20)]) > 0.2


def test_a_later_end_leaves_every_earlier_bar_as_it_was(edge: pl.DataFrame) -> None:
    shorter = market(edge=EDGE, end=date(2022, 6, 30))
    assert edge.filter(pl.col("session") <= date(2022, 6, 30)).equals(shorter)


def test_another_seed_is_another_market(noise: pl.DataFrame) -> None:
    assert np.abs(np.corrcoef(log_returns(noise).ravel(), log_returns(market(seed=12)).ravel())[0, 1]) < 0.05


def test_a_drift_changes_nothing_before_it_and_doubles_volatility_and_volume_after(
    noise: pl.DataFrame,
) -> None:
    start = date(2020, 1, 2)
    drifted = market(drift={"start": start, "volatility_factor": 2.0, "volume_factor": 3.0})
    assert drifted.filter(pl.col("session") < start).equals(noise.filter(pl.col("session") < start))
    after = noise["session"].unique().sort().to_list().index(start)
    spread = log_returns(drifted)[after:].std() / log_returns(noise)[after:].std()
    assert spread == pytest.approx(2.0, rel=0.01)
    ratio = wide(drifted, "volume")[after:] / wide(noise, "volume")[after:]
    assert ratio == pytest.approx(3.0, rel=1e-4)


def planted(kind: str, session: int = 7) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The second symbol's rows without and with the defect; the first symbol must not change."""
    clean = market(n_symbols=2, end=date(2014, 3, 31))
    dirty = market(
        n_symbols=2, end=date(2014, 3, 31), defects=[{"kind": kind, "symbol": 1, "session": session}]
    )
    first = pl.col("symbol") == "S000"
    assert dirty.filter(first).equals(clean.filter(first))
    return clean.filter(~first), dirty.filter(~first)


def test_a_defect_of_each_kind_is_exactly_where_it_was_planted() -> None:
    clean, dirty = planted("null_close")
    assert dirty["close"].is_null().arg_true().to_list() == [7]
    clean, dirty = planted("negative_price")
    assert (dirty["close"] < 0).arg_true().to_list() == [7]
    clean, dirty = planted("high_below_low")
    assert (dirty["high"] < dirty["low"]).arg_true().to_list() == [7]
    clean, dirty = planted("duplicate_row")
    assert dirty.height == clean.height + 1
    assert dirty.row(7) == dirty.row(8) == clean.row(7)
    clean, dirty = planted("missing_session")
    assert dirty.equals(pl.concat([clean.slice(0, 7), clean.slice(8)]))
    clean, dirty = planted("zero_volume")
    assert (dirty["volume"] == 0).arg_true().to_list() == [7]
    clean, dirty = planted("stale_price")
    assert dirty["close"][6:16].to_list() == [clean["close"][6]] * 10
    assert dirty["close"][16] == clean["close"][16]
    clean, dirty = planted("unexplained_jump")
    assert (dirty["close"] / clean["close"]).to_list() == pytest.approx(
        [1.0] * 7 + [0.55] * (clean.height - 7)
    )


def test_a_defect_outside_the_feed_is_refused() -> None:
    for symbol, session in ((2, 5), (0, 10_000)):
        with pytest.raises(SourceError, match=f"symbol {symbol}, session {session}.*symbol below 2"):
            market(n_symbols=2, defects=[{"kind": "null_close", "symbol": symbol, "session": session}])


# ------------------------------------------------------------------------------------------------------------ lives


LIVES = {"delisted_per_year": 0.1, "halted_per_year": 0.2, "reused": 0.5}


def lived(end: date = END, **fields: Any) -> tuple[pl.DataFrame, pl.DataFrame]:
    source = SyntheticSource.model_validate(
        {"kind": "synthetic", "seed": 11, "n_symbols": 200, "lives": {**LIVES, **fields}}
    )
    return generate(source, "XNYS", START, end), listings(source, "XNYS", START, end)


def test_names_end_at_the_stated_rate_and_their_symbols_are_used_again() -> None:
    bars, told = lived()
    ends = told.filter(pl.col("valid_to").is_not_null())
    spells = told.filter(pl.col("valid_to").is_null())
    first = ends.filter(pl.col("instrument_id").str.ends_with("-0"))
    # 200 first names over ten years of a tenth each: 1 - .9^10 = .651 end, within two standard errors (.034)
    assert abs(first.height / 200 - 0.651) < 2 * 0.034
    again = spells.filter(pl.col("instrument_id").str.ends_with("-1")).height
    assert (
        abs(again / first.height - 0.5) < 2 * 0.5 / np.sqrt(first.height) + 0.02
    )  # some end too late for it
    assert set(ends["end_kind"].to_list()) == {"merger_cash", "bankruptcy", "unknown"}
    kinds = dict(ends.group_by("end_kind").agg(pl.col("delisting_return").unique().first()).iter_rows())
    assert kinds == {"merger_cash": 0.0, "bankruptcy": -1.0, "unknown": None}
    # every bar lies in a spell of its symbol
    newest = told.sort("known_at").unique("instrument_id", keep="last")
    held = bars.join(newest, on="symbol").filter(
        (pl.col("session") >= pl.col("valid_from"))
        & (pl.col("valid_to").is_null() | (pl.col("session") <= pl.col("valid_to")))
    )
    assert held.select("symbol", "session").sort("symbol", "session").equals(bars.select("symbol", "session"))
    assert validate_bars(bars, origin="synthetic").height == bars.height


def test_a_halt_is_ten_sessions_without_a_bar() -> None:
    bars, _ = lived(delisted_per_year=0.0, reused=0.0)
    days = bars["session"].unique().sort()
    gaps = days.len() - bars.group_by("symbol").len()["len"]
    assert set(gaps.to_list()) <= {*range(11)}
    halted = (gaps == 10).sum()
    assert abs(halted / 200 - (1 - 0.8**10)) < 2 * 0.022  # a fifth a year for ten years: .893


def test_a_later_end_changes_no_life_and_no_earlier_bar() -> None:
    cut = date(2017, 12, 29)
    (short, told), (long, more) = lived(cut), lived()
    assert short.equals(long.filter(pl.col("session") <= cut))
    midnight = pl.lit(cut).cast(pl.Datetime("us", "UTC")).dt.offset_by("1d")
    assert told.equals(more.filter(pl.col("known_at") <= midnight))


def test_a_market_without_lives_is_the_same_market_without_its_ends() -> None:
    bars, _ = lived(delisted_per_year=0.0, halted_per_year=0.0, reused=0.0)
    assert bars.equals(market(n_symbols=200))
    whole, kept = market(n_symbols=200), lived(reused=0.0)[0]
    assert kept.equals(whole.join(kept, on=["symbol", "session"], how="semi", maintain_order="left"))
