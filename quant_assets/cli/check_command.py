"""The command ``quant-assets check``. Exit codes: 0 all passed, 1 an ERROR failed, 2 no verdict or no check."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from xml.etree import ElementTree

import typer

from quant_assets.cli.terminal import out, quiet, require_folder, styled, table_of, write_json

if TYPE_CHECKING:
    from quant_assets.lineage.declaring import CheckRun


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
    quiet()
    require_folder(json_output, "--json")
    require_folder(junit, "--junit")
    from quant_assets.definitions import build_definitions
    from quant_assets.defs.checks import run_checks
    from quant_assets.defs.running import open_instance
    from quant_assets.lineage.configured import load_settings
    from quant_assets.lineage.graph import Lineage

    settings = load_settings()
    with open_instance() as instance:
        results = run_checks(build_definitions(settings), Lineage(settings), strategy or [], instance)
    show_checks(results)
    write_json(json_output, results.to_json(), sort_keys=False)
    if junit is not None:
        write_junit(results, junit)
    raise typer.Exit(results.exit_code)


def show_checks(results: "CheckRun") -> None:
    """Every check with its outcome, and the line that CI shows."""
    table = table_of("Asset checks", ("asset", "check", "result", "severity", "description"))
    for r in results.results:
        warned = r.outcome == "failed" and r.severity != "ERROR"
        result = styled(r.outcome, "yellow" if warned else None)
        table.add_row(r.asset, r.check, result, r.severity, r.description)
    console = out()
    console.print(table)
    console.print(results.summary)


def write_junit(run: "CheckRun", file: Path) -> None:
    """Write the outcomes as JUnit XML: a failed ERROR check is a failure, no verdict is an error."""
    suite = ElementTree.Element("testsuite", name="asset checks", tests=str(len(run.results)))
    for r in run.results:
        case = ElementTree.SubElement(suite, "testcase", classname=r.asset, name=r.check)
        if r.outcome == "failed" and r.severity == "ERROR":
            ElementTree.SubElement(case, "failure", message=r.description)
        elif r.outcome == "no verdict":
            ElementTree.SubElement(case, "error", message=r.description)
    ElementTree.ElementTree(suite).write(file, encoding="utf-8", xml_declaration=True)
