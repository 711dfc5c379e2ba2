"""The command ``quant-assets replay``. Exit codes: 0 same bits, 1 rebuilt but not the same, 2 cannot be rebuilt."""

import logging
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quant_assets.cli.terminal import out, plain, quiet, require_folder, styled, table_of, write_json

if TYPE_CHECKING:
    from quant_assets.lineage.configured import Settings
    from quant_assets.lineage.notebook import Replay


def replay(
    as_of: Annotated[
        str, typer.Option("--as-of", help="A day (its end, UTC), or a time such as 2026-11-01T14:30+00:00.")
    ],
    universe: Annotated[
        str | None, typer.Option("--universe", "-u", help="Rebuild a data set of this universe.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", "-s", help="Rebuild a data set of this strategy.")
    ] = None,
    asset: Annotated[
        str | None,
        typer.Option(help="The data set; default bars of a universe, training_set of a strategy."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--out", help="Write the data set here, as its asset stores it (Parquet).")
    ] = None,
    json_output: Annotated[
        Path | None, typer.Option("--json", help="Write vintages, stages and outcome here.")
    ] = None,
) -> None:
    """Rebuild a data set from the bars that were known on a day, and compare it with what was materialised then.

    Nothing is written to the event log or the store. Exit code 0 when the data set has the very bits that were
    materialised by then; 1 when it was rebuilt but has not, or nothing was materialised by then (the reason is
    printed); 2 when it cannot be rebuilt: wrong usage, no history, nothing known by then, or a lost object.

    Example: quant-assets replay --universe us_tech --asset bars --as-of 2026-11-01 --out bars.parquet
    """
    from quant_assets.common.files import write_whole
    from quant_assets.lineage.configured import load_settings

    quiet(logging.CRITICAL)  # a body that fails is reported once, by the error that ends this
    require_folder(output, "--out")
    require_folder(json_output, "--json")
    settings = load_settings()
    owner = owner_of(settings, universe, strategy)
    moment = moment_of(as_of, datetime.now(UTC))

    from quant_assets.common.home import Home
    from quant_assets.defs.running import open_instance
    from quant_assets.defs.storage import EventLog
    from quant_assets.lineage.graph import Lineage
    from quant_assets.lineage.replaying import replay_data_set

    name = asset or ("bars" if universe else "training_set")
    with open_instance() as instance:
        outcome = replay_data_set(Lineage(settings), EventLog(instance, Home()), (owner, name), moment)
    show_replay(outcome)
    if output is not None:
        write_whole(output, outcome.encoded.data)
    write_json(json_output, outcome.to_json())
    raise typer.Exit(outcome.exit_code)


def owner_of(settings: "Settings", universe: str | None, strategy: str | None) -> str:
    """The universe or strategy whose data set is asked for.

    Raises
    ------
    typer.BadParameter
        When not exactly one of the two is given.
    ConfigurationError
        When it is not configured; names the closest.
    """
    from quant_assets.common.errors import ConfigurationError, closest

    if (universe is None) == (strategy is None):
        raise typer.BadParameter("exactly one of them", param_hint="--universe / --strategy")
    name = universe or strategy or ""
    settings.require(name)
    known = sorted(settings.universes if universe is not None else settings.strategies)
    if name not in known:
        raise ConfigurationError(
            f"option {'--universe' if universe is not None else '--strategy'}",
            expected=f"one of {', '.join(known)}",
            found=repr(name),
            action=closest(name, known) or "correct the name",
        )
    return name


def moment_of(text: str, now: datetime) -> datetime:
    """The last moment of a day (UTC), or the time given (UTC when it names no zone); the future means now.

    Raises
    ------
    typer.BadParameter
        When it is neither a date nor a time.
    """
    try:
        if "T" in text or " " in text.strip():
            moment = datetime.fromisoformat(text.strip())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        else:
            moment = datetime.combine(date.fromisoformat(text.strip()), time.max, UTC)
    except ValueError as error:
        expected = "a day as 2026-11-01, or a time as 2026-11-01T14:30 (UTC) or 2026-11-01T14:30+01:00"
        raise typer.BadParameter(f"expected {expected}; found {text!r}", param_hint="--as-of") from error
    return min(moment.astimezone(UTC), now)


def show_replay(outcome: "Replay") -> None:
    """The vintages it was rebuilt from, each stage against the one of the day, and the conclusion."""
    from quant_assets.lineage.artifact import part_name

    console = out()
    title = f"{outcome.asset} as known at {outcome.as_of:%Y-%m-%d %H:%M:%S} UTC"
    vintages = table_of(title, ("vintage of", "version", "known since (UTC)"), no_wrap=True)
    for v in outcome.vintages:
        vintages.add_row(
            plain(part_name(v.asset, v.partition)), v.version[:12], f"{v.known_at:%Y-%m-%d %H:%M:%S}"
        )
    console.print(vintages)
    columns = ("rebuilt", "version", "against the one of the day", "which was", "made (UTC)")
    stages = table_of(None, columns, no_wrap=True)
    for s in outcome.stages:
        made = f"{s.made_then:%Y-%m-%d %H:%M:%S}" if s.made_then else "-"
        then = (s.version_then or "-")[:12]
        stages.add_row(plain(part_name(s.asset, s.partition)), s.version[:12], styled(s.status), then, made)
    if outcome.stages:
        console.print(stages)
    for reason in outcome.reasons:
        console.print(plain(reason))
    console.print(f"version {outcome.encoded.version[:12]}; exit code {outcome.exit_code}")
