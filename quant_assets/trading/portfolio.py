"""From scores to net returns: targets, overlapping tranches, fills at the next open, drift and costs.

A decision made at the close of session t is filled at the open of the next session of the bars, and earns
from that open to the one after it. So no fill comes before its decision, and a score can move nothing that
happened before its own fill. Where sessions follow one another without a break (``24/7``; ``24/5`` and ``CMES``
within a week) the close of t and the open of t+1 are one instant: the fill is the first trade after the decision's
price, and what a desk loses while it computes is in no cost.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.common.listing_settings import DELISTING_RETURN, LISTED_UNTIL
from quant_assets.common.settings import LAST_CLOSE, CostConfig, DelistingConfig, PortfolioConfig
from quant_assets.trading.account import (
    ADJUSTMENT,
    Matrix,
    last_known,
    marks,
    presence,
    run_accounts,
    trailing_liquidity,
)
from quant_assets.trading.decision import Known
from quant_assets.trading.further_costs import charge_of
from quant_assets.trading.sizing import Sized, sized

PATH_RETURN_COLUMNS = (
    "path", "session", "gross_return", "commission", "spread_cost", "impact_cost", "borrow_cost", "risk_free",
    "net_return", "net_return_at_twice_costs", "turnover",
)  # fmt: skip


FUNDING = "funding_cost"  # a column of the returns, only where funding is charged
FURTHER = "further_cost"  # likewise, where a desk's own model charges
CONTRACT = "contract"  # a column of bars, only of futures: which contract the bar is of


def tranche_average(targets: Matrix, holding_sessions: int) -> Matrix:
    """Average each session's targets with those of the ``holding_sessions - 1`` sessions before it.

    Each session renews one tranche of ``1 / holding_sessions`` of capital, so a new track builds up over its
    first sessions instead of buying everything at once.

    Parameters
    ----------
    targets : array, shape (sessions, symbols)
    holding_sessions : int
    """
    total = np.zeros_like(targets)
    # Added one by one, not by differences of a running sum: those would leave 1e-17 positions behind.
    for lag in range(min(holding_sessions, len(targets))):
        total[lag:] += targets[: len(targets) - lag]
    return total / holding_sessions


@dataclass(frozen=True)
class _Market:
    """What the bars say, as matrices of shape (fills, symbols): row i is decided one session before it."""

    sessions: NDArray[np.datetime64]  # of the fills
    known: Known
    returns: Matrix  # mark to mark, see `quant_assets.trading.account.marks`
    tradable: NDArray[np.bool_]  # has a bar at the fill, and liquidity known at the decision
    halted: NDArray[np.bool_]  # has none at the fill, and has not ended
    rolled: NDArray[np.bool_] | None  # another contract is held from the fill on
    sigma_daily: Matrix  # known at the decision
    adv_notional: Matrix
    days: NDArray[np.float64]  # from each fill to the next


@dataclass(frozen=True)
class Track:
    """What trading the scores of every path gave.

    Attributes
    ----------
    frame : polars.DataFrame
        As `simulate` gives.
    sized : Sized
        What was wanted, before tranches and fills.
    """

    frame: pl.DataFrame
    sized: Sized


def simulate(
    predictions: pl.DataFrame,
    bars: pl.DataFrame,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig = LAST_CLOSE,
) -> pl.DataFrame:
    """Trade every path's scores and report what each session gave, net of costs.

    Parameters
    ----------
    predictions : polars.DataFrame
        ``symbol, session`` (of the decision) and one score column ``path_<i>`` per path.
    bars : polars.DataFrame
        Adjusted panel, with its factors; each decision session must be one of its sessions. Where it says of a name
        when its listing ended (``listed_until, delisting_return`` on its last bar), that is what happens.
    portfolio : PortfolioConfig
    costs : CostConfig
        Charged at the fill, by `quant_assets.trading.account.run_accounts`.
    delisting : DelistingConfig
        What a name whose bars stop is worth, where the panel does not say.

    Returns
    -------
    polars.DataFrame
        ``path`` (Int32), ``session`` (of the fill), ``gross_return``, ``commission``, ``spread_cost``,
        ``impact_cost``, ``borrow_cost``, ``risk_free``, ``net_return``, ``net_return_at_twice_costs``, ``turnover``,
        sorted by (path, session). All are fractions of the capital at the fill, per session; net is gross less the
        four costs and ``risk_free`` (the rate on what a book holds net long), and once more with every cost
        doubled; ``turnover`` counts both sides (replacing a whole book of gross 1 is 2). The last row is the last
        fill that has a next session.

    Raises
    ------
    ValidationError
        When a decision has no bar, no symbol is ever tradable, or a desk's own scheme or cost model gives no numbers.

    Notes
    -----
    Where ``funding_bps`` is set there is a further column ``funding_cost``, below 0 when the book receives it; with a
    cost ``model`` a column ``further_cost``. Bars
    of futures say their ``contract``: where it changes, a position pays for leaving the old one and entering the new.

    A symbol without a bar at the fill cannot be traded: in a halt its position is carried, worth the last close, to
    the next open. One that has ended leaves at its last close times one plus its delisting return, or
    ``delisting.final_return`` where that is not known; its costs use the liquidity last known. Symbols without ``20``
    sessions of returns and positive volume are not traded while impact is charged. A path that loses its whole
    capital stops there, at a net return of -1.
    """
    return track(predictions, bars, portfolio, costs, delisting).frame


def decided(
    predictions: pl.DataFrame, bars: pl.DataFrame, portfolio: PortfolioConfig, costs: CostConfig
) -> Sized:
    """The weights that `simulate` would trade, without trading them. Arguments as there."""
    market, decisions, symbols = _market(predictions, _needed(bars), costs, LAST_CLOSE)
    return sized(_score_matrix(predictions, decisions, symbols), portfolio, market.known, costs.capital)


def track(
    predictions: pl.DataFrame,
    bars: pl.DataFrame,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig = LAST_CLOSE,
    wanted: Sized | None = None,
) -> Track:
    """As `simulate`, with the weights behind it.

    Parameters
    ----------
    wanted : Sized, optional
        Of the very same predictions, bars, portfolio and capital, where they are known already.
    """
    market, decisions, symbols = _market(predictions, _needed(bars), costs, delisting)
    if wanted is None:
        scores = _score_matrix(predictions, decisions, symbols)
        wanted = sized(scores, portfolio, market.known, costs.capital)
    names = [name for name in predictions.columns if name.startswith("path_")]
    targets = np.empty(wanted.weights.shape)
    for path, weights in enumerate(wanted.weights):
        tranches = tranche_average(weights, portfolio.holding_sessions)
        targets[path] = np.where(market.tradable, tranches, 0.0)
    charge = charge_of(costs, market.sessions, market.known.symbols, market.sigma_daily, market.adv_notional)
    dearer_charge = None if charge is None else lambda period, trades: 2.0 * charge(period, trades)
    accounts, dearer = (
        run_accounts(
            targets,
            market.returns,
            market.sigma_daily,
            market.adv_notional,
            charged,
            market.halted,
            market.days,
            portfolio.financing_rate,
            market.rolled,
            further,
        )
        for charged, further in ((costs, charge), (costs.doubled, dearer_charge))
    )
    frame = pl.concat(
        pl.DataFrame(
            {
                "path": pl.repeat(
                    int(name.removeprefix("path_")), len(decisions), dtype=pl.Int32, eager=True
                ),
                "session": market.sessions,
                "gross_return": accounts.gross[path],
                "commission": accounts.commission[path],
                "spread_cost": accounts.spread[path],
                "impact_cost": accounts.impact[path],
                "borrow_cost": accounts.borrow[path],
                "risk_free": accounts.risk_free[path],
                "net_return": accounts.net[path],
                "net_return_at_twice_costs": dearer.net[path],
                "turnover": accounts.turnover[path],
            }
        )
        .select(PATH_RETURN_COLUMNS)
        .with_columns(
            *([pl.Series(FUNDING, accounts.funding[path])] if costs.funding_bps else []),
            *([pl.Series(FURTHER, accounts.further[path])] if charge is not None else []),
        )
        for path, name in enumerate(names)
    ).sort("path", "session")
    return Track(frame, wanted)


def _needed(bars: pl.DataFrame) -> pl.DataFrame:
    factors = [name for name in (*ADJUSTMENT, CONTRACT) if name in bars.columns]
    ends = [name for name in (LISTED_UNTIL, DELISTING_RETURN) if name in bars.columns]
    return bars.select("symbol", "session", "open", "close", "volume", *factors, *ends)


def _score_matrix(
    predictions: pl.DataFrame, decisions: NDArray[np.datetime64], symbols: NDArray[np.str_]
) -> Matrix:
    """Scores of shape (paths, decisions, symbols), NaN where a symbol has none."""
    rows = np.searchsorted(decisions, predictions["session"].to_numpy().astype("datetime64[D]"))
    columns = np.searchsorted(symbols, predictions["symbol"].to_numpy())
    keep = rows < len(decisions)
    names = [name for name in predictions.columns if name.startswith("path_")]
    scores = np.full((len(names), len(decisions), len(symbols)), np.nan)
    for path, name in enumerate(names):
        scores[path, rows[keep], columns[keep]] = predictions[name].to_numpy()[keep]
    return scores


def _market(
    predictions: pl.DataFrame, bars: pl.DataFrame, costs: CostConfig, delisting: DelistingConfig
) -> tuple[_Market, NDArray[np.datetime64], NDArray[np.str_]]:
    """Bars as matrices over the fills of the predicted period; also its decision sessions and symbols."""
    orphans = predictions.join(bars, on=["symbol", "session"], how="anti")
    if orphans.height:
        row = orphans.sort("session", "symbol").row(0, named=True)
        raise ValidationError(
            "predictions",
            expected="a bar for each (symbol, session) that is scored",
            found=f"{orphans.height} without, the first {row['symbol']} on {row['session']}",
            action="make predictions and returns from the same version of the bars",
        )
    grid = np.unique(bars["session"].to_numpy().astype("datetime64[D]"))
    symbols = np.unique(predictions["symbol"].to_numpy().astype(str))
    predicted = predictions["session"].to_numpy().astype("datetime64[D]")
    first, last = predicted.min(), predicted.max()
    start = int(np.searchsorted(grid, first))
    # A decision needs the next session to be filled in and the one after it to be valued at.
    stop = min(int(np.searchsorted(grid, last)) + 1, len(grid) - 2)
    if stop <= start:
        raise ValidationError(
            f"bars of {len(grid)} sessions",
            expected="at least two sessions after the first decision",
            found=f"decisions from {first} to {last}, bars until {grid[-1]}",
            action="give bars that reach beyond the predictions",
        )
    bars = bars.filter(pl.col("symbol").is_in(symbols.tolist()))
    bars = bars.join(trailing_liquidity(bars), on=["symbol", "session"])
    at = np.searchsorted(grid, bars["session"].to_numpy().astype("datetime64[D]"))
    of = np.searchsorted(symbols, bars["symbol"].to_numpy().astype(str))

    def matrix(name: str) -> Matrix:
        values = np.full((len(grid), len(symbols)), np.nan)
        values[at, of] = bars[name].to_numpy()
        return values

    rolled = None
    if CONTRACT in bars.columns:
        before = pl.col(CONTRACT).shift(1).over("symbol", order_by="session")
        bars = bars.with_columns(rolled=(pl.col(CONTRACT) != before).fill_null(value=False))
        rolled = matrix("rolled") == 1.0
    opens, closes = matrix("open"), matrix("close")
    delisted, final_return = _ends(bars, grid, symbols, delisting.final_return)
    present = presence(~np.isnan(opens), delisting.after_sessions, delisted)
    worth = marks(opens, closes, present, final_return)
    sigma, adv = last_known(matrix("sigma_daily")), last_known(matrix("adv_notional"))
    known_at, filled, valued = slice(start, stop), slice(start + 1, stop + 1), slice(start + 2, stop + 2)
    tradable = present.trading[filled]
    if costs.impact_coefficient > 0.0:
        tradable &= ~np.isnan(sigma[known_at]) & ~np.isnan(adv[known_at])
    if not tradable.any():
        raise ValidationError(
            "bars",
            expected="at least one symbol with a bar at the fill and 20 sessions of volume before it",
            found=f"none of {len(symbols)} symbols between {first} and {last}",
            action="give longer bars with volume, or set impact_coefficient to 0",
        )
    market = _Market(
        sessions=grid[filled],
        known=Known(grid, start, tuple(symbols.tolist()), closes, sigma[known_at], adv[known_at]),
        returns=np.nan_to_num(worth[valued] / worth[filled] - 1.0, nan=0.0),
        tradable=tradable,
        halted=present.halted[filled],
        rolled=None if rolled is None else rolled[filled],
        sigma_daily=sigma[known_at],
        adv_notional=adv[known_at],
        days=np.diff(grid[start + 1 : stop + 2]).astype(np.float64),
    )
    return market, grid[known_at], symbols


def _ends(
    bars: pl.DataFrame, grid: NDArray[np.datetime64], symbols: NDArray[np.str_], stand_in: float
) -> tuple[NDArray[np.int64] | None, float | NDArray[np.float64]]:
    """Of each symbol the first session without a listing (-1: not told), and what it returns at its end."""
    if LISTED_UNTIL not in bars.columns:
        return None, stand_in
    told = bars.filter(pl.col(LISTED_UNTIL).is_not_null())
    of = np.searchsorted(symbols, told["symbol"].to_numpy().astype(str))
    delisted, final_return = np.full(len(symbols), -1), np.full(len(symbols), stand_in)
    until = told[LISTED_UNTIL].to_numpy().astype("datetime64[D]")
    delisted[of] = np.searchsorted(grid, until, side="right")
    final_return[of] = told[DELISTING_RETURN].fill_null(stand_in).to_numpy()
    return delisted, final_return


def unknown_ends(bars: pl.DataFrame, delisting: DelistingConfig) -> tuple[int, list[str]]:
    """How many names of a panel ended, and those of them whose final return nobody says.

    Parameters
    ----------
    bars : polars.DataFrame
        As for `simulate`.
    delisting : DelistingConfig
    """
    grid = np.unique(bars["session"].to_numpy().astype("datetime64[D]"))
    last = bars.group_by("symbol").agg(pl.col("session").max()).sort("symbol")
    told = [LISTED_UNTIL, DELISTING_RETURN] if LISTED_UNTIL in bars.columns else []
    names = last.join(bars.select("symbol", "session", *told), on=["symbol", "session"]).sort("symbol")
    at = np.searchsorted(grid, names["session"].to_numpy().astype("datetime64[D]"))
    symbols = names["symbol"].to_numpy().astype(str)
    trading = np.arange(len(grid))[:, None] == at
    delisted, returns = _ends(names, grid, symbols, np.nan)
    ended = presence(trading, delisting.after_sessions, delisted).final.any(axis=0)
    unknown = ended & np.isnan(np.broadcast_to(returns, ended.shape))
    return int(ended.sum()), symbols[unknown].tolist()
