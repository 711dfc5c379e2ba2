"""The way to MLflow: a quiet client that reports nothing home, gives up in time, and fails with one clear error.

Nothing here touches MLflow's global state (active run, tracking URI): dagster-mlflow does, and a second
materialisation in one process then logs into the first one's run.
"""

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock, Timeout

from quant_assets.common.errors import RegistryError
from quant_assets.common.hashing import bytes_digest

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_TIMEOUT_SECONDS = 120.0

# Set before MLflow is imported, and only where the operator has not said otherwise. MLflow's own defaults are
# 7 retries of 120 s each: a dead server would hold a step for a quarter of an hour.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}

# Alembic prints a page of migrations on a fresh database; mlflow.utils.environment complains about pip.
_QUIET_LOGGERS = {
    "alembic": logging.WARNING,
    "mlflow": logging.WARNING,
    "mlflow.utils.environment": logging.ERROR,
}


def quiet_mlflow() -> None:
    """Import MLflow without telemetry and without its start-up chatter."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: F401 (its import configures logging, so levels are set after it)

    for logger, level in _QUIET_LOGGERS.items():
        logging.getLogger(logger).setLevel(level)


def shown(tracking_uri: str) -> str:
    """The address without its password, for messages."""
    parts = urlsplit(tracking_uri)
    if parts.password is None:
        return tracking_uri
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


def _without_password(text: str, tracking_uri: str) -> str:
    # requests repeats the address in its errors, password and all
    password = urlsplit(tracking_uri).password
    return text.replace(f":{password}@", ":***@") if password else text


def sqlite_file(tracking_uri: str) -> Path | None:
    """The database file behind a ``sqlite:///`` address; None for any other kind of address."""
    scheme, separator, path = tracking_uri.partition(":///")
    if not separator or scheme.split("+")[0] != "sqlite":
        return None
    return Path(path.partition("?")[0])


def _lock_file(tracking_uri: str, purpose: str) -> Path:
    database = sqlite_file(tracking_uri)
    if database is not None:
        return database.with_name(f"{database.name}.{purpose}.lock")
    key = bytes_digest(tracking_uri.encode())[:16]
    return Path(tempfile.gettempdir()) / f"quant-assets-{os.getuid()}-{key}.{purpose}.lock"


@contextlib.contextmanager
def exclusive(tracking_uri: str, purpose: str) -> Iterator[None]:
    """Hold the lock of one purpose for one tracking server: one writer per machine.

    Raises
    ------
    RegistryError
        When another process holds it for longer than two minutes.
    """
    file = _lock_file(tracking_uri, purpose)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=LOCK_TIMEOUT_SECONDS)
    except Timeout as error:
        raise RegistryError(
            f"lock {file}",
            expected=f"to get it within {LOCK_TIMEOUT_SECONDS:.0f} s",
            found="another process holding it",
            action="wait for the other run to end, or stop it; the lock falls with its process",
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def reported(tracking_uri: str, doing: str) -> Iterator[None]:
    """Turn whatever MLflow, its database or its artifact folder raise into one `RegistryError`."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        first_line = (_without_password(str(error), tracking_uri).strip().splitlines() or [""])[0]
        raise RegistryError(
            f"{doing} at {shown(tracking_uri)}",
            expected="an answer from the tracking server",
            found=f"{type(error).__name__}: {first_line[:300]}",
            action="check that the server or the database file is reachable and whole, then run the step again "
            "(it resumes where it stopped)",
        ) from error


def _lost(tracking_uri: str, database: Path, found: str) -> RegistryError:
    return RegistryError(
        f"tracking database {shown(tracking_uri)}",
        expected=f"the file {database}",
        found=found,
        action="restore it from a backup and start a new process, or materialise training_record to begin a "
        "new one",
    )


def connect(tracking_uri: str, *, create: bool = False) -> "MlflowClient":
    """A client of the tracking server and its model registry.

    Parameters
    ----------
    tracking_uri : str
        ``sqlite:///<file>``, ``http(s)://...`` or another address that MLflow knows.
    create : bool
        Whether a sqlite database that does not exist may be made. Only the writer of the record may: for
        everybody else a missing database is a lost one, not an empty one.

    Raises
    ------
    RegistryError
        When the server cannot be reached, or the database is missing or damaged.
    """
    database = sqlite_file(tracking_uri)
    if database is not None and not create and not database.is_file():
        raise _lost(tracking_uri, database, "no such file")
    quiet_mlflow()
    from mlflow import MlflowClient

    # Two processes that meet a fresh sqlite file both create its tables, and one of them crashes.
    with reported(tracking_uri, "connecting"), exclusive(tracking_uri, "schema"):
        client = MlflowClient(tracking_uri, tracking_uri)
        client.search_experiments(max_results=1)
        client.search_registered_models(max_results=1)
    if database is not None and not database.is_file():
        # MLflow keeps one engine per address: what is deleted under it lives on as an unlinked file.
        raise _lost(tracking_uri, database, "a file deleted while this process had it open")
    return client
