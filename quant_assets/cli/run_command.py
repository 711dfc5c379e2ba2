"""The command ``quant-assets run``. Exit codes: 0 the runs worked, whatever the verdicts; 1 something broke."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quant_assets.cli.terminal import (
    VERDICT_COLUMNS,
    out,
    plain,
    require_folder,
    require_strategies,
    show_events,
    styled,
    table_of,
    verdict_cells,
    write_json,
)

if TYPE_CHECKING:
    from quant_assets.gates.verdicts import StrategyOutcome


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
    from quant_assets.lineage.configured import load_settings

    show_events()
    require_folder(json_output, "--json")
    settings = load_settings()
    chosen = list(strategy or [])
    require_strategies(chosen, settings)
    if universe_file is not None:
        from quant_assets.common.configuration import home_dir
        from quant_assets.market.sources.bar_files import adopt_file

        require_strategies([like], settings, "--like")
        chosen.append(adopt_file(universe_file, home_dir() / "configs", like=settings.strategies[like]))
        settings = load_settings()
    names = chosen or sorted(settings.strategies)
    from quant_assets.common.home import Home
    from quant_assets.definitions import build_definitions
    from quant_assets.defs.running import open_instance, run_strategies
    from quant_assets.lineage.graph import Lineage

    with open_instance() as instance:
        outcomes = run_strategies(
            build_definitions(settings),
            Lineage(settings),
            names,
            instance,
            Home(),
            lambda t: out().print(f"\n[bold]{t}[/]"),
        )
    show_outcomes(outcomes)
    write_json(json_output, outcomes_json(outcomes), sort_keys=False)
    raise typer.Exit(1 if any(o.decision == "error" for o in outcomes) else 0)


def show_outcomes(outcomes: "Sequence[StrategyOutcome]") -> None:
    """The verdict table, the reasons of each refusal, the tear sheets and the way to the UI."""
    console = out()
    table = table_of("Verdicts", ("strategy", *VERDICT_COLUMNS), right=("observed", "required"), no_wrap=True)
    for outcome in outcomes:
        for i, verdict in enumerate(outcome.verdicts):
            table.add_row(outcome.strategy if i == 0 else "", *verdict_cells(verdict))
        table.add_section()
    if table.rows:
        console.print()
        console.print(table)
    for outcome in outcomes:
        console.print(f"\n[bold]{outcome.strategy}[/]: {styled(outcome.decision)}")
        for reason in outcome.reasons:
            console.print(f"  - {plain(reason)}")
    sheets = [outcome for outcome in outcomes if outcome.tear_sheet]
    if sheets:
        console.print("\n[bold]Tear sheets[/]")
    for outcome in sheets:
        console.print(f"  {outcome.strategy:<24} {plain(str(outcome.tear_sheet))}")
    console.print("\nOpen the UI on everything made here:  [bold]make dev[/]  (http://127.0.0.1:3000)")


def outcomes_json(outcomes: "Sequence[StrategyOutcome]") -> list[dict[str, Any]]:
    """Outcomes as plain data."""
    return [{**asdict(o), "tear_sheet": str(o.tear_sheet) if o.tear_sheet else None} for o in outcomes]
