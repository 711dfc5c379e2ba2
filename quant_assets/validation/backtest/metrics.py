"""How good a choice was: precision and returns at k, information coefficients, and the account's record."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_assets.validation.backtest.account import Accounts
from quant_assets.validation.backtest.inputs import Matrix
from quant_assets.validation.backtest.outcomes import Outcomes
from quant_assets.validation.backtest.selection import average_ranks
from quant_assets.validation.overfitting import hac_t_statistic
from quant_assets.validation.sharpe import annualised_sharpe, sharpe_ratio
from quant_assets.validation.track_record import track_record


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
