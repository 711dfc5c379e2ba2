"""Calibration: how often the gates let noise pass, and how often they let skill pass, measured and with intervals."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.studies.calibration.calibrating import CalibrationReport, calibrate_gates, power_plot
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "CalibrationReport",
    "calibrate_gates",
    "power_plot",
]
