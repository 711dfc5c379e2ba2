"""The one account loop: follow target weights through periods; drift, trades, costs, ruin.

Backtest, paths and capacity all trade through it. Several accounts side by side go through the same periods, so each
period is one step for all of them.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.settings import CostConfig
from quant_assets.trading.costs import trade_costs

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Accounts:
    """One row per account, one column per period; fractions of the capital at the fill.

    ``turnover`` counts both sides: replacing a whole book of gross 1 is 2. ``targets``, of shape (accounts, periods,
    symbols), are the positions that were asked for.
    """

    gross: Matrix
    commission: Matrix
    spread: Matrix
    impact: Matrix
    net: Matrix
    turnover: Matrix
    targets: Matrix

    @cached_property
    def held(self) -> Matrix:
        """Number of symbols with a position."""
        return np.asarray((self.targets != 0.0).sum(axis=2), dtype=np.float64)

    @cached_property
    def invested(self) -> Matrix:
        """Share of capital in positions, short ones counted against long ones."""
        return np.asarray(self.targets.sum(axis=2))


def run_accounts(
    targets: Matrix, returns: Matrix, sigma_daily: Matrix, adv_notional: Matrix, costs: CostConfig
) -> Accounts:
    """Trade every account through the same periods.

    At each fill an account trades from its position, as it has drifted with prices, to its target, pays, and earns
    the period.

    Parameters
    ----------
    targets : array, shape (accounts, periods, symbols)
        Wanted positions as fractions of capital; 0 where a symbol cannot be traded, which is also what makes a
        vanished symbol leave. The share that is not invested stays in cash.
    returns : array, shape (periods, symbols)
        Simple return of each period; 0 where nothing can be held.
    sigma_daily, adv_notional : array, shape (periods, symbols)
        Liquidity known at the decision; NaN where there is none, which nothing may be traded in while impact is
        charged.
    costs : CostConfig
        Charged on the difference between target and drifted position. Traded value is taken at ``capital``
        throughout: the track is that of an account of a stated size, not one whose impact vanishes after losses.

    Notes
    -----
    Cash earns nothing and shorts pay no fee. An account that loses its whole capital stops there, at a net return of
    -1; every later number is 0.
    """
    accounts, periods, symbols = targets.shape
    gross, commission, spread, impact, net, turnover = (np.zeros((periods, accounts)) for _ in range(6))
    position = np.zeros((accounts, symbols))
    alive, lasted = np.ones(accounts, dtype=bool), np.full(accounts, periods)
    for i in range(periods):
        target = targets[:, i] * alive[:, None]
        trade = target - position
        paid = trade_costs(trade, sigma_daily[i], adv_notional[i], costs)
        commission[i], spread[i] = paid.commission.sum(axis=1), paid.spread.sum(axis=1)
        impact[i] = paid.impact.sum(axis=1)
        gross[i] = (target * returns[i]).sum(axis=1)
        turnover[i] = np.abs(trade).sum(axis=1)
        net[i] = gross[i] - commission[i] - spread[i] - impact[i]
        ruined = alive & (net[i] <= -1.0)
        if ruined.any():
            net[i, ruined], lasted[ruined] = -1.0, i
            alive &= ~ruined
        position = target * (1.0 + returns[i]) / np.where(alive, 1.0 + net[i], 1.0)[:, None] * alive[:, None]
    after = np.arange(periods)[:, None] > lasted

    def whole(values: Matrix) -> Matrix:
        # A position of nothing times a loss is -0.0: what comes after the end is written as the zero that it is.
        return np.ascontiguousarray(np.where(after, 0.0, values).T)

    return Accounts(
        gross=whole(gross),
        commission=whole(commission),
        spread=whole(spread),
        impact=whole(impact),
        net=whole(net),
        turnover=whole(turnover),
        targets=targets,
    )
