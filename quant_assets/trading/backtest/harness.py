"""The cross-sectional backtest: choose the k best scores of each session, trade them, compare with baselines."""

import numpy as np
from numpy.typing import NDArray

from quant_assets.statistics.overfitting import hac_t_statistic
from quant_assets.statistics.track_record import annual_return
from quant_assets.trading.backtest.account import Accounts, run_accounts
from quant_assets.trading.backtest.backtest_settings import BacktestSettings, row_medians, top_k, weigh
from quant_assets.trading.backtest.metrics import (
    Book,
    Information,
    SessionQuality,
    account_record,
    baseline_books,
    coefficient,
    information,
    label_overlap,
    mean_defined,
    session_quality,
)
from quant_assets.trading.backtest.outcomes import Outcomes, outcomes_of
from quant_assets.trading.backtest.result import (
    BacktestResult,
    BaselineResult,
    BookResult,
    Coverage,
    InformationResult,
    LatestSelection,
    SessionSeries,
    conventions_of,
    flagged_assets,
)
from quant_assets.trading.backtest.score_table import Matrix, Panel

# Labels of the stated length hardly correlate; of twice the length they do by one half.
_OVERLAP_SUSPECTED = 0.3
# Five-day reversal on large caps has a mean rank IC of .01 to .02.
_IC_SUSPECTED = 0.1


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
    accounts = run_accounts(traded, outcomes, settings.costs)
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
    lag = settings.horizon_sessions
    enough = len(excess) > lag + 1
    return BaselineResult(
        name=book.name,
        available=True,
        reason=None,
        result=result,
        model_excess_per_period=float(excess.mean()),
        model_excess_t_statistic=float(hac_t_statistic(excess, lag=lag)) if enough else float("nan"),
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
