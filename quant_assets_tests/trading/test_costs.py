"""Trading costs: the arithmetic, and that liquidity is known before it is used."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.settings import CostConfig
from quant_assets.trading.account import trade_costs, trailing_liquidity

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
