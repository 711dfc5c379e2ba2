"""What a feed may lose and go on: what of it is asked for, how much may be broken, and how that is carried along.

A broken row is set aside, a symbol with many of them as a whole. Such a row may have no date and no price, so it is
no bar: it travels in the metadata of ``raw_bars`` and is listed in ``quarantined_bars``.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Self

import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.common.store import Table
from quant_assets.common.universe_settings import MOST_OF_A_SYMBOL, SetAside

METADATA = "set_aside"
MOST_VALUE_CHARACTERS = 120

# One entry for each broken row; of a symbol set aside as a whole one for each of its years, its first row as example.
ASIDE: dict[str, pl.DataType | type[pl.DataType]] = {
    "symbol": pl.String,
    "session": pl.Date,
    "origin": pl.String,
    "row": pl.Int64,
    "column": pl.String,
    "value": pl.String,
    "problem": pl.String,
    "n_rows": pl.Int64,
}
NOTHING = pl.DataFrame(schema=ASIDE)


@dataclass(frozen=True)
class Terms:
    """What of a feed is asked for, and how much of that may be set aside.

    Parameters
    ----------
    symbols : frozenset of str, optional
        None for all.
    exclude : frozenset of str
        Symbols that are not even looked at.
    first, last : datetime.date, optional
        Sessions asked for.
    most : SetAside
        Fractions of symbols and rows.
    most_of_symbol : float
        Fraction of a symbol's rows beyond which all of it counts as broken.
    strict : bool
        Whether any broken row of the feed refuses it, asked for or not.
    calendar : str, optional
        Of the exchange, whose days instants belong to; None while it is not known.
    """

    symbols: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    first: date | None = None
    last: date | None = None
    most: SetAside = field(default_factory=SetAside)
    most_of_symbol: float = MOST_OF_A_SYMBOL
    strict: bool = False
    calendar: str | None = None

    @classmethod
    def of(cls, universe: UniverseConfig) -> Self:
        """A universe's terms."""
        return cls(
            symbols=None if universe.symbols is None else frozenset(universe.symbols),
            exclude=frozenset(universe.exclude),
            first=universe.start,
            last=universe.end,
            most=universe.quality.set_aside,
            most_of_symbol=float(universe.quality.limits.get("max_quarantined_fraction", MOST_OF_A_SYMBOL)),
            strict=universe.quality.strict,
            calendar=universe.calendar,
        )

    def asks_for(self, symbol: str) -> bool:
        """Whether rows of a symbol count."""
        return (self.symbols is None or symbol in self.symbols) and symbol not in self.exclude

    @property
    def asked(self) -> pl.Expr:
        """Whether a row is asked for; one whose symbol or session cannot be read may be."""
        told = []
        if self.symbols is not None:
            told.append(pl.col("symbol").is_in(sorted(self.symbols)))
        if self.exclude:
            told.append(~pl.col("symbol").is_in(sorted(self.exclude)))
        if self.first is not None and self.last is not None:
            told.append(pl.col("session").is_between(self.first, self.last))
        return pl.all_horizontal(pl.lit(value=True), *(part.fill_null(value=True) for part in told))


def metadata_of(aside: pl.DataFrame) -> dict[str, str]:
    """Entries of what was set aside as metadata of a table; nothing where there is nothing."""
    if aside.is_empty():
        return {}
    ordered = aside.sort("symbol", "session", "origin", "row", "column", "problem")
    rows = [list(row) for row in ordered.with_columns(pl.col("session").cast(pl.String)).iter_rows()]
    return {METADATA: json.dumps(rows, ensure_ascii=False, separators=(",", ":"))}


def set_aside_in(tables: Iterable[Table]) -> pl.DataFrame:
    """What was set aside of the bars in these tables, as `ASIDE`."""
    parts = [NOTHING]
    for table in tables:
        rows = json.loads(table.metadata.get(METADATA, "[]"))
        text = pl.DataFrame(rows, schema={**ASIDE, "session": pl.String}, orient="row")
        parts.append(text.with_columns(pl.col("session").str.to_date("%Y-%m-%d")))
    return pl.concat(parts)
