"""The one account loop: follow target weights through periods; drift, trades, costs, ruin.

Backtest, paths and capacity all trade through it. Several accounts side by side go through the same periods, so each
period is one step for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from quant_assets.common.settings import CostConfig

# ----------------------------------------------------------------------------------------- what a trade costs

# The impact of trading a fraction of the daily volume is ``coefficient x sigma x sqrt(Q / V)`` in relative
# price, the square-root law (Almgren, Thum, Hauptmann and Li 2005, "Direct estimation of equity market impact",
# fit an exponent of 3/5 on US equities; Toth et al. 2011, Phys. Rev. X 1, 021006, find 1/2 across markets).


LIQUIDITY_SESSIONS = 20  # one trading month
ADJUSTMENT = (
    "price_factor",
    "volume_factor",
)  # adjusted over raw, as `quant_assets.market.actions` writes them
DAYS_PER_YEAR = 365.0  # fees and rates accrue by calendar days, actual/365


@dataclass(frozen=True)
class TradeCosts:
    """Costs as non-negative fractions of capital, each with the shape of the trades they belong to."""

    commission: NDArray[np.float64]
    spread: NDArray[np.float64]
    impact: NDArray[np.float64]

    @property
    def total(self) -> NDArray[np.float64]:
        """Commission, half spread and impact together."""
        return self.commission + self.spread + self.impact


def trade_costs(
    traded_fraction: ArrayLike, sigma_daily: ArrayLike, adv_notional: ArrayLike, costs: CostConfig
) -> TradeCosts:
    """Costs of trading, per symbol.

    Parameters
    ----------
    traded_fraction : array of float
        Change of position over capital; its sign does not matter.
    sigma_daily : array of float
        Standard deviation of daily close-to-close returns (fraction), known before the trade.
    adv_notional : array of float
        Average daily traded value in account currency, known before the trade.
    costs : CostConfig

    Returns
    -------
    TradeCosts
        Fractions of capital. A trade in a symbol without known volatility or volume costs NaN, which no gate
        passes; no trade costs nothing.
    """
    traded = np.abs(np.asarray(traded_fraction, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        participation = traded * (costs.capital / np.asarray(adv_notional, dtype=np.float64))
        relative_impact = costs.impact_coefficient * np.asarray(sigma_daily) * np.sqrt(participation)
        # Without a coefficient there is no impact, whatever is (not) known about the symbol's liquidity.
        charged = (traded > 0.0) & (costs.impact_coefficient > 0.0)
        impact = np.where(charged, relative_impact * traded, 0.0)
    return TradeCosts(
        commission=traded * (costs.commission_bps * 1e-4),
        spread=traded * (costs.half_spread_bps * 1e-4),
        impact=impact,
    )


def trailing_liquidity(bars: pl.DataFrame, sessions: int = LIQUIDITY_SESSIONS) -> pl.DataFrame:
    """Volatility and traded value of each symbol, known at the close of each of its sessions.

    Parameters
    ----------
    bars : polars.DataFrame
        ``symbol, session, close, volume``, and ``price_factor, volume_factor`` where prices and volumes are adjusted:
        what was traded is raw price times raw volume. Adjusted prices shrink with every later dividend, and a
        dividend of 14 % would make all impact before it 8 % dearer.
    sessions : int
        Length of the trailing window, in the symbol's own sessions.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, sigma_daily, adv_notional``, sorted. Both are null until the window is full and
        where they are zero (no trade moves nothing: an impact of zero would be a gift).
    """
    returns = pl.col("close") / pl.col("close").shift(1).over("symbol") - 1.0
    value = pl.col("close") * pl.col("volume")
    factors = [name for name in ADJUSTMENT if name in bars.columns]
    for name in factors:
        value = value / pl.col(name)
    return (
        bars.select("symbol", "session", "close", "volume", *factors)
        .sort("symbol", "session")
        .with_columns(returns.alias("_return"), value.alias("_value"))
        .select(
            "symbol",
            "session",
            pl.col("_return").rolling_std(sessions).over("symbol").alias("sigma_daily"),
            pl.col("_value").rolling_mean(sessions).over("symbol").alias("adv_notional"),
        )
        .with_columns(
            pl.when(pl.col(name) > 0.0).then(pl.col(name)).alias(name)
            for name in ("sigma_daily", "adv_notional")
        )
    )


@dataclass(frozen=True, eq=False)
class Presence:
    """Which names can be traded when, shape (sessions, symbols).

    Attributes
    ----------
    trading : array of bool
        Has a bar.
    halted : array of bool
        Has none now, but had one before and has not ended: a position can be neither opened nor left.
    final : array of bool
        The session in which a name has ended: the first without a bar, or the first without a listing.
    """

    trading: NDArray[np.bool_]
    halted: NDArray[np.bool_]
    final: NDArray[np.bool_]


def presence(
    trading: NDArray[np.bool_], after_sessions: int, delisted: NDArray[np.int64] | None = None
) -> Presence:
    """Tell halts from ends: a name has ended when so many sessions, without a bar, follow its last one.

    Where the panel stops earlier nobody knows yet, and the name counts as halted. Where a listing says when a name
    ended, that counts instead: it is halted until then, and ends in the first session in which it is not listed.

    Parameters
    ----------
    trading : array of bool, shape (sessions, symbols)
        Every session of the panel, in order.
    after_sessions : int
    delisted : array of int, shape (symbols,), optional
        The first session in which a name is no longer listed (the number of sessions, where that comes later than the
        panel); -1 where no listing says.
    """
    n = len(trading)
    last = np.where(trading.any(axis=0), n - 1 - np.argmax(trading[::-1], axis=0), n)
    leaves = np.where(last + after_sessions <= n - 1, last + 1, n)
    if delisted is not None:
        leaves = np.where(delisted >= 0, np.maximum(delisted, last + 1), leaves)
    at = np.arange(n)[:, None]
    begun = np.logical_or.accumulate(trading, axis=0)
    return Presence(trading=trading, halted=begun & ~trading & (at < leaves), final=at == leaves)


def marks(
    opens: "Matrix", closes: "Matrix", present: Presence, final_return: "float | NDArray[np.float64]"
) -> "Matrix":
    """What a position is worth at each open: the open, in a halt the last close, at the end its final value.

    Parameters
    ----------
    opens, closes : array, shape (sessions, symbols)
        NaN where there is no bar.
    present : Presence
    final_return : float, or array of shape (symbols,)
        Of a name that ends, on its last close (fraction).

    Returns
    -------
    array
        NaN before a name's first bar and after its final value.
    """
    carried = last_known(closes)
    held = np.where(present.halted, carried, opens)
    return np.asarray(np.where(present.final, carried * (1.0 + final_return), held))


def last_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carry each symbol's last number forward over the sessions in which it has none."""
    index = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.asarray(np.take_along_axis(values, np.maximum.accumulate(index, axis=0), axis=0))


# ------------------------------------------------------------------------------------------- the account loop


Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Accounts:
    """One row per account, one column per period; fractions of the capital at the fill.

    ``net`` is gross less costs and less ``risk_free``, what the invested capital would have earned anyway.
    ``funding`` is below 0 where the book receives more of it than it pays; ``further`` is what a desk's own model
    charges.
    ``turnover`` counts both sides: replacing a whole book of gross 1 is 2. ``targets``, of shape (accounts, periods,
    symbols), are the positions that were asked for, or carried through a halt.
    """

    gross: Matrix
    commission: Matrix
    spread: Matrix
    impact: Matrix
    borrow: Matrix
    funding: Matrix
    further: Matrix
    risk_free: Matrix
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


def _roll_trades(position: Matrix, target: Matrix, rolled: NDArray[np.bool_]) -> tuple[Matrix, Matrix]:
    """What is traded at a fill: what is sold of old contracts, and what is bought of new ones or moved at all."""
    return np.where(rolled, -position, 0.0), np.where(rolled, target, target - position)


def run_accounts(
    targets: Matrix,
    returns: Matrix,
    sigma_daily: Matrix,
    adv_notional: Matrix,
    costs: CostConfig,
    halted: NDArray[np.bool_] | None = None,
    days: NDArray[np.float64] | None = None,
    financing_rate: float = 0.0,
    rolled: NDArray[np.bool_] | None = None,
    further: Callable[[int, Matrix], Matrix] | None = None,
) -> Accounts:
    """Trade every account through the same periods.

    At each fill an account trades from its position, as it has drifted with prices, to its target, pays, and earns
    the period.

    Parameters
    ----------
    targets : array, shape (accounts, periods, symbols)
        Wanted positions as fractions of capital; 0 where a symbol cannot be bought, which is also what makes a
        vanished symbol leave. The share that is not invested stays in cash.
    returns : array, shape (periods, symbols)
        Simple return of each period; 0 where nothing can be held.
    sigma_daily, adv_notional : array, shape (periods, symbols)
        Liquidity known at the decision; NaN where there is none, which nothing may be traded in while impact is
        charged.
    costs : CostConfig
        Charged on the difference between target and drifted position. Traded value is taken at ``capital``
        throughout: the track is that of an account of a stated size, not one whose impact vanishes after losses.
    halted : array of bool, shape (periods, symbols), optional
        Where a symbol cannot be traded at the fill: the position stays as it has drifted, whatever is wanted.
    days : array, shape (periods,), optional
        Calendar days of each period, over which fees and rates accrue; none without them.
    financing_rate : float
        Subtracted on what is held net long, a year: no payment, so it moves no position.
    rolled : array of bool, shape (periods, symbols), optional
        Where another contract is held from the fill on: the whole position is sold in the old one and the whole
        target bought in the new one, each a trade that costs.
    further : callable, optional
        What else each account pays: from the number of a period and its trades, of shape (accounts, symbols), to
        fractions of capital >= 0, of shape (accounts,).

    Notes
    -----
    What is carried through a halt comes on top of the other targets: leverage may exceed the wanted one until the
    name trades again. Cash earns nothing. An account that loses its whole capital stops there, at a net return of -1;
    every later number is 0.
    """
    accounts, periods, symbols = targets.shape
    targets = targets.copy() if halted is not None else targets
    gross, commission, spread, impact, borrow, funding, model, risk_free, net, turnover = (
        np.zeros((periods, accounts)) for _ in range(10)
    )
    years = np.zeros(periods) if days is None else days / DAYS_PER_YEAR
    position = np.zeros((accounts, symbols))
    alive, lasted = np.ones(accounts, dtype=bool), np.full(accounts, periods)
    for i in range(periods):
        if halted is not None:
            targets[:, i, halted[i]] = position[:, halted[i]]
        target = targets[:, i] * alive[:, None]
        trade = target - position
        trades = (trade,) if rolled is None else _roll_trades(position, target, rolled[i])
        for part in trades:
            paid = trade_costs(part, sigma_daily[i], adv_notional[i], costs)
            commission[i] += paid.commission.sum(axis=1)
            spread[i] += paid.spread.sum(axis=1)
            impact[i] += paid.impact.sum(axis=1)
            turnover[i] += np.abs(part).sum(axis=1)
            if further is not None:
                model[i] += further(i, part)
        gross[i] = (target * returns[i]).sum(axis=1)
        borrow[i] = np.maximum(-target, 0.0).sum(axis=1) * (costs.borrow_fee_bps * 1e-4 * years[i])
        if costs.funding_bps:
            funding[i] = target.sum(axis=1) * (costs.funding_bps * 1e-4 * years[i])
        if financing_rate:
            # A book that is short on balance is paid nothing for it.
            risk_free[i] = np.maximum(target.sum(axis=1), 0.0) * (financing_rate * years[i])
        earned = gross[i] - commission[i] - spread[i] - impact[i] - borrow[i] - funding[i]
        if further is not None:
            earned = earned - model[i]
        net[i] = np.maximum(earned - risk_free[i], -1.0)
        ruined = alive & (earned <= -1.0)
        if ruined.any():
            net[i, ruined], lasted[ruined] = -1.0, i
            alive &= ~ruined
        position = target * (1.0 + returns[i]) / np.where(alive, 1.0 + earned, 1.0)[:, None] * alive[:, None]
    after = np.arange(periods)[:, None] > lasted

    def whole(values: Matrix) -> Matrix:
        # A position of nothing times a loss is -0.0: what comes after the end is written as the zero that it is.
        return np.ascontiguousarray(np.where(after, 0.0, values).T)

    return Accounts(
        gross=whole(gross),
        commission=whole(commission),
        spread=whole(spread),
        impact=whole(impact),
        borrow=whole(borrow),
        funding=whole(funding),
        further=whole(model),
        risk_free=whole(risk_free),
        net=whole(net),
        turnover=whole(turnover),
        targets=targets,
    )
