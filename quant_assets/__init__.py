"""Quant machine learning as gated, replayable assets."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets import lineage
    from quant_assets.features import compute, packs
    from quant_assets.lab.lab import Lab
    from quant_assets.lineage.configured import load_settings
    from quant_assets.splits.cpcv import CombinatorialPurgedCV, PurgedKFold, PurgedWalkForward
    from quant_assets.statistics.sharpe import deflated_sharpe_ratio, probabilistic_sharpe_ratio, sharpe_ratio
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "CombinatorialPurgedCV",
    "Lab",
    "PurgedKFold",
    "PurgedWalkForward",
    "compute",
    "deflated_sharpe_ratio",
    "lineage",
    "load_settings",
    "packs",
    "probabilistic_sharpe_ratio",
    "sharpe_ratio",
]
