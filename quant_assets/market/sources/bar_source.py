"""What every kind of bar source offers, and what one reading of it gives."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Protocol

import polars as pl

from quant_assets.common.errors import SourceError, closest
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.set_aside import NOTHING, Terms

_SYMBOLS_SHOWN = 20

State = tuple[object, ...]


@dataclass(frozen=True)
class SourceOutcome:
    """What became of one source of a universe.

    ``used`` says whether its bars were taken, ``reason`` why not (the source's own error text) or what it lacks;
    ``last_session`` is None when nothing was read.
    """

    source: str
    provider: str
    used: bool
    reason: str
    n_bars: int
    last_session: date | None


@dataclass(frozen=True)
class SourceRead:
    """Raw bars of one universe, and what is worth knowing about how they were read.

    ``bars`` has `quant_assets.market.parsing.RAW_SCHEMA`, sorted by symbol and session; with alternatives
    configured it has `quant_assets.market.reconciliation.LABELLED_SCHEMA`: the bars of every source that was
    used. ``column_mapping`` maps our names to the source's (with alternatives, as ``label.name``); ``notes`` are
    sentences for people. ``outcomes`` has one entry for each source where there are several. ``aside`` is what was
    no bar and left out (`quant_assets.market.set_aside.ASIDE`).
    """

    bars: pl.DataFrame
    provider: str
    column_mapping: dict[str, str]
    notes: tuple[str, ...]
    n_files: int
    outcomes: tuple[SourceOutcome, ...] = ()
    aside: pl.DataFrame = field(default_factory=lambda: NOTHING)


class BarSource(Protocol):
    """One place that bars come from."""

    @property
    def provider(self) -> str:
        """What it is, for people: kind and path, host and table, or seed. Never a password."""
        ...

    def state(self, universe: UniverseConfig) -> State:
        """Identity of the data as it is now. Equal states give equal bars; another one must be read again.

        Raises
        ------
        SourceError
            When nothing is there.
        """
        ...

    def read(self, universe: UniverseConfig) -> SourceRead:
        """Validated bars of (at least) the universe's symbols and dates, as far as the source has them.

        Raises
        ------
        SourceError
            When nothing can be read.
        BarContractError
            When a column is missing or ambiguous, or more of what was read is no bar than the universe lets be set
            aside.
        """
        ...

    def holdings(self, universe: UniverseConfig) -> "Holdings":
        """Symbols and dates that the source has at all, asked only to say what is wrong with a universe."""
        ...


@dataclass(frozen=True)
class Holdings:
    """Symbols in order, and the first and last session (None when there is no row)."""

    symbols: tuple[str, ...]
    first: date | None
    last: date | None


def holdings_of(bars: pl.DataFrame) -> Holdings:
    """What a frame of bars holds."""
    symbols = tuple(bars["symbol"].unique().sort())
    first, last = bars.select(
        pl.col("session").min().alias("first"), pl.col("session").max().alias("last")
    ).row(0)
    return Holdings(symbols, first, last)


def read_restricted(
    source: BarSource, universe: UniverseConfig, *, allow_missing: bool = False
) -> SourceRead:
    """Read a source and keep the universe's symbols and dates.

    Parameters
    ----------
    allow_missing : bool
        Whether some (never all) of the universe's symbols may be missing; a note names them.

    Raises
    ------
    SourceError
        As `BarSource.read`; when a configured symbol is missing, or no row is left.
    BarContractError
        As `BarSource.read`.
    """
    whole = source.read(universe)
    bars, notes, terms = whole.bars, list(whole.notes), Terms.of(universe)
    aside = whole.aside.filter(terms.asked)
    held = {*bars["symbol"].unique(), *aside["symbol"].unique()}
    if universe.symbols is not None:
        absent = [s for s in universe.symbols if s not in held and s not in universe.exclude]
        if absent:
            # A database was asked for the universe's symbols and dates only, and may have more.
            holdings = source.holdings(universe)
            absent = [symbol for symbol in absent if symbol not in set(holdings.symbols)]
            if absent and (not allow_missing or len(absent) == len(universe.symbols)):
                raise _absent_symbols(universe, absent, holdings.symbols, whole.provider)
            if absent:
                notes.append(f"without {', '.join(absent)}")
    bars = bars.filter(terms.asked) if _has_more(bars, universe) else bars
    if bars.is_empty():
        holdings = source.holdings(universe)
        raise SourceError(
            f"universe {universe.name}",
            expected=f"bars from {universe.start} to {universe.end}",
            found=f"none; {whole.provider} "
            + (
                "has no rows at all"
                if holdings.first is None
                else f"spans {holdings.first} to {holdings.last}"
            ),
            action="correct `start:` and `end:` in the universe YAML",
        )
    notes.append(f"kept {bars.height} of {whole.bars.height} rows (symbols and dates of the universe)")
    if aside.height:
        n_rows, n_symbols = int(aside["n_rows"].sum()), aside["symbol"].n_unique()
        notes.append(
            f"set aside as no bars: {n_rows} rows of {n_symbols} symbols, listed in quarantined_bars"
        )
    return replace(whole, bars=bars, notes=tuple(notes), aside=aside)


def _has_more(bars: pl.DataFrame, universe: UniverseConfig) -> bool:
    """Whether a reading has bars of which the universe did not ask: to filter is to copy all of them."""
    if universe.symbols is not None or universe.exclude or bars.is_empty():
        return True
    first, last = bars.select(first=pl.col("session").min(), last=pl.col("session").max()).row(0)
    return bool(first < universe.start or last > universe.end)


def _absent_symbols(
    universe: UniverseConfig, absent: Sequence[str], available: Sequence[str], provider: str
) -> SourceError:
    by_upper = {name.upper(): name for name in available}
    # Compared without case, and named as the source writes it.
    hint = closest(absent[0].upper(), by_upper, cutoff=0.0)
    guess = re.sub("'(.*)'", lambda near: repr(by_upper.get(near[1], near[1])), hint)
    more = len(available) - _SYMBOLS_SHOWN
    return SourceError(
        f"universe {universe.name}, symbols {', '.join(absent)}",
        expected=f"symbols that {provider} has",
        found=f"only {', '.join(available[:_SYMBOLS_SHOWN])}" + (f" and {more} more" if more > 0 else ""),
        action=f"{guess} correct `symbols:` in the universe YAML".strip(),
    )
