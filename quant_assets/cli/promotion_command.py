"""``quant-assets promotion``: who is in charge, since when and why; back to the one before.

Exit codes of each: 0 done, 1 ledger and registry contradict each other, 2 wrong usage or refused.
"""

from pathlib import Path
from typing import Annotated

import typer

from quant_assets.cli.terminal import (
    out,
    plain,
    quiet,
    require_folder,
    require_strategies,
    styled,
    table_of,
    write_json,
)

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
