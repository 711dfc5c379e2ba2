"""The report for a terminal."""

import math

from rich.markup import escape
from rich.table import Table

from quant_assets.validation.backtest.result import BacktestResult, BookResult

_MOST_FLAGS = 10


def performance_table(result: BacktestResult) -> Table:
    """One row for the model and each baseline."""
    k = result.settings.top_k
    table = Table(
        title=f"{escape(result.data.name)}: top {k} of {result.coverage.symbols} symbols, "
        f"{result.coverage.first_session} to {result.coverage.last_session}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("book", no_wrap=True)
    titles = [f"precision@{k}", f"average return@{k}", "net return/year"]
    if result.settings.extended_metrics:
        titles += ["Sharpe", "Sortino", "max drawdown", "turnover/period"]
    if result.baselines is not None:
        titles.append("model minus it, t")
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_row("model", *_cells(result.model))
    for baseline in result.baselines or ():
        if baseline.result is None:
            table.add_row(baseline.name, "[dim]-[/]")
        else:
            excess = _number(baseline.model_excess_t_statistic)
            table.add_row(baseline.name, *_cells(baseline.result), excess)
    return table


def notes(result: BacktestResult) -> list[str]:
    """Lines below the table: information coefficients, warnings, what was missing, flagged assets."""
    lines = []
    if result.information is not None:
        for name, found in (("IC", result.information.ic), ("rank IC", result.information.rank_ic)):
            lines.append(
                f"{name}: mean {_number(found.mean, 4)}, t {_number(found.t_statistic)} "
                f"(Newey-West, lag {found.lag_sessions}), {found.n_sessions} sessions"
            )
    lines += [f"warning: {text}" for text in result.warnings]
    lines += [
        f"baseline {baseline.name} is not available: {baseline.reason}"
        for baseline in result.baselines or ()
        if baseline.reason is not None
    ]
    coverage = result.coverage
    for text, count in (
        (f"sessions that hold fewer than {result.settings.top_k} symbols", coverage.short_sessions),
        ("sessions without any score, held in cash", coverage.sessions_without_scores),
        ("sessions without any known return, not judged", coverage.sessions_without_returns),
        ("choices whose return is not known, left out", coverage.selected_without_return),
    ):
        if count:
            lines.append(f"{text}: {count}")
    shown = sorted(result.flagged, key=lambda flag: (-flag.selected_sessions, flag.symbol, flag.reason))
    for flag in shown[:_MOST_FLAGS]:
        lines.append(
            f"flagged: {flag.symbol}, {flag.reason} in {flag.sessions} sessions "
            f"({flag.selected_sessions} chosen), {flag.first_session} to {flag.last_session}"
        )
    if len(shown) > _MOST_FLAGS:
        lines.append(f"and {len(shown) - _MOST_FLAGS} more flags (all of them in the JSON report)")
    return lines


def _cells(book: BookResult) -> list[str]:
    cells = [
        _percent(book.precision_at_k),
        _percent(book.average_return_at_k, 3),
        _percent(book.annual_return_fraction),
    ]
    if book.account is not None:
        cells += [
            _number(book.account.sharpe_annual),
            _number(book.account.sortino_annual),
            _percent(book.account.max_drawdown_fraction),
            _percent(book.account.turnover_per_period),
        ]
    return cells


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else "-"


def _number(value: float | None, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "-"
