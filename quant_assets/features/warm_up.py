"""How many bars a feature needs before nothing older shows in it: measured, by cutting history off.

A seeded random walk of a few symbols is computed whole, and again without its first years. Behind the cut, a feature
has warmed up where both say the same from then on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.features.recipes import DeskRecipe

SEED = 1729
START = date(2000, 1, 3)
N_SYMBOLS = 4
N_SESSIONS = 3000
# Two different numbers of sessions to cut off, so that a calendar or a cycle does not hide what is left.
CUTS = (701, 1100)
# What is removed at the end, to tell a feature that looks ahead from one that remembers.
REMOVED = 500
# A feature has settled when it has stayed so for a year.
SETTLED_FOR = 252
LONGEST = N_SESSIONS - max(CUTS) - SETTLED_FOR
# Of the feature's standard deviation: a tenth of what the proof of causality allows, because the remainder of a
# recursive feature is another one on every market.
TOLERANCE = 1e-7
# Warm-ups of recursive features end where a remainder falls below the tolerance; the last digit of that is chance.
ROUND = 10


@dataclass(frozen=True)
class Measured:
    """What a feature needs.

    Attributes
    ----------
    lookback : int
        Leading bars without a value.
    warm_up : int or None
        Leading bars whose value older bars would change; None when it never settles within `LONGEST`.
    looks_ahead : bool
        Whether removing later bars changed a value. Then the warm-up means nothing.
    """

    lookback: int
    warm_up: int | None
    looks_ahead: bool


def random_bars(n_symbols: int = N_SYMBOLS, n_sessions: int = N_SESSIONS, seed: int = SEED) -> pl.DataFrame:
    """A seeded random walk: ``symbol, session, open, high, low, close, volume``, by (symbol, session).

    Daily log returns are normal with a standard deviation of 1.5 %, volumes log-normal around 10,000; sessions are
    Mondays to Fridays from 2000-01-03.
    """
    rng = np.random.default_rng(seed)
    days = pl.date_range(START, START + timedelta(days=2 * n_sessions), eager=True)
    sessions = days.filter(days.dt.weekday() <= 5).head(n_sessions)
    frames = []
    for number in range(n_symbols):
        close = 50.0 * (1 + number) * np.exp(np.cumsum(rng.normal(0.0, 0.015, n_sessions)))
        open_ = close * np.exp(rng.normal(0.0, 0.005, n_sessions))
        high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0.0, 0.004, n_sessions)))
        low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0.0, 0.004, n_sessions)))
        volume = np.round(1e4 * np.exp(rng.normal(0.0, 0.5, n_sessions)))
        values = {"open": open_, "high": high, "low": low, "close": close, "volume": volume}
        frames.append(pl.DataFrame({"symbol": [f"S{number}"] * n_sessions, "session": sessions, **values}))
    return pl.concat(frames)


def measure(recipe: DeskRecipe) -> dict[str, Measured]:
    """Lookback and warm-up of every column that a recipe makes, its inputs too.

    Parameters
    ----------
    recipe : DeskRecipe

    Raises
    ------
    FeatureError
        As the recipe's calculations.
    """
    whole = random_bars()
    sessions = whole["session"].unique().sort()
    shorter = [whole.filter(pl.col("session") >= sessions[cut]) for cut in CUTS]
    ended = whole.filter(pl.col("session") < sessions[N_SESSIONS - REMOVED])
    panels = [whole, *shorter, ended]
    first = [recipe.by_symbol(panel) for panel in panels]
    found = {name: _of([frame[name] for frame in first]) for name in recipe.per_symbol.columns}
    # The second stage sees one session alone: it needs what its inputs need, and nothing more.
    second = () if recipe.per_session is None else recipe.per_session.columns
    return {**found, **{name: Measured(0, 0, looks_ahead=False) for name in second}}


def masked(bars: pl.DataFrame, values: pl.DataFrame, margins: Mapping[str, int]) -> pl.DataFrame:
    """The values without the leading bars of each symbol. Bars are in order of (symbol, session)."""
    number = bars.select(pl.int_range(pl.len()).over("symbol").alias("number"))["number"]
    return values.with_columns(
        pl.when(number >= margins[name]).then(pl.col(name)).alias(name) for name in values.columns
    )


def beside(bars: pl.DataFrame, values: pl.DataFrame) -> pl.DataFrame:
    """Bars and values, row by row."""
    return bars.hstack(values.get_columns())


def _of(columns: list[pl.Series]) -> Measured:
    """From the values of one column over the whole, the shortened and the ended panel."""
    whole, *shorter, ended = (
        column.to_numpy().reshape(N_SYMBOLS, -1)  # of all symbols in all sessions
        for column in columns
    )
    spread = float(np.nanstd(whole)) if np.isfinite(whole).any() else 0.0
    scale = spread if spread > 0.0 else 1.0
    there = np.isfinite(whole)
    lookback = int(np.where(there.any(axis=1), there.argmax(axis=1), 0).min())
    ahead = not _same(whole[:, : ended.shape[1]], ended, scale).all()
    warm_up = lookback
    for short in shorter:
        same = _same(whole[:, -short.shape[1] :], short, scale).all(axis=0)
        unsettled = np.flatnonzero(~same)
        if len(unsettled):
            warm_up = max(warm_up, int(unsettled[-1]) + 1)
        if warm_up > short.shape[1] - SETTLED_FOR:
            return Measured(lookback, None, ahead)
    if warm_up > LONGEST:
        return Measured(lookback, None, ahead)
    if warm_up > lookback:
        warm_up = -(-warm_up // ROUND) * ROUND
    return Measured(lookback, warm_up, ahead)


def _same(one: NDArray[np.float64], other: NDArray[np.float64], scale: float) -> NDArray[np.bool_]:
    both = np.isnan(one) & np.isnan(other)
    with np.errstate(invalid="ignore"):
        close = (one == other) | (np.abs(one - other) <= TOLERANCE * scale)
    return np.asarray(both | close, dtype=np.bool_)
