"""What CI calls: ``quant-assets run``, ``check`` and ``validate``. Each says its exit codes."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from xml.etree import ElementTree

import typer

from quant_assets.cli.data_command import Columns, DateFormat, Resample, Sheet, TimeZone, said_of_table
from quant_assets.cli.ledger_commands import make_desk
from quant_assets.cli.terminal import (
    VERDICT_COLUMNS,
    RunBar,
    out,
    plain,
    quiet,
    require_folder,
    require_strategies,
    show_events,
    show_text,
    styled,
    table_of,
    verdict_cells,
    write_json,
)

if TYPE_CHECKING:
    from quant_assets.common.errors import ConfigurationError
    from quant_assets.gates.baseline_comparison import Validation
    from quant_assets.gates.verdicts import StrategyOutcome
    from quant_assets.lineage.configured import Settings
    from quant_assets.lineage.declaring import CheckRun
    from quant_assets.market.sources.adoption import Adopted


def run(
    strategy: Annotated[
        list[str] | None, typer.Option("--strategy", "-s", help="A strategy to run; repeat for several.")
    ] = None,
    universe_file: Annotated[
        Path | None,
        typer.Option(help="File or folder of daily bars (see `data inspect`) to build a universe from."),
    ] = None,
    calendar: Annotated[
        str | None,
        typer.Option(help="With --universe-file: its calendar, such as XNYS, XLON, 24/5, 24/7; else found."),
    ] = None,
    exchange: Annotated[
        str | None,
        typer.Option(help="With --universe-file: its exchange, by MIC or name, in the place of --calendar."),
    ] = None,
    asset_class: Annotated[
        str | None,
        typer.Option(help="With --universe-file: equity, future, fx or crypto, for what trading costs."),
    ] = None,
    like: Annotated[
        str, typer.Option(help="With --universe-file: the strategy whose settings to use.")
    ] = "us_tech_daily",
    date_format: DateFormat = None,
    time_zone: TimeZone = None,
    resample: Resample = None,
    sheet: Sheet = None,
    column: Columns = None,
    json_output: Annotated[Path | None, typer.Option("--json", help="Also write the verdicts here.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="One line for each asset and year, and no bar.")
    ] = False,
) -> None:
    """Materialise the lineage of one, several or all strategies, and print every verdict.

    What is as the last run left it is not run again: a refusal of the same evidence stands, unchanged. Ctrl-C ends
    within 2 s with code 130, and the next run goes on from there.

    With --universe-file a universe and a strategy of that file are written below the home's configs/, once: what is
    there is never written again. What a history is too short for is said before anything runs.

    Exit code 0 when the runs worked, whatever the verdicts (promoted, refused); 1 when a check of the data stopped a
    run (blocked); 2 for wrong usage, a broken file, or a history that is too short; 3 when something broke (error);
    130 interrupted.

    Example: quant-assets run --strategy planted_edge

    Example: quant-assets run --universe-file bars.csv --exchange NASDAQ

    Example: quant-assets run --universe-file coins.parquet --calendar 24/7 --asset-class crypto
    """
    from quant_assets.lineage.configured import load_settings

    show_events(verbose=verbose)
    require_folder(json_output, "--json")
    settings = load_settings()
    said = said_of_table(date_format, time_zone, resample, sheet, column)
    chosen, adopted = list(strategy or []), None
    require_strategies(chosen, settings)
    if universe_file is not None:
        adopted = adopted_strategy(universe_file, settings, like, calendar, exchange, asset_class, said)
        chosen.append(adopted.strategy)
        settings = load_settings()
        require_strategies(chosen, settings)
    elif calendar or exchange or asset_class or said:
        options = "--calendar/--exchange/--asset-class"
        hint = "/".join(f"--{key.replace('_', '-')}" for key in said) or options
        raise typer.BadParameter("goes with --universe-file", param_hint=hint)
    names = chosen or sorted(settings.strategies)
    outcomes = [] if chosen else [_never_run(p.name, "error", p.error) for p in settings.left_out]
    refused = histories_too_short(names, settings, adopted)
    if len(refused) == len(names):
        raise next(iter(refused.values()))
    outcomes += [_never_run(name, "blocked", error) for name, error in refused.items()]
    ran, page = _run_all(settings, [name for name in names if name not in refused], verbose=verbose)
    outcomes += ran
    show_outcomes(outcomes)
    if page:
        out().print(f"The desk's page:  {plain(page)}")
    write_json(json_output, outcomes_json(outcomes), sort_keys=False)
    raise typer.Exit(max((EXIT_CODES.get(outcome.decision, 0) for outcome in outcomes), default=0))


# A verdict is a result, whichever it is. Data that closed the way wants a person's look at the data, and what broke
# one at the platform.
EXIT_CODES = {"blocked": 1, "error": 3}


def _run_all(
    settings: "Settings", names: "Sequence[str]", *, verbose: bool
) -> "tuple[list[StrategyOutcome], str]":
    """Run strategies one after the other, with a bar where somebody looks; and where the desk's page is made anew."""
    from contextlib import ExitStack
    from functools import cache

    from quant_assets.common.home import Home
    from quant_assets.common.processes import stoppable
    from quant_assets.defs.running import cancel_own_runs, open_instance, run_strategies
    from quant_assets.lineage.graph import Lineage

    @cache
    def definitions() -> Any:
        from quant_assets.definitions import build_definitions

        return build_definitions(settings)

    with ExitStack() as ends:
        instance = ends.enter_context(open_instance())

        def last_words() -> None:
            show_text("\ninterrupted: what was made is kept, and the same command goes on from here")
            cancel_own_runs(instance)

        ends.enter_context(stoppable(last_words))
        if out().is_terminal and not verbose:
            show_events(ends.enter_context(RunBar()))
        outcomes = run_strategies(
            definitions,
            Lineage(settings),
            names,
            instance,
            Home(),
            lambda t: out().print(f"\n[bold]{t}[/]"),
        )
        if all(outcome.unchanged for outcome in outcomes):
            return outcomes, ""
        quiet()  # the page says when something last ran: made again, it is no news of the strategies
        desk = make_desk(definitions(), instance)
        return outcomes, "" if desk is None else str(desk.metadata["file"].value)


def _never_run(name: str, decision: str, error: Exception) -> "StrategyOutcome":
    from quant_assets.gates.verdicts import StrategyOutcome

    return StrategyOutcome(name, decision, (), (str(error),), None)


def histories_too_short(
    names: "Sequence[str]", settings: "Settings", adopted: "Adopted | None" = None
) -> "dict[str, ConfigurationError]":
    """The strategies that cannot end in a decision, because their universe is too short or has too few names."""
    from quant_assets.common.errors import ConfigurationError
    from quant_assets.lineage.requirements import holdings_in_sight, require_history, required_history

    refused: dict[str, ConfigurationError] = {}
    for name in names:
        strategy = settings.strategies[name]
        universe = settings.universe_of(strategy)
        sessions, n_names = holdings_in_sight(universe)
        if adopted is not None and name == adopted.strategy:  # the file itself says what there is
            sessions = sum(universe.start <= day <= universe.end for day in adopted.summary.market_days)
            n_names = len(universe.symbols or adopted.summary.symbols)
        try:
            require_history(strategy, settings, sessions, n_names)
        except ConfigurationError as error:
            refused[name] = error
            continue
        for sentence in required_history(strategy, settings).short_of_promotion(sessions, n_names):
            out().print(f"{plain(name)}: nothing can be promoted: {plain(sentence)}")
    return refused


def adopted_strategy(
    file: Path,
    settings: "Settings",
    like: str,
    calendar: str | None,
    exchange: str | None,
    asset_class: str | None,
    said: dict[str, Any] | None = None,
) -> "Adopted":
    """Adopt a file of bars, and say what was decided.

    Raises
    ------
    typer.BadParameter
        For a calendar and an exchange at once, or an asset class that there is none of.
    QuantAssetsError
        As `quant_assets.market.sources.adoption.adopt_file`.
    """
    from typing import get_args

    from quant_assets.common.places import home_dir
    from quant_assets.common.settings import AssetClass
    from quant_assets.lineage.configured import is_reserved
    from quant_assets.market.sources.adoption import adopt_file

    if calendar and exchange:
        raise typer.BadParameter("only one of them", param_hint="--calendar / --exchange")
    if asset_class is not None and asset_class not in get_args(AssetClass):
        raise typer.BadParameter(f"one of {', '.join(get_args(AssetClass))}", param_hint="--asset-class")
    require_strategies([like], settings, "--like")
    names = {*settings.universes, *settings.strategies, *(problem.name for problem in settings.left_out)}
    adopted = adopt_file(
        file,
        home_dir() / "configs",
        like=settings.strategies[like],
        taken=lambda name: name in names or is_reserved(name),
        calendar=calendar or exchange,
        asset_class=asset_class,
        floors={name: costs.model_dump() for name, costs in settings.minima.costs.items()},
        said=said,
    )
    console, summary = out(), adopted.summary
    console.print(
        f"{plain(file.name)}: {len(summary.symbols)} names, {len(summary.market_days)} sessions, "
        f"{summary.start} to {summary.end}"
    )
    mapped = ", ".join(f"{ours} <- {theirs}" for ours, theirs in summary.columns.items())
    console.print(f"  columns {plain(mapped)}")
    for note in dict.fromkeys((*adopted.notes, *summary.notes)):
        console.print(f"  - {plain(note)}")
    console.print(
        f"  universe {plain(str(adopted.universe_file))}\n  strategy {plain(str(adopted.strategy_file))}"
    )
    return adopted


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
        unchanged = f" [dim](unchanged {plain(outcome.unchanged)})[/]" if outcome.unchanged else ""
        console.print(f"\n[bold]{outcome.strategy}[/]: {styled(outcome.decision)}{unchanged}")
        for reason in outcome.reasons:
            console.print(f"  - {plain(reason)}")
    for sentence in dict.fromkeys(said for outcome in outcomes for said in outcome.set_aside):
        console.print(f"set aside: {plain(sentence)}")
    sheets = [outcome for outcome in outcomes if outcome.tear_sheet]
    if sheets:
        console.print("\n[bold]Tear sheets[/]")
    for outcome in sheets:
        console.print(f"  {outcome.strategy:<24} {plain(str(outcome.tear_sheet))}")
    console.print("\nOpen the UI on everything made here:  [bold]quant-assets ui[/]  (http://127.0.0.1:3000)")


def outcomes_json(outcomes: "Sequence[StrategyOutcome]") -> list[dict[str, Any]]:
    """Outcomes as plain data."""
    return [{**asdict(o), "tear_sheet": str(o.tear_sheet) if o.tear_sheet else None} for o in outcomes]


# ------------------------------------------------------------------------------------------------------ check


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
    from quant_assets.lineage.configured import load_settings

    settings = load_settings()
    require_strategies(strategy or [], settings)
    from quant_assets.definitions import build_definitions
    from quant_assets.defs.checks import run_checks
    from quant_assets.defs.running import open_instance
    from quant_assets.lineage.graph import Lineage

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


# --------------------------------------------------------------------------------------------------- validate


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
    from quant_assets.gates.desk_gates import desk_names
    from quant_assets.gates.gate import gate_names
    from quant_assets.lineage.configured import load_settings

    quiet()
    require_folder(json_output, "--json")
    settings = load_settings()
    require_strategies([strategy], settings)
    earlier = read_baseline(baseline) if baseline else None

    from quant_assets.common.home import Home
    from quant_assets.defs.running import open_instance
    from quant_assets.defs.storage import EventLog
    from quant_assets.lineage.found import newest_candidate
    from quant_assets.lineage.graph import Lineage

    with open_instance() as instance:
        candidate = newest_candidate(EventLog(instance, Home()), Lineage(settings), strategy)
    if candidate is None:
        raise EvidenceError(
            f"candidate of {strategy}",
            expected="a materialised ensemble and its reports",
            found="none",
            action=f"run quant-assets run --strategy {strategy} first",
        )
    limit = settings.gates.baseline_max_sharpe_fall
    comparison = compare_with_baseline(candidate, earlier, limit) if earlier else None
    own = desk_names(settings.strategies[strategy].further_gates)
    outcome = Validation(candidate, comparison, (*gate_names(), *own))
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
