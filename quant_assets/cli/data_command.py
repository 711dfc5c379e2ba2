"""``quant-assets data``: what a table of bars is, before anything runs."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from quant_assets.cli.terminal import json_text, out, plain, quiet, show_text

data_app = typer.Typer(no_args_is_help=True, help="Look at tables of bars.")

DateFormat = Annotated[
    str | None, typer.Option("--date-format", help="How its dates are written, as %d/%m/%Y.")
]
TimeZone = Annotated[
    str | None,
    typer.Option("--time-zone", help="Zone of its times where they have none and are not the exchange's."),
]
Resample = Annotated[
    str | None, typer.Option("--resample", help="session: put bars of minutes or hours together.")
]
Sheet = Annotated[str | None, typer.Option("--sheet", help="Of a workbook, the sheet that is meant.")]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", help="Our column and the file's, as close=Last; repeat for several."),
]


def said_of_table(
    date_format: str | None,
    time_zone: str | None,
    resample: str | None,
    sheet: str | None,
    columns: list[str] | None,
) -> dict[str, Any]:
    """What options say of a table, as the keys of a source.

    Raises
    ------
    typer.BadParameter
        When a column is not written as OURS=THEIRS.
    """
    pairs = [column.split("=", 1) for column in columns or ()]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise typer.BadParameter("as close=Last: our column, then the file's", param_hint="--column")
    told: dict[str, Any] = {
        "date_format": date_format,
        "time_zone": time_zone,
        "resample": resample,
        "sheet": sheet,
        "columns": dict(pairs) or None,
    }
    return {key: value for key, value in told.items() if value is not None}


@data_app.command("inspect")
def data_inspect(
    path: Annotated[Path, typer.Argument(help="A file of daily bars, or a folder of such files.")],
    calendar: Annotated[
        str | None, typer.Option(help="Its calendar or exchange, such as XNYS or NASDAQ; else found.")
    ] = None,
    date_format: DateFormat = None,
    time_zone: TimeZone = None,
    resample: Resample = None,
    sheet: Sheet = None,
    column: Columns = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say what a table is, which column would become which, what is wrong, and what to run next. Nothing is written.

    Exit code 0 when it is usable as it is, 1 when it is once a named option or key is given, 2 when it is refused.

    Example: quant-assets data inspect prices.csv

    Example: quant-assets data inspect minutes.parquet --resample session --calendar XNYS
    """
    from quant_assets.market.sources.inspection import inspect

    quiet()
    found = inspect(path, said_of_table(date_format, time_zone, resample, sheet, column), calendar)
    if as_json:
        show_text(json_text({**asdict(found), "exit_code": found.exit_code}, sort_keys=False))
        raise typer.Exit(found.exit_code)
    console = out()
    console.print(f"[bold]{plain(found.path)}[/]: {found.outcome}")
    for subject, told in found.facts.items():
        console.print(f"  {subject:<9} {plain(told)}")
    if found.mapping:
        console.print(
            "  columns   " + plain(", ".join(f"{ours} <- {theirs}" for ours, theirs in found.mapping.items()))
        )
    for note in found.notes:
        console.print(f"  - {plain(note)}")
    for problem in found.problems:
        console.print(f"[yellow]wrong[/]: {plain(problem)}")
    console.print(f"next: {plain(found.next_command)}")
    raise typer.Exit(found.exit_code)
