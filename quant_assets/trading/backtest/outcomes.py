"""What followed each decision: the return that judges a score, and the periods that an account lives through.

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

from quant_assets.common.errors import ValidationError
from quant_assets.trading.account import LIQUIDITY_SESSIONS, Matrix, last_known, trailing_liquidity
from quant_assets.trading.backtest.choosing import BacktestSettings
from quant_assets.trading.backtest.score_table import Panel

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
        tranches, period_sessions = 1, horizon
    else:
        mark = panel.open if kind == "open" and panel.open is not None else _close(panel)
        label = _price_labels(mark, rows, horizon)
        # A decision needs the next session to be filled in and the one after it to be valued at.
        stop = min(rows.stop, len(panel.sessions) - 2)
        decisions = np.arange(max(stop - rows.start, 0))
        filled, valued = mark[rows.start + 1 : stop + 1], mark[rows.start + 2 : stop + 2]
        tradable = np.isfinite(filled)
        # What stops trading leaves at its last close, as in `quant_assets.trading.portfolio`.
        leaving = np.where(np.isfinite(valued), valued, _close(panel)[rows.start + 1 : stop + 1])
        returns = np.where(tradable, leaving / filled - 1.0, np.nan)
        tradable &= np.isfinite(returns)
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
        returns=np.where(tradable, returns, 0.0)[first:],
        tradable=tradable[first:],
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


def _price_labels(mark: Matrix, rows: slice, horizon: int) -> Matrix:
    """Return from the fill after each decision to the same mark ``horizon`` sessions later."""
    label = np.full((rows.stop - rows.start, mark.shape[1]), np.nan)
    known = min(rows.stop, len(mark) - 1 - horizon) - rows.start
    if known > 0:
        fill = mark[rows.start + 1 : rows.start + 1 + known]
        label[:known] = mark[rows.start + 1 + horizon : rows.start + 1 + horizon + known] / fill - 1.0
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
