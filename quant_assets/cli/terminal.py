"""The one terminal: everything that a command shows passes here, and the JSON that it writes."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from quant_assets.common.errors import ConfigurationError, closest
from quant_assets.common.places import config_dir

if TYPE_CHECKING:
    from quant_assets.lineage.configured import Settings

import json
import logging
import sys
from collections.abc import Collection, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from quant_assets.gates.verdicts import Verdict


# ----------------------------------------------------------------- what several commands ask of their options


def require_folder(file: Path | None, option: str) -> None:
    """Before any work: what is to be written can be.

    Raises
    ------
    typer.BadParameter
        When the folder of the file is not there, or the next option stands where its name should.
    """
    if str(file).startswith("--"):
        raise typer.BadParameter(
            f"the name of a file is missing, {file} follows (a file of that name: with its folder)",
            param_hint=option,
        )
    if file is not None and not file.absolute().parent.is_dir():
        raise typer.BadParameter(f"no folder {file.absolute().parent}", param_hint=option)


def require_strategies(names: Iterable[str], settings: "Settings", option: str = "--strategy") -> None:
    """Each name is that of a configured strategy.

    Raises
    ------
    ConfigurationError
        Lists those that exist; for one that was left out, its own error.
    """
    names = list(names)
    for name in names:
        settings.require(name)
    unknown = [name for name in names if name not in settings.strategies]
    if unknown:
        raise ConfigurationError(
            f"option {option}",
            expected=f"one of {', '.join(sorted(settings.strategies))}",
            found=", ".join(unknown),
            action=closest(unknown[0], settings.strategies)
            or f"correct the name, or add its file to {config_dir() / 'strategies'}",
        )


# ---------------------------------------------------------------------------------------- consoles and tables


# Into a file or a pipe a table has as much room as it needs; a terminal has its own width.
PIPE_WIDTH = 160

# Of everything that has a status. A word that is not here is neither good nor bad.
STYLES = {
    "pass": "green",
    "fail": "red",
    "underpowered": "yellow",
    "not_applicable": "dim",
    "passed": "green",
    "failed": "red",
    "not run": "dim",
    "no verdict": "red",
    "yes": "green",
    "no": "red",
    "promoted": "green",
    "error": "red",
    "blocked": "red",
    "same bits": "green",
    "other bits": "red",
}


def out() -> "Console":
    """Standard output, for results."""
    from rich.console import Console

    return Console(
        highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH
    )


def err() -> "Console":
    """Standard error, for what goes wrong and for progress that nobody keeps."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def plain(text: str) -> str:
    """Text that the console shows as it is."""
    from rich.markup import escape

    return escape(text)


def styled(status: str, style: str | None = None) -> str:
    """A status in its colour."""
    return f"[{style or STYLES.get(status, 'yellow')}]{status}[/]"


def table_of(
    title: str | None,
    columns: Sequence[str],
    *,
    right: Collection[str] = (),
    no_wrap: bool = False,
    overflow: Literal["fold", "ellipsis"] = "ellipsis",
) -> "Table":
    """An empty table.

    Parameters
    ----------
    right : collection of str
        Columns of numbers.
    no_wrap : bool
        Whether a cell stays on one line.
    overflow : {"fold", "ellipsis"}
        What becomes of a word that is longer than its column.
    """
    from rich.table import Table

    table = Table(title=None if title is None else plain(title), title_justify="left", title_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in right else "left"
        table.add_column(plain(column), justify=justify, no_wrap=no_wrap, overflow=overflow)
    return table


VERDICT_COLUMNS = ("gate", "status", "observed", "required")


def verdict_cells(verdict: "Verdict") -> tuple[str, str, str, str]:
    """A verdict in the columns of `VERDICT_COLUMNS`."""
    observed = "-" if verdict.observed is None else f"{verdict.observed:.4g}"
    required = "-" if verdict.required is None else f"{verdict.comparison} {verdict.required:g}"
    return verdict.gate, styled(verdict.status), observed, required


def show_error(message: str, word: str = "error") -> None:
    """One message on standard error, without a traceback."""
    err().print(f"[red]{word}[/] {plain(message)}")


def show_text(text: str) -> None:
    """Text for another program: without styles, as wide as it is."""
    sys.stdout.write(f"{text}\n")


def json_text(value: Any, *, sort_keys: bool = True) -> str:
    """Plain data as text: indented, no NaN, keys sorted unless their order says something."""
    return json.dumps(value, indent=2, sort_keys=sort_keys, allow_nan=False)


def write_json(target: Path | None, value: Any, *, sort_keys: bool = True) -> None:
    """Write what ``--json`` asked for, whole or not at all; nothing where nobody asked."""
    if target is None:
        return
    from quant_assets.common.files import write_whole

    write_whole(target, f"{json_text(value, sort_keys=sort_keys)}\n".encode())


# ---------------------------------------------------------------------------------------- work in progress


def quiet(level: int = logging.ERROR) -> None:
    """Let the platform's log speak only from this level on: the command itself says what matters."""
    from quant_assets.common.logging import configure_logging

    configure_logging(level=level)


def show_events() -> None:
    """Show the platform's events as progress lines, and silence everything else that is logged."""
    import structlog

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _event_line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )


def _event_line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    """One line per asset: name, computed or reused, seconds."""
    from structlog import DropEvent

    name = event.get("asset_key", "")
    if event.get("event") == "asset":
        style = "cyan" if event["status"] == "reused" else "white"
        out().print(f"  {name:<46} [{style}]{event['status']:<9}[/] {event['seconds']:6.1f} s")
    elif event.get("event") == "progress":
        if event["done"] % max(1, event["total"] // 5) == 0:
            out().print(f"  {name:<46} [dim]{event['done']:>3} of {event['total']} {event['what']}[/]")
    elif event.get("event") == "promotion refused":
        out().print(f"  {name:<46} [yellow]refused[/]")
    elif event.get("level") in ("warning", "error"):
        facts = ", ".join(f"{k}={v}" for k, v in event.items() if k not in ("event", "level", "timestamp"))
        out().print(f"  [yellow]{event['level']}: {plain(event['event'])}[/] [dim]{plain(facts)}[/]")
    raise DropEvent


class Meter:
    """One bar, on the error stream, that names what is being measured; nothing where nobody looks."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        console = err()
        columns = (
            TextColumn("{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> "Meter":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, what: str, done: int, total: int) -> None:
        """Say how far one measurement is."""
        self._bar.update(self._task, description=what, completed=done, total=total)
