"""How good a choice was, and what it has to beat: ranks, returns at k, the account; chance, size and momentum."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quant_assets.statistics.overfitting import hac_t_statistic
from quant_assets.statistics.sharpe import annualised_sharpe, sharpe_ratio
from quant_assets.statistics.track_record import track_record
from quant_assets.trading.backtest.account import Accounts
from quant_assets.trading.backtest.backtest_settings import average_ranks, top_k, weigh
from quant_assets.trading.backtest.outcomes import Outcomes
from quant_assets.trading.backtest.score_table import Matrix, Panel

# --------------------------------------------------------------------------------------------------
# How good a choice was: precision and returns at k, information coefficients, and the account's record.


@dataclass(frozen=True, eq=False)
class SessionQuality:
    """Per decision session, shape (sessions,). NaN where nothing was held, or no return of it is known."""

    precision: Matrix
    positive_share: Matrix
    average_return: Matrix


@dataclass(frozen=True, eq=False)
class Information:
    """Correlation of scores and outcomes over the symbols of each session; NaN where there is none."""

    ic: Matrix
    rank_ic: Matrix


@dataclass(frozen=True)
class Coefficient:
    """Mean of a per-session information coefficient.

    Attributes
    ----------
    mean, sd : float
        Over ``n_sessions``; NaN when there are too few.
    t_statistic : float
        Newey-West with ``lag_sessions`` (the horizon: neighbouring labels overlap); NaN with too few sessions.
    """

    mean: float
    sd: float
    t_statistic: float
    lag_sessions: int
    n_sessions: int


@dataclass(frozen=True)
class AccountRecord:
    """An account's periods in numbers. Returns, costs and turnover are fractions; ratios net of costs.

    Undefined ratios (no variance, no loss) are NaN. ``turnover_per_period`` counts both sides.
    """

    n_periods: int
    periods_in_cash: int
    mean_symbols_held: float
    mean_invested_fraction: float
    sharpe_per_period: float
    sharpe_annual: float
    gross_sharpe_annual: float
    sortino_annual: float
    calmar: float
    max_drawdown_fraction: float
    annual_volatility_fraction: float
    win_rate_fraction: float
    turnover_per_period: float
    annual_commission_fraction: float
    annual_spread_fraction: float
    annual_impact_fraction: float


def session_quality(weights: Matrix, label: Matrix, medians: Matrix) -> SessionQuality:
    """Quality of what was held in each session.

    Parameters
    ----------
    weights, label : array, shape (sessions, symbols)
    medians : array, shape (sessions,)
        Of each session's known returns, over all symbols of the file.

    Returns
    -------
    SessionQuality
        ``precision`` is the share of held symbols whose return is above the median, ``positive_share`` above 0,
        ``average_return`` their weighted mean. Held symbols whose return is not known are left out of all three.
    """
    known = (weights > 0.0) & np.isfinite(label)
    weight = np.where(known, weights, 0.0)
    count, total = known.sum(axis=1).astype(np.float64), weight.sum(axis=1)
    return SessionQuality(
        precision=_divide((known & (label > medians[:, None])).sum(axis=1), count),
        positive_share=_divide((known & (label > 0.0)).sum(axis=1), count),
        average_return=_divide((weight * np.where(known, label, 0.0)).sum(axis=1), total),
    )


def information(scores: Matrix, label: Matrix) -> Information:
    """Pearson and Spearman (average ranks) correlation in each session, over symbols with both numbers."""
    both = np.isfinite(scores) & np.isfinite(label)
    x, y = np.where(both, scores, np.nan), np.where(both, label, np.nan)
    return Information(
        ic=_row_correlation(x, y, both), rank_ic=_row_correlation(average_ranks(x), average_ranks(y), both)
    )


def coefficient(series: Matrix, lag: int) -> Coefficient:
    """Mean of the defined coefficients, and whether it differs from 0."""
    # The last bits of a correlation are rounding, and a spread of 1e-16 made of them would give a t of 1e16.
    defined = np.round(series[np.isfinite(series)], 12)
    n = len(defined)
    return Coefficient(
        mean=float(defined.mean()) if n else float("nan"),
        sd=float(defined.std(ddof=1)) if n > 1 else float("nan"),
        t_statistic=float(hac_t_statistic(defined, lag=lag)) if n > lag + 1 else float("nan"),
        lag_sessions=lag,
        n_sessions=n,
    )


def mean_defined(series: Matrix) -> float:
    """Mean over the sessions where the number is defined, each session counting the same; NaN if none is."""
    defined = series[np.isfinite(series)]
    return float(defined.mean()) if len(defined) else float("nan")


def account_record(accounts: Accounts, book: int, outcomes: Outcomes) -> AccountRecord:
    """The record of one book's account."""
    year = outcomes.periods_per_year
    record = track_record(accounts.net[book], year)
    gross = sharpe_ratio(accounts.gross[book])
    return AccountRecord(
        n_periods=record.n_obs,
        periods_in_cash=int((accounts.held[book] == 0.0).sum()),
        mean_symbols_held=float(accounts.held[book].mean()),
        mean_invested_fraction=float(accounts.invested[book].mean()),
        sharpe_per_period=float(record.sharpe_per_period),
        sharpe_annual=float(annualised_sharpe(record.sharpe_per_period, year)),
        gross_sharpe_annual=float(annualised_sharpe(gross, year)),
        sortino_annual=float(annualised_sharpe(record.sortino_per_period, year)),
        calmar=float(record.calmar),
        max_drawdown_fraction=float(record.max_drawdown_fraction),
        annual_volatility_fraction=float(record.annual_volatility_fraction),
        win_rate_fraction=float(record.win_rate),
        turnover_per_period=float(accounts.turnover[book].mean()),
        annual_commission_fraction=float(accounts.commission[book].mean() * year),
        annual_spread_fraction=float(accounts.spread[book].mean() * year),
        annual_impact_fraction=float(accounts.impact[book].mean() * year),
    )


def label_overlap(label: Matrix, horizon: int) -> float:
    """Correlation of a symbol's labels ``horizon`` sessions apart, pooled; NaN with fewer than 50 pairs.

    Labels that span more sessions than stated share part of their return and show it here.
    """
    early, late = label[:-horizon], label[horizon:]
    pairs = np.isfinite(early) & np.isfinite(late)
    if pairs.sum() < 50:
        return float("nan")
    x, y = early[pairs] - early[pairs].mean(), late[pairs] - late[pairs].mean()
    return float(_divide(np.array((x * y).sum()), np.sqrt((x * x).sum() * (y * y).sum())))


def _row_correlation(x: Matrix, y: Matrix, both: NDArray[np.bool_]) -> Matrix:
    count = np.maximum(both.sum(axis=1, keepdims=True), 1)
    x, y = np.where(both, x, 0.0), np.where(both, y, 0.0)
    size_x, size_y = np.abs(x).max(axis=1, initial=0.0), np.abs(y).max(axis=1, initial=0.0)
    x = np.where(both, x - x.sum(axis=1, keepdims=True) / count, 0.0)
    y = np.where(both, y - y.sum(axis=1, keepdims=True) / count, 0.0)
    spread_x, spread_y = np.sqrt((x * x).sum(axis=1)), np.sqrt((y * y).sum(axis=1))
    # Numbers that are all equal leave rounding errors of 1e-16 of their size behind, not zeros.
    varies = (spread_x > 1e-12 * size_x) & (spread_y > 1e-12 * size_y)
    found = np.full(len(x), np.nan)
    np.divide((x * y).sum(axis=1), spread_x * spread_y, out=found, where=varies)
    return np.asarray(np.clip(found, -1.0, 1.0))


def _divide(numerator: Matrix, denominator: Matrix) -> Matrix:
    out = np.full(np.shape(numerator), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=out, where=np.asarray(denominator) > 0.0))


# --------------------------------------------------------------------------------------------------
# What the scores have to beat: chance, everything, size and momentum, over the same opportunities.
#
# Every baseline chooses among the symbols that the model scored in that session, is traded by the same account with
# the same costs on the same sessions, and holds cash where it has nothing to choose from.


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
