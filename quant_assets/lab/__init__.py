"""The notebook's face of the platform: a project's bars, features, labels, backtests and verdicts, looks counted."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.lab.lab import Lab
    from quant_assets.lab.results import Backtest, Comparison, Verdicts
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = ["Backtest", "Comparison", "Lab", "Verdicts"]
