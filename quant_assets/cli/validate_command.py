"""The command ``quant-assets validate``. Exit codes: 0 passed, 1 refused, 2 no verdict possible."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quant_assets.cli.terminal import (
    VERDICT_COLUMNS,
    out,
    plain,
    quiet,
    require_folder,
    require_strategies,
    table_of,
    verdict_cells,
    write_json,
)

if TYPE_CHECKING:
    from quant_assets.gates.baseline_comparison import Validation


def validate(
    strategy: Annotated[
        str, typer.Option("--strategy", "-s", help="The strategy whose candidate is judged.")
    ],
    baseline: Annotated[
        Path | None,
        typer.Option(help="A file that --json wrote: the Sharpe ratio may not fall far below it."),
    ] = None,
    json_output: Annotated[
        Path | None, typer.Option("--json", help="Write verdicts and outcome here; a later --baseline.")
    ] = None,
) -> None:
    """Read the verdicts about a strategy's newest candidate, and compare it with a baseline.

    Nothing is computed: run the lineage first. Exit code 0 when every gate is open and the net Sharpe ratio has not
    fallen by more than gates.yaml permits (baseline_max_sharpe_fall); 1 when the candidate is refused; 2 when there
    is no verdict: a report is missing, about another version or by other limits, or the baseline cannot be read.

    Example: quant-assets validate --strategy planted_edge --baseline production.json --json candidate.json
    """
    from quant_assets.common.errors import EvidenceError
    from quant_assets.gates.baseline_comparison import Validation, compare_with_baseline, read_baseline
    from quant_assets.lineage.configured import load_settings

    quiet()
    require_folder(json_output, "--json")
    settings = load_settings()
    require_strategies([strategy], settings)
    earlier = read_baseline(baseline) if baseline else None

    from quant_assets.common.home import Home
    from quant_assets.defs.found import newest_candidate
    from quant_assets.defs.running import open_instance
    from quant_assets.lineage.graph import Lineage

    with open_instance() as instance:
        candidate = newest_candidate(instance, Home(), Lineage(settings), strategy)
    if candidate is None:
        raise EvidenceError(
            f"candidate of {strategy}",
            expected="a materialised ensemble and its reports",
            found="none",
            action=f"run quant-assets run --strategy {strategy} first",
        )
    limit = settings.gates.baseline_max_sharpe_fall
    comparison = compare_with_baseline(candidate, earlier, limit) if earlier else None
    outcome = Validation(candidate, comparison)
    show_validation(outcome)
    write_json(json_output, outcome.to_json())
    raise typer.Exit(outcome.exit_code)


def show_validation(outcome: "Validation") -> None:
    """The verdict table, the comparison, and the decision with its reasons."""
    console, candidate = out(), outcome.candidate
    title = f"{candidate.strategy} {candidate.subject[:12]}"
    table = table_of(title, VERDICT_COLUMNS, right=("observed", "required"), no_wrap=True)
    for verdict in candidate.verdicts:
        table.add_row(*verdict_cells(verdict))
    for gate in outcome.missing:
        table.add_row(gate, "[red]no verdict[/]", "-", "-")
    console.print(table)
    if outcome.comparison is not None:
        console.print(outcome.comparison.reason)
    decision = {0: "[green]passed[/]", 1: "[yellow]refused[/]", 2: "[red]no verdict possible[/]"}
    console.print(f"{candidate.strategy}: {decision[outcome.exit_code]}; exit code {outcome.exit_code}")
    for reason in outcome.reasons:
        console.print(f"  - {plain(reason)}")
