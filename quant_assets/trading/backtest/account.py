"""Accounts that follow target weights: drift, trades, costs. Several side by side, so each session is one step."""

from dataclasses import dataclass

import numpy as np

from quant_assets.common.settings import CostConfig
from quant_assets.trading.backtest.outcomes import Outcomes
from quant_assets.trading.backtest.score_table import Matrix
from quant_assets.trading.costs import trade_costs
from quant_assets.trading.portfolio import tranche_average


@dataclass(frozen=True, eq=False)
class Accounts:
    """One row per book, one column per period; fractions of the capital at the fill.

    ``turnover`` counts both sides: replacing a whole book is 2. ``held`` is the number of symbols with a position,
    ``invested`` the share of capital in them.
    """

    gross: Matrix
    commission: Matrix
    spread: Matrix
    impact: Matrix
    net: Matrix
    turnover: Matrix
    held: Matrix
    invested: Matrix


def run_accounts(books: list[Matrix], outcomes: Outcomes, costs: CostConfig) -> Accounts:
    """Trade every book through the same periods.

    Parameters
    ----------
    books : list of array, shape (decision sessions, symbols)
        Wanted weights.
    outcomes : Outcomes
    costs : CostConfig
        Charged on the difference between the target and the position as it has drifted, at a constant ``capital``,
        as `quant_assets.trading.portfolio.simulate` does.

    Notes
    -----
    What cannot be traded gets no position and its share stays in cash. An account that loses everything stops
    there, at a net return of -1.
    """
    charged = costs if outcomes.impact_note is None else costs.model_copy(update={"impact_coefficient": 0.0})
    targets = np.stack([tranche_average(book, outcomes.tranches)[outcomes.decisions] for book in books])
    targets *= outcomes.tradable
    shape = targets.shape[:2]
    gross, commission, spread, impact, net, turnover = (np.zeros(shape) for _ in range(6))
    position = np.zeros((shape[0], targets.shape[2]))
    alive = np.ones(shape[0], dtype=bool)
    for i in range(shape[1]):
        target = targets[:, i] * alive[:, None]
        trade = target - position
        paid = trade_costs(trade, outcomes.sigma_daily[i], outcomes.adv_notional[i], charged)
        commission[:, i], spread[:, i] = paid.commission.sum(axis=1), paid.spread.sum(axis=1)
        impact[:, i] = paid.impact.sum(axis=1)
        gross[:, i] = (target * outcomes.returns[i]).sum(axis=1)
        turnover[:, i] = np.abs(trade).sum(axis=1)
        result = gross[:, i] - commission[:, i] - spread[:, i] - impact[:, i]
        ruined = alive & (result <= -1.0)
        net[:, i] = np.where(ruined, -1.0, result)
        alive &= ~ruined
        growth = np.where(alive, 1.0 + net[:, i], 1.0)
        position = target * (1.0 + outcomes.returns[i]) / growth[:, None] * alive[:, None]
    return Accounts(
        gross=gross,
        commission=commission,
        spread=spread,
        impact=impact,
        net=net,
        turnover=turnover,
        held=(targets > 0.0).sum(axis=2).astype(np.float64),
        invested=targets.sum(axis=2),
    )
