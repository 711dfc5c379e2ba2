"""The report for a terminal."""

import math
from collections.abc import Callable

from rich.table import Table

from quant_assets.validation.backtest.metrics import AccountRecord
from quant_assets.validation.backtest.result import BacktestResult, BookResult

_MOST_FLAGS = 10


def performance_table(result: BacktestResult) -> Table:
    """One row for the model and each baseline."""
    k = result.settings.top_k
    table = Table(
        title=f"{result.data.name}: top {k} of {result.coverage.symbols} symbols, "
        f"{result.coverage.first_session} to {result.coverage.last_session}",
        title_justify="left",
        title_style="bold",
    )
    table.add_column("book", no_wrap=True)
    columns: list[tuple[str, Callable[[BookResult], str]]] = [
        (f"precision@{k}", lambda book: _percent(book.precision_at_k)),
        (f"average return@{k}", lambda book: _percent(book.average_return_at_k, 3)),
        ("net return/year", lambda book: _percent(book.annual_return_fraction)),
    ]
    if result.settings.extended_metrics:
        columns += [
            ("Sharpe", lambda book: _number(_record(book).sharpe_annual)),
            ("Sortino", lambda book: _number(_record(book).sortino_annual)),
            ("max drawdown", lambda book: _percent(_record(book).max_drawdown_fraction)),
            ("turnover/period", lambda book: _percent(_record(book).turnover_per_period)),
        ]
    if result.baselines is not None:
        columns.append(("model minus it, t", lambda _: ""))
    for title, _ in columns:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_row("model", *(show(result.model) for _, show in columns))
    for baseline in result.baselines or ():
        if baseline.result is None:
            table.add_row(baseline.name, f"[dim]not available: {baseline.reason}[/]")
        else:
            shown = [show(baseline.result) for _, show in columns[:-1]]
            table.add_row(baseline.name, *shown, _number(baseline.model_excess_t_statistic))
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
    coverage = result.coverage
    for count, text in (
        (coverage.short_sessions, f"sessions hold fewer than {result.settings.top_k} symbols"),
        (coverage.sessions_without_scores, "sessions have no score and hold cash"),
        (coverage.sessions_without_returns, "sessions have no known return and are not judged"),
        (coverage.selected_without_return, "choices have no known return and are left out"),
    ):
        if count:
            lines.append(f"{count} {text}")
    shown = sorted(result.flagged, key=lambda flag: (-flag.selected_sessions, flag.symbol, flag.reason))
    for flag in shown[:_MOST_FLAGS]:
        lines.append(
            f"flagged: {flag.symbol}, {flag.reason} in {flag.sessions} sessions "
            f"({flag.selected_sessions} chosen), {flag.first_session} to {flag.last_session}"
        )
    if len(shown) > _MOST_FLAGS:
        lines.append(f"and {len(shown) - _MOST_FLAGS} more flags (all of them in the JSON report)")
    return lines


def _record(book: BookResult) -> AccountRecord:
    assert book.account is not None  # noqa: S101 - extended metrics were asked for
    return book.account


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f} %" if math.isfinite(value) else "-"


def _number(value: float | None, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else "-"
