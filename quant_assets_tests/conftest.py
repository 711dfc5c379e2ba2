"""Fixtures shared by all tests."""

import logging
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from quant_assets.common.logging import configure_logging
from quant_assets_tests.s3_server import S3Server, running_server

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports mlflow, dagster or numba: no telemetry, and one thread per test process.
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")


class ByGroup(LoadScopeScheduling):
    """The tests of a file, and of files with one ``xdist_group``, go to one worker: what they share is built once.

    pytest-xdist 3.8 writes the group onto a test's private id, which pytest 9.2 no longer reads: its own
    ``loadgroup`` then groups nothing, without a word.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return group_of(file) or file


@cache
def group_of(file: str) -> str:
    """The group that a test file names for all of its tests; empty when it names none."""
    found = re.search(
        r'^pytestmark = pytest\.mark\.xdist_group\("(\w+)"\)', (ROOT / file).read_text(), re.MULTILINE
    )
    return found.group(1) if found else ""


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup | None:
    """Our grouping, where grouping is asked for."""
    return ByGroup(config, log) if config.getvalue("dist") == "loadgroup" else None


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
