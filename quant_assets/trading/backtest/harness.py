"""The cross-sectional backtest: choose the k best scores of each session, trade them, judge what was chosen."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.settings import CostConfig
from quant_assets.statistics.overfitting import FEWEST_FOR_MEAN, DependentMean, dependent_mean
from quant_assets.statistics.sharpe import annualised_sharpe, sharpe_ratio
from quant_assets.statistics.track_record import annual_return, track_record
from quant_assets.trading.account import Accounts, Matrix, run_accounts
from quant_assets.trading.backtest.outcomes import (
    BacktestSettings,
    Book,
    Outcomes,
    average_ranks,
    baseline_books,
    outcomes_of,
    row_medians,
    top_k,
    weigh,
)
from quant_assets.trading.backtest.result import (
    AccountRecord,
    BacktestResult,
    BaselineResult,
    BookResult,
    Coefficient,
    Coverage,
    InformationResult,
    LatestSelection,
    SessionSeries,
    conventions_of,
    flagged_assets,
)
from quant_assets.trading.backtest.score_table import Panel
from quant_assets.trading.portfolio import tranche_average

# Labels of the stated length hardly correlate; of twice the length they do by one half.
_OVERLAP_SUSPECTED = 0.3
# Five-day reversal on large caps has a mean rank IC of .01 to .02.
_IC_SUSPECTED = 0.1


# -------------------------------------------------------------------------------------- how good a choice was


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


def mean_test(series: Matrix, horizon: int) -> DependentMean | None:
    """Whether the mean of a series whose neighbours share up to ``horizon`` sessions is 0; None when too short."""
    return dependent_mean(series) if len(series) >= max(2 * horizon, FEWEST_FOR_MEAN) else None


def coefficient(series: Matrix, horizon: int) -> Coefficient:
    """Mean of the defined coefficients, and whether it differs from 0."""
    # The last bits of a correlation are rounding, and a spread of 1e-16 made of them would give a t of 1e16.
    defined = np.round(series[np.isfinite(series)], 12)
    n, test = len(defined), mean_test(defined, horizon)
    return Coefficient(
        mean=float(defined.mean()) if n else float("nan"),
        sd=float(defined.std(ddof=1)) if n > 1 else float("nan"),
        t_statistic=test.statistic if test else float("nan"),
        p_value=test.p_value if test else float("nan"),
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


# ----------------------------------------------------------------------------------------------- the backtest


def run_backtest(panel: Panel, settings: BacktestSettings) -> BacktestResult:
    """Judge the scores of a panel.

    Parameters
    ----------
    panel : Panel
        From `quant_assets.trading.backtest.score_table.read_panel`.
    settings : BacktestSettings

    Returns
    -------
    BacktestResult
        The same for the same rows in any order.

    Raises
    ------
    ValidationError
        When the panel cannot be judged (no scores, too few periods, the wanted returns are not there).
    """
    outcomes = outcomes_of(panel, settings)
    scores = panel.score[outcomes.start : outcomes.start + len(outcomes.label)]
    medians = row_medians(outcomes.label)
    selected = top_k(scores, settings.top_k)
    books = [
        Book("top_k", f"top {settings.top_k} by score, equal weights", weigh(selected.astype(np.float64)))
    ]
    if settings.compare_baselines:
        books += baseline_books(panel, outcomes.start, scores, settings.top_k, settings.seed)
    traded = [book.weights for book in books if book.weights is not None]
    accounts = trade(traded, outcomes, settings.costs)
    qualities = [session_quality(weights, outcomes.label, medians) for weights in traded]
    results = iter(
        _book_result(book, quality, accounts, i, outcomes, extended=settings.extended_metrics)
        for i, (book, quality) in enumerate(
            zip((b for b in books if b.weights is not None), qualities, strict=True)
        )
    )
    model = next(results)
    baselines = tuple(
        _baseline(book, None if book.weights is None else next(results), accounts, at, settings)
        for book, at in zip(books[1:], _positions(books[1:]), strict=True)
    )
    found = information(scores, outcomes.label) if settings.extended_metrics else None
    lag = settings.horizon_sessions
    ics = (
        None
        if found is None
        else InformationResult(coefficient(found.ic, lag), coefficient(found.rank_ic, lag))
    )
    last = int(np.flatnonzero(selected.any(axis=1))[-1])
    best_first = np.argsort(-scores[last], kind="stable")[: int(selected[last].sum())]
    sessions = panel.sessions[outcomes.start : outcomes.start + len(scores)]
    return BacktestResult(
        data=panel.facts,
        settings=settings,
        returns_from=outcomes.kind,
        periods_per_year=outcomes.periods_per_year,
        period_sessions=outcomes.period_sessions,
        conventions=conventions_of(outcomes, settings),
        coverage=_coverage(panel, outcomes, scores, selected, settings.top_k),
        model=model,
        baselines=baselines if settings.compare_baselines else None,
        information=ics,
        by_session=None
        if found is None
        else _series(sessions, found, qualities[0], selected, accounts, outcomes),
        latest_selection=LatestSelection(
            session=sessions[last].item(), symbols=tuple(panel.symbols[i] for i in best_first)
        ),
        flagged=flagged_assets(panel, outcomes, selected, settings.extreme_return),
        warnings=_warnings(outcomes, ics, settings),
    )


def trade(books: list[Matrix], outcomes: Outcomes, costs: CostConfig) -> Accounts:
    """Trade every book through the same periods, in the account of `quant_assets.trading.account`.

    Parameters
    ----------
    books : list of array, shape (decision sessions, symbols)
        Wanted weights. What cannot be traded gets no position and its share stays in cash.
    outcomes : Outcomes
    costs : CostConfig
        Without market impact where the file lacks what it needs.
    """
    charged = costs if outcomes.impact_note is None else costs.model_copy(update={"impact_coefficient": 0.0})
    targets = np.stack([tranche_average(book, outcomes.tranches)[outcomes.decisions] for book in books])
    targets *= outcomes.tradable
    return run_accounts(
        targets, outcomes.returns, outcomes.sigma_daily, outcomes.adv_notional, charged, outcomes.halted
    )


def _positions(books: list[Book]) -> list[int]:
    """Row of each book among the accounts, in which the model is row 0 and unavailable books have none."""
    return list(np.cumsum([book.weights is not None for book in books]))


def _book_result(
    book: Book, quality: SessionQuality, accounts: Accounts, at: int, outcomes: Outcomes, *, extended: bool
) -> BookResult:
    year = outcomes.periods_per_year
    return BookResult(
        name=book.name,
        definition=book.definition,
        precision_at_k=mean_defined(quality.precision),
        average_return_at_k=mean_defined(quality.average_return),
        positive_share_at_k=mean_defined(quality.positive_share),
        annual_return_fraction=float(annual_return(accounts.net[at], year)),
        gross_annual_return_fraction=float(annual_return(accounts.gross[at], year)),
        account=account_record(accounts, at, outcomes) if extended else None,
    )


def _baseline(
    book: Book, result: BookResult | None, accounts: Accounts, at: int, settings: BacktestSettings
) -> BaselineResult:
    if result is None:
        reason = book.definition.removeprefix("not available: ")
        return BaselineResult(book.name, False, reason, None, None, None)
    excess = accounts.net[0] - accounts.net[at]
    test = mean_test(excess, settings.horizon_sessions)
    return BaselineResult(
        name=book.name,
        available=True,
        reason=None,
        result=result,
        model_excess_per_period=float(excess.mean()),
        model_excess_t_statistic=test.statistic if test else float("nan"),
    )


def _coverage(
    panel: Panel, outcomes: Outcomes, scores: Matrix, selected: NDArray[np.bool_], k: int
) -> Coverage:
    rows = slice(outcomes.start, outcomes.start + len(scores))
    listed, known = panel.listed[rows], np.isfinite(outcomes.label)
    judged = known.any(axis=1)
    held = selected.sum(axis=1)
    return Coverage(
        first_session=panel.sessions[rows.start].item(),
        last_session=panel.sessions[rows.stop - 1].item(),
        file_sessions=len(panel.sessions),
        symbols=len(panel.symbols),
        decision_sessions=len(scores),
        sessions_without_scores=int((held == 0).sum()),
        sessions_without_returns=int((~judged).sum()),
        short_sessions=int(((held > 0) & (held < k)).sum()),
        scores_missing=int((listed & np.isnan(scores)).sum()),
        returns_missing=int((listed & ~known)[judged].sum()),
        selected_without_return=int((selected & ~known)[judged].sum()),
    )


def _series(
    sessions: NDArray[np.datetime64],
    found: Information,
    quality: SessionQuality,
    selected: NDArray[np.bool_],
    accounts: Accounts,
    outcomes: Outcomes,
) -> SessionSeries:
    net = np.full(len(sessions), np.nan)
    net[outcomes.decisions] = accounts.net[0]
    return SessionSeries(
        session=tuple(sessions.tolist()),
        ic=tuple(found.ic.tolist()),
        rank_ic=tuple(found.rank_ic.tolist()),
        precision_at_k=tuple(quality.precision.tolist()),
        average_return_at_k=tuple(quality.average_return.tolist()),
        symbols_selected=tuple(selected.sum(axis=1).tolist()),
        net_return=tuple(net.tolist()),
    )


def _warnings(
    outcomes: Outcomes, ics: InformationResult | None, settings: BacktestSettings
) -> tuple[str, ...]:
    found = []
    if outcomes.impact_note is not None:
        found.append(f"Market impact is not charged: {outcomes.impact_note}.")
    horizon = settings.horizon_sessions
    if outcomes.kind == "forward_return" and len(outcomes.label) > horizon:
        overlap = label_overlap(outcomes.label, horizon)
        if overlap > _OVERLAP_SUSPECTED:
            found.append(
                f"forward_return correlates by {overlap:.2f} with itself {horizon} session(s) later: if it spans "
                "more sessions than --horizon says, Sharpe ratio and drawdown are too good."
            )
    if ics is not None and ics.rank_ic.mean > _IC_SUSPECTED:
        found.append(
            f"A mean rank IC of {ics.rank_ic.mean:.3f} is rare on daily data (five-day reversal on large caps has "
            ".01 to .02): look for a leak."
        )
    return tuple(found)
