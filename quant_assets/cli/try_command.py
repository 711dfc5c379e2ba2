"""The command ``quant-assets try``. Exit codes: 0 shown, 2 wrong usage or unusable data, 130 interrupted."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quant_assets.cli.terminal import (
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
    from rich.table import Table

    from quant_assets.lineage.drafting import Draft


def try_(
    strategy: Annotated[
        list[str], typer.Option("--strategy", "-s", help="A strategy to try; repeat for several.")
    ],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value in the strategy's place; repeat for several."),
    ] = None,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write what was shown here.")] = None,
) -> None:
    """Try strategies as they are, or with changes: a draft's Sharpe ratio and what the gates would say.

    Base learners without a stacker, no report, no bundle; nothing is written to the strategy's file. What the
    learners said is kept: a change of costs, portfolio or the stacker fits nothing again.

    It is a look at an outcome, and so a trial of kind draft: later verdicts are deflated by it. A draft is never
    promoted. The same draft again is the same trial.

    Exit code 0 whatever the gates would say, 2 for wrong usage or data that cannot be tried, 130 when interrupted.

    Example: quant-assets try -s planted_edge --set models.lightgbm.num_leaves=31
    """
    from quant_assets.lineage.configured import load_settings
    from quant_assets.lineage.drafting import changed, draft, parsed_changes

    quiet()
    require_folder(json_output, "--json")
    settings, wanted = load_settings(), parsed_changes(changes or [])
    require_strategies(strategy, settings)
    every = [changed(settings, name, wanted) for name in strategy]  # all are read before one is fitted
    shown = []
    for name, tried in zip(strategy, every, strict=True):
        found = draft(name, tried)
        shown.append(found.to_json())
        show_draft(found, changes or [])
    write_json(json_output, shown, sort_keys=False)


def show_draft(found: "Draft", changes: list[str]) -> None:
    """The answer first, then what the gates would say."""
    console, median = out(), found.median
    deflated = found.verdict("cpcv_deflated_sharpe")
    with_changes = f" with {', '.join(changes)}" if changes else ""
    console.print(f"[bold]{plain(found.strategy.name + with_changes)}[/] (draft)")
    console.print(
        f"  net Sharpe ratio, median path {median.sharpe_annual:.2f} | DSR "
        f"{'-' if deflated is None else f'{deflated:.3f}'} | turnover {median.turnover_per_session:.3f} per session"
        f" | drawdown {median.drawdown_fraction:.1%} | N = {found.n_trials} trials of {plain(found.trial.book)}"
    )
    console.print(verdicts_table(found))
    console.print(
        f"  {found.fitted} learners fitted, {found.found} found from earlier tries. A draft is counted and never "
        f"promoted: quant-assets run -s {found.strategy.name}"
    )


def verdicts_table(found: "Draft") -> "Table":
    """One row for each gate of the validation report."""
    table = table_of(None, ("gate", "would be", "observed", "required"), right=("observed", "required"))
    for verdict in found.report.verdicts:
        table.add_row(*verdict_cells(verdict))
    return table
