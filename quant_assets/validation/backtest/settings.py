"""What a backtest is asked to do. Everything here is repeated in its report."""

from typing import Literal

from pydantic import Field

from quant_assets.common.settings import CostConfig
from quant_assets.common.universe_settings import Config

ReturnsFrom = Literal["auto", "forward_return", "prices"]


class BacktestSettings(Config):
    """How to choose, hold and judge.

    ``returns_from`` chooses the outcome when a file has both: ``auto`` takes ``forward_return`` if it is there.
    ``periods_per_year`` counts sessions; without it the file's own sessions are counted.
    """

    top_k: int = Field(default=10, ge=1)
    horizon_sessions: int = Field(default=1, ge=1, le=252)
    returns_from: ReturnsFrom = "auto"
    compare_baselines: bool = False
    extended_metrics: bool = False
    seed: int = Field(default=0, ge=0)
    costs: CostConfig = CostConfig()
    periods_per_year: float | None = Field(default=None, gt=0)
    extreme_return: float = Field(default=0.5, gt=0)
