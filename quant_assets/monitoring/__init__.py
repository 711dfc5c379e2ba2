"""Monitoring: drift of the features against the training window, and when drift becomes a retraining."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.monitoring.baseline import DriftBaseline, FeatureBaseline, fit_baseline
    from quant_assets.monitoring.drift import (
        benjamini_hochberg,
        js_distance,
        ks_statistic,
        population_stability_index,
    )
    from quant_assets.monitoring.drift_report import judge_drift
    from quant_assets.monitoring.retraining import Decision, decide
    from quant_assets.monitoring.window_null import AlarmRehearsal, WindowNull
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "AlarmRehearsal",
    "Decision",
    "DriftBaseline",
    "FeatureBaseline",
    "WindowNull",
    "benjamini_hochberg",
    "decide",
    "fit_baseline",
    "js_distance",
    "judge_drift",
    "ks_statistic",
    "population_stability_index",
]
