"""Choosing symbols: what a backtest is asked to do, the total order of scores, and the books that it has to beat."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from quant_assets.common.config_model import Config
from quant_assets.common.settings import CostConfig
from quant_assets.trading.account import Matrix
from quant_assets.trading.backtest.score_table import Panel

ReturnsFrom = Literal["auto", "forward_return", "prices"]


class BacktestSettings(Config):
    """How to choose, hold and judge. All of it is repeated in the report.

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


# ---------------------------------------------------------------------------------------------- books to beat


# 12-1 momentum: return from twelve months to one month before the decision (Jegadeesh and Titman 1993 skip the
# last weeks for their reversal; 252 and 21 sessions as in Asness, Moskowitz and Pedersen 2013).
_YEAR, _MONTH = 252, 21


@dataclass(frozen=True, eq=False)
class Book:
    """Target weights of one way to choose, shape (decision sessions, symbols); rows sum to 1 or 0.

    ``weights`` is None when the file lacks what the book needs, and ``definition`` then says what.
    """

    name: str
    definition: str
    weights: Matrix | None


def baseline_books(panel: Panel, start: int, scored: Matrix, k: int, seed: int) -> tuple[Book, ...]:
    """Random, equal-weight, cap-weighted and momentum books: what the scores have to beat.

    Each chooses among the symbols that the model scored in that session, is traded by the same account with the same
    costs on the same sessions, and holds cash where it has nothing to choose from.

    Parameters
    ----------
    panel : Panel
    start : int
        Position of the first decision among the panel's sessions.
    scored : array, shape (decisions, symbols)
        The model's scores; symbols without one are no opportunity for anyone.
    k : int
        Symbols held by the random and the momentum book.
    seed : int
        Of the random book (numpy's PCG64).
    """
    eligible = np.isfinite(scored)
    draws = np.random.default_rng(seed).random(scored.shape)
    return (
        Book(
            "random", f"{k} scored symbols drawn anew each session, seed {seed}", _chosen(draws, eligible, k)
        ),
        Book("equal_weight", "all scored symbols, equal weights", weigh(eligible.astype(np.float64))),
        _cap_weighted(panel, start, eligible),
        _momentum(panel, start, eligible, k),
    )


def _chosen(signal: Matrix, eligible: Matrix, k: int) -> Matrix:
    return weigh(top_k(np.where(eligible, signal, np.nan), k).astype(np.float64))


def _cap_weighted(panel: Panel, start: int, eligible: Matrix) -> Book:
    if panel.market_cap is None:
        return Book("cap_weighted", "not available: the file has no column market_cap", None)
    caps = panel.market_cap[start : start + len(eligible)]
    sizes = np.where(eligible & np.isfinite(caps), caps, 0.0)
    return Book("cap_weighted", "all scored symbols with a market cap, weighted by it", weigh(sizes))


def _momentum(panel: Panel, start: int, eligible: Matrix, k: int) -> Book:
    if panel.close is None:
        return Book("momentum", "not available: the file has no column close", None)
    sessions = len(panel.sessions)
    # A year of history that leaves less than a year to hold it says little: then one month's return.
    lookback, skip = (_YEAR, _MONTH) if sessions >= 2 * _YEAR else (_MONTH, 0)
    if sessions < 2 * _MONTH:
        return Book(
            "momentum", f"not available: {sessions} sessions of prices, and it needs {2 * _MONTH}", None
        )
    signal = np.full(panel.close.shape, np.nan)
    signal[lookback:] = (
        panel.close[lookback - skip : sessions - skip] / panel.close[: sessions - lookback] - 1
    )
    known = signal[start : start + len(eligible)]
    label = "12-1 momentum" if skip else "return of the last month"
    definition = f"top {k} by {label} (close {skip} over close {lookback} sessions before the decision)"
    return Book("momentum", definition, _chosen(known, eligible, k))
