"""Bars from a Postgres table, view or query, read through ADBC, at an address whose password is never shown."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

import adbc_driver_manager
import polars as pl
import pyarrow as pa
from adbc_driver_postgresql import dbapi
from pydantic import SecretStr

from quant_assets.common.errors import BarContractError, SourceError
from quant_assets.common.settings import PostgresSource, UniverseConfig
from quant_assets.market.parsing import has_time_of_day
from quant_assets.market.set_aside import Terms
from quant_assets.market.sources.bar_source import Holdings, SourceRead, State
from quant_assets.market.sources.contract import conform, part_bars, settled

# ------------------------------------------------------------------------------------- addresses of databases


# libpq waits for the operating system otherwise, about two minutes on Linux.
CONNECT_TIMEOUT_SECONDS = 10

_HOSTS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:,@]*)(:\d*)?(,(\[[0-9A-Fa-f:.%]+\]|[^\[\]:,@]*)(:\d*)?)*")
_SECRET_OPTIONS = ("password", "sslpassword")


@dataclass(frozen=True)
class Address:
    """Where a database is. ``uri`` is what the driver gets; only ``name`` and ``user`` are for people."""

    name: str
    user: str
    uri: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def redacted(self, text: str) -> str:
        """A driver's message without the password, in one line."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())


def parse_address(dsn: SecretStr) -> Address:
    """Take a ``postgresql://`` address apart.

    Raises
    ------
    SourceError
        When it is none, or its password has characters that must be percent-encoded. The text of the address is
        never shown.
    """
    uri = dsn.get_secret_value().strip()
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        raise _refused("an address that starts with postgresql://", "another text")
    parts = urlsplit(uri)
    login, _, hosts = parts.netloc.rpartition("@")
    # An unescaped @ / : ? # of a password moves the place where the host begins; libpq would then print the rest.
    if "@" in login or "@" in parts.path + parts.query or parts.fragment or not _HOSTS.fullmatch(hosts):
        raise _refused(
            "host and port after user and password, all special characters percent-encoded",
            "an address that cannot be taken apart",
        )
    user, _, password = login.partition(":")
    if ":" in password:
        raise _refused("a password without ':' (write %3A)", "a second ':' before the host")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    secrets = {password, unquote(password)} | {options.get(name, "") for name in _SECRET_OPTIONS}
    host = unquote(hosts) or options.get("host", "") or "the local socket"
    database = unquote(parts.path.strip("/")) or options.get("dbname", "") or "the default database"
    if "connect_timeout" not in options:
        uri += ("&" if parts.query else "?") + f"connect_timeout={CONNECT_TIMEOUT_SECONDS}"
    return Address(
        name=f"{host}/{database}",
        user=unquote(user) or options.get("user", ""),
        uri=uri,
        secrets=tuple(sorted((secret for secret in secrets if secret), key=len, reverse=True)),
    )


def _refused(expected: str, found: str) -> SourceError:
    return SourceError(
        "`dsn:` of a postgres source",
        expected=expected,
        found=f"{found} (not shown: it may hold a password)",
        action="set the environment variable that the universe YAML names to "
        "postgresql://user:password@host:5432/database",
    )


# ---------------------------------------------------------------- the statements that read bars from Postgres


_TEXT = frozenset({"text", "varchar", "bpchar", "name", "citext"})


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
        if universe.exclude:
            names = ", ".join(literal(name) for name in universe.exclude)
            conditions.append(f"({symbol}::text not in ({names}) or {symbol} is null)")
        where = f" where {' and '.join(conditions)}" if conditions else ""
        return f"{self.source_of(self.config)}{where}"


# --------------------------------------------------------------------------------- bars from a Postgres table

# Symbols and dates of the universe are pushed down; rows without a symbol or a session are fetched as well, so
# that they are refused and not overlooked. All statements of one reading see the same snapshot.


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
        terms = Terms.of(universe)
        parted = part_bars(rows, origin=f"{origin} (rows in order of symbol and session)", terms=terms)
        whole = settled([parted], terms)
        notes = list(relation.notes)
        if rows.height and rows.select(has_time_of_day("session", rows.schema["session"])).item():
            zone = f" in {self.config.time_zone}" if relation.is_instant else ""
            notes.append(f"session: the time of day{zone} was dropped")
        return SourceRead(whole.bars, origin, relation.columns, tuple(notes), n_files=0, aside=whole.aside)

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
