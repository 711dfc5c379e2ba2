"""Trading costs: the arithmetic, and that liquidity is known before it is used."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.settings import CostConfig, PortfolioConfig
from quant_assets.market.actions import adjust_bars
from quant_assets.trading.account import run_accounts, trade_costs, trailing_liquidity
from quant_assets.trading.paths import path_statistics
from quant_assets.trading.portfolio import simulate

COSTS = CostConfig(commission_bps=0.5, half_spread_bps=1.0, impact_coefficient=0.5, capital=10_000_000)


def test_a_tenth_of_ten_million_in_a_hundred_million_a_day_costs_one_and_a_quarter_basis_points() -> None:
    # 1 % of the daily volume, 2 % daily volatility: 0.5 x 0.02 x sqrt(0.01) = 10 bps of the traded tenth
    costs = trade_costs(0.1, 0.02, 100e6, COSTS)
    assert costs.commission == pytest.approx(0.05e-4, rel=1e-12)
    assert costs.spread == pytest.approx(0.1e-4, rel=1e-12)
    assert costs.impact == pytest.approx(1.0e-4, rel=1e-12)
    assert costs.total == pytest.approx(1.15e-4, rel=1e-12)


def test_buying_costs_what_selling_costs() -> None:
    bought, sold = trade_costs(0.3, 0.01, 5e6, COSTS), trade_costs(-0.3, 0.01, 5e6, COSTS)
    assert float(bought.total) == float(sold.total) > 0.0


def test_four_times_the_capital_doubles_impact_and_leaves_the_rest() -> None:
    small = trade_costs(0.2, 0.02, 50e6, COSTS)
    large = trade_costs(0.2, 0.02, 50e6, COSTS.model_copy(update={"capital": 40_000_000.0}))
    assert large.impact == pytest.approx(2.0 * small.impact)
    assert (float(large.commission), float(large.spread)) == (float(small.commission), float(small.spread))


def test_no_trade_is_free_even_in_a_symbol_of_unknown_liquidity() -> None:
    costs = trade_costs([0.0, 0.0], [np.nan, 0.02], [np.nan, 0.0], COSTS)
    assert costs.total.tolist() == [0.0, 0.0]


def test_a_trade_of_unknown_liquidity_costs_nan_so_that_no_gate_passes_it() -> None:
    assert np.isnan(trade_costs(0.1, np.nan, 1e6, COSTS).total)
    assert np.isnan(trade_costs(0.1, 0.01, np.nan, COSTS).total)


def test_without_an_impact_coefficient_liquidity_is_not_asked_for() -> None:
    costs = trade_costs(0.1, np.nan, np.nan, COSTS.model_copy(update={"impact_coefficient": 0.0}))
    assert costs.total == pytest.approx(0.15e-4)


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
@settings(max_examples=50, deadline=None)
def test_splitting_a_trade_over_symbols_alike_is_never_dearer(first: float, second: float) -> None:
    together = float(trade_costs(first + second, 0.02, 50e6, COSTS).total)
    apart = float(trade_costs([first, second], 0.02, 50e6, COSTS).total.sum())
    assert apart <= together * (1 + 1e-12)


def bars(n: int = 60, seed: int = 3) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    days = [date(2021, 1, 4) + timedelta(days=i) for i in range(n)]
    frames = [
        pl.DataFrame(
            {
                "symbol": [symbol] * n,
                "session": days,
                "close": 50.0 * np.exp(np.cumsum(rng.normal(0, 0.02, n))),
                "volume": rng.uniform(1e5, 2e5, n),
            }
        )
        for symbol in ("BBB", "AAA")
    ]
    return pl.concat(frames)


def test_liquidity_is_that_of_the_last_twenty_sessions() -> None:
    panel = bars()
    result = trailing_liquidity(panel).filter(pl.col("symbol") == "AAA")
    one = panel.filter(pl.col("symbol") == "AAA")
    close, volume = one["close"].to_numpy(), one["volume"].to_numpy()
    at = 41
    returns = close[at - 19 : at + 1] / close[at - 20 : at] - 1.0
    assert result["sigma_daily"][at] == pytest.approx(returns.std(ddof=1), rel=1e-9)
    assert result["adv_notional"][at] == pytest.approx((close * volume)[at - 19 : at + 1].mean(), rel=1e-9)


def test_liquidity_is_unknown_until_there_are_twenty_returns() -> None:
    one = trailing_liquidity(bars()).filter(pl.col("symbol") == "AAA")
    assert one["sigma_daily"].is_null().to_list() == [True] * 20 + [False] * 40
    assert one["adv_notional"].is_null().to_list() == [True] * 19 + [False] * 41


def test_bars_after_a_session_do_not_change_what_was_known_at_it() -> None:
    panel = bars()
    cut = date(2021, 2, 15)
    later = pl.col("session") > cut
    altered = panel.with_columns(
        pl.when(later).then(pl.col("close") * 3.0).otherwise(pl.col("close")).alias("close"),
        pl.when(later).then(pl.col("volume") * 7.0).otherwise(pl.col("volume")).alias("volume"),
    )
    known = trailing_liquidity(panel).filter(pl.col("session") <= cut)
    assert trailing_liquidity(altered).filter(pl.col("session") <= cut).equals(known)


def test_a_symbol_that_does_not_trade_has_no_liquidity_rather_than_a_free_one() -> None:
    dead = bars().with_columns(pl.lit(0.0).alias("volume"))
    assert trailing_liquidity(dead)["adv_notional"].null_count() == 120


# ----------------------------------------------------------------- what was traded does not depend on later dividends


def adjusted(raw: pl.DataFrame, distribution: float, split: float = 1.0) -> pl.DataFrame:
    """The panel as it looks after both names have paid out, and split, on their last session but nine."""
    at = raw["session"].unique().sort()[-10]
    rows = [
        (symbol, at, kind, ratio, factor, None)
        for symbol in ("AAA", "BBB")
        for kind, ratio, factor in (("dividend", None, 1.0 - distribution), ("split", split, 1.0 / split))
    ]
    names = ("symbol", "session", "kind", "ratio", "price_factor", "amount")
    actions = pl.DataFrame(rows, schema=names, orient="row", schema_overrides={"amount": pl.Float64})
    return adjust_bars(raw, actions.sort("symbol", "session"), "XNYS")


def raw_bars() -> pl.DataFrame:
    days = pl.DataFrame({"session": pl.date_range(date(2021, 1, 4), date(2021, 6, 30), "1d", eager=True)})
    weekdays = days.filter(
        (pl.col("session").dt.weekday() <= 5)
        & ~pl.col("session").is_in(
            [date(2021, 1, 18), date(2021, 2, 15), date(2021, 4, 2), date(2021, 5, 31)]
        )
    )["session"]
    panel = bars(len(weekdays)).with_columns(session=pl.concat([weekdays, weekdays]))
    return panel.with_columns(open="close", high="close", low="close", volume=pl.col("volume").round())


@pytest.mark.parametrize(("distribution", "split"), [(0.14, 1.0), (0.0, 2.0), (0.14, 3.0)])
def test_impact_before_a_dividend_does_not_depend_on_it(distribution: float, split: float) -> None:
    raw = raw_bars()
    before, after = adjusted(raw, 0.0), adjusted(raw, distribution, split)
    rng = np.random.default_rng(7)
    scores = before.filter(pl.col("session") >= date(2021, 3, 1)).select("symbol", "session")
    scores = scores.with_columns(path_0=pl.Series(rng.normal(size=scores.height)))
    ex_date = raw["session"].unique().sort()[-10]
    charged = [
        simulate(scores, panel, PortfolioConfig(), COSTS).filter(pl.col("session") < ex_date)["impact_cost"]
        for panel in (before, after)
    ]
    assert (charged[0] > 0.0).all()
    assert charged[1].to_numpy() == pytest.approx(charged[0].to_numpy(), rel=1e-12)


def test_adjusted_prices_alone_would_have_raised_it_by_the_root_of_the_dividend() -> None:
    panel = adjusted(raw_bars(), 0.14).filter(pl.col("session") < date(2021, 6, 1))
    right, wrong = (
        trailing_liquidity(p)["adv_notional"].drop_nulls().to_numpy()
        for p in (panel, panel.drop("price_factor", "volume_factor"))
    )
    assert np.sqrt(right / wrong) == pytest.approx(
        np.full(len(right), 1 / np.sqrt(0.86)), rel=1e-12
    )  # + 7.8 %


# ----------------------------------------------------------------------- fees and rates accrue by calendar days


FREE = CostConfig(commission_bps=0.0, half_spread_bps=0.0, impact_coefficient=0.0, borrow_fee_bps=0.0)


def test_a_short_pays_its_fee_over_a_weekend_too_and_a_long_pays_none() -> None:
    still = np.zeros((2, 2))
    unknown = np.full((2, 2), np.nan)
    targets = np.array([[[0.6, -0.4]] * 2])
    costs = FREE.model_copy(update={"borrow_fee_bps": 100.0})
    accounts = run_accounts(targets, still, unknown, unknown, costs, days=np.array([1.0, 3.0]))
    assert accounts.borrow[0].tolist() == pytest.approx([0.4 * 0.01 / 365, 0.4 * 0.01 * 3 / 365], rel=1e-12)
    assert accounts.net[0].tolist() == (-accounts.borrow[0]).tolist()


def test_the_risk_free_rate_is_taken_off_what_a_long_only_book_has_invested() -> None:
    raw = raw_bars()
    panel = adjusted(raw, 0.0)
    scores = panel.filter(pl.col("session") >= date(2021, 3, 1)).select(
        "symbol", "session", path_0=pl.col("symbol").rank("dense").cast(pl.Float64)
    )
    book = PortfolioConfig(scheme="long_only", holding_sessions=1, risk_free_rate=0.0365)
    track = simulate(scores, panel, book, FREE)
    # 1 basis point a calendar day on a book that is fully invested; a Friday's fill is held for three days
    days = (track["session"].shift(-1) - track["session"]).dt.total_days()[:-1].to_numpy()
    assert track["risk_free"].to_numpy()[:-1] == pytest.approx(1e-4 * days, rel=1e-12)
    excess = track["gross_return"] - track["risk_free"] - track["net_return"]
    assert excess.abs().max() < 1e-16
    neutral = simulate(scores, panel, book.model_copy(update={"scheme": "long_short"}), FREE)
    assert (neutral["risk_free"] == 0.0).all()


def test_an_excess_return_moves_no_position() -> None:
    returns, unknown = np.full((3, 1), 0.01), np.full((3, 1), np.nan)
    targets = np.full((1, 3, 1), 0.5)
    days = np.full(3, 365.0)
    plain = run_accounts(targets, returns, unknown, unknown, FREE, days=days)
    financed = run_accounts(targets, returns, unknown, unknown, FREE, days=days, financing_rate=0.1)
    assert financed.turnover.tolist() == plain.turnover.tolist()
    assert financed.net[0].tolist() == pytest.approx((plain.net[0] - 0.05).tolist())


# ------------------------------------------------------------------------------------------- once more, twice as dear


def test_twice_the_costs_is_the_track_of_an_account_that_pays_them() -> None:
    panel = adjusted(raw_bars(), 0.0)
    rng = np.random.default_rng(3)
    scores = panel.filter(pl.col("session") >= date(2021, 3, 1)).select("symbol", "session")
    scores = scores.with_columns(path_0=pl.Series(rng.normal(size=scores.height)))
    dear = CostConfig(commission_bps=1.0, half_spread_bps=2.0, impact_coefficient=1.0, borrow_fee_bps=100.0)
    assert COSTS.doubled == dear
    once, twice = (simulate(scores, panel, PortfolioConfig(), costs) for costs in (COSTS, dear))
    assert once["net_return_at_twice_costs"].to_list() == twice["net_return"].to_list()
    (statistics,) = path_statistics(once, 252.0)
    (paying,) = path_statistics(twice, 252.0)
    assert statistics.sharpe_annual_at_twice_costs == paying.sharpe_annual < statistics.sharpe_annual


def test_returns_that_do_not_say_what_twice_the_costs_would_leave_have_no_such_ratio() -> None:
    frame = pl.DataFrame({"path": [0] * 3, "session": [date(2021, 1, d) for d in (4, 5, 6)]}).with_columns(
        gross_return=pl.Series([0.01, 0.0, 0.02]),
        net_return=pl.Series([0.01, 0.0, 0.02]),
        turnover=pl.lit(0.1),
    )
    assert np.isnan(path_statistics(frame, 252.0)[0].sharpe_annual_at_twice_costs)
