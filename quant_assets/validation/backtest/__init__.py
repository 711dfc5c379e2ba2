"""The cross-sectional backtest harness: a table of scores and outcomes in, a canonical report out."""

from quant_assets.validation.backtest.harness import run_backtest
from quant_assets.validation.backtest.inputs import Panel, panel_of, read_panel
from quant_assets.validation.backtest.result import SCHEMA_VERSION, BacktestResult, result_schema
from quant_assets.validation.backtest.settings import BacktestSettings

__all__ = [
    "SCHEMA_VERSION",
    "BacktestResult",
    "BacktestSettings",
    "Panel",
    "panel_of",
    "read_panel",
    "result_schema",
    "run_backtest",
]
