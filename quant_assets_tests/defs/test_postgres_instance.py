"""The Dagster instance of a team: runs, events and checks in Postgres, with the shipped configuration."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from quant_assets_tests.e2e.lineage import lineage_in
from quant_assets_tests.postgres_server import own_database, server

SHIPPED = Path(__file__).resolve().parents[2] / "infra" / "dagster" / "postgres.yaml"


@pytest.fixture
def postgres(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty database, named by the environment variables of the shipped configuration."""
    found = server(tmp_path)
    for name in ("host", "port", "user", "password"):
        monkeypatch.setenv(f"DAGSTER_PG_{name.upper()}", found[name])
    if found["host"].startswith("/"):
        # The embedded server listens on a socket only; a URL cannot carry its folder, libpq's variable can.
        monkeypatch.setenv("PGHOST", found["host"])
        monkeypatch.setenv("DAGSTER_PG_HOST", "")
    with own_database(found) as database:
        monkeypatch.setenv("DAGSTER_PG_DB", database)
        yield


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
