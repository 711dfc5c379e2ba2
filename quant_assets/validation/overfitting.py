"""Overfitting: `quant_assets.statistics.overfitting` under the name that notebooks import."""

from quant_assets.statistics.overfitting import probability_of_backtest_overfitting

__all__ = ["probability_of_backtest_overfitting"]
