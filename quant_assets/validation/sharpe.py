"""The Sharpe ratio and its inference: `quant_assets.statistics.sharpe` under the name that notebooks import."""

from quant_assets.statistics.sharpe import (
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    minimum_backtest_length,
    minimum_track_record_length,
    probabilistic_sharpe_ratio,
    sharpe_ratio,
)

__all__ = [
    "deflated_sharpe_ratio",
    "expected_maximum_sharpe",
    "minimum_backtest_length",
    "minimum_track_record_length",
    "probabilistic_sharpe_ratio",
    "sharpe_ratio",
]
