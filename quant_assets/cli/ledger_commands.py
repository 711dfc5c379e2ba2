"""What the ledgers say: ``quant-assets promotion`` (who is in charge), ``trials`` (what was tried), ``desk`` (both).

Exit codes of each: 0 done and whole, 1 a contradiction, a loss or a run that broke, 2 wrong usage or refused.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quant_assets.cli.terminal import (
    out,
    plain,
    quiet,
    require_folder,
    require_strategies,
    show_error,
    styled,
    table_of,
    write_json,
)
from quant_assets.common.errors import ConfigurationError, closest

if TYPE_CHECKING:
    from rich.console import Console

    from quant_assets.ledgers.trial_records import Anchor

promotion_app = typer.Typer(
    no_args_is_help=True, help="Who is in charge of each strategy, and back to the one before."
)

STRATEGY = Annotated[str, typer.Argument(help="A strategy.")]


@promotion_app.command()
def show(
    strategy: Annotated[str | None, typer.Argument(help="A strategy; all when not given.")] = None,
    json_output: Annotated[
        Path | None, typer.Option("--json", help="Also write every entry here as JSON.")
    ] = None,
) -> None:
    """Show the promotion ledger, who signed each entry, and whether the registry's alias agrees with it.

    Exit code 0 when they agree, 1 when they contradict each other, 2 for wrong usage or a broken ledger.

    Example: quant-assets promotion show planted_edge
    """
    from quant_assets.common.errors import RegistryError
    from quant_assets.common.home import Home
    from quant_assets.gates.limits import limits_in_force, looser_limits, other_limits
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.lineage.configured import load_settings
    from quant_assets.registry.champion import contradictions
    from quant_assets.registry.standing import ledger_keys, signer

    quiet()
    require_folder(json_output, "--json")
    home, settings = Home(), load_settings()
    require_strategies([strategy] if strategy else [], settings, "STRATEGY")
    ledger, trusted = PromotionLedger(home.promotion_ledger), ledger_keys(home).trusted
    entries = ledger.entries(strategy)
    names = [strategy] if strategy else sorted({*settings.strategies, *(e.strategy for e in entries)})
    table = table_of(
        "Promotion ledger",
        ("entry", "when", "strategy", "action", "version", "model", "by", "signed by", "why"),
    )
    rows = []
    for entry in entries:
        try:
            signed = signer(ledger, entry, trusted)
        except RegistryError as error:
            signed = f"nobody ({error.found})"
        why = "; ".join(entry.reasons)
        cells = (
            entry.strategy,
            styled(entry.action),
            entry.model_version,
            entry.subject[:12],
            plain(entry.actor),
        )
        table.add_row(str(entry.index), entry.at[:19], *cells, plain(signed[:12]), plain(why))
        rows.append(
            {
                "index": entry.index,
                "at": entry.at,
                "strategy": entry.strategy,
                "action": entry.action,
                "model_version": entry.model_version,
                "subject": entry.subject,
                "actor": entry.actor,
                "reasons": list(entry.reasons),
                "evidence": dict(entry.evidence),
                "basis": dict(entry.basis),
                "signed_by": signed,
            }
        )
    console = out()
    console.print(table)
    for name in names:
        moves = [e for e in entries if e.strategy == name and e.moves]
        if not moves:
            continue
        held, plan = moves[-1].basis.get("limits"), settings.strategies.get(name)
        if held is None:
            console.print(f"[yellow]{plain(name)}[/]: its ledger entry does not say by which limits")
            continue
        now = limits_in_force(settings.gates.for_strategy(plan.gates if plan else {}), settings.drift)
        other = dict.fromkeys(text for kind in now for text in other_limits(held.get(kind, {}), now[kind]))
        for what, found in (
            ("other limits than those in force", other),
            ("loose limits", looser_limits(held)),
        ):
            if found:
                console.print(f"[yellow]{plain(name)}[/]: promoted by {what} ({plain('; '.join(found))})")
    against = {name: contradictions(home, name) for name in names}
    for name, reasons in against.items():
        for reason in reasons:
            console.print(f"[red]{plain(name)}[/]: {plain(reason)}")
    code = int(any(against.values()))
    console.print(
        f"{'they contradict each other' if code else 'ledger and registry agree'}; exit code {code}"
    )
    write_json(json_output, {"entries": rows, "contradictions": {n: list(r) for n, r in against.items()}})
    raise typer.Exit(code)


@promotion_app.command()
def rollback(
    strategy: STRATEGY,
    reason: Annotated[str, typer.Option(help="Why: it stands in the ledger.")],
    operator: Annotated[str, typer.Option(help="Who answers for it: it stands in the ledger.")],
    champion: Annotated[
        str, typer.Option(help="The model to remove (as `promotion show` names it), so that it is done once.")
    ],
) -> None:
    """Put the champion before the present one back in charge. The ledger is written, signed, before the alias moves.

    Its gates were open when it was promoted and are not asked again. Exit code 0 rolled back, 2 refused.

    Example: quant-assets promotion rollback planted_edge --champion 1f0c9a37b2d4 --operator jane --reason drawdown
    """
    from quant_assets.common.home import Home
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.lineage.scope import now
    from quant_assets.registry import promotion
    from quant_assets.registry.champion import current_champion
    from quant_assets.registry.standing import ledger_keys

    quiet()
    for option, value in (("--reason", reason), ("--operator", operator)):
        if not value.strip():
            raise typer.BadParameter("says nothing", param_hint=option)
    home = Home()
    present = current_champion(home.mlflow_uri, strategy)
    whole = len(champion) >= 12 and present is not None and present.subject.startswith(champion)
    decision = promotion.rollback(
        home.mlflow_uri,
        strategy=strategy,
        expected_champion=present.subject if whole and present else champion,
        reason=reason,
        ledger=PromotionLedger(home.promotion_ledger),
        keys=ledger_keys(home),
        actor=f"operator:{operator}",
        run_id="quant-assets promotion rollback",
        now=now(),
    )
    out().print(
        f"{plain(strategy)}: version {decision.model_version} ({decision.subject[:12]}) is in charge again, "
        f"ledger entry {decision.ledger_entry}. Materialise {plain(strategy)}/champion to show it in the lineage"
    )


@promotion_app.command()
def realign(strategy: STRATEGY) -> None:
    """Set the registry's aliases to what the ledger says, once you know who moved them.

    Exit code 0 done, 2 when the ledger's last move is not signed, or its version is not in the registry.

    Example: quant-assets promotion realign planted_edge
    """
    from quant_assets.common.home import Home
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.registry import promotion
    from quant_assets.registry.standing import ledger_keys

    quiet()
    home = Home()
    pointer = promotion.realign(
        home.mlflow_uri,
        strategy=strategy,
        ledger=PromotionLedger(home.promotion_ledger),
        keys=ledger_keys(home),
    )
    at = f"version {pointer.model_version}" if pointer else "no version: the ledger has no champion"
    out().print(f"{plain(strategy)}: alias champion at {at}")


# ----------------------------------------------------------------------------------------------------- trials


trials_app = typer.Typer(
    no_args_is_help=True, help="What was tried on each universe, and what is lost of it."
)

UNIVERSE = Annotated[str, typer.Option("--universe", "-u", help="Whose trials.")]


@trials_app.command("show")
def trials_show(
    universe: UNIVERSE,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write the trials here.")] = None,
) -> None:
    """Show every trial of a universe, since when they are counted, and what is lost.

    Exit code 0 when the ledger continues everything that is known of it, 1 when trials are missing.

    Example: quant-assets trials show --universe us_tech
    """
    from quant_assets.common.home import Home
    from quant_assets.ledgers.trials import TrialLedger

    require_folder(json_output, "--json")
    ledger, console, missing = TrialLedger(Home().path), out(), []
    shown = {}
    for book, anchors in _books(universe).items():
        off, heads = ledger.anchors.broken(book, ledger.heads, anchors)
        losses = ledger.anchors.acknowledgements(book)
        trials = ledger.arrived(book)
        kin = sorted({trial.book for trial in trials} - {book})
        lost = sum(loss.lost_trials for loss in losses)
        since = f", counted since {ledger.since(book)[:10]}" if trials else ""
        table = table_of(
            f"{book}: N = {len(trials) + lost}{since}"
            + (f", with {', '.join(kin)} on the same bars" if kin else ""),
            ("trial", "strategy", "Sharpe per session", "sessions", "bars until", "recorded"),
            right=("Sharpe per session", "sessions"),
            no_wrap=True,
        )
        for trial in trials:
            table.add_row(
                trial.fingerprint[:12],
                plain(trial.strategy or trial.book),
                f"{trial.sharpe_per_period:.4f}",
                str(trial.n_obs),
                trial.panel_until or "-",
                trial.recorded_at[:19],
            )
        console.print(table)
        for loss in losses:
            console.print(
                plain(f"{loss.lost_trials} lost, acknowledged by {loss.by} on {loss.at[:10]}: {loss.reason}")
            )
        missing += off
        for anchor in off[:1]:
            console.print(
                f"[red]{anchor.length} trials were counted once, {len(heads) - 1} continue that[/]: every gate of "
                f"{plain(universe)} is closed until the ledger is restored or the loss acknowledged"
            )
        shown[book] = {
            "n_trials": len(trials) + lost,
            "counted_since": ledger.since(book),
            "trials": [trial.record for trial in trials],
            "losses": [vars(loss) for loss in losses],
            "missing": [anchor.text for anchor in off],
        }
    write_json(json_output, shown)
    raise typer.Exit(int(bool(missing)))


@trials_app.command("acknowledge")
def trials_acknowledge(
    universe: UNIVERSE,
    by: Annotated[str, typer.Option("--by", help="Who acknowledges.")],
    reason: Annotated[str, typer.Option("--reason", help="Why the trials are gone.")],
) -> None:
    """Acknowledge by name and reason that trials of a universe are lost; they keep counting.

    Its gates open again to whoever passes them with the lost trials in N.

    Example: quant-assets trials acknowledge --universe us_tech --by "A. Person" --reason "disk lost, no backup"
    """
    from datetime import UTC, datetime

    from quant_assets.common.errors import LedgerError
    from quant_assets.common.home import Home
    from quant_assets.ledgers.trials import TrialLedger

    ledger, written = TrialLedger(Home().path), 0
    for book, anchors in _books(universe).items():
        if ledger.anchors.broken(book, ledger.heads, anchors)[0]:
            loss = ledger.anchors.acknowledge(
                book, ledger.heads, anchors, by=by, reason=reason, at=datetime.now(UTC).isoformat()
            )
            out().print(
                plain(f"{book}: {loss.lost_trials} lost trials acknowledged by {loss.by}; they keep counting")
            )
            written += 1
    if not written:
        raise LedgerError(
            f"trials of {universe}",
            expected="a loss to acknowledge",
            found="a ledger that continues everything that is known of it",
            action="do nothing",
        )


def _books(universe: str) -> dict[str, tuple["Anchor", ...]]:
    """The books of a universe, each with what is known of it outside the ledger: events, MLflow, promotions."""
    from quant_assets.common.home import Home
    from quant_assets.defs.assets import asset_key
    from quant_assets.defs.running import open_instance
    from quant_assets.defs.storage import latest_event
    from quant_assets.gates.evidence import ANCHOR_FACT
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.ledgers.trial_records import Anchor, promoted_anchors
    from quant_assets.ledgers.trials import TrialLedger
    from quant_assets.lineage.configured import load_settings
    from quant_assets.registry.connection import sqlite_file
    from quant_assets.registry.tracking import recorded_anchors

    settings, home = load_settings(), Home()
    settings.require(universe)
    if universe not in settings.universes:
        raise ConfigurationError(
            f"universe {universe!r}",
            expected=f"one of {', '.join(settings.universes)}",
            found="no universe of that name",
            action=closest(universe, settings.universes) or "choose one of them",
        )
    decided = promoted_anchors(PromotionLedger(home.promotion_ledger).entries())
    with open_instance() as instance:
        events = [
            latest_event(instance, asset_key((strategy.name, asset)), None)
            for strategy in settings.strategies.values()
            if strategy.universe == universe
            for asset in ("trial_ledger", "cpcv_paths")
        ]
    facts = [event.metadata[ANCHOR_FACT].value for event in events if event and ANCHOR_FACT in event.metadata]
    seen = tuple(Anchor.parse(str(fact)) for fact in facts)
    books = {
        *TrialLedger(home.path).books(universe),
        *(a.book for a in (*decided, *seen) if a.book.startswith(f"{universe}.")),
    }
    database = sqlite_file(home.mlflow_uri)
    recorded = database is None or database.is_file()  # a home that has recorded nothing yet has none
    return {
        book: (*decided, *seen, *(recorded_anchors(home.mlflow_uri, book) if recorded else ()))
        for book in sorted(books)
    }


# ------------------------------------------------------------------------------------------------------- desk


NUMBERS = ("N, book", "sessions", "Sharpe", "p", "Bonferroni", "Holm", "BHY", "mean", "q", "bound")


def desk(
    json_output: Annotated[Path | None, typer.Option("--json", help="Write every figure here.")] = None,
) -> None:
    """Make the desk's page again: where every strategy stands and why, and what its Sharpe ratio is worth.

    It is platform/desk_report, and reports/index.html of the home, which quant-assets ui serves. Haircut Sharpe
    ratios, StepM, false discovery rates and Rademacher bounds. Information, not gates: exit code 0
    whatever they say, 1 when the run broke (a damaged ledger).

    Example: quant-assets desk --json desk.json
    """
    from quant_assets.definitions import build_definitions
    from quant_assets.defs.running import open_instance
    from quant_assets.lineage.configured import load_settings

    quiet()
    require_folder(json_output, "--json")
    with open_instance() as instance:
        event = make_desk(build_definitions(load_settings()), instance)
    if event is None:
        raise typer.Exit(1)
    figures: Any = event.metadata["figures"].value
    show_desk(figures, out())
    out().print(f"\nThe page:     {plain(str(event.metadata['file'].value))}")
    out().print(
        f"In the UI:    {plain(str(event.metadata['open'].value))} of the address that quant-assets ui says"
    )
    write_json(json_output, figures)


def make_desk(definitions: Any, instance: Any) -> Any:
    """Materialise the desk's page: its event; None, with what broke said, where that fails."""
    from quant_assets.defs.assets import asset_key
    from quant_assets.defs.running import executed, failures
    from quant_assets.defs.storage import latest_event

    result = executed(definitions, "desk_report", instance)
    if not result.success:
        refused, broken = failures(result.all_events)
        show_error("; ".join((*refused, *broken)))
        return None
    return latest_event(instance, asset_key(("platform", "desk_report")), None, result.run_id)


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
