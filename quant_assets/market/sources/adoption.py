"""A file of bars adopted: it is described, its calendar found, its universe and strategy files written once."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from quant_assets.common.configuration import read_yaml
from quant_assets.common.errors import (
    BarContractError,
    ConfigurationError,
    SourceError,
    UndecidedTableError,
)
from quant_assets.common.files import write_whole
from quant_assets.common.settings import StrategyConfig
from quant_assets.market.calendar import canonical_calendar, zone_of
from quant_assets.market.set_aside import Terms
from quant_assets.market.sources.bar_files import PartedFile, read_files
from quant_assets.market.sources.bar_source import holdings_of
from quant_assets.market.sources.calendar_fit import COMPARED, Fit, fit_of
from quant_assets.market.sources.calendar_fit import suggested_calendar as suggested_calendar
from quant_assets.market.sources.tables import NamedFiles, source_of

# A day is a session of the market when this share of the names that are listed on it has a bar: a bar of one name on
# a holiday is a wrong bar, bars of most are a session.
MARKET_SHARE = 0.5
EDGE_DAYS = 7
MOST_STRAYS, STRAY_DAYS = 5, 60


@dataclass(frozen=True)
class FileSummary:
    """What a bar file holds: enough to make a universe of it.

    Attributes
    ----------
    columns : dict of str to str
        Our names to the file's.
    market_days : tuple of date
        Days on which most of the names listed then have a bar.
    outside : tuple of (str, date)
        Bars before the market's first day and after its last.
    source : FileSource, optional
        How it is read.
    notes : tuple of str
        What was decided in reading it.
    days_in : mapping of str to tuple of date
        Where its times have a zone of their own: the market's days by the zone of the exchange that may be meant.
    """

    symbols: tuple[str, ...]
    start: date
    end: date
    n_rows: int
    columns: dict[str, str]
    market_days: tuple[date, ...] = ()
    outside: tuple[tuple[str, date], ...] = ()
    source: NamedFiles | None = None
    notes: tuple[str, ...] = ()
    days_in: Mapping[str, tuple[date, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Adopted:
    """A file that has become a universe with a strategy.

    Attributes
    ----------
    universe_file, strategy_file : Path
        What was written, now or when the file was first adopted.
    notes : tuple of str
        What was decided, for people.
    """

    universe: str
    strategy: str
    universe_file: Path
    strategy_file: Path
    summary: FileSummary
    notes: tuple[str, ...]


def describe_file(
    path: str | Path, said: Mapping[str, Any] | None = None, calendar: str | None = None
) -> FileSummary:
    """Symbols, dates and columns of a file or a folder of files, fully validated. Usual column names are known.

    Parameters
    ----------
    said : mapping, optional
        As `quant_assets.market.sources.tables.source_of`.
    calendar : str, optional
        Of the exchange, where it is known: whose days instants belong to, and whose hours are a session's.

    Raises
    ------
    SourceError, BarContractError
        As `quant_assets.market.sources.bar_files.read_files`; when there is no row.
    """
    source = source_of(Path(path), said)
    whole, files = read_files(source, Terms(calendar=calendar))
    held = holdings_of(whole.bars)
    if held.first is None or held.last is None:
        raise SourceError(
            f"{path}", expected="at least one row", found="a header only", action="download the file again"
        )
    days = tuple(market_days(whole.bars))
    first, last = (days[0], days[-1]) if days else (held.first, held.last)
    outside = whole.bars.filter(~pl.col("session").is_between(first, last))
    return FileSummary(
        held.symbols,
        first,
        last,
        whole.bars.height,
        whole.column_mapping,
        days,
        tuple(outside.select("symbol", "session").rows()),
        source,
        whole.notes,
        zone_days(files.values()) if calendar is None else {},
    )


def zone_days(files: Iterable[PartedFile]) -> dict[str, tuple[date, ...]]:
    """The market's days by the zone of each exchange that may be meant, where times have a zone; else nothing."""
    parts = [file.instants for file in files if file.instants is not None]
    if not parts:
        return {}
    instants, day = pl.concat(parts), pl.col("instant").dt
    return {
        zone: tuple(
            market_days(
                instants.select("symbol", session=day.convert_time_zone(zone).dt.date()).unique().drop_nulls()
            )
        )
        for zone in dict.fromkeys(zone_of(calendar) for calendar in COMPARED)
    }


def market_days(bars: pl.DataFrame) -> list[date]:
    """Days on which at least half of the names that are listed then have a bar, in order.

    Parameters
    ----------
    bars : polars.DataFrame
        Columns ``symbol`` and ``session``. A name is listed from a week before its first bar to one after its last:
        a bar of one name on the holiday before all others begin is no day of the market. A few days that lie months
        away from all others at an edge are none either: a date was misread there.
    """
    margin = pl.duration(days=EDGE_DAYS)
    spans = bars.group_by("symbol").agg(first=pl.col("session").min(), last=pl.col("session").max())
    steps = pl.concat(
        [
            spans.select(session=pl.col("first") - margin, step=pl.lit(1)),
            spans.select(session=pl.col("last") + margin + pl.duration(days=1), step=pl.lit(-1)),
        ]
    )
    listed = steps.group_by("session").agg(pl.col("step").sum()).sort("session")
    days = (
        bars.group_by("session")
        .agg(present=pl.len())
        .sort("session")
        .join_asof(listed.select("session", listed=pl.col("step").cum_sum()), on="session")
    )
    found: list[date] = days.filter(pl.col("present") >= MARKET_SHARE * pl.col("listed"))["session"].to_list()
    return _without_strays(_without_strays(found)[::-1])[::-1]


def _without_strays(days: list[date]) -> list[date]:
    """Days without those few at the beginning that lie months away from all others."""
    for place in range(min(MOST_STRAYS, len(days) - 1), 0, -1):
        if abs(days[place] - days[place - 1]).days > STRAY_DAYS:
            return days[place:]
    return days


def adopt_file(
    file: Path,
    folder: Path,
    *,
    like: StrategyConfig,
    taken: Callable[[str], bool] = lambda _: False,
    calendar: str | None = None,
    asset_class: str | None = None,
    floors: Mapping[str, Mapping[str, float]] | None = None,
    said: Mapping[str, Any] | None = None,
) -> Adopted:
    """Write a universe of everything in a bar file, and a strategy on it with another strategy's settings.

    Nothing that exists is written again: a file that was adopted before keeps its universe as it was edited since,
    and another file of the same name gets a name of its own.

    Parameters
    ----------
    file : Path
        File of daily bars, or a folder of such files; its columns may have the usual names.
    folder : Path
        Where ``universes/NAME.yaml`` and ``strategies/NAME_daily.yaml`` go.
    like : StrategyConfig
        Whose settings the new strategy takes.
    taken : callable
        Whether a universe or strategy may not have a name: those of others, and the platform's own.
    calendar : str, optional
        The one that its days fit when not given.
    asset_class : str, optional
        ``equity`` when not given, ``crypto`` for a calendar of 24/7.
    floors : mapping of str to mapping, optional
        The least that each cost may be assumed to be, by asset class: lower ones of ``like`` are raised to it.
    said : mapping, optional
        What a person says of its cells, as `quant_assets.market.sources.tables.source_of`.

    Raises
    ------
    SourceError, BarContractError
        When the file cannot be read or breaks the row contract; nothing is written then.
    CalendarError
        When no calendar is given, and none fits.
    ConfigurationError
        When the file has a universe that says another calendar or asset class than asked for.
    """
    file = file.resolve()
    pattern = source_of(file, said).path
    known = _adopted_before(folder / "universes", pattern)
    notes: list[str] = []
    if known is not None:
        universe, held = known.stem, read_yaml(known, environment=False)
        asked: dict[str, Any] = {
            "calendar": calendar and canonical_calendar(calendar),
            "asset_class": asset_class,
            **{f"source.{key}": value for key, value in (said or {}).items()},
        }
        for key, value in asked.items():
            is_now = _said_in(held, key)
            if value is not None and is_now != value:
                raise ConfigurationError(
                    f"{known}, key {key!r}",
                    expected=f"{value}, as the option says",
                    found=f"{is_now}: the file was adopted before, and its universe is never written again",
                    action=f"edit `{key}:` there, or leave the option out",
                )
        # What was once said of the file holds, also when it is not said again.
        said_before = {
            key: value for key, value in held["source"].items() if key not in ("kind", "path", "label")
        }
        summary = _described_or_how(file, folder, said_before, str(_said_in(held, "calendar")))
        notes.append(f"{file.name} was adopted before: {known} is used as it is")
        if held.get("end") is not None and str(held["end"]) < str(summary.end):
            notes.append(
                f"the file goes on to {summary.end}, the universe ends {held['end']}: edit `end:` there"
            )
        universe_file = known
    else:
        chosen = None if calendar is None else canonical_calendar(calendar)
        summary = _described_or_how(file, folder, said, chosen)
        if chosen is None:
            chosen = suggested_calendar(summary.market_days, file.name, summary.days_in).calendar
            if summary.days_in or (said or {}).get("resample"):  # read again, by its clock
                summary = _described_or_how(file, folder, said, chosen)
        fit = fit_of(chosen, summary.market_days)
        universe = _free_name(_stem_name(file), folder, taken)
        if universe != _stem_name(file):
            notes.append(f"the name {_stem_name(file)} is taken: the universe is called {universe}")
        settings = _universe_settings(file, summary, fit, asset_class)
        notes.append(f"calendar {fit.sentence}")
        if summary.outside:
            told = ", ".join(f"{symbol} {day}" for symbol, day in summary.outside[:3])
            notes.append(
                f"{len(summary.outside)} bars lie before or after the days of the market ({summary.start} to "
                f"{summary.end}) and are left out: {told}{', ...' if summary.outside[3:] else ''}"
            )
        if "extra_sessions" in settings:
            notes.append(f"{len(fit.unknown)} sessions that {chosen} does not know are its `extra_sessions:`")
        universe_file = folder / "universes" / f"{universe}.yaml"
        _write_new(universe_file, settings)
    strategy_file = _strategy_file(universe, file, folder, like, taken)
    if not strategy_file.exists():
        traded = str(read_yaml(universe_file, environment=False).get("asset_class", "equity"))
        costs = like.costs.model_dump()
        raised = {k: v for k, v in ((floors or {}).get(traded) or {}).items() if v > costs.get(k, v)}
        if raised:
            told = ", ".join(f"{name} {costs[name]:g} to {value:g}" for name, value in raised.items())
            notes.append(f"costs of {like.name} raised to the least of asset class {traded}: {told}")
        settings = _strategy_settings(universe, file, like)
        _write_new(strategy_file, {**settings, "costs": {**costs, **raised}})
    return Adopted(universe, strategy_file.stem, universe_file, strategy_file, summary, tuple(notes))


def _said_in(universe: Mapping[str, Any], key: str) -> Any:
    """What a universe file says under a key, or what holds when it says nothing."""
    if key == "calendar":
        return canonical_calendar(universe.get("calendar", "XNYS"))
    if key.startswith("source."):
        return universe["source"].get(key.removeprefix("source."))
    return universe.get(key, "equity")


def _described_or_how(
    file: Path, folder: Path, said: Mapping[str, Any] | None, calendar: str | None
) -> FileSummary:
    """As `describe_file`; a refusal that asks for a key of a universe says where that universe can be written."""
    try:
        return describe_file(file, said, calendar)
    except UndecidedTableError:
        raise
    except (BarContractError, SourceError) as error:
        if "`" not in error.action:
            raise
        source = source_of(file, said)
        how = (
            f"; no universe was written: keys go into one of your own, {folder / 'universes' / 'NAME.yaml'} with "
            f"`source: {{kind: {source.kind}, path: {source.path}}}`, `calendar:`, `start:` and `end:`"
        )
        raise type(error)(
            error.what, expected=error.expected, found=error.found, action=error.action + how
        ) from error


def _adopted_before(folder: Path, pattern: str) -> Path | None:
    """The universe file whose source is this file.

    Raises
    ------
    ConfigurationError
        When a file that names it cannot be read.
    """
    for found in sorted(folder.glob("*.yaml")):
        if pattern not in found.read_text(encoding="utf-8", errors="replace").replace("\n    ", " "):
            continue
        source = read_yaml(found, environment=False).get("source")
        if isinstance(source, dict) and source.get("path") == pattern:
            return found
    return None


def _stem_name(file: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", file.name.split(".")[0].lower()).strip("_")[:50]
    return name if len(name) > 1 and name[0].isalpha() else f"u_{name}" if name else "universe"


def _free_name(stem: str, folder: Path, taken: Callable[[str], bool]) -> str:
    """The stem, or the first of stem_2, stem_3, ... that no universe or strategy has, and none of its strategy's."""

    def free(name: str) -> bool:
        names = (name, _daily(name))
        files = [folder / kind / f"{n}.yaml" for kind in ("universes", "strategies") for n in names]
        return not any(taken(n) for n in names) and not any(f.exists() for f in files)

    number = 1
    while not free(name := stem if number == 1 else f"{stem}_{number}"):
        number += 1
    return name


def _daily(universe: str) -> str:
    return f"{universe}_daily" if not universe.endswith("_daily") else f"{universe}_strategy"


def _strategy_file(
    universe: str, file: Path, folder: Path, like: StrategyConfig, taken: Callable[[str], bool]
) -> Path:
    """The strategy of a universe that has another's settings: the one written for it, or where it goes."""
    first = folder / "strategies" / f"{_daily(universe)}.yaml"
    if not first.exists():
        return first
    said = str(read_yaml(first, environment=False).get("description", ""))
    if said == _described(file, like) or not said.startswith("The settings of "):
        return first
    other = f"{universe}_like_{like.name}"[:62]
    target = folder / "strategies" / f"{other}.yaml"
    if target.exists() or not taken(other):
        return target
    raise ConfigurationError(
        f"option --like {like.name}",
        expected=f"the name {other} free for the strategy",
        found="another strategy of that name",
        action=f"rename it, or edit {first}",
    )


def _described(file: Path, like: StrategyConfig) -> str:
    return f"The settings of {like.name} on {file.name}."


def _universe_settings(file: Path, summary: FileSummary, fit: Fit, asset_class: str | None) -> dict[str, Any]:
    asset_class = asset_class or ("crypto" if fit.calendar == "24/7" else None)
    source = {} if summary.source is None else summary.source.model_dump(mode="json", exclude_defaults=True)
    settings: dict[str, Any] = {
        "description": f"{len(summary.symbols)} symbols of {file.name}, adopted from the file.",
        "source": source,
        "calendar": fit.calendar,
        "start": summary.start,
        "end": summary.end,
    }
    settings |= {"asset_class": asset_class} if asset_class else {}
    if fit.fits and fit.unknown:
        settings["extra_sessions"] = list(fit.unknown)
    return settings


def _strategy_settings(universe: str, file: Path, like: StrategyConfig) -> dict[str, Any]:
    settings = like.model_dump(mode="json", exclude={"name", "universe", "description"})
    return {"description": _described(file, like), "universe": universe, **settings}


def _write_new(target: Path, settings: dict[str, Any]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(settings, sort_keys=False, width=10_000)
    write_whole(target, text.encode("utf-8"))
