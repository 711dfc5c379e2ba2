"""How much money a strategy can carry: net Sharpe ratio against the size of the account.

Commission and spread are fractions of what is traded, whatever the size. Market impact grows with the square root of
the traded share of a day's volume, so a larger account earns less on the same decisions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from quant_assets.common.settings import CostConfig, PortfolioConfig
from quant_assets.validation import sharpe
from quant_assets.validation.portfolio import simulate

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
) -> tuple[CapacityPoint, ...]:
    """Trade one path's scores again with accounts of several sizes, all else equal.

    Parameters
    ----------
    predictions, bars, portfolio, costs
        As for `quant_assets.validation.portfolio.simulate`; the capital of ``costs`` is replaced.
    path : int
        The path whose scores are traded.
    periods_per_year : float
    capitals : sequence of float
        Account sizes, ascending.
    """
    scores = predictions.select("symbol", "session", f"path_{path}")
    points = []
    for capital in capitals:
        track = simulate(scores, bars, portfolio, costs.model_copy(update={"capital": float(capital)}))
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
