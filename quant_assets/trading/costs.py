"""What a trade costs, as a fraction of capital: commission, half spread and square-root market impact.

The impact of trading a fraction of the daily volume is ``coefficient x sigma x sqrt(Q / V)`` in relative
price, the square-root law (Almgren, Thum, Hauptmann and Li 2005, "Direct estimation of equity market impact",
fit an exponent of 3/5 on US equities; Toth et al. 2011, Phys. Rev. X 1, 021006, find 1/2 across markets).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from quant_assets.common.settings import CostConfig

LIQUIDITY_SESSIONS = 20  # one trading month


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
        ``symbol, session, close, volume``.
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
    return (
        bars.select("symbol", "session", "close", "volume")
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


def last_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carry each symbol's last number forward over the sessions in which it has none."""
    index = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
    return np.asarray(np.take_along_axis(values, np.maximum.accumulate(index, axis=0), axis=0))
