"""Bar sources: what a universe says about its data, turned into validated raw bars.

Every source ends in the same place: `quant_assets.market.sources.contract` maps its columns and judges its rows. What
was read, from where and with which column mapping travels along, so that the lineage can show it. A universe
with alternatives is read from all of its sources; one that fails is left out, with its error kept as the reason.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache

import polars as pl

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.settings import (
    ArrowSource,
    BokehSource,
    CsvSource,
    ExcelSource,
    ParquetSource,
    PluginSource,
    PostgresSource,
    Source,
    SyntheticSource,
    UniverseConfig,
)
from quant_assets.market.calendar import sessions
from quant_assets.market.parsing import RAW_SCHEMA
from quant_assets.market.reconciliation import LABELLED_SCHEMA, reconcile
from quant_assets.market.set_aside import Terms
from quant_assets.market.sources.bar_files import FileBars
from quant_assets.market.sources.bar_source import (
    BarSource,
    Holdings,
    SourceOutcome,
    SourceRead,
    State,
    holdings_of,
    read_restricted,
)
from quant_assets.market.sources.contract import part_bars, settled
from quant_assets.market.sources.plugged import PluginBars
from quant_assets.market.synthetic import generate


@dataclass(frozen=True)
class SyntheticBars:
    """A generated feed: the configuration and the universe's dates are all there is to it."""

    config: SyntheticSource

    @property
    def provider(self) -> str:
        """The seed."""
        return f"synthetic seed {self.config.seed}"

    def state(self, universe: UniverseConfig) -> State:
        """Nothing outside the configuration can change."""
        return ()

    def read(self, universe: UniverseConfig) -> SourceRead:
        """Generate the universe's dates; what was planted is in the notes."""
        source = self.config
        feed = generate(source, universe.calendar, universe.start, universe.end)
        notes = []
        if source.edge is not None:
            notes.append(
                f"planted edge: transient sd {source.edge.transient_sd}, "
                f"half-life {source.edge.half_life_sessions} sessions"
            )
        if source.drift is not None:
            notes.append(
                f"planted drift from {source.drift.start}: volatility x {source.drift.volatility_factor}, "
                f"volume x {source.drift.volume_factor}"
            )
        notes.extend(
            f"planted defect: {d.kind}, symbol {d.symbol}, session {d.session}" for d in source.defects
        )
        terms = Terms.of(universe)
        rows = part_bars(feed, origin=f"{self.provider} (universe {universe.name})", terms=terms)
        whole, names = settled([rows], terms), {name: name for name in feed.columns}
        return SourceRead(whole.bars, self.provider, names, tuple(notes), n_files=0, aside=whole.aside)

    def holdings(self, universe: UniverseConfig) -> Holdings:
        """Symbols and dates of the generated feed."""
        return holdings_of(self.read(universe).bars)


def open_source(config: Source) -> BarSource:
    """The source that a configuration describes. Nothing is read yet."""
    match config:
        case SyntheticSource():
            return SyntheticBars(config)
        case PostgresSource():
            # Imported here: the driver loads pyarrow, and a universe of files needs neither.
            from quant_assets.market.sources.postgres import PostgresBars

            return PostgresBars(config)
        case PluginSource():
            return PluginBars(config)
        case BokehSource() | ParquetSource() | ArrowSource() | ExcelSource() | CsvSource():
            return FileBars(config)


def read_bars(universe: UniverseConfig) -> SourceRead:
    """Read, map, validate and filter the bars of a universe; with alternatives, also reconcile them.

    Returns
    -------
    SourceRead
        Only the universe's symbols and dates, always in `RAW_SCHEMA`. Relative paths count from the current
        directory.

    Raises
    ------
    SourceError
        When nothing is there, a configured symbol is missing, or no row is left.
    BarContractError
        When a column is missing or ambiguous, or more rows or symbols of those asked for are no bars than
        ``quality.set_aside`` allows.
    """
    if not universe.alternatives:
        return read_restricted(open_source(universe.source), universe)
    read = read_all(universe)
    return replace(read, bars=reconcile(read.bars, universe).bars)


def read_year(universe: UniverseConfig, year: str) -> SourceRead:
    """Bars of one calendar year of a universe: one partition. A year without bars gives an empty frame.

    A source is read once per process for as long as its configuration and its data stay the same. With
    alternatives, the bars are those of every usable source, in `LABELLED_SCHEMA`.

    Raises
    ------
    SourceError
        When the universe does not touch that year, or as `read_bars` and `read_all`.
    BarContractError
        As `read_bars`.
    """
    if year not in universe.years:
        raise SourceError(
            f"universe {universe.name}, year {year!r}",
            expected=f"one of {universe.years[0]} to {universe.years[-1]}",
            found="another year",
            action="choose one of them, or widen `start:` and `end:` in the universe YAML",
        )
    if universe.alternatives:
        whole = read_all(universe, read=_remembered)
    else:
        whole = _remembered(open_source(universe.source), universe)
    # What has no date that can be read stands in the first year.
    first = pl.lit(int(universe.years[0]))
    aside = whole.aside.filter(pl.coalesce(pl.col("session").dt.year(), first) == int(year))
    bars = whole.bars.filter(pl.col("session").is_between(date(int(year), 1, 1), date(int(year), 12, 31)))
    note = f"{year}: {bars.height} of {whole.bars.height} rows"
    return replace(whole, bars=bars, notes=(*whole.notes, note), aside=aside)


Reader = Callable[[BarSource, UniverseConfig], SourceRead]


def _read_what_is_there(source: BarSource, universe: UniverseConfig) -> SourceRead:
    return read_restricted(source, universe, allow_missing=True)


def read_all(universe: UniverseConfig, *, read: Reader = _read_what_is_there) -> SourceRead:
    """Read every source of a universe; one that fails or is stale is left out, and the rest stand in for it.

    A source is stale when its newest session lies more than ``reconciliation.max_stale_sessions`` exchange
    sessions before that of the freshest source. A source may lack symbols as long as each symbol has one.

    Parameters
    ----------
    read : callable
        How one source is read and restricted.

    Returns
    -------
    SourceRead
        ``bars`` in `LABELLED_SCHEMA`, sorted by symbol, session and source; ``outcomes`` says for each source, in
        order of preference, whether it was used and why not.

    Raises
    ------
    SourceError
        When no source can be used (with the reason of each), or a configured symbol is in none of those used.
    CalendarError
        When the universe's calendar does not know its dates.
    """
    reads: dict[str, SourceRead] = {}
    outcomes: dict[str, SourceOutcome] = {}
    for label, config in universe.sources.items():
        source = open_source(config)
        try:
            reads[label] = read(source, universe)
        except (SourceError, BarContractError) as error:
            outcomes[label] = SourceOutcome(label, source.provider, False, str(error), 0, None)
    if not reads:
        raise SourceError(
            f"universe {universe.name}",
            expected="one usable source at least",
            found="; ".join(f"{label}: {outcomes[label].reason}" for label in universe.sources),
            action="repair the first of them, or add another under `alternatives:` in the universe YAML",
        )
    newest = {label: one.bars["session"].max() for label, one in reads.items()}
    last = {label: day for label, day in newest.items() if isinstance(day, date)}
    freshest = max(last, key=lambda label: last[label])
    for label, one in list(reads.items()):
        behind = sessions(universe.calendar, last[label], last[freshest]).len() - 1
        stale = behind > universe.reconciliation.max_stale_sessions
        lacks = "; ".join(note for note in one.notes if note.startswith("without "))
        reason = (
            f"stale: ends {last[label]}, {behind} sessions before {freshest} ({last[freshest]}); "
            f"max_stale_sessions is {universe.reconciliation.max_stale_sessions}"
            if stale
            else lacks
        )
        outcomes[label] = SourceOutcome(label, one.provider, not stale, reason, one.bars.height, last[label])
        if stale:
            del reads[label]
    _refuse_uncovered(universe, reads, outcomes)
    return _together(universe, reads, outcomes)


def _refuse_uncovered(
    universe: UniverseConfig, reads: dict[str, SourceRead], outcomes: dict[str, SourceOutcome]
) -> None:
    held = {
        symbol
        for one in reads.values()
        for part in (one.bars, one.aside)
        for symbol in part["symbol"].unique()
    }
    absent = [s for s in universe.symbols or () if s not in held and s not in universe.exclude]
    if absent:
        left_out = "; ".join(f"{o.source}: {o.reason}" for o in outcomes.values() if not o.used)
        raise SourceError(
            f"universe {universe.name}, symbols {', '.join(absent)}",
            expected=f"each symbol in one of the sources {', '.join(reads)}",
            found="none has them" + (f" (not used: {left_out})" if left_out else ""),
            action="correct `symbols:`, or add a source that has them under `alternatives:` in the universe YAML",
        )


def _together(
    universe: UniverseConfig, reads: dict[str, SourceRead], outcomes: dict[str, SourceOutcome]
) -> SourceRead:
    labelled = [
        one.bars.select(*RAW_SCHEMA, pl.lit(label, dtype=pl.String).alias("source"))
        for label, one in reads.items()
    ]
    ordered = tuple(outcomes[label] for label in universe.sources)
    notes = [f"{label}: {note}" for label, one in reads.items() for note in one.notes]
    notes.extend(f"{o.source} was not used: {o.reason}" for o in ordered if not o.used)
    return SourceRead(
        bars=pl.concat(labelled).select(*LABELLED_SCHEMA).sort("symbol", "session", "source"),
        provider="; ".join(f"{label}: {one.provider}" for label, one in reads.items()),
        column_mapping={
            f"{label}.{ours}": theirs
            for label, one in reads.items()
            for ours, theirs in one.column_mapping.items()
        },
        notes=tuple(notes),
        n_files=sum(one.n_files for one in reads.values()),
        outcomes=ordered,
        aside=pl.concat(one.aside for one in reads.values()),
    )


@dataclass(frozen=True)
class _Asked:
    """One reading as a key: a configuration holds dictionaries and so cannot be one itself."""

    key: str
    source: BarSource = field(compare=False)
    universe: UniverseConfig = field(compare=False)


def _remembered(source: BarSource, universe: UniverseConfig) -> SourceRead:
    state = source.state(universe)
    key = f"{source!r}\x00{universe.model_dump_json()}"
    return _read_remembered(_Asked(key, source, universe), state)


@lru_cache(maxsize=8)
def _read_remembered(asked: _Asked, _state: State) -> SourceRead:
    several = bool(asked.universe.alternatives)
    return read_restricted(asked.source, asked.universe, allow_missing=several)
