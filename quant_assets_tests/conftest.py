"""Fixtures shared by all tests."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from quant_assets.common.logging import configure_logging
from quant_assets_tests.s3_server import S3Server, running_server

HERE = Path(__file__).resolve().parent

# Before anything imports mlflow, dagster or numba: no telemetry, and one thread per test process.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")


# Where most of the time goes, longest first: what is left at the end is short, and no worker waits for the other. The
# first two are begun together, so only one of them may need the lineage of ``e2e/conftest.py``.
LONGEST_FIRST = (
    "e2e/test_gates_cannot_be_bypassed.py", "models/test_tuning.py", "e2e/test_revisions.py",
    "e2e/test_commands.py", "studies/leakage/test_prover.py", "e2e/test_feature_packs.py",
    "e2e/test_bad_input_and_crashes.py", "e2e/test_tuning.py", "e2e/test_lineage.py", "e2e/test_bucket_home.py",
    "e2e/test_model_commands.py", "e2e/test_reports.py", "e2e/test_plain_runs.py", "e2e/test_automation.py",
    "e2e/test_one_object.py", "e2e/test_what_runs_is_in_the_closure.py", "registry/test_tracking.py",
    "features/test_report.py", "models/test_shared_bins.py", "artifacts/test_tournament.py",
    "models/test_stacking.py", "lineage/test_fingerprints.py", "artifacts/test_int8.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest first, the others as they were found."""
    place = {HERE / file: number for number, file in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(autouse=True)
def isolated_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own home, configuration or environment policy."""
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("QUANT_ASSETS_LOCAL", str(tmp_path_factory.mktemp("local")))
    monkeypatch.delenv("QUANT_ASSETS_CONFIGS", raising=False)
    for name in ("QUANT_ASSETS_ENV", "QUANT_ASSETS_SIGNING_KEY", "QUANT_ASSETS_VERIFY_KEYS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture(autouse=True, scope="session")
def quiet_logs() -> None:
    """Warnings and errors only: progress lines are for people at a terminal."""
    configure_logging(level=logging.WARNING)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """An S3 server of this test process."""
    with running_server() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, with the environment that reaches it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server.make_bucket()
