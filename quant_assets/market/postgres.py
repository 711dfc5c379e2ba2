"""Bars from a Postgres table, view or query, read through ADBC.

Symbols and dates of the universe are pushed down; rows without a symbol or a session are fetched as well, so
that they are refused and not overlooked. All statements of one reading see the same snapshot.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import adbc_driver_manager
import polars as pl
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.settings import PostgresSource, UniverseConfig
from quant_assets.market.bar_source import Holdings, SourceRead, State
from quant_assets.market.contract import conform, validate_bars
from quant_assets.market.parsing import has_time_of_day
from quant_assets.market.postgres_address import Address, parse_address
from quant_assets.market.postgres_sql import Relation

# The first characters of an SQLSTATE, and what a person can do about it.
_REMEDIES = {
    "42501": "grant the user SELECT on it",
    "42P01": "correct `table:` or `query:` in the universe YAML (upper and lower case count)",
    "42703": "correct `query:` in the universe YAML",
    "42601": "correct the SQL of `query:` in the universe YAML: one SELECT",
    "57": "wait until the server is up again, then run once more",
}


@dataclass(frozen=True)
class PostgresBars:
    """A table, view or query of a database, as one feed."""

    config: PostgresSource

    @property
    def provider(self) -> str:
        """Host, database and table."""
        return f"postgres {parse_address(self.config.dsn).name} {self._what}"

    @property
    def _what(self) -> str:
        return self.config.table if self.config.table is not None else "query"

    def state(self, universe: UniverseConfig) -> State:
        """Count and order-free digest of the universe's rows, computed by the server."""
        with self._open() as (session, relation):
            found = session.fetch(relation.digest(universe)).row(0)
        return (self.provider, *found)

    def read(self, universe: UniverseConfig) -> SourceRead:
        """The universe's rows, validated. Row numbers in messages count in order of symbol and session."""
        origin = self.provider
        with self._open() as (session, relation):
            rows = session.fetch(relation.select(universe))
        bars = validate_bars(rows, origin=f"{origin} (rows in order of symbol and session)")
        notes = list(relation.notes)
        if rows.height and rows.select(has_time_of_day("session", rows.schema["session"])).item():
            zone = f" in {self.config.time_zone}" if relation.is_instant else ""
            notes.append(f"session: the time of day{zone} was dropped")
        return SourceRead(bars, origin, relation.columns, tuple(notes), n_files=0)

    def holdings(self, universe: UniverseConfig) -> Holdings:
        """Symbols and dates of the whole table."""
        with self._open() as (session, relation):
            symbols = session.fetch(relation.distinct_symbols())["symbol"]
            first, last = session.fetch(relation.span()).row(0)
        return Holdings(tuple(symbols.sort()), first, last)

    @contextmanager
    def _open(self) -> "Iterator[tuple[_Session, Relation]]":
        """One read-only snapshot of the database, and the relation with its columns mapped."""
        session = _Session(parse_address(self.config.dsn), self._what)
        try:
            with dbapi.connect(session.address.uri) as connection, connection.cursor() as cursor:
                session.cursor = cursor
                session.execute("set transaction isolation level repeatable read read only")
                yield session, self._relation(session)
        except adbc_driver_manager.Error as error:
            raise session.refused(error) from error

    def _relation(self, session: "_Session") -> Relation:
        origin = f"postgres {session.address.name} {self._what}"
        schema = session.schema(Relation.nothing_of(self.config))
        repeated = sorted({name for name in schema.names if schema.names.count(name) > 1})
        if repeated:
            raise BarContractError(
                f"{origin}: column {', '.join(repr(name) for name in repeated)}",
                expected="each column once",
                found=f"columns {schema.names}",
                action="name the columns apart in `query:`",
            )
        types = {f.name: (f.metadata or {}).get(b"POSTGRESQL:type", b"").decode() for f in schema}
        empty = pl.DataFrame(schema=dict.fromkeys(schema.names, pl.String))
        mapped = conform(empty, origin=origin, mapping=self.config.columns)
        relation = Relation(
            config=self.config,
            columns=mapped.column_mapping,
            types={ours: types[theirs] for ours, theirs in mapped.column_mapping.items()},
            ignored=mapped.ignored_columns,
        )
        if relation.is_instant and self.config.time_zone is None:
            raise SourceError(
                f"{origin}: column {relation.columns['session']!r}",
                expected="a date, or instants with the time zone whose days they are",
                found="timestamptz: the same instant is another date in another zone",
                action="set `time_zone:` in the universe YAML to the zone in which midnight was stored, such as "
                "UTC or America/New_York",
            )
        return relation


class _Session:
    """One open cursor; every failure names host, database and table, never the password."""

    def __init__(self, address: Address, what: str) -> None:
        self.address = address
        self.what = what
        self.cursor: dbapi.Cursor

    def execute(self, sql: str) -> None:
        self.cursor.execute(sql)

    def schema(self, sql: str) -> pa.Schema:
        return self.cursor.adbc_execute_schema(sql)

    def fetch(self, sql: str) -> pl.DataFrame:
        self.cursor.execute(sql)
        return pl.DataFrame(self.cursor.fetch_arrow_table())

    def refused(self, error: adbc_driver_manager.Error) -> SourceError:
        text = self.address.redacted(str(error).partition("Query was:")[0])
        state = error.sqlstate or ""
        remedy = next((words for code, words in _REMEDIES.items() if state.startswith(code)), None)
        if remedy is None:
            remedy = (
                "correct the values or the types of the columns in the database"
                if state
                else "check that the server runs and can be reached from here, and host, user, password and "
                "database in the environment variable that `dsn:` names"
            )
        return SourceError(
            f"postgres {self.address.name} {self.what}",
            expected=f"rows, read as user {self.address.user or '(default)'}",
            found=text,
            action=remedy,
        )
