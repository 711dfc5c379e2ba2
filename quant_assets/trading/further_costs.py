"""A cost of a desk's own, on top of the platform's: stamp duty, a prime broker's ticket, a tax on turnover.

It can only make trading dearer: a cost below zero is refused, and the platform's own are charged whatever it says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import QuantAssetsError, ValidationError
from quant_assets.common.plugins import Plugin
from quant_assets.common.settings import CostConfig
from quant_assets.trading.account import Matrix


@dataclass(frozen=True, eq=False)
class TradeContext:
    """What a cost model is told of a fill, beside what is traded.

    Attributes
    ----------
    session : datetime.date
        Of the fill.
    symbols : tuple of str
    sigma_daily, adv_notional : array, shape (symbols,)
        Liquidity known at the decision: volatility (fraction), traded value (account currency); NaN where not known.
    capital : float
        Account currency: traded value is what is traded times this.
    """

    session: date
    symbols: tuple[str, ...]
    sigma_daily: Matrix
    adv_notional: Matrix
    capital: float


# From the number of a period and what each account trades (accounts, symbols) to what each account pays.
Charge = Callable[[int, Matrix], Matrix]


def charge_of(
    costs: CostConfig,
    sessions: NDArray[np.datetime64],
    symbols: tuple[str, ...],
    sigma_daily: Matrix,
    adv_notional: Matrix,
) -> Charge | None:
    """What the model of a desk charges in each period; None where there is none.

    Parameters
    ----------
    costs : CostConfig
    sessions : array of datetime64, shape (periods,)
        Of the fills.
    symbols : tuple of str
    sigma_daily, adv_notional : array, shape (periods, symbols)
    """
    if costs.model is None:
        return None
    plugin = costs.model
    function = plugin.load("a cost model")

    def charge(period: int, trades: Matrix) -> Matrix:
        known = TradeContext(
            sessions[period].astype("datetime64[D]").item(),
            symbols,
            _read_only(sigma_daily[period]),
            _read_only(adv_notional[period]),
            costs.capital,
        )
        return np.array([_paid(function, plugin, trade, known).sum() for trade in trades])

    return charge


def _read_only(values: Matrix) -> Matrix:
    copied = np.array(values, dtype=np.float64)
    copied.setflags(write=False)
    return copied


def _paid(function: Any, plugin: Plugin, trade: Matrix, known: TradeContext) -> Matrix:
    """What one account pays for one fill, by symbol."""
    try:
        paid = np.array(function(_read_only(trade), known, **plugin.options), dtype=np.float64)
    except QuantAssetsError:
        raise
    except Exception as error:  # a desk's own code may raise anything
        raise _bad_cost(plugin, known, f"{type(error).__name__}: {error}") from error
    if paid.shape != trade.shape:
        raise _bad_cost(plugin, known, f"shape {paid.shape}")
    wrong = ~(np.isfinite(paid) & (paid >= 0.0))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise _bad_cost(
            plugin, known, f"{paid[first]:g} for {known.symbols[first]}, of which {trade[first]:g} is traded"
        )
    return paid


def _bad_cost(plugin: Plugin, known: TradeContext, found: str) -> ValidationError:
    return ValidationError(
        f"cost model {plugin.use!r} on {known.session}",
        expected=f"a finite cost >= 0 of each of {len(known.symbols)} symbols, as a fraction of capital",
        found=found,
        action="correct the model; quant_assets.testing.CostContract tests it",
    )
