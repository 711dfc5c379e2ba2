"""The command ``quant-assets replay``. Exit codes: 0 same bits, 1 rebuilt but not the same, 2 cannot be rebuilt."""

import difflib
import json
import logging
import sys
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from quant_assets.defs.replayed import Replay
    from quant_assets.lineage.settings import Settings

_STYLES = {"same bits": "green", "other bits": "red"}


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
    from quant_assets.common.logging import configure_logging
    from quant_assets.lineage.settings import load_settings

    configure_logging(
        level=logging.CRITICAL
    )  # a body that fails is reported once, by the error that ends this
    for file, option in ((output, "--out"), (json_output, "--json")):
        if file is not None and not file.absolute().parent.is_dir():
            raise typer.BadParameter(f"no folder {file.absolute().parent}", param_hint=option)
    settings = load_settings()
    owner = owner_of(settings, universe, strategy)
    moment = moment_of(as_of, datetime.now(UTC))

    from quant_assets.definitions import build_definitions
    from quant_assets.defs.replaying import replay_data_set
    from quant_assets.defs.resources import Home
    from quant_assets.defs.running import open_instance

    name = asset or ("bars" if universe else "training_set")
    with open_instance() as instance:
        outcome = replay_data_set(settings, build_definitions, instance, Home(), (owner, name), moment)
    show_replay(outcome)
    if output is not None:
        write_whole(output, outcome.encoded.data)
    if json_output is not None:
        text = json.dumps(outcome.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n"
        write_whole(json_output, text.encode())
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
    from quant_assets.common.errors import ConfigurationError

    if (universe is None) == (strategy is None):
        raise typer.BadParameter("exactly one of them", param_hint="--universe / --strategy")
    name = universe or strategy or ""
    known = sorted(settings.universes if universe is not None else settings.strategies)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        raise ConfigurationError(
            f"option {'--universe' if universe is not None else '--strategy'}",
            expected=f"one of {', '.join(known)}",
            found=repr(name),
            action=f"did you mean {close[0]!r}?" if close else "correct the name",
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
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
    title = f"{outcome.asset} as known at {outcome.as_of:%Y-%m-%d %H:%M:%S} UTC"
    vintages = RichTable(title=title, title_justify="left", title_style="bold")
    for column in ("vintage of", "version", "known since (UTC)"):
        vintages.add_column(column, no_wrap=True)
    for v in outcome.vintages:
        name = v.asset + (f"[{v.partition}]" if v.partition else "")
        vintages.add_row(escape(name), v.version[:12], f"{v.known_at:%Y-%m-%d %H:%M:%S}")
    out.print(vintages)
    stages = RichTable()
    for column in ("rebuilt", "version", "against the one of the day", "which was", "made (UTC)"):
        stages.add_column(column, no_wrap=True)
    for s in outcome.stages:
        name = s.asset + (f"[{s.partition}]" if s.partition else "")
        made = f"{s.made_then:%Y-%m-%d %H:%M:%S}" if s.made_then else "-"
        style = _STYLES.get(s.status, "yellow")
        then = (s.version_then or "-")[:12]
        stages.add_row(escape(name), s.version[:12], f"[{style}]{s.status}[/]", then, made)
    if outcome.stages:
        out.print(stages)
    for reason in outcome.reasons:
        out.print(reason, markup=False)
    out.print(f"version {outcome.encoded.version[:12]}; exit code {outcome.exit_code}")
