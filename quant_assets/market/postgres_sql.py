"""The statements that read bars from Postgres: identifiers and values quoted, types made explicit."""

import re
from dataclasses import dataclass
from datetime import timedelta

from quant_assets.common.settings import PostgresSource, UniverseConfig
from quant_assets.market.contract import RAW_SCHEMA

_TEXT = frozenset({"text", "varchar", "bpchar", "name", "citext"})
_NUMBERS = frozenset(RAW_SCHEMA) - {"symbol", "session"}


def identifier(name: str) -> str:
    """A name in double quotes: taken as written."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text in single quotes (``standard_conforming_strings`` is on since Postgres 9.1)."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Relation:
    """A table or query with its columns mapped: ours to the database's name and to its type."""

    config: PostgresSource
    columns: dict[str, str]
    types: dict[str, str]
    ignored: tuple[str, ...]

    @staticmethod
    def source_of(config: PostgresSource) -> str:
        """What stands after FROM: the quoted table, or the query as a subselect."""
        if config.table is not None:
            parts = re.findall(r'"[^"]+"|[^".]+', config.table)
            return ".".join(identifier(part.strip('"')) for part in parts)
        # The line break ends a comment that the query may close with.
        return f"({(config.query or '').strip().rstrip(';')}\n) as source"

    @property
    def is_instant(self) -> bool:
        """Whether sessions are stored as instants, which have a date only in a time zone."""
        return self.types["session"] == "timestamptz"

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the lineage should know."""
        notes = []
        if self.ignored:
            notes.append(f"{len(self.ignored)} columns ignored: {', '.join(self.ignored)}")
        if self._dates_pushed_down():
            notes.append("symbols and dates selected by the database")
        else:
            notes.append(f"session is {self.types['session']}: dates selected after reading")
        return tuple(notes)

    def select(self, universe: UniverseConfig) -> str:
        """Our columns of the universe's rows, in order of symbol and session."""
        return f"select {self._columns()} from {self._from(universe)} order by 1, 2"  # noqa: S608 (quoted)

    def digest(self, universe: UniverseConfig) -> str:
        """Count of the universe's rows and the sum of their 64-bit hashes, which no order changes."""
        rows = f"select {self._columns()} from {self._from(universe)}"  # noqa: S608 (quoted)
        hashes = "sum(hashtextextended(bar::text, 0))"
        return f"select count(*) as n, coalesce({hashes}, 0)::text as digest from ({rows}) as bar"  # noqa: S608

    def distinct_symbols(self) -> str:
        """Every symbol once."""
        symbol = f"{identifier(self.columns['symbol'])}::text"
        relation = self.source_of(self.config)
        return f"select distinct {symbol} as symbol from {relation} where {symbol} is not null"  # noqa: S608

    def span(self) -> str:
        """First and last session of all rows."""
        text = self.types["session"] not in ("date", "timestamp", "timestamptz")
        cast = f"{self._session()}{'::text' if text else ''}::date"
        relation = self.source_of(self.config)
        return f"select min({cast}) as first, max({cast}) as last from {relation}"  # noqa: S608 (quoted)

    @staticmethod
    def nothing_of(config: PostgresSource) -> str:
        """All columns and no row: what the relation looks like."""
        return f"select * from {Relation.source_of(config)} limit 0"  # noqa: S608 (quoted)

    def _columns(self) -> str:
        parts = []
        for ours, theirs in self.columns.items():
            value = identifier(theirs)
            if ours == "symbol":
                value = f"{value}::text"
            elif ours == "session":
                value = self._session()
            elif self.types[ours] not in _TEXT:
                # NUMERIC would arrive as text, and money as a count of cents: the cast refuses what is no number.
                value = f"{value}::float8"
            parts.append(f"{value} as {identifier(ours)}")
        return ", ".join(parts)

    def _session(self) -> str:
        value = identifier(self.columns["session"])
        return (
            f"({value} at time zone {literal(self.config.time_zone or 'UTC')})" if self.is_instant else value
        )

    def _dates_pushed_down(self) -> bool:
        return self.types["session"] in ("date", "timestamp", "timestamptz")

    def _from(self, universe: UniverseConfig) -> str:
        conditions = []
        session, symbol = identifier(self.columns["session"]), identifier(self.columns["symbol"])
        if self._dates_pushed_down():
            first, after = f"timestamp '{universe.start}'", f"timestamp '{universe.end + timedelta(days=1)}'"
            if self.is_instant:
                zone = literal(self.config.time_zone or "UTC")
                first, after = f"{first} at time zone {zone}", f"{after} at time zone {zone}"
            # A comparison of the bare column: an index on it is used.
            conditions.append(f"({session} >= {first} and {session} < {after} or {session} is null)")
        if universe.symbols is not None:
            names = ", ".join(literal(name) for name in universe.symbols)
            conditions.append(f"({symbol}::text in ({names}) or {symbol} is null)")
        where = f" where {' and '.join(conditions)}" if conditions else ""
        return f"{self.source_of(self.config)}{where}"
