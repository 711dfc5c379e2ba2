"""The feature report of a universe: statistics, findings, plots, one HTML page."""

from quant_assets.features.report.feature_report import (
    FeatureReport,
    feature_report,
    render_html,
    report_plots,
)

__all__ = ["FeatureReport", "feature_report", "render_html", "report_plots"]
