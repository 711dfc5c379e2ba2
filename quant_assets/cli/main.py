"""The ``quant-assets`` command. Exit codes: 0 done, 1 refused or failed, 2 wrong usage or no verdict."""

import json
import logging
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from quant_assets.cli.backtest_command import backtest
from quant_assets.cli.calibrate_command import calibrate
from quant_assets.cli.features_command import features
from quant_assets.cli.model_command import model_app
from quant_assets.cli.replay_command import replay
from quant_assets.cli.validate_command import validate
from quant_assets.common.configuration import config_dir, home_dir
from quant_assets.common.errors import ConfigurationError, QuantAssetsError
from quant_assets.common.logging import configure_logging
from quant_assets.lineage.settings import Settings, load_settings

if TYPE_CHECKING:
    from quant_assets.defs.running import StrategyOutcome

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Quant machine learning as gated, replayable Dagster assets.",
)
config_app = typer.Typer(no_args_is_help=True, help="Read and check the configuration.")
app.add_typer(config_app, name="config")
app.add_typer(model_app, name="model")
app.command()(backtest)
app.command()(calibrate)
app.command()(features)
app.command()(replay)
app.command()(validate)

# Into a file or a pipe a table has as much room as it needs; a terminal has its own width.
out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
STATUS_STYLE = {"pass": "green", "fail": "red", "underpowered": "yellow", "not_applicable": "dim"}


def _progress(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """One line per asset: name, computed or reused, seconds."""
    name = event.get("asset_key", "")
    if event.get("event") == "asset":
        style = "cyan" if event["status"] == "reused" else "white"
        out.print(f"  {name:<46} [{style}]{event['status']:<9}[/] {event['seconds']:6.1f} s")
    elif event.get("event") == "progress":
        if event["done"] % max(1, event["total"] // 5) == 0:
            out.print(f"  {name:<46} [dim]{event['done']:>3} of {event['total']} {event['what']}[/]")
    elif event.get("event") == "promotion refused":
        out.print(f"  {name:<46} [yellow]refused[/]")
    elif event.get("level") in ("warning", "error"):
        facts = ", ".join(f"{k}={v}" for k, v in event.items() if k not in ("event", "level", "timestamp"))
        out.print(f"  [yellow]{event['level']}: {event['event']}[/] [dim]{facts}[/]")
    raise structlog.DropEvent


def _show_progress() -> None:
    """Send platform events to the terminal as progress lines, and silence the libraries' own chatter."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _progress,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )


@config_app.command("show")
def config_show() -> None:
    """Print the whole configuration, defaults included, as JSON. Example: quant-assets config show"""
    settings = load_settings()
    print(json.dumps(settings.model_dump(mode="json"), indent=2))


@config_app.command("validate")
def config_validate() -> None:
    """Check every file of the configuration. Example: quant-assets config validate"""
    settings = load_settings()
    out.print(
        f"{config_dir()}: {len(settings.universes)} universes, {len(settings.strategies)} strategies, "
        f"gates and monitoring are valid"
    )


@app.command()
def run(
    strategy: Annotated[
        list[str] | None, typer.Option("--strategy", "-s", help="A strategy to run; repeat for several.")
    ] = None,
    universe_file: Annotated[
        Path | None, typer.Option(help="Parquet or CSV file of daily bars to build a universe from.")
    ] = None,
    like: Annotated[
        str, typer.Option(help="With --universe-file: the strategy whose settings to use.")
    ] = "us_tech_daily",
    json_output: Annotated[Path | None, typer.Option("--json", help="Also write the verdicts here.")] = None,
) -> None:
    """Materialise the lineage of one, several or all strategies, and print every verdict.

    Exit code 0 when the runs worked, whatever the verdicts; 1 when something broke; 2 for wrong usage.

    Example: quant-assets run --strategy planted_edge
    """
    _show_progress()
    settings = load_settings()
    chosen = list(strategy or [])
    _require_known(chosen, settings, "--strategy")
    if universe_file is not None:
        from quant_assets.market.sources.bar_files import adopt_file

        _require_known([like], settings, "--like")
        chosen.append(adopt_file(universe_file, home_dir() / "configs", like=settings.strategies[like]))
        settings = load_settings()
    names = chosen or sorted(settings.strategies)
    from quant_assets.definitions import build_definitions
    from quant_assets.defs.resources import Home
    from quant_assets.defs.running import open_instance, run_strategies

    home = Home()
    with open_instance() as instance:
        outcomes = run_strategies(
            build_definitions(settings),
            settings,
            names,
            instance,
            home,
            lambda t: out.print(f"\n[bold]{t}[/]"),
        )
    show_outcomes(outcomes)
    if json_output is not None:
        json_output.write_text(
            json.dumps(outcomes_json(outcomes), indent=2, allow_nan=False), encoding="utf-8"
        )
    raise typer.Exit(1 if any(o.decision == "error" for o in outcomes) else 0)


def _require_known(names: Sequence[str], settings: Settings, option: str) -> None:
    unknown = [name for name in names if name not in settings.strategies]
    if unknown:
        raise ConfigurationError(
            f"option {option}",
            expected=f"one of {', '.join(sorted(settings.strategies))}",
            found=", ".join(unknown),
            action="correct the name, or add its file to configs/strategies/",
        )


def show_outcomes(outcomes: "Sequence[StrategyOutcome]") -> None:
    """The verdict table, the reasons of each refusal, the tear sheets and the way to the UI."""
    table = RichTable(title="Verdicts", title_justify="left", title_style="bold")
    for column in ("strategy", "gate", "status", "observed", "required"):
        table.add_column(
            column, justify="right" if column in ("observed", "required") else "left", no_wrap=True
        )
    for outcome in outcomes:
        for i, v in enumerate(outcome.verdicts):
            observed = "-" if v.observed is None else f"{v.observed:.4g}"
            required = "-" if v.required is None else f"{v.comparison} {v.required:g}"
            status = f"[{STATUS_STYLE[v.status]}]{v.status}[/]"
            table.add_row(outcome.strategy if i == 0 else "", v.gate, status, observed, required)
        table.add_section()
    if table.rows:
        out.print()
        out.print(table)
    for outcome in outcomes:
        style = {"promoted": "green", "refused": "yellow"}.get(outcome.decision, "red")
        out.print(f"\n[bold]{outcome.strategy}[/]: [{style}]{outcome.decision}[/]")
        for reason in outcome.reasons:
            out.print(f"  - {escape(reason)}")
    sheets = [outcome for outcome in outcomes if outcome.tear_sheet]
    if sheets:
        out.print("\n[bold]Tear sheets[/]")
    for outcome in sheets:
        out.print(f"  {outcome.strategy:<24} {outcome.tear_sheet}")
    out.print("\nOpen the UI on everything made here:  [bold]make dev[/]  (http://127.0.0.1:3000)")


def outcomes_json(outcomes: "Sequence[StrategyOutcome]") -> list[dict[str, Any]]:
    """Outcomes as plain data."""
    from dataclasses import asdict

    return [{**asdict(o), "tear_sheet": str(o.tear_sheet) if o.tear_sheet else None} for o in outcomes]


@app.command()
def check(
    strategy: Annotated[
        list[str] | None, typer.Option("--strategy", "-s", help="A strategy to check; repeat for several.")
    ] = None,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write the results here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report here.")] = None,
) -> None:
    """Run the asset checks on what is materialised, as CI does.

    Exit code 0 when all passed, 1 when any ERROR check failed, 2 when a check gave no verdict or none was
    selected.

    Example: quant-assets check --strategy planted_edge --junit checks.xml
    """
    configure_logging(level=logging.ERROR)
    from quant_assets.definitions import build_definitions
    from quant_assets.defs.checking import run_checks, write_junit
    from quant_assets.defs.running import open_instance

    settings = load_settings()
    with open_instance() as instance:
        results = run_checks(build_definitions(settings), settings, strategy or [], instance)
    table = RichTable(title="Asset checks", title_justify="left", title_style="bold")
    for column in ("asset", "check", "result", "severity", "description"):
        table.add_column(column)
    for r in results.results:
        style = {"passed": "green", "failed": "red" if r.severity == "ERROR" else "yellow"}.get(
            r.outcome, "red"
        )
        table.add_row(r.asset, r.check, f"[{style}]{r.outcome}[/]", r.severity, r.description)
    out.print(table)
    out.print(results.summary)
    if json_output is not None:
        json_output.write_text(json.dumps(results.to_json(), indent=2, allow_nan=False), encoding="utf-8")
    if junit is not None:
        write_junit(results, junit)
    raise typer.Exit(results.exit_code)


@app.command("instance-path", hidden=True)
def instance_path() -> None:
    """Print the folder that DAGSTER_HOME must be, with its dagster.yaml in place."""
    from quant_assets.defs.running import dagster_home

    print(dagster_home())


def main() -> None:
    """Entry point: a platform error ends with its one message and exit code 2, never with a traceback."""
    try:
        app()
    except QuantAssetsError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error[/] {escape(str(error))}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
