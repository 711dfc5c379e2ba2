"""Trading: from scores to positions, fills, costs and net returns, and what those returns did."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.trading import backtest
    from quant_assets.trading.decision import Decision
    from quant_assets.trading.further_costs import TradeContext
    from quant_assets.trading.path_figures import PathStatistics
    from quant_assets.trading.paths import (
        information_coefficients,
        median_path,
        path_returns,
        path_statistics,
        rank_ic_by_session,
    )
    from quant_assets.trading.regimes import (
        CapacityPoint,
        capacity,
        capacity_curve,
        market_regimes,
        regime_table,
    )
    from quant_assets.trading.sizing import target_weights
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "CapacityPoint",
    "Decision",
    "PathStatistics",
    "TradeContext",
    "backtest",
    "capacity",
    "capacity_curve",
    "information_coefficients",
    "market_regimes",
    "median_path",
    "path_returns",
    "path_statistics",
    "rank_ic_by_session",
    "regime_table",
    "target_weights",
]
