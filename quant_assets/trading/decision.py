"""What is known at a decision: all that a scheme is shown beside scores, in a backtest and in live trading."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.settings import PortfolioConfig
from quant_assets.trading.account import Matrix, last_known, trailing_liquidity

DAYS_PER_YEAR = 365.25
# Below a month of returns nobody knows what a name does: it has no volatility, and no part in a covariance.
FEWEST_RETURNS = 20


@dataclass(frozen=True, eq=False)
class Decision:
    """Everything known at the close of a session. Arrays are read-only copies: nothing later hangs behind them.

    Attributes
    ----------
    session : datetime.date
    session_before : datetime.date or None
        Of the decision before; None for the first.
    symbols : tuple of str
        Of each column.
    returns : array, shape (sessions, symbols)
        Simple returns from close to close, the newest last, at most ``lookback_sessions`` of them; NaN where a name
        had no bar.
    sigma_daily, adv_notional : array, shape (symbols,)
        Standard deviation of the last 20 returns (fraction) and average daily traded value (account currency); NaN
        where a name has not so many.
    previous : array, shape (symbols,)
        Weights of the decision before, after constraints; 0 at the first one.
    sectors : tuple of str
        Of each symbol; empty where nobody says.
    capital : float
        Account currency.
    gross_leverage : float
        Most that absolute weights may sum to.
    periods_per_year : float
        Sessions a year, counted over the returns shown.
    """

    session: date
    session_before: date | None
    symbols: tuple[str, ...]
    returns: Matrix
    sigma_daily: Matrix
    adv_notional: Matrix
    previous: Matrix
    sectors: tuple[str, ...]
    capital: float
    gross_leverage: float
    periods_per_year: float

    def after(self, previous: Matrix) -> "Decision":
        """The same with other weights of the decision before."""
        return replace(self, previous=_read_only(previous))


def _read_only(values: Matrix) -> Matrix:
    # A copy, not a view: what a view was cut from can be reached through it, and holds what came later.
    copied = np.array(values, dtype=np.float64, order="C")
    copied.setflags(write=False)
    return copied


@dataclass(frozen=True, eq=False)
class Known:
    """What bars say by the close of each decision session.

    Attributes
    ----------
    sessions : array of datetime64, shape (grid,)
        Every session of the panel, in order.
    first : int
        Place of the first decision among them; decisions follow one another without a gap.
    symbols : tuple of str
    closes : array, shape (grid, symbols)
        NaN where there is no bar.
    sigma_daily, adv_notional : array, shape (decisions, symbols)
    """

    sessions: NDArray[np.datetime64]
    first: int
    symbols: tuple[str, ...]
    closes: Matrix
    sigma_daily: Matrix
    adv_notional: Matrix

    @classmethod
    def of(cls, bars: pl.DataFrame, symbols: Sequence[str], first: date, last: date) -> "Known":
        """What a panel says by the close of each session between two, for a decision that is not filled yet.

        Parameters
        ----------
        bars : polars.DataFrame
            Adjusted panel, ``symbol, session, close, volume`` and its factors.
        symbols : sequence of str
            Of the columns, in order.
        first, last : datetime.date
            Sessions of the panel.
        """
        grid = np.unique(bars["session"].to_numpy().astype("datetime64[D]"))
        bars = bars.filter(pl.col("symbol").is_in(list(symbols)))
        bars = bars.join(trailing_liquidity(bars), on=["symbol", "session"])
        place = {name: column for column, name in enumerate(symbols)}
        at = np.searchsorted(grid, bars["session"].to_numpy().astype("datetime64[D]"))
        of = np.array([place[name] for name in bars["symbol"].to_list()], dtype=np.int64)
        start, stop = (int(np.searchsorted(grid, np.datetime64(day, "D"))) for day in (first, last))

        def matrix(name: str) -> Matrix:
            values = np.full((len(grid), len(symbols)), np.nan)
            values[at, of] = bars[name].to_numpy()
            return values

        sigma, adv = last_known(matrix("sigma_daily")), last_known(matrix("adv_notional"))
        decided = slice(start, stop + 1)
        return cls(grid, start, tuple(symbols), matrix("close"), sigma[decided], adv[decided])

    @property
    def decisions(self) -> int:
        """How many there are."""
        return len(self.sigma_daily)

    def at(self, row: int, portfolio: PortfolioConfig, capital: float) -> Decision:
        """What is known at one decision, before anything was held.

        Parameters
        ----------
        row : int
            From 0, the first decision.
        portfolio : PortfolioConfig
        capital : float
        """
        last = self.first + row
        start = max(last - portfolio.lookback_sessions, 0)
        returns = self._returns[start + 1 : last + 1]
        days = self.sessions[start : last + 1].astype("datetime64[D]")
        span = float((days[-1] - days[0]).astype(int))
        return Decision(
            session=days[-1].item(),
            session_before=self.sessions[last - 1].astype("datetime64[D]").item() if row else None,
            symbols=self.symbols,
            returns=_read_only(returns),
            sigma_daily=_read_only(self.sigma_daily[row]),
            adv_notional=_read_only(self.adv_notional[row]),
            previous=_read_only(np.zeros(len(self.symbols))),
            sectors=tuple(portfolio.sectors.get(name, "") for name in self.symbols),
            capital=capital,
            gross_leverage=portfolio.gross_leverage,
            periods_per_year=len(returns) / span * DAYS_PER_YEAR if span else DAYS_PER_YEAR,
        )

    @cached_property
    def _returns(self) -> Matrix:
        before = np.full(self.closes.shape, np.nan)
        before[1:] = last_known(self.closes)[:-1]
        return np.asarray(self.closes / before - 1.0)


def standardised(returns: Matrix) -> tuple[Matrix, Matrix]:
    """Trailing returns without holes, for covariances: scores of mean 0 and variance 1, and standard deviations.

    A hole is a score of 0, and a name's other scores are as much larger: so its own variance is that of the returns
    it has, and a covariance of scores is positive semi-definite, as one of each pair's common sessions is not.

    Parameters
    ----------
    returns : array, shape (sessions, symbols)
        NaN where there is none.

    Returns
    -------
    scores : array, shape (sessions, symbols)
    volatility : array, shape (symbols,)
        Standard deviation (fraction, per session); NaN for a name with fewer than 20 returns or without variation.
    """
    there = ~np.isnan(returns)
    count = there.sum(axis=0)
    enough = count >= FEWEST_RETURNS
    divisor = np.where(enough, count, 1)
    filled = np.where(there, returns, 0.0)
    mean = filled.sum(axis=0) / divisor
    away = np.where(there, returns - mean, 0.0)
    variance = (away * away).sum(axis=0) / np.where(enough, count - 1, 1)
    known = enough & (variance > 0.0)
    volatility = np.where(known, np.sqrt(np.where(known, variance, 1.0)), np.nan)
    stretch = np.sqrt((len(returns) - 1) / np.where(enough, count - 1, 1)) if len(returns) > 1 else 1.0
    scores = np.where(known, away / np.where(known, volatility, 1.0) * stretch, 0.0)
    return scores, np.asarray(volatility)
