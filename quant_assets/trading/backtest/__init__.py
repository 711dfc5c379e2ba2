"""The cross-sectional backtest harness: a table of scores and outcomes in, a canonical report out."""

from quant_assets.trading.backtest.harness import run_backtest
from quant_assets.trading.backtest.outcomes import BacktestSettings
from quant_assets.trading.backtest.result import SCHEMA_VERSION, BacktestResult, result_schema
from quant_assets.trading.backtest.score_table import Panel, panel_of, read_panel

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
