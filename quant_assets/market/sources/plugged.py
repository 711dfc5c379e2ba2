"""Bars from a function of a desk's own; its rows are held to the same contract as everybody's."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import polars as pl

from quant_assets.common.errors import QuantAssetsError, SourceError
from quant_assets.common.hashing import frame_digest
from quant_assets.common.settings import UniverseConfig
from quant_assets.common.source_settings import PluginSource
from quant_assets.market.set_aside import Terms
from quant_assets.market.sources.bar_source import Holdings, SourceRead, State, holdings_of
from quant_assets.market.sources.contract import conform, part_bars, settled

# The years of a universe are partitions, and each asks for the data: one call serves all that follow soon.
SECONDS_REMEMBERED = 600.0


@dataclass(frozen=True)
class PluginBars:
    """What a function gives for a universe's symbols and dates, as one feed."""

    config: PluginSource

    @property
    def provider(self) -> str:
        """The reference."""
        return f"plug-in {self.config.use}"

    def state(self, universe: UniverseConfig) -> State:
        """The code, and a digest of what it gives."""
        rows = self._rows(universe)
        return (self.config.plugin.digest, rows.height, frame_digest(rows))

    def read(self, universe: UniverseConfig) -> SourceRead:
        """Validated bars. Row numbers in messages count as the function gives them."""
        found = conform(self._rows(universe), origin=self.provider, mapping=self.config.columns)
        terms = Terms.of(universe)
        whole = settled([part_bars(found.bars, origin=self.provider, terms=terms)], terms)
        notes = [f"ignored: {', '.join(found.ignored_columns)}"] if found.ignored_columns else []
        return SourceRead(
            whole.bars, self.provider, dict(found.column_mapping), tuple(notes), n_files=0, aside=whole.aside
        )

    def holdings(self, universe: UniverseConfig) -> Holdings:
        """What it gave for this universe; it cannot be asked what else it has."""
        return holdings_of(self.read(universe).bars)

    def _rows(self, universe: UniverseConfig) -> pl.DataFrame:
        key = f"{self.config.plugin.digest}\x00{universe.model_dump_json()}"
        return _given(_Asked(key, self.config, universe), int(time.monotonic() // SECONDS_REMEMBERED))


class _Asked:
    """One call as a key: a configuration holds dictionaries and so cannot be one itself."""

    def __init__(self, key: str, config: PluginSource, universe: UniverseConfig) -> None:
        self.key, self.config, self.universe = key, config, universe

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)


@lru_cache(maxsize=4)
def _given(asked: _Asked, _soon: int) -> pl.DataFrame:
    plugin, universe = asked.config.plugin, asked.universe
    function = plugin.load("a bar source")
    try:
        rows = function(universe.symbols, universe.start, universe.end, **plugin.options)
    except QuantAssetsError:
        raise
    except Exception as error:  # a desk's own code may raise anything
        raise _refused(asked, f"{type(error).__name__}: {error}") from error
    return _as_polars(rows, asked)


def forget() -> None:
    """Ask every function again, whatever it gave before."""
    _given.cache_clear()


def _as_polars(rows: Any, asked: _Asked) -> pl.DataFrame:
    if isinstance(rows, pl.LazyFrame):
        rows = rows.collect()
    if isinstance(rows, pl.DataFrame):
        return rows
    if type(rows).__module__.partition(".")[0] == "pandas" and hasattr(rows, "columns"):
        # An index with names holds columns; one without is a row number.
        named = [name for name in rows.index.names if name is not None]
        return pl.DataFrame(pl.from_pandas(rows.reset_index() if named else rows))
    raise _refused(asked, type(rows).__name__)


def _refused(asked: _Asked, found: str) -> SourceError:
    return SourceError(
        f"universe {asked.universe.name}, plug-in {asked.config.use!r}",
        expected="a polars or pandas frame of bars: symbol, session, open, high, low, close, volume",
        found=found,
        action="correct the function; quant_assets.testing.SourceContract tests it",
    )
