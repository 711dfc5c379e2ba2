"""Choosing symbols by score: a total order, and the weights that follow from it."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from quant_assets.common.config_model import Config
from quant_assets.common.settings import CostConfig
from quant_assets.trading.backtest.score_table import Matrix

# --------------------------------------------------------------------------------------------------
# What a backtest is asked to do. Everything here is repeated in its report.


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


# --------------------------------------------------------------------------------------------------


def top_k(scores: Matrix, k: int) -> NDArray[np.bool_]:
    """The k best of each session.

    Parameters
    ----------
    scores : array, shape (sessions, symbols)
        Symbols ascending. NaN ranks last and is never chosen.
    k : int

    Returns
    -------
    array of bool
        Same shape. Higher scores first; among equals the symbol that comes first, so the result does not depend
        on the order of the file's rows. Fewer than k where fewer have a score.
    """
    # Stable, so equal scores keep the symbols' order; numpy puts NaN behind every number.
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, best, values=True, axis=1)
    return chosen & ~np.isnan(scores)


def weigh(sizes: Matrix) -> Matrix:
    """Non-negative sizes as weights that sum to 1 in each session, or to 0 where all sizes are 0."""
    total = sizes.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(sizes, total, out=np.zeros(sizes.shape), where=total > 0.0))


def average_ranks(values: Matrix) -> Matrix:
    """Ranks from 1 within each row, ties sharing their average; NaN keeps NaN.

    Equal to ``scipy.stats.rankdata(..., nan_policy="omit")``, whose import alone costs more than a backtest.
    """
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    position = np.broadcast_to(np.arange(values.shape[1]), values.shape)
    starts = np.ones(values.shape, dtype=bool)
    starts[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    mean_position = position.astype(np.float64)
    if not starts.all():
        ends = np.ones(values.shape, dtype=bool)
        ends[:, :-1] = starts[:, 1:]
        first = np.maximum.accumulate(np.where(starts, position, 0), axis=1)
        last = np.where(ends, position, values.shape[1])[:, ::-1]
        mean_position = (first + np.minimum.accumulate(last, axis=1)[:, ::-1]) / 2.0
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, mean_position + 1.0, axis=1)
    return np.where(np.isnan(values), np.nan, ranks)


def row_medians(values: Matrix) -> Matrix:
    """Median of each row's numbers; NaN for a row without any."""
    ordered = np.sort(values, axis=1)
    count = (~np.isnan(values)).sum(axis=1)
    row = np.arange(len(values))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[1] - 1)
    return np.asarray((ordered[row, low] + ordered[row, high]) / 2.0)
