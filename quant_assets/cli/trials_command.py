"""``quant-assets trials``: what the trial ledger counts, and its losses. Exit codes: 0 whole, 1 a loss, 2 usage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quant_assets.cli.terminal import out, plain, table_of, write_json
from quant_assets.common.errors import ConfigurationError, closest

if TYPE_CHECKING:
    from quant_assets.ledgers.trial_records import Anchor

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
