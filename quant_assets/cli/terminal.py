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
import time
from collections.abc import Callable, Collection, MutableMapping, Sequence
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


def show_events(bar: "RunBar | None" = None, *, verbose: bool = False) -> None:
    """Show the platform's events as progress lines, or on a bar, and silence everything else that is logged.

    Partitions of an asset are lines of their own when ``verbose``.
    """
    import structlog

    def line(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
        """One line per asset: name, computed or reused, seconds."""
        shown = bar.on(event) if bar else False
        partition = str(event.get("asset_key", "")).endswith("]") and event.get("level") == "info"
        if not shown and (verbose or not partition) and (text := _event_line(event)):
            out().print(text)
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, line],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        cache_logger_on_first_use=False,
    )


def _event_line(event: MutableMapping[str, Any]) -> str:
    """An event as a line; empty for one that nobody has to see."""
    name = event.get("asset_key", "")
    if event.get("event") == "asset":
        style = "cyan" if event["status"] == "reused" else "white"
        return f"  {plain(name):<46} [{style}]{event['status']:<9}[/] {event['seconds']:6.1f} s"
    if event.get("event") == "progress":
        if event["done"] % max(1, event["total"] // 5) == 0:
            return f"  {plain(name):<46} [dim]{event['done']:>3} of {event['total']} {event['what']}[/]"
        return ""
    if event.get("event") == "settled":
        if event["moved"]:
            return f"  [dim]to do: {plain(event['moved'])}[/]"
        return f"  up to date: {event['assets']} assets reused, as their last run left them"
    if event.get("event") == "promotion refused":
        return f"  {plain(name):<46} [yellow]refused[/]"
    if event.get("level") in ("warning", "error"):
        facts = ", ".join(f"{k}={v}" for k, v in event.items() if k not in ("event", "level", "timestamp"))
        return f"  [yellow]{event['level']}: {plain(event['event'])}[/] [dim]{plain(facts)}[/]"
    return ""


# What an asset takes beside others, measured on the three strategies that ship; any other counts as `OTHER_SHARE`.
SHARES = {
    "cpcv_predictions": 100.0,
    "walk_forward": 25.0,
    "importance_report": 40.0,
    "leakage_report": 25.0,
    "tear_sheet": 8.0,
    "inference_benchmark": 8.0,
    "training_record": 8.0,
    "ensemble": 8.0,
    "cpcv_paths": 5.0,
    "promotion": 8.0,
}
OTHER_SHARE = 1.0


class RunBar:
    """One bar for a whole run: how many of all assets are made, which one is at work and how far, and what is left.

    What is left is said once a fiftieth of the work is done, from the pace so far and the usual shares of the assets.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, console: "Console | None" = None) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.fields[count]}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[left]}"),
            TextColumn("[dim]{task.description}[/]"),
        )
        self._bar = Progress(*columns, console=console or out(), transient=True)
        self._task = self._bar.add_task("", total=None, count="", left="")
        self._planned: dict[str, float] = {}
        self._done: set[str] = set()
        self._inner, self._clock, self._started = 0.0, clock, clock()

    def __enter__(self) -> "RunBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on(self, event: MutableMapping[str, Any]) -> bool:
        """Take an event in; False for one that has to be a line all the same."""
        kind, name = event.get("event"), str(event.get("asset_key", "")).partition("[")[0]
        match kind:
            case "plan":
                self._planned = {a: SHARES.get(a.rpartition("/")[2], OTHER_SHARE) for a in event["names"]}
            case "start":
                self._inner = 0.0
                self._bar.update(self._task, description=plain(name))
            case "progress":
                self._inner = event["done"] / max(1, event["total"])
                told = f"{name}: {event['done']} of {event['total']} {event['what']}"
                self._bar.update(self._task, description=plain(told))
            case "asset":
                name, self._inner = name.partition(",")[0], 0.0
                self._done.add(name)
            case "ended":
                self._done.update(event["names"])
            case _:
                if text := _event_line(event):
                    self._bar.console.print(text)
                return True
        self._show(name)
        return True

    def _show(self, at_work: str) -> None:
        total = sum(self._planned.values())
        share = self._planned.get(at_work, OTHER_SHARE) if at_work not in self._done else 0.0
        done = sum(weight for name, weight in self._planned.items() if name in self._done)
        done += self._inner * share
        left = ""
        if total and done >= total / 50:
            seconds = (self._clock() - self._started) * (total - done) / done
            left = f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
        made = len(self._done & set(self._planned))
        self._bar.update(
            self._task,
            completed=done,
            total=total or None,
            left=left,
            count=f"{made} of {len(self._planned)} assets",
        )


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
