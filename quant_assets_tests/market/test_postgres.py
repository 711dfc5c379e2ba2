"""Bars from a real Postgres server: mapping, types, pushed-down selection, and one clear error for each fault."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.errors import BarContractError, QuantAssetsError, SourceError
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.parsing import RAW_SCHEMA
from quant_assets.market.sources.sources import open_source, read_all, read_bars, read_year
from quant_assets_tests.postgres_server import address, connected, own_database, server

SECRET = "s3cret-word"

PRICES = "open numeric(12,4), high numeric(12,4), low numeric(12,4), close numeric(12,4), volume bigint"
ROWS = """
    ('AAA', '2023-12-29', 9, 9.5, 8.5, 9.25, 900),
    ('BBB', '2024-01-03', 20, 21, 19, 20.5, 50),
    ('AAA', '2024-01-03', 10.5, 12, 10, 11, 2000),
    ('AAA', '2024-01-02', 10, 11, 9, 10.1, 1000),
    ('CCC', '2024-01-02', 1, 1, 1, 1, 0)
"""


@dataclass(frozen=True)
class Desk:
    """An empty database and how to talk to it."""

    found: dict[str, str]
    database: str

    def run(self, sql: str) -> None:
        with connected(self.found, self.database) as connection, connection.cursor() as cursor:
            cursor.execute(sql)

    def dsn(self, **changes: str) -> str:
        return address(self.found, changes.pop("database", self.database), **changes)

    def universe(
        self, *, dsn: str | None = None, symbols: object = ("AAA", "BBB"), **source: object
    ) -> UniverseConfig:
        given = {"kind": "postgres", "dsn": dsn or self.dsn(), **source}
        return UniverseConfig.model_validate(
            {"name": "test", "source": given, "symbols": symbols, "start": "2024-01-01", "end": "2024-12-31"}
        )


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    found = server(tmp_path_factory.mktemp("server"))
    with own_database(found) as database:
        yield Desk(found, database)


@pytest.fixture
def table(desk: Desk) -> Iterator[Callable[..., str]]:
    """Make a table of bars with its own name; it is dropped at the end."""
    made: list[str] = []

    def make(session: str = "date", prices: str = PRICES, rows: str = ROWS) -> str:
        name = f"bars_{len(made)}"
        desk.run(f"create table {name} (symbol text, session {session}, {prices})")
        if rows:
            desk.run(f"insert into {name} values {rows}")
        made.append(name)
        return name

    yield make
    for name in made:
        desk.run(f"drop table {name} cascade")


def refusal(universe: UniverseConfig) -> QuantAssetsError:
    with pytest.raises(QuantAssetsError) as caught:
        read_bars(universe)
    assert SECRET not in str(caught.value) + repr(caught.value.__cause__)
    return caught.value


def test_numeric_prices_of_the_universes_symbols_and_dates_are_read(
    desk: Desk, table: Callable[..., str]
) -> None:
    read = read_bars(desk.universe(table=table()))
    assert read.bars.schema == RAW_SCHEMA
    assert read.bars.rows() == [
        ("AAA", date(2024, 1, 2), 10.0, 11.0, 9.0, 10.1, 1000.0, None),
        ("AAA", date(2024, 1, 3), 10.5, 12.0, 10.0, 11.0, 2000.0, None),
        ("BBB", date(2024, 1, 3), 20.0, 21.0, 19.0, 20.5, 50.0, None),
    ]
    assert "symbols and dates selected by the database" in read.notes
    # Fetched rows, not only kept ones: the other symbol and year never left the server.
    assert "kept 3 of 3 rows (symbols and dates of the universe)" in read.notes
    assert desk.database in read.provider
    assert desk.found["password"] == "" or f":{desk.found['password']}@" not in read.provider


@pytest.mark.parametrize(
    "prices",
    [
        PRICES,
        PRICES.replace("numeric(12,4)", "double precision").replace("bigint", "numeric"),
        PRICES.replace("numeric(12,4)", "text"),
        PRICES.replace("numeric(12,4)", "integer").replace("bigint", "integer"),
    ],
)
@pytest.mark.parametrize("session", ["date", "timestamp", "text", "varchar(10)"])
def test_every_usual_type_gives_the_same_bars(
    desk: Desk, table: Callable[..., str], prices: str, session: str
) -> None:
    rows = (
        "('AAA', '2024-01-02', '10', '11', '9', '10', '1000'), ('AAA', '2022-01-03', '1', '1', '1', '1', '1')"
    )
    bars = read_bars(desk.universe(table=table(session, prices, rows), symbols=["AAA"])).bars
    assert bars.rows() == [("AAA", date(2024, 1, 2), 10.0, 11.0, 9.0, 10.0, 1000.0, None)]


def test_a_query_runs_as_a_subselect_with_a_column_mapping(desk: Desk, table: Callable[..., str]) -> None:
    query = f"""select symbol as "Ticker's ""own"" name", session, open, high, low, close as last, volume
    from {table()} where close > 0 -- a closing remark"""
    columns = {"symbol": 'Ticker\'s "own" name', "close": "last"}
    read = read_bars(desk.universe(query=query, columns=columns))
    assert read.bars["close"].to_list() == [10.1, 11.0, 20.5]
    assert read.column_mapping["symbol"] == 'Ticker\'s "own" name'
    assert read_bars(desk.universe(query=f"select * from ({query}\n) q;", columns=columns)).bars.equals(
        read.bars
    )


def test_a_schema_and_upper_case_names_are_taken_as_written(desk: Desk) -> None:
    desk.run('create schema "Market"')
    desk.run(f'create table "Market"."Daily.Bars" (symbol char(8), "Date" date, {PRICES}, note interval)')
    desk.run(f"""insert into "Market"."Daily.Bars" values {ROWS.replace("'CCC'", "'O/X'")}""")
    universe = desk.universe(table='Market."Daily.Bars"', symbols=["AAA", "O/X"])
    read = read_bars(universe)
    assert read.bars["symbol"].unique().sort().to_list() == ["AAA", "O/X"]
    assert read.column_mapping["session"] == "Date"
    assert "1 columns ignored: note" in read.notes
    assert "does not exist" in str(refusal(desk.universe(table="market.bars")))


def test_instants_are_read_in_the_days_of_the_configured_zone_or_refused(
    desk: Desk, table: Callable[..., str]
) -> None:
    # Midnight in Tokyo is the day before in UTC.
    rows = (
        "('AAA', '2024-01-01 00:00+09', 10, 11, 9, 10, 1), ('AAA', '2024-12-31 00:00+09', 10, 11, 9, 10, 1)"
    )
    name = table("timestamptz", rows=rows)
    error = refusal(desk.universe(table=name, symbols=["AAA"]))
    assert isinstance(error, SourceError)
    assert "timestamptz" in error.found
    assert "`time_zone:`" in error.action
    tokyo = read_bars(desk.universe(table=name, symbols=["AAA"], time_zone="Asia/Tokyo"))
    assert tokyo.bars["session"].to_list() == [date(2024, 1, 1), date(2024, 12, 31)]
    utc = read_bars(desk.universe(table=name, symbols=["AAA"], time_zone="UTC"))
    assert utc.bars["session"].to_list() == [date(2024, 12, 30)]
    assert "session: the time of day in UTC was dropped" in utc.notes


@pytest.mark.parametrize(
    ("row", "diagnosis"),
    [
        ("('AAA', '2024-01-04', 1, 1, 1, null, 1)", "column close, value nothing (missing value)"),
        ("(null, '2024-01-04', 1, 1, 1, 1, 1)", "column symbol, value nothing (missing value)"),
        ("('AAA', null, 1, 1, 1, 1, 1)", "column session, value nothing (missing value)"),
        ("('AAA', '2024-01-04', 1, 1, 1, 'NaN', 1)", "column close, value 'NaN' (not finite)"),
        ("('AAA', '2024-01-02', 10, 11, 9, 10.1, 1000)", "(repeats row 1)"),
    ],
)
def test_rows_that_are_no_bars_are_refused_even_without_symbol_or_date(
    desk: Desk, table: Callable[..., str], row: str, diagnosis: str
) -> None:
    error = refusal(desk.universe(table=table(rows=f"{ROWS}, {row}")))
    assert isinstance(error, BarContractError)
    assert diagnosis in str(error)
    assert "rows in order of symbol and session" in str(error)


def test_a_missing_column_names_the_columns_that_there_are(desk: Desk, table: Callable[..., str]) -> None:
    name = table(prices=PRICES.replace("close ", "last "))
    error = refusal(desk.universe(table=name))
    assert isinstance(error, BarContractError)
    assert "column 'close'" in str(error)
    assert "'last'" in str(error)
    misspelt = refusal(desk.universe(table=name, columns={"close": "lost"}))
    assert "did you mean 'last'" in str(misspelt)
    twice = refusal(desk.universe(query=f"select 1 as a, 2 as a from {name}"))
    assert "found columns ['a', 'a']" in str(twice)


def test_money_is_no_price(desk: Desk, table: Callable[..., str]) -> None:
    prices = PRICES.replace("close numeric(12,4)", "close money")
    error = refusal(desk.universe(table=table(prices=prices)))
    assert "cannot cast type money to double precision" in str(error)


def test_an_unknown_symbol_names_those_of_the_whole_table(desk: Desk, table: Callable[..., str]) -> None:
    name = table()
    error = refusal(desk.universe(table=name, symbols=["AAA", "ccd"]))
    assert "only AAA, BBB, CCC" in str(error)
    assert "did you mean 'CCC'" in str(error)
    early = desk.universe(table=name).model_copy(update={"start": date(2025, 1, 1), "end": date(2025, 2, 1)})
    assert "spans 2023-12-29 to 2024-01-03" in str(refusal(early))
    assert "has no rows at all" in str(refusal(desk.universe(table=table(rows=""), symbols=None)))


@pytest.mark.parametrize(
    ("changes", "found", "action"),
    [
        ({"user": "nobody_here", "password": SECRET}, 'role "nobody_here" does not exist', "check that"),
        ({"database": "no_such_database", "password": SECRET}, "does not exist", "check that"),
        ({"host": "no-such-host.invalid", "password": SECRET}, "could not translate host name", "check that"),
        ({"host": "127.0.0.1", "port": "1", "password": SECRET}, "Connection refused", "check that"),
        ({"host": "127.0.0.1", "port": "1", "password": "p%40ss"}, "Connection refused", "check that"),
    ],
)
def test_a_database_that_cannot_be_reached_names_host_and_database_but_no_password(
    desk: Desk, changes: dict[str, str], found: str, action: str
) -> None:
    universe = desk.universe(dsn=desk.dsn(**changes), table="bars")
    error = refusal(universe)
    assert isinstance(error, SourceError)
    assert found in error.found
    assert action in error.action
    database = changes.get("database", desk.database)
    assert f"{changes.get('host', desk.found['host'])}" in error.what
    assert f"/{database} bars" in error.what
    for word in (SECRET, "p%40ss", "p@ss"):
        assert word not in str(error) + repr(universe) + universe.model_dump_json()


def test_faults_of_the_sql_and_lost_connections_say_what_to_do(desk: Desk, table: Callable[..., str]) -> None:
    name = table()
    cases = {
        "selec 1": ("syntax error", "one SELECT"),
        "select * from nowhere": ('relation "nowhere" does not exist', "`table:` or `query:`"),
        f"select nothing from {name}": ('column "nothing" does not exist', "`query:`"),
        f"delete from {name} returning *": ("syntax error", "one SELECT"),
        f"select symbol, session, open, high, low, close / (volume - 50) as close, volume from {name}": (
            "division by zero",
            "values or the types",
        ),
        f"select b.*, pg_terminate_backend(pg_backend_pid())::int as adj_close from {name} b": (
            "terminating connection",
            "wait until the server",
        ),
    }
    for query, (found, action) in cases.items():
        error = refusal(desk.universe(query=query))
        assert found in error.found, query
        assert action in error.action, query
        assert "\n" not in str(error)
    desk.run(f"update {name} set volume = 51 where symbol = 'BBB'")


def test_a_user_without_the_right_to_read_is_told_so(desk: Desk, table: Callable[..., str]) -> None:
    name = table()
    role = f"{desk.database}_reader"
    desk.run(f"create role {role} login password '{SECRET}'")
    try:
        error = refusal(desk.universe(dsn=desk.dsn(user=role, password=SECRET), table=name))
        assert "permission denied" in error.found
        assert role in error.expected
        assert "SELECT" in error.action
    finally:
        desk.run(f"drop role {role}")


def test_changed_rows_are_read_again_and_unchanged_ones_are_not(
    desk: Desk, table: Callable[..., str]
) -> None:
    name = table()
    universe = desk.universe(table=name)
    source = open_source(universe.source)
    before = source.state(universe)
    assert read_year(universe, "2024").bars["close"][0] == 10.1
    assert source.state(universe) == before
    desk.run(f"update {name} set close = 1 where symbol = 'CCC'")
    assert source.state(universe) == before, "a symbol that the universe has not"
    desk.run(f"update {name} set close = 10.2 where session = '2024-01-02'")
    assert source.state(universe) != before
    assert read_year(universe, "2024").bars["close"][0] == 10.2
    desk.run(f"create view {name}_view as select * from {name}")
    assert read_year(desk.universe(table=f"{name}_view"), "2024").bars["close"][0] == 10.2


def test_a_lost_database_falls_over_to_the_file_behind_it(desk: Desk, tmp_path: Path) -> None:
    days = [date(2024, 1, 2), date(2024, 1, 3)]
    pl.DataFrame(
        {"symbol": ["AAA", "AAA"], "date": days}
        | {name: [10.0, 11.0] for name in ("open", "high", "low", "close", "volume")}
    ).write_parquet(tmp_path / "bars.parquet")
    lost = desk.universe(
        dsn=desk.dsn(host="127.0.0.1", port="1", password=SECRET), table="bars", symbols=["AAA"]
    )
    behind = {"kind": "parquet", "label": "disk", "path": str(tmp_path / "bars.parquet")}
    dsn = desk.dsn(host="127.0.0.1", port="1", password=SECRET)
    universe = UniverseConfig.model_validate(
        lost.model_dump(mode="json")
        | {"source": {"kind": "postgres", "dsn": dsn, "table": "bars"}, "alternatives": [behind]}
    )
    read = read_all(universe)
    assert read.bars["source"].unique().to_list() == ["disk"]
    primary, secondary = read.outcomes
    assert (primary.source, primary.used, secondary.used) == ("postgres", False, True)
    assert "Connection refused" in primary.reason
    assert SECRET not in str(read)
    assert read_bars(universe).bars["close"].to_list() == [10.0, 11.0]
