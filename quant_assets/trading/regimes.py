"""Where a strategy earns and how much money it can carry: volatility regimes, and Sharpe ratio against size."""

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl

from quant_assets.common.settings import LAST_CLOSE, CostConfig, DelistingConfig, PortfolioConfig
from quant_assets.statistics import sharpe
from quant_assets.trading.portfolio import simulate

# ---------------------------------------------------------------------------------------------------- regimes


REGIMES = ("calm", "normal", "turbulent")
TRAILING_SESSIONS = 60  # a quarter
# Terciles of fewer volatilities than half a year's say little about what is calm for this market.
FEWEST_VOLATILITIES = 120
UNKNOWN = "before terciles are known"
# Below a month of sessions a Sharpe ratio is noise and is not shown.
FEWEST_SESSIONS_OF_A_RATIO = 21


def market_regimes(bars: pl.DataFrame) -> pl.DataFrame:
    """Volatility of the equally weighted market, and the tercile of its own past that it falls into.

    Parameters
    ----------
    bars : polars.DataFrame
        ``symbol, session, close``, adjusted.

    Returns
    -------
    polars.DataFrame
        ``session``, ``volatility`` (standard deviation per session of the last 60 returns), ``regime`` (``calm``,
        ``normal``, ``turbulent``), sorted by session. Both are null until there is enough history. A row says what
        was known at that session's close: no later bar changes it.
    """
    market = (
        bars.select("symbol", "session", "close")
        .sort("symbol", "session")
        .with_columns((pl.col("close") / pl.col("close").shift(1).over("symbol") - 1.0).alias("change"))
        .group_by("session")
        .agg(pl.col("change").mean())
        .sort("session")
        .with_columns(pl.col("change").rolling_std(TRAILING_SESSIONS).alias("volatility"))
    )
    seen: list[float] = []
    regimes: list[str | None] = []
    for volatility in market["volatility"]:
        if volatility is None or len(seen) < FEWEST_VOLATILITIES:
            regimes.append(None)
        else:
            below = bisect_left(seen, volatility) / len(seen)
            regimes.append(REGIMES[min(int(below * 3.0), 2)])
        if volatility is not None:
            insort(seen, volatility)
    return market.select("session", "volatility", pl.Series("regime", regimes, dtype=pl.String))


def regime_table(path: pl.DataFrame, regimes: pl.DataFrame, periods_per_year: float) -> list[dict[str, Any]]:
    """One path's sessions by the regime that was known when each was decided, at the close before its fill.

    Parameters
    ----------
    path : polars.DataFrame
        ``session`` (of the fill), ``net_return, turnover`` of one path.
    regimes : polars.DataFrame
        As made by `market_regimes`, of the same market.
    periods_per_year : float

    Returns
    -------
    list of dict
        ``regime, sessions, share_fraction, annual_return_fraction`` (not compounded: a regime's sessions are not
        consecutive), ``annual_volatility_fraction, sharpe_annual, win_rate_fraction, turnover``; only regimes that
        occurred, sessions without one last.
    """
    known_before = regimes.sort("session").select("session", pl.col("regime").shift(1))
    joined = path.join(known_before, on="session", how="left")
    rows = []
    for regime in (*REGIMES, None):
        group = joined.filter(pl.col("regime").eq_missing(pl.lit(regime, dtype=pl.String)))
        if group.is_empty():
            continue
        net = group["net_return"].to_numpy()
        enough = len(net) >= FEWEST_SESSIONS_OF_A_RATIO
        rows.append(
            {
                "regime": regime or UNKNOWN,
                "sessions": len(net),
                "share_fraction": len(net) / path.height,
                "annual_return_fraction": float(net.mean()) * periods_per_year,
                "annual_volatility_fraction": float(net.std(ddof=1)) * float(np.sqrt(periods_per_year))
                if enough
                else None,
                "sharpe_annual": float(sharpe.annualised_sharpe(sharpe.sharpe_ratio(net), periods_per_year))
                if enough
                else None,
                "win_rate_fraction": float((net > 0.0).mean()),
                "turnover": float(group["turnover"].to_numpy().mean()),
            }
        )
    return rows


# --------------------------------------------------------------------------------------------------- capacity


CAPITALS = (1e6, 3e6, 1e7, 3e7, 1e8, 3e8, 1e9)  # account currency


@dataclass(frozen=True)
class CapacityPoint:
    """One path traded with an account of one size.

    Attributes
    ----------
    capital : float
        Account currency.
    sharpe_annual : float
        Net of costs; NaN where returns do not vary.
    impact_annual_fraction : float
        Market impact paid per year, as a fraction of capital, positive.
    """

    capital: float
    sharpe_annual: float
    impact_annual_fraction: float


def capacity_curve(
    predictions: pl.DataFrame,
    bars: pl.DataFrame,
    path: int,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    periods_per_year: float,
    capitals: Sequence[float] = CAPITALS,
    delisting: DelistingConfig = LAST_CLOSE,
) -> tuple[CapacityPoint, ...]:
    """Trade one path's scores again with accounts of several sizes, all else equal.

    Commission and spread are fractions of what is traded, whatever the size. Market impact grows with the square root
    of the traded share of a day's volume, so a larger account earns less on the same decisions.

    Parameters
    ----------
    predictions, bars, portfolio, costs
        As for `quant_assets.trading.portfolio.simulate`; the capital of ``costs`` is replaced.
    path : int
        The path whose scores are traded.
    periods_per_year : float
    capitals : sequence of float
        Account sizes, ascending.
    delisting : DelistingConfig
    """
    scores = predictions.select("symbol", "session", f"path_{path}")
    points = []
    for capital in capitals:
        track = simulate(
            scores, bars, portfolio, costs.model_copy(update={"capital": float(capital)}), delisting
        )
        ratio = sharpe.sharpe_ratio(track["net_return"].to_numpy())
        points.append(
            CapacityPoint(
                capital=float(capital),
                sharpe_annual=float(sharpe.annualised_sharpe(ratio, periods_per_year)),
                impact_annual_fraction=float(track["impact_cost"].to_numpy().mean()) * periods_per_year,
            )
        )
    return tuple(points)


def capacity(points: Sequence[CapacityPoint], required_sharpe: float) -> float | None:
    """Account size up to which the net Sharpe ratio meets a requirement.

    Interpolated on the logarithm of capital. None where the smallest account misses it already; infinite where the
    largest still meets it (it was not measured further).

    Parameters
    ----------
    points : sequence of CapacityPoint
        Ascending in capital.
    required_sharpe : float
        Annual.
    """
    if not points or not points[0].sharpe_annual >= required_sharpe:
        return None
    for below, above in pairwise(points):
        if not above.sharpe_annual >= required_sharpe:
            fall = below.sharpe_annual - above.sharpe_annual
            share = (below.sharpe_annual - required_sharpe) / fall if fall > 0.0 else 0.0
            return float(below.capital * (above.capital / below.capital) ** share)
    return math.inf
