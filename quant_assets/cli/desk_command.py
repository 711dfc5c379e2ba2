"""The command ``quant-assets desk``. Exit codes: 0 the report was made, 1 its run broke, 2 wrong usage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quant_assets.cli.terminal import (
    out,
    plain,
    quiet,
    require_folder,
    show_error,
    styled,
    table_of,
    write_json,
)

if TYPE_CHECKING:
    from rich.console import Console

NUMBERS = ("N, book", "sessions", "Sharpe", "p", "Bonferroni", "Holm", "BHY", "mean", "q", "bound")


def desk(
    json_output: Annotated[Path | None, typer.Option("--json", help="Write every figure here.")] = None,
) -> None:
    """Materialise platform/desk_report: every strategy's Sharpe ratio beside all that the desk has tried.

    Haircut Sharpe ratios, StepM, false discovery rates and Rademacher bounds. Information, not gates: exit code 0
    whatever they say, 1 when the run broke (a damaged ledger).

    Example: quant-assets desk --json desk.json
    """
    from quant_assets.definitions import build_definitions
    from quant_assets.defs.assets import asset_key
    from quant_assets.defs.running import executed, failures, open_instance
    from quant_assets.defs.storage import latest_event
    from quant_assets.lineage.configured import load_settings

    quiet()
    require_folder(json_output, "--json")
    definitions = build_definitions(load_settings())
    with open_instance() as instance:
        result = executed(definitions, "desk_report", instance)
        refused, broken = failures(result)
        key = asset_key(("platform", "desk_report"))
        event = latest_event(instance, key, None, result.run_id) if result.success else None
    if event is None:
        show_error("; ".join((*refused, *broken)))
        raise typer.Exit(1)
    figures: Any = event.metadata["figures"].value
    show_desk(figures, out())
    out().print(f"\nThe page:  {plain(str(event.metadata['open'].value))}")
    write_json(json_output, figures)


def show_desk(figures: dict[str, Any], console: "Console") -> None:
    """The table of strategies, and those without a row."""
    since = f", counted since {figures['since']}" if figures["since"] else ""
    title = f"The desk: N = {figures['trials']}{since}"
    table = table_of(title, ("strategy", "book", *NUMBERS[:-2], "StepM", *NUMBERS[-2:]), right=NUMBERS)
    for row in figures["rows"]:
        haircut = row["haircut_sharpe_annual"]
        ratios = (
            row["sharpe_annual"],
            *(haircut[method] for method in ("bonferroni", "holm", "bhy", "mean")),
        )
        shown, *left = (f"{ratio:.2f}" for ratio in ratios)
        superior = "not run" if row["superior"] is None else "yes" if row["superior"] else "no"
        table.add_row(
            plain(row["strategy"]), plain(row["book"]), str(row["book_trials"]), str(row["sessions"]), shown,
            _number(row["p_value"], ".3g"), *left, styled(superior), _number(row["q_value"], ".3g"),
            _number(row["bound_annual"], ".2f"),
        )  # fmt: skip
    console.print(table if figures["rows"] else f"[bold]{plain(title)}[/]: no strategy has a track")
    if figures["together"]["reason"] and figures["rows"]:
        console.print(f"No StepM and no bounds: {plain(figures['together']['reason'])}.")
    for row in figures["absent"]:
        console.print(f"  {plain(row['strategy'])}: {plain(row['reason'])}")


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
