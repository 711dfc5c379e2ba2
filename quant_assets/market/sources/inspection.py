"""What a file or a folder is, before anything runs: format, layout, mapping, what is wrong and what to run next."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

from quant_assets.common.errors import (
    BarContractError,
    CalendarError,
    ConfigurationError,
    QuantAssetsError,
    SourceError,
    UndecidedTableError,
)
from quant_assets.market.calendar import canonical_calendar
from quant_assets.market.set_aside import Terms
from quant_assets.market.sources.adoption import market_days, zone_days
from quant_assets.market.sources.bar_files import PartedFile, files_of, read_files, stem_of
from quant_assets.market.sources.calendar_fit import fit_of, suggested_calendar
from quant_assets.market.sources.contract import conform
from quant_assets.market.sources.layouts import Long, long_form
from quant_assets.market.sources.tables import NamedFiles, RawTable, files_beside, open_table, source_of

Outcome = Literal["usable", "usable after a change", "refused"]
EXIT_CODES: dict[Outcome, int] = {"usable": 0, "usable after a change": 1, "refused": 2}

FORMATS = {
    "csv": "delimited text",
    "parquet": "Parquet",
    "arrow": "Arrow (Feather)",
    "excel": "Excel workbook",
}
MARKS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank"}
# Traded prices have few decimals; those that were divided by an adjustment have as many as there is room for.
TRADED_DECIMALS, COMPUTED_SHARE = 4, 0.5


@dataclass(frozen=True)
class Inspection:
    """What was found of a path.

    Attributes
    ----------
    outcome : str
        ``usable`` as it is, ``usable after a change`` that ``problems`` and ``next_command`` name, or ``refused``.
    facts : dict of str to str
        What the table is, in words, by subject.
    mapping : dict of str to str
        Our columns to the file's.
    problems : tuple of str
        What is wrong, each with what to do.
    notes : tuple of str
        What was decided on the way.
    next_command : str
        What to run as it is or once the file is changed.
    """

    path: str
    outcome: Outcome
    facts: dict[str, str] = field(default_factory=dict)
    mapping: dict[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    next_command: str = ""

    @property
    def exit_code(self) -> int:
        """0 usable, 1 usable after a change, 2 refused."""
        return EXIT_CODES[self.outcome]


def inspect(path: Path, said: Mapping[str, Any] | None = None, calendar: str | None = None) -> Inspection:
    """Look at a file or a folder as `adopt_file` would, and say all that can be said even where it is refused.

    Parameters
    ----------
    said : mapping, optional
        As `quant_assets.market.sources.tables.source_of`.
    calendar : str, optional
        Of the exchange; found when not given.

    Raises
    ------
    SourceError
        When there is no such path.
    ConfigurationError, CalendarError
        When what is said is no such value.
    """
    chosen = None if calendar is None else canonical_calendar(calendar)
    if not path.exists():
        source_of(path, said)
    try:
        source = source_of(path, said)
    except SourceError as error:  # a format that nothing here reads
        return _ended(path, error, {}, {}, said, chosen)
    facts, mapping = _first_look(files_of(source)[0], source)
    if path.is_dir():
        n_files = len(files_of(source))
        facts = {"folder": f"{n_files} files {Path(source.path).name}", **facts}
        if "symbol" not in mapping and "layout" in facts:
            facts["layout"] = "a file for each symbol, called by its name"
    notes = [f"not read: {name}" for name in files_beside(path)[:5]]
    try:
        read, files = read_files(source, Terms(calendar=chosen))
        if read.bars.is_empty():
            raise SourceError(
                f"{path}",
                expected="at least one row",
                found="a header only",
                action="download the file again",
            )
        days, days_in = tuple(market_days(read.bars)), zone_days(files.values()) if chosen is None else {}
        if chosen is None:
            chosen = suggested_calendar(days, path.name, days_in).calendar
            facts["calendar"] = fit_of(chosen, days_in.get(chosen, days) if days_in else days).sentence
            if days_in or source.resample:
                read, files = read_files(source, Terms(calendar=chosen))
                days = tuple(market_days(read.bars))
        fit = fit_of(chosen, days)
    except QuantAssetsError as error:
        return _ended(path, error, facts, mapping, said, chosen, tuple(notes))
    facts["calendar"] = fit.sentence
    facts |= _readings(files)
    facts["prices"] = price_basis(read.bars)
    n_symbols = read.bars["symbol"].n_unique()
    facts["bars"] = (
        f"{read.bars.height} of {n_symbols} symbols, {len(days)} sessions, {days[0]} to {days[-1]}"
    )
    problems = []
    if read.aside.height:
        row = read.aside.row(0, named=True)
        problems.append(
            f"{int(read.aside['n_rows'].sum())} rows of {read.aside['symbol'].n_unique()} symbols are no bars and "
            f"are set aside, as row {row['row']}, column {row['column']}, value {row['value']!r} ({row['problem']})"
        )
    command = _command(path, said, calendar)
    return Inspection(
        str(path), "usable", facts, read.column_mapping, tuple(problems), (*notes, *read.notes), command
    )


def _first_look(file: Path, source: NamedFiles) -> tuple[dict[str, str], dict[str, str]]:
    """What can be told of a file before it is read as bars; as much as there is."""
    facts: dict[str, str] = {}
    try:
        table = open_table(file, source)
        facts |= _format_of(table)
        long = _laid_out(table, file, source)
        facts["layout"] = long.layout
        told = conform(long.frame.head(0), origin=str(file), mapping=source.columns, symbol=stem_of(file))
    except QuantAssetsError:  # the reading itself says it, with what is known so far
        facts.setdefault("format", FORMATS[source.kind])
        return facts, {}
    return facts, {ours: long.names.get(theirs, theirs) for ours, theirs in told.column_mapping.items()}


def _laid_out(table: RawTable, file: Path, source: NamedFiles) -> Long:
    return long_form(
        table.frame, table.header, origin=str(file), columns=source.columns, symbol=stem_of(file)
    )


def _format_of(table: RawTable) -> dict[str, str]:
    parts = [FORMATS[table.kind]]
    if table.packing:
        parts.append(f"packed as {table.packing}")
    if table.encoding:
        parts.append(table.encoding)
    if table.delimiter:
        parts.append(f"delimited by {MARKS.get(table.delimiter, table.delimiter)}")
    if table.sheet:
        parts.append(f"sheet {table.sheet!r}")
    n_header = len(table.header)
    return {
        "format": ", ".join(parts),
        "header": f"{n_header} row{'s' if n_header > 1 else ''}, {len(table.header[0])} columns",
    }


def _readings(files: Mapping[Path, PartedFile]) -> dict[str, str]:
    """How dates and numbers were read; of many files each way once."""
    facts = {}
    for subject in ("dates", "numbers", "together"):
        told = dict.fromkeys(getattr(file.reading, subject) for file in files.values())
        if any(told):
            facts[subject] = " | ".join(text for text in told if text)
    facts.setdefault("dates", "in a form that has one reading (year first, months by name, or true dates)")
    return facts


def price_basis(bars: pl.DataFrame) -> str:
    """Whether closes are as traded or adjusted, as far as the bars tell.

    Parameters
    ----------
    bars : polars.DataFrame
        `quant_assets.market.parsing.RAW_SCHEMA`.
    """
    close, adjusted = pl.col("close"), pl.col("adj_close")
    if bars["adj_close"].null_count() < bars.height:
        differ = int(bars.select(((adjusted / close - 1).abs() > 1e-6).sum()).item())
        if not differ:
            return "adj_close is the close on every row: adjusted already, or without dividends and splits"
        return (
            f"close as traded or for splits only, with adj_close beside it ({differ} rows differ): dividends and "
            "splits are taken from their ratio"
        )
    computed = bars.select(((close - close.round(TRADED_DECIMALS)).abs() > 1e-9).mean()).item() or 0.0
    if computed > COMPUTED_SHARE:
        return (
            f"close adjusted already: {computed:.0%} have more than {TRADED_DECIMALS} decimals, as computed prices "
            "have and traded ones have not; no adj_close, so dividends cannot be told apart"
        )
    return (
        "close as traded, or rounded after its adjustment (no adj_close, few decimals): splits are inferred from "
        "steps, dividends are not seen; declare either under `actions:`"
    )


def _ended(
    path: Path,
    error: QuantAssetsError,
    facts: dict[str, str],
    mapping: dict[str, str],
    said: Mapping[str, Any] | None,
    calendar: str | None,
    notes: tuple[str, ...] = (),
) -> Inspection:
    """What is known of a path that cannot be used as it is."""
    change = ""
    if isinstance(error, UndecidedTableError):
        change = error.option
    elif isinstance(error, CalendarError):
        change = "--calendar NAME"
    elif isinstance(error, BarContractError) and "`columns:`" in error.action:
        change = "--column OURS=THEIRS"
    elif isinstance(error, ConfigurationError):
        change = ""
    if isinstance(error, ConfigurationError) and not change:
        raise error
    outcome: Outcome = "usable after a change" if change else "refused"
    command = f"{_command(path, said, calendar)} {change}" if change else _inspect_again(path)
    return Inspection(str(path), outcome, facts, mapping, (str(error),), notes, command)


def _inspect_again(path: Path) -> str:
    return f"quant-assets data inspect {shlex.quote(str(path))}   (once it is changed as said)"


def _command(path: Path, said: Mapping[str, Any] | None, calendar: str | None) -> str:
    parts = ["quant-assets", "run", "--universe-file", str(path)]
    for key, value in (said or {}).items():
        if key == "columns":
            for ours, theirs in value.items():
                parts += ["--column", f"{ours}={theirs}"]
        else:
            parts += [f"--{key.replace('_', '-')}", str(value)]
    if calendar:
        parts += ["--calendar", calendar]
    return shlex.join(parts)
