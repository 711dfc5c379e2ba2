"""The names under which notebooks know the splitters and the statistics of `splits` and `statistics`."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.splits.cpcv import CombinatorialPurgedCV, PurgedKFold, PurgedWalkForward
    from quant_assets.statistics.overfitting import probability_of_backtest_overfitting
    from quant_assets.statistics.sharpe import (
        deflated_sharpe_ratio,
        expected_maximum_sharpe,
        minimum_backtest_length,
        minimum_track_record_length,
        probabilistic_sharpe_ratio,
        sharpe_ratio,
    )
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "CombinatorialPurgedCV",
    "PurgedKFold",
    "PurgedWalkForward",
    "deflated_sharpe_ratio",
    "expected_maximum_sharpe",
    "minimum_backtest_length",
    "minimum_track_record_length",
    "probabilistic_sharpe_ratio",
    "probability_of_backtest_overfitting",
    "sharpe_ratio",
]
