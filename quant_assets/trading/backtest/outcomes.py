"""What each decision chooses, and what followed: the return that judges a score, the periods of an account.

Symbols are chosen by the total order of scores; books that need no score are what they have to beat.

With prices, a decision at the close of session t is filled at the next session's open (its close, in a file
without opens), each session renews 1/h of the account (`quant_assets.trading.portfolio.tranche_average`), and
positions are marked every session. With ``forward_return`` alone the path between decision and outcome is not
known: the account is renewed as a whole every h sessions, and its periods do not overlap. Booking overlapping
h-session returns session by session instead would hide most of the volatility between them (with a book that does
not change, all but 1/h of the variance).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, field_validator

from quant_assets.common.config_model import Config
from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import LAST_CLOSE, CostConfig
from quant_assets.trading.account import (
    LIQUIDITY_SESSIONS,
    Matrix,
    last_known,
    marks,
    presence,
    trailing_liquidity,
)
from quant_assets.trading.backtest.score_table import Panel

# -------------------------------------------------------------------------------------------- what is chosen

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

    @field_validator("costs")
    @classmethod
    def _of_the_platform_alone(cls, value: CostConfig) -> CostConfig:
        if value.model is not None:
            raise ValueError("a cost model of a desk's own is charged in strategies, not on a file of scores")
        return value


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


# ---------------------------------------------------------------------------------------------- what followed

OutcomeKind = Literal["forward_return", "open", "close"]

_DAYS_PER_YEAR = 365.25


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Decisions and what followed. ``D`` decision sessions: from the first with a score to the last.

    Attributes
    ----------
    kind : {"forward_return", "open", "close"}
        Where returns come from: the column of that name, or prices filled at the next open or close.
    start : int
        Position of the first decision among the panel's sessions.
    label : array, shape (D, symbols)
        Simple return over the horizon that follows the decision; NaN where it is not known.
    decisions : array of int, shape (P,)
        Rows of ``label`` at which a period of the account begins.
    returns : array, shape (P, symbols)
        Simple return of each period; 0 where nothing can be held.
    tradable : array of bool, shape (P, symbols)
    halted : array of bool, shape (P, symbols)
        No price at the fill of a symbol that has not ended: what is held of it is carried to its next one.
    sigma_daily, adv_notional : array, shape (P, symbols)
        Liquidity known at the decision; NaN where impact is not charged.
    tranches : int
        Decisions over which targets are averaged.
    period_sessions : int
        Sessions in a period.
    periods_per_year : float
    impact_note : str or None
        Why market impact is not charged, when it is asked for and cannot be.
    """

    kind: OutcomeKind
    start: int
    label: Matrix
    decisions: NDArray[np.int64]
    returns: Matrix
    tradable: NDArray[np.bool_]
    halted: NDArray[np.bool_]
    sigma_daily: Matrix
    adv_notional: Matrix
    tranches: int
    period_sessions: int
    periods_per_year: float
    impact_note: str | None


def outcomes_of(panel: Panel, settings: BacktestSettings) -> Outcomes:
    """Returns after each decision, under the convention that the panel's columns allow.

    Raises
    ------
    ValidationError
        When no score is finite, the wanted returns are not in the file, or fewer than two periods can be judged.
    """
    name = panel.facts.name
    scored = np.flatnonzero(np.isfinite(panel.score).any(axis=1))
    if not len(scored):
        raise ValidationError(
            f"{name}: column score", expected="some scores", found="none", action="check the model's output"
        )
    rows = slice(int(scored[0]), int(scored[-1]) + 1)
    kind = _kind(panel, settings)
    horizon = settings.horizon_sessions
    if kind == "forward_return" and panel.forward_return is not None:
        label = panel.forward_return[rows]
        decisions = np.arange(0, len(label), horizon)
        decisions = decisions[np.isfinite(label[decisions]).any(axis=1)]
        returns, tradable = label[decisions], np.isfinite(label[decisions])
        halted = np.zeros(tradable.shape, dtype=bool)
        tranches, period_sessions = 1, horizon
    else:
        mark = panel.open if kind == "open" and panel.open is not None else _close(panel)
        # What ends leaves at its last close and what halts is carried, as in `quant_assets.trading.portfolio`.
        present = presence(np.isfinite(mark), LAST_CLOSE.after_sessions)
        worth = marks(mark, _close(panel), present, LAST_CLOSE.final_return)
        label = _price_labels(mark, np.where(present.final, worth, mark), rows, horizon)
        # A decision needs the next session to be filled in and the one after it to be valued at.
        stop = min(rows.stop, len(panel.sessions) - 2)
        decisions = np.arange(max(stop - rows.start, 0))
        filled, valued = slice(rows.start + 1, stop + 1), slice(rows.start + 2, stop + 2)
        returns = worth[valued] / worth[filled] - 1.0
        tradable, halted = present.trading[filled] & np.isfinite(returns), present.halted[filled]
        tranches, period_sessions = horizon, 1
    sigma, adv, note = _liquidity(panel, settings, rows.start + decisions)
    if note is None and settings.costs.impact_coefficient > 0.0:
        tradable = tradable & np.isfinite(sigma) & np.isfinite(adv)
    begun = np.flatnonzero(tradable.any(axis=1))
    first = int(begun[0]) if len(begun) else len(decisions)
    if len(decisions) - first < 2:
        raise ValidationError(
            f"{name}: {len(panel.sessions)} sessions",
            expected=f"at least two periods of {period_sessions} session(s) with scores and returns",
            found=f"{len(decisions) - first}",
            action="give more sessions after the first score, or a shorter horizon",
        )
    return Outcomes(
        kind=kind,
        start=rows.start,
        label=label,
        decisions=decisions[first:],
        returns=np.where(np.isfinite(returns) & (tradable | halted), returns, 0.0)[first:],
        tradable=tradable[first:],
        halted=halted[first:],
        sigma_daily=sigma[first:],
        adv_notional=adv[first:],
        tranches=tranches,
        period_sessions=period_sessions,
        periods_per_year=_sessions_per_year(panel, settings) / period_sessions,
        impact_note=note,
    )


def _kind(panel: Panel, settings: BacktestSettings) -> OutcomeKind:
    wanted = settings.returns_from
    if wanted == "auto":
        wanted = "forward_return" if panel.forward_return is not None else "prices"
    if wanted == "forward_return" and panel.forward_return is None:
        raise _no_column(panel, "forward_return", "--returns-from prices")
    if wanted == "prices" and panel.close is None:
        raise _no_column(panel, "close", "--returns-from forward_return")
    if wanted == "forward_return":
        return "forward_return"
    return "close" if panel.open is None else "open"


def _no_column(panel: Panel, column: str, instead: str) -> ValidationError:
    return ValidationError(
        f"{panel.facts.name}: --returns-from",
        expected=f"a column {column}",
        found=f"columns {', '.join(ours for ours, _ in panel.facts.columns)}",
        action=f"add the column, or use {instead}",
    )


def _close(panel: Panel) -> Matrix:
    if panel.close is None:
        raise _no_column(panel, "close", "--returns-from forward_return")
    return panel.close


def _price_labels(mark: Matrix, left_at: Matrix, rows: slice, horizon: int) -> Matrix:
    """Return from the fill after each decision to the same mark ``horizon`` sessions later.

    A name that is halted then is left at its next mark, one that has ended at its final value: ``left_at`` has both,
    and NaN where nobody could leave. Without them the last move of a name would be in no label.
    """
    label = np.full((rows.stop - rows.start, mark.shape[1]), np.nan)
    known = min(rows.stop, len(mark) - 1 - horizon) - rows.start
    if known > 0:
        # The next number of each symbol is the last known one of the reversed sessions. What ended stays worth that.
        following = last_known(left_at[::-1])[::-1]
        ended = np.logical_or.accumulate(np.isfinite(left_at) & ~np.isfinite(mark), axis=0)
        worth = np.where(ended, last_known(left_at), following)
        fill = mark[rows.start + 1 : rows.start + 1 + known]
        label[:known] = worth[rows.start + 1 + horizon : rows.start + 1 + horizon + known] / fill - 1.0
    return label


def _liquidity(
    panel: Panel, settings: BacktestSettings, at: NDArray[np.int64]
) -> tuple[Matrix, Matrix, str | None]:
    """Volatility and traded value known at each decision; a note instead where impact cannot be charged."""
    unknown = np.full((len(at), len(panel.symbols)), np.nan)
    if settings.costs.impact_coefficient == 0.0:
        return unknown, unknown, None
    if panel.close is None or panel.volume is None:
        return unknown, unknown, "market impact needs the columns close and volume"
    day, symbol = np.nonzero(np.isfinite(panel.close) & np.isfinite(panel.volume))
    # Numbers in place of names: sorting 1.26 million strings costs more than all the rest.
    bars = pl.DataFrame(
        {
            "symbol": symbol.astype(np.uint32),
            "session": day.astype(np.int32),
            "close": panel.close[day, symbol],
            "volume": panel.volume[day, symbol],
        }
    )
    known = trailing_liquidity(bars)
    found = []
    for column in ("sigma_daily", "adv_notional"):
        values = np.full(panel.close.shape, np.nan)
        values[known["session"].to_numpy(), known["symbol"].to_numpy()] = (
            known[column].fill_null(np.nan).to_numpy()
        )
        found.append(last_known(values)[at])
    if not (np.isfinite(found[0]) & np.isfinite(found[1])).any():
        return (
            unknown,
            unknown,
            f"market impact needs {LIQUIDITY_SESSIONS} sessions of returns and volume before a decision, "
            "and no symbol has them",
        )
    return found[0], found[1], None


def _sessions_per_year(panel: Panel, settings: BacktestSettings) -> float:
    if settings.periods_per_year is not None:
        return settings.periods_per_year
    days = int((panel.sessions[-1] - panel.sessions[0]).astype(int))
    return (len(panel.sessions) - 1) * _DAYS_PER_YEAR / days
