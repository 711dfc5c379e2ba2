"""The command ``quant-assets backtest``. Exit codes: 0 done, 1 data error, 2 wrong usage, 130 interrupted."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quant_assets.cli.terminal import json_text, out, plain, require_folder, show_error, show_text, table_of
from quant_assets.common.errors import ConfigurationError, QuantAssetsError, closest
from quant_assets.common.settings import CostConfig

if TYPE_CHECKING:
    from rich.table import Table

    from quant_assets.trading.backtest import BacktestSettings
    from quant_assets.trading.backtest.result import BacktestResult, BookResult
    from quant_assets.trading.backtest.score_table import Panel

_DEFAULTS = CostConfig()
_SUFFIXES = (".csv", ".csv.gz", ".parquet")


def _print_schema(wanted: bool) -> None:
    if wanted:
        from quant_assets.trading.backtest.result import result_schema

        show_text(json_text(result_schema()))
        raise typer.Exit


def backtest(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA.(csv|parquet)"),
    ],
    top_k: Annotated[int, typer.Option(min=1, help="Symbols to hold in each session.")] = 10,
    compare_baselines: Annotated[
        bool,
        typer.Option(
            "--compare-baselines/--no-compare-baselines",
            help="Also random, equal weight, cap weighted and momentum.",
        ),
    ] = False,
    extended_metrics: Annotated[
        bool,
        typer.Option(
            "--extended-metrics/--no-extended-metrics",
            help="Also IC and rank IC with t and p, Sharpe, Sortino, drawdown, turnover, cost breakdown.",
        ),
    ] = False,
    json_output: Annotated[Path | None, typer.Option(help="Write the report here as JSON.")] = None,
    horizon: Annotated[
        int, typer.Option(min=1, max=252, help="Sessions that a return spans and a position is held.")
    ] = 1,
    returns_from: Annotated[
        str,
        typer.Option(help="auto (forward_return if the file has it), forward_return, or prices."),
    ] = "auto",
    column: Annotated[
        list[str] | None,
        typer.Option(help="Our column name = the file's, as score=my_prediction; repeat for several."),
    ] = None,
    commission_bps: Annotated[
        float, typer.Option(min=0, max=1000, help="Commission per traded value.")
    ] = _DEFAULTS.commission_bps,
    half_spread_bps: Annotated[
        float, typer.Option(min=0, max=1000, help="Half the bid-ask spread.")
    ] = _DEFAULTS.half_spread_bps,
    impact_coefficient: Annotated[
        float, typer.Option(min=0, max=10, help="Square-root impact; needs close and volume.")
    ] = _DEFAULTS.impact_coefficient,
    capital: Annotated[
        float, typer.Option(min=1, help="Size of the account, for impact.")
    ] = _DEFAULTS.capital,
    seed: Annotated[int, typer.Option(min=0, help="Of the random baseline.")] = 0,
    universe: Annotated[
        str | None, typer.Option("--universe", "-u", help="Whose trial it is; default: by the file's bars.")
    ] = None,
    periods_per_year: Annotated[
        float | None, typer.Option(min=1, help="Sessions per year; default: counted in the file.")
    ] = None,
    extreme_return: Annotated[
        float, typer.Option(min=0.001, help="Returns beyond this fraction are flagged.")
    ] = 0.5,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", callback=_print_schema, is_eager=True, help="Print the JSON Schema of the report."
        ),
    ] = False,
) -> None:
    """Judge a table of scores: hold the k best of each session, net of costs, and compare with baselines.

    DATA has one row per symbol and session: symbol, session, score, and forward_return or close.

    Optional: open (to fill at), volume (market impact), market_cap, adj_close.

    The JSON report is the same, byte for byte, for the same data and options.

    It is a look at an outcome, and so a trial: with close prices in DATA, of every universe with the same bars.

    Exit code 0 done, 1 when the data is missing or wrong, 2 for wrong usage, 130 when interrupted.

    Example: quant-assets backtest scores.parquet --top-k 10 --compare-baselines --extended-metrics
    """
    if not data.name.endswith(_SUFFIXES):
        raise typer.BadParameter(f"{data} is none of {', '.join(_SUFFIXES)}", param_hint="DATA.(csv|parquet)")
    if returns_from not in ("auto", "forward_return", "prices"):
        raise typer.BadParameter(
            f"{returns_from!r} is none of auto, forward_return, prices", param_hint="--returns-from"
        )
    require_folder(json_output, "--json-output")
    columns = dict(_pair(text) for text in column or [])
    import pydantic

    from quant_assets.trading.backtest import BacktestSettings, read_panel, run_backtest

    try:
        settings = BacktestSettings.model_validate(
            {
                "top_k": top_k,
                "horizon_sessions": horizon,
                "returns_from": returns_from,
                "compare_baselines": compare_baselines,
                "extended_metrics": extended_metrics,
                "seed": seed,
                "costs": {
                    "commission_bps": commission_bps,
                    "half_spread_bps": half_spread_bps,
                    "impact_coefficient": impact_coefficient,
                    "capital": capital,
                },
                "periods_per_year": periods_per_year,
                "extreme_return": extreme_return,
            }
        )
    except pydantic.ValidationError as error:  # what typer's bounds let through: nan and inf
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise typer.BadParameter(f"{place}: {first['msg']}, not {first['input']}") from error
    try:
        panel = read_panel(data, columns)
        result = run_backtest(panel, settings)
        counted = count_look(panel, settings, universe)  # before anything is shown
    except ConfigurationError:
        raise
    except QuantAssetsError as error:
        show_error(str(error))
        raise typer.Exit(1) from error
    console = out()
    console.print(performance_table(result))
    for line in (*notes(result), counted):
        console.print(plain(line))
    if json_output is not None:
        from quant_assets.common.files import write_whole

        write_whole(json_output, result.to_json())
        console.print(f"report: {plain(str(json_output))}")


def count_look(panel: "Panel", settings: "BacktestSettings", universe: str | None) -> str:
    """Enter the model's book into the trial ledger of the home, and say where it counts.

    The idea is the scores and how they are traded. Without a universe the book is that of the table's bars, which is
    kin of every universe that has them; a table without closes has its forward returns in their place.

    Raises
    ------
    ConfigurationError
        For a universe that is not configured.
    LedgerError
        When the ledger is damaged, or shorter than it was.
    """
    import numpy as np
    import polars as pl

    from quant_assets.common.hashing import bytes_digest, json_digest
    from quant_assets.common.home import Home
    from quant_assets.common.settings import LabelConfig
    from quant_assets.common.store import Table
    from quant_assets.gates.evidence import Look, enter_trial, panel_sketch
    from quant_assets.ledgers.trials import TrialLedger
    from quant_assets.lineage.configured import load_settings
    from quant_assets.trading.backtest import run_backtest

    if universe is not None and universe not in (known := load_settings().universes):
        raise ConfigurationError(
            f"universe {universe!r}",
            expected=f"one of {', '.join(known)}",
            found="no universe of that name",
            action=closest(universe, known) or "choose one of them",
        )
    full = run_backtest(panel, settings.model_copy(update={"extended_metrics": True}))
    shown = [full.by_session] if full.by_session is not None else []  # there, with extended metrics
    path = pl.concat(
        pl.DataFrame({"session": series.session, "net_return": series.net_return}) for series in shown
    )
    path = path.drop_nans().with_columns(
        pl.lit(0, pl.Int32).alias("path"), *(pl.lit(0.0).alias(name) for name in ("gross_return", "turnover"))
    )
    price = panel.forward_return if panel.close is None else panel.close
    sessions, symbols = np.nonzero(panel.listed)
    bars = pl.DataFrame(
        {
            "symbol": np.array(panel.symbols)[symbols],
            "session": panel.sessions[sessions].astype("datetime64[D]"),
            "close": (panel.score if price is None else price)[panel.listed],
            "volume": np.ones(len(symbols)),
        }
    )
    sketch = bytes_digest(panel_sketch(bars).tobytes())
    book = f"{universe or f'scores_{sketch[:12]}'}.{LabelConfig().family}"
    traded = settings.model_dump(mode="json", exclude={"extended_metrics", "compare_baselines", "seed"})
    idea = json_digest({"scores": bytes_digest(panel.score.tobytes()), "traded": traded})
    root = Home().path
    enter_trial(root, Look(book, "backtest", idea, "backtest"), Table(path), bars)
    ledger = TrialLedger(root)
    kin = "".join(f", on the bars of {name}" for name in ledger.kin(book))
    return f"trial {len(ledger.counted(book))} of {book}{kin}, counted since {ledger.since(book)[:10]}"


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not (ours and equals and theirs):
        raise typer.BadParameter(f"{text!r} is not of the form score=my_prediction", param_hint="--column")
    return ours, theirs


_MOST_FLAGS = 10


def performance_table(result: "BacktestResult") -> "Table":
    """One row for the model and each baseline."""
    k = result.settings.top_k
    title = (
        f"{result.data.name}: top {k} of {result.coverage.symbols} symbols, "
        f"{result.coverage.first_session} to {result.coverage.last_session}"
    )
    titles = [f"precision@{k}", f"average return@{k}", "net return/year"]
    if result.settings.extended_metrics:
        titles += ["Sharpe", "Sortino", "max drawdown", "turnover/period"]
    if result.baselines is not None:
        titles.append("model minus it, t")
    table = table_of(title, ("book", *titles), right=titles, no_wrap=True)
    table.add_row("model", *_cells(result.model))
    for baseline in result.baselines or ():
        if baseline.result is None:
            table.add_row(baseline.name, "[dim]-[/]")
        else:
            excess = _number(baseline.model_excess_t_statistic)
            table.add_row(baseline.name, *_cells(baseline.result), excess)
    return table


def notes(result: "BacktestResult") -> list[str]:
    """Lines below the table: information coefficients, warnings, what was missing, flagged assets."""
    lines = []
    if result.information is not None:
        for name, found in (("IC", result.information.ic), ("rank IC", result.information.rank_ic)):
            lines.append(
                f"{name}: mean {_number(found.mean, 4)}, t {_number(found.t_statistic)} "
                f"(p {_number(found.p_value, 3)}, overlap allowed for), {found.n_sessions} sessions"
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


def _cells(book: "BookResult") -> list[str]:
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
