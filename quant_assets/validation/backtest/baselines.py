"""What the scores have to beat: chance, everything, size and momentum, over the same opportunities.

Every baseline chooses among the symbols that the model scored in that session, is traded by the same account with
the same costs on the same sessions, and holds cash where it has nothing to choose from.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from quant_assets.validation.backtest.inputs import Matrix, Panel
from quant_assets.validation.backtest.selection import top_k, weigh

BaselineName = Literal["random", "equal_weight", "cap_weighted", "momentum"]

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
    """Random, equal-weight, cap-weighted and momentum books.

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
