"""Studies: experiments on the platform itself and on a strategy: calibration, leakage, importance, tuning."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.studies import calibration, importance, leakage
    from quant_assets.studies.strategy_tuning import tune_strategy
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "calibration",
    "importance",
    "leakage",
    "tune_strategy",
]
