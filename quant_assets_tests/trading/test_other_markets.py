"""Funding, rolls and continuous sessions in the account, by hand."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from quant_assets.common.settings import CostConfig, PortfolioConfig
from quant_assets.gates.limits import CostMinima
from quant_assets.market.calendar import sessions
from quant_assets.trading.account import Accounts, run_accounts, trade_costs
from quant_assets.trading.portfolio import simulate

FREE = CostConfig(commission_bps=0, half_spread_bps=0, impact_coefficient=0, borrow_fee_bps=0)
UNKNOWN = np.full((2, 2), np.nan)


def account(weights: list[float], costs: CostConfig, days: list[float]) -> Accounts:
    """One account that holds the same weights for two periods in which nothing moves."""
    targets = np.array([[weights, weights]])
    return run_accounts(targets, np.zeros((2, 2)), UNKNOWN, UNKNOWN, costs, days=np.array(days))


@pytest.mark.parametrize(
    ("weights", "bps", "days", "expected"),
    [
        ([0.5, 0.3], 730.0, [1.0, 1.0], [0.8 * 0.0002] * 2),  # longs pay 2 bp a day
        (
            [-0.5, 0.0],
            730.0,
            [1.0, 3.0],
            [-0.5 * 0.0002, -0.5 * 0.0006],
        ),  # a short receives, over a weekend too
        ([0.5, -0.5], 730.0, [1.0, 1.0], [0.0, 0.0]),  # a book of no net position neither
        ([0.5, 0.0], -365.0, [1.0, 1.0], [-0.5 * 0.0001] * 2),  # a negative rate pays those who are long
    ],
)
def test_longs_pay_funding_and_shorts_receive_it_by_calendar_days(
    weights: list[float], bps: float, days: list[float], expected: list[float]
) -> None:
    got = account(weights, FREE.model_copy(update={"funding_bps": bps}), days)
    assert got.funding[0] == pytest.approx(expected)
    assert got.net[0] == pytest.approx([-value for value in expected])


def test_twice_the_costs_is_not_twice_the_funding() -> None:
    costs = CostConfig(funding_bps=100.0)
    assert (costs.doubled.funding_bps, costs.doubled.half_spread_bps) == (100.0, 2.0)


def test_a_strategy_may_not_assume_to_be_paid_for_holding() -> None:
    minima = CostMinima(commission_bps=1, half_spread_bps=1, impact_coefficient=0.2)
    assert minima.funding_bps == 0.0
    assert CostMinima.model_fields["funding_bps"].metadata[0].ge == 0.0


def test_a_roll_sells_the_old_contract_and_buys_the_new_one() -> None:
    costs = FREE.model_copy(update={"commission_bps": 1.0, "half_spread_bps": 2.0})
    targets = np.array([[[0.5, -0.25], [0.5, -0.25], [0.25, -0.25]]])
    still, unknown = np.zeros((3, 2)), np.full((3, 2), np.nan)
    rolled = np.array([[False, False], [True, False], [True, True]])
    plain = run_accounts(targets, still, unknown, unknown, FREE, rolled=rolled)
    # Enter .75; roll .5 out and .5 in; sell .5 to buy .25, and .25 out and in.
    assert plain.turnover[0] == pytest.approx([0.75, 1.0, 1.25])
    paid = run_accounts(targets, still, unknown, unknown, costs, rolled=rolled)
    assert paid.commission[0] == pytest.approx([0.75e-4, 1.0e-4, 1.25e-4], rel=1e-3)
    assert paid.spread[0] == pytest.approx([1.5e-4, 2.0e-4, 2.5e-4], rel=1e-3)


def test_each_leg_of_a_roll_has_its_own_impact() -> None:
    costs = FREE.model_copy(update={"impact_coefficient": 0.5, "capital": 1e6})
    sigma, adv = np.full((2, 1), 0.01), np.full((2, 1), 1e8)
    held = np.array([[[0.5], [0.5]]])
    got = run_accounts(held, np.zeros((2, 1)), sigma, adv, costs, rolled=np.array([[False], [True]]))
    # .5 x .01 x sqrt(.5e6 / 1e8) x .5 for one leg; at the roll twice (the position has drifted by the first leg).
    leg = 0.5 * 0.01 * np.sqrt(0.005) * 0.5
    assert got.impact[0] == pytest.approx([leg, 2 * leg], rel=1e-3)
    assert trade_costs(0.5, 0.01, 1e8, costs).impact == pytest.approx(leg)


def test_without_rolls_the_account_is_the_same_to_the_bit() -> None:
    rng = np.random.default_rng(3)
    targets, returns = rng.normal(0, 0.2, (2, 50, 4)), rng.normal(0, 0.01, (50, 4))
    sigma, adv = np.full((50, 4), 0.01), np.full((50, 4), 1e7)
    plain, none = (
        run_accounts(targets, returns, sigma, adv, CostConfig(), rolled=rolled)
        for rolled in (None, np.zeros((50, 4), dtype=bool))
    )
    assert plain.net.tobytes() == none.net.tobytes()


@pytest.mark.parametrize(
    ("calendar", "n_sessions", "days"),
    [
        # Fills from Friday 22 December 2023 on, and the calendar days from each to the next.
        ("24/7", 7, [1, 1, 1, 1, 1]),
        ("24/5", 5, [3, 1, 1]),
        ("XLON", 4, [5, 1]),  # Christmas and Boxing Day
    ],
)
def test_a_decision_is_filled_in_the_next_session_of_its_market(
    calendar: str, n_sessions: int, days: list[int]
) -> None:
    grid = sessions(calendar, date(2023, 12, 21), date(2023, 12, 28))[:n_sessions]
    bars = pl.concat(
        pl.DataFrame({"session": grid, "symbol": name, "open": 10.0, "close": 10.0, "volume": 1e6})
        for name in ("A", "B")
    )
    scores = bars.with_columns(path_0=pl.when(pl.col("symbol") == "A").then(1.0).otherwise(0.0))
    borrowed = FREE.model_copy(update={"borrow_fee_bps": 365.0})  # a basis point a day
    one_session = PortfolioConfig(holding_sessions=1)
    got = simulate(scores.select("symbol", "session", "path_0"), bars, one_session, borrowed)
    assert got["session"].to_list() == grid[1:-1].to_list()
    assert got["borrow_cost"].to_list() == pytest.approx([0.5e-4 * n for n in days])
    assert "funding_cost" not in got.columns
    funded = simulate(
        scores.select("symbol", "session", "path_0"),
        bars,
        one_session,
        FREE.model_copy(update={"funding_bps": 1.0}),
    )
    assert funded["funding_cost"].to_list() == pytest.approx([0.0] * len(days))


def test_the_fill_at_which_the_contract_changes_pays_for_the_roll() -> None:
    grid = sessions("CMES", date(2024, 3, 4), date(2024, 3, 8))
    bars = pl.concat(
        pl.DataFrame(
            {"session": grid, "symbol": name, "open": 10.0, "close": 10.0, "volume": 1e6}
        ).with_columns(
            contract=pl.when(pl.col("session") < date(2024, 3, 6) if name == "ES" else pl.lit(value=True))
            .then(pl.lit(f"{name}H24"))
            .otherwise(pl.lit(f"{name}M24"))
        )
        for name in ("ES", "NQ")
    )
    scores = bars.select("symbol", "session", path_0=(pl.col("symbol") == "ES").cast(pl.Float64))
    got = simulate(scores, bars, PortfolioConfig(holding_sessions=1), FREE)
    # Enter on Tuesday; on Wednesday ES is sold in March and bought in June; nothing on Thursday.
    assert got["turnover"].to_list() == [1.0, 1.0, 0.0]
