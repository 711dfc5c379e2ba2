"""The command ``quant-assets validate``. Exit codes: 0 passed, 1 refused, 2 no verdict possible."""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from quant_assets.gates.baseline_comparison import Validation

_STYLES = {"pass": "green", "fail": "red", "underpowered": "yellow", "not_applicable": "dim"}


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
    from quant_assets.common.errors import ConfigurationError, EvidenceError
    from quant_assets.common.files import write_whole
    from quant_assets.common.logging import configure_logging
    from quant_assets.gates.baseline_comparison import Validation, compare_with_baseline, read_baseline
    from quant_assets.lineage.settings import load_settings

    configure_logging(level=logging.ERROR)
    if json_output is not None and not json_output.absolute().parent.is_dir():
        raise typer.BadParameter(f"no folder {json_output.absolute().parent}", param_hint="--json")
    settings = load_settings()
    if strategy not in settings.strategies:
        raise ConfigurationError(
            "option --strategy",
            expected=f"one of {', '.join(sorted(settings.strategies))}",
            found=strategy,
            action="correct the name, or add its file to configs/strategies/",
        )
    earlier = read_baseline(baseline) if baseline else None

    from quant_assets.defs.candidates import newest_candidate
    from quant_assets.defs.resources import Home
    from quant_assets.defs.running import open_instance

    with open_instance() as instance:
        candidate = newest_candidate(instance, Home(), settings, strategy)
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
    if json_output is not None:
        text = json.dumps(outcome.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n"
        write_whole(json_output, text.encode())
    raise typer.Exit(outcome.exit_code)


def show_validation(outcome: "Validation") -> None:
    """The verdict table, the comparison, and the decision with its reasons."""
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    candidate = outcome.candidate
    table = Table(
        title=f"{candidate.strategy} {candidate.subject[:12]}", title_justify="left", title_style="bold"
    )
    for column in ("gate", "status", "observed", "required"):
        table.add_column(
            column, justify="right" if column in ("observed", "required") else "left", no_wrap=True
        )
    for verdict in candidate.verdicts:
        observed = "-" if verdict.observed is None else f"{verdict.observed:.4g}"
        required = "-" if verdict.required is None else f"{verdict.comparison} {verdict.required:g}"
        status = f"[{_STYLES[verdict.status]}]{verdict.status}[/]"
        table.add_row(verdict.gate, status, observed, required)
    for gate in outcome.missing:
        table.add_row(gate, "[red]no verdict[/]", "-", "-")
    out.print(table)
    if outcome.comparison is not None:
        out.print(outcome.comparison.reason)
    decision = {0: "[green]passed[/]", 1: "[yellow]refused[/]", 2: "[red]no verdict possible[/]"}
    out.print(f"{candidate.strategy}: {decision[outcome.exit_code]}; exit code {outcome.exit_code}")
    for reason in outcome.reasons:
        out.print(f"  - {reason}", markup=False)
