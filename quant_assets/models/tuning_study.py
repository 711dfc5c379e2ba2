"""Where a search looks and where it is kept: the space as Optuna draws from it, and the storage of studies."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from quant_assets.common.errors import ModelError, closest
from quant_assets.common.settings import ModelsConfig, TuningConfig

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from quant_assets.common.errors import ConfigurationError, StoreError
from quant_assets.common.hashing import bytes_digest

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from sqlalchemy import Engine


# ------------------------------------------------------------------- the search space as Optuna draws from it


# By learner, then parameter.
Params = Mapping[str, Mapping[str, int | float]]


def is_integer(models: ModelsConfig, name: str) -> bool:
    """Whether ``<learner>.<parameter>`` counts something."""
    learner, parameter = name.split(".")
    return type(models.config_of(learner)).model_fields[parameter].annotation is int


def distributions_of(tuning: TuningConfig, models: ModelsConfig) -> "dict[str, BaseDistribution]":
    """Optuna's distribution of each parameter that is searched, by ``<learner>.<parameter>``."""
    from optuna.distributions import FloatDistribution, IntDistribution

    return {
        name: IntDistribution(int(r.low), int(r.high), log=bool(r.log))
        if is_integer(models, name)
        else FloatDistribution(r.low, r.high, log=bool(r.log))
        for name, r in tuning.ranges(models).items()
    }


def configured_values(tuning: TuningConfig, models: ModelsConfig) -> dict[str, int | float] | None:
    """The models' own values of what is searched; None when one lies outside of its range."""
    values: dict[str, int | float] = {}
    for name, r in tuning.ranges(models).items():
        learner, parameter = name.split(".")
        values[name] = getattr(models.config_of(learner), parameter)
        if not r.low <= values[name] <= r.high:
            return None
    return values


def nested(params: Mapping[str, int | float]) -> dict[str, dict[str, int | float]]:
    """``{"lightgbm.num_leaves": 15}`` as ``{"lightgbm": {"num_leaves": 15}}``."""
    by_learner: dict[str, dict[str, int | float]] = {}
    for name, value in sorted(params.items()):
        learner, parameter = name.split(".")
        by_learner.setdefault(learner, {})[parameter] = value
    return by_learner


def apply_tuning(models: ModelsConfig, best_params: Params) -> ModelsConfig:
    """The models with tuned parameters in place of the configured ones.

    Parameters
    ----------
    models : ModelsConfig
    best_params : mapping of str to mapping of str to number
        By learner and parameter, as a tuning result holds them. Empty gives the models back.

    Raises
    ------
    ModelError
        When a learner is not configured, a parameter is none of its parameters, or a value is out of bounds.
    """
    sections: dict[str, Any] = {}
    for learner, params in best_params.items():
        config = models.config_of(learner) if learner in models.learners else None
        if config is None:
            raise _unknown("learner", learner, models.learners)
        known = tuple(n for n in type(config).model_fields if n != "objective")
        for name in params:
            if name not in known:
                raise _unknown(f"parameter of {learner}", name, known)
        try:
            sections[learner] = type(config).model_validate({**config.model_dump(), **params})
        except ValidationError as error:
            first = error.errors()[0]
            raise ModelError(
                f"tuned {learner}.{'.'.join(map(str, first['loc']))}",
                expected=first["msg"],
                found=repr(first["input"]),
                action="materialise tuning again with the models as they are configured now",
            ) from error
    return models.model_copy(update=sections)


def _unknown(what: str, name: str, known: tuple[str, ...]) -> ModelError:
    return ModelError(
        f"tuned {what}",
        expected=f"one of {', '.join(known)}",
        found=repr(name),
        action=closest(name, known) or "materialise tuning again, for these models",
    )


# ------------------------------------------------------------------------------------- where studies are kept

# The storage is a journal for crashes, not a source of results: everything that a result says follows from the
# training set, the configuration and the code, and the storage only saves computing it twice. One process works on
# a study at a time; its lock falls with it, so a trial that is still running belongs to a process that died.


STORAGE_VARIABLE = "QUANT_ASSETS_TUNING_STORAGE"
CONNECT_SECONDS = 10
LOCK_SECONDS = 5.0


def storage_url(home: Path, strategy: str) -> str:
    """Address of a strategy's studies: ``$QUANT_ASSETS_TUNING_STORAGE``, else ``<home>/tuning/<strategy>.db``.

    Raises
    ------
    ConfigurationError
        When the variable names neither a Postgres nor a sqlite database. Its text is not shown: it may hold a
        password.
    """
    address = os.environ.get(STORAGE_VARIABLE, "").strip()
    if not address:
        return f"sqlite:///{home / 'tuning' / f'{strategy}.db'}"
    scheme, separator, rest = address.partition("://")
    if separator and scheme in ("postgresql", "postgres", "postgresql+psycopg2"):
        return f"postgresql+psycopg2://{rest}"  # SQLAlchemy's default driver differs between its versions
    if separator and scheme == "sqlite" and rest.startswith("/"):
        return address
    raise ConfigurationError(
        f"environment variable {STORAGE_VARIABLE}",
        expected="postgresql://user:password@host:5432/database, or sqlite:///<file>",
        found="another address (not shown: it may hold a password)",
        action="correct it, or unset it to keep studies in the home folder",
    )


@contextlib.contextmanager
def opened_study(url: str, name: str, sampler: "BaseSampler") -> "Iterator[Study]":
    """A study that maximises, made when it does not exist, for this process alone.

    Raises
    ------
    StoreError
        When the storage cannot be reached, or another process works on the same study.
    """
    import optuna
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with _alone(url, name):
            options = (
                {} if url.startswith("sqlite") else {"connect_args": {"connect_timeout": CONNECT_SECONDS}}
            )
            storage = RDBStorage(url, engine_kwargs=options)
            try:
                yield optuna.create_study(
                    storage=storage,
                    sampler=sampler,
                    study_name=name,
                    direction="maximize",
                    load_if_exists=True,
                )
            finally:
                storage.engine.dispose()
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ or error
        raise StoreError(
            f"tuning storage {shown(url)}",
            expected="a database that answers and keeps what it is given",
            found=f"{type(cause).__name__}: {(str(cause).strip().splitlines() or [''])[0][:300]}",
            action="check that it is reachable and whole, then materialise tuning again (it resumes)",
        ) from error


def shown(url: str) -> str:
    """The address without its password, for messages."""
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)


@contextlib.contextmanager
def _alone(url: str, name: str) -> Iterator[None]:
    """Hold the one lock of a study: a file beside sqlite, an advisory lock inside Postgres."""
    from filelock import FileLock, Timeout

    if not url.startswith("sqlite"):
        with _alone_in_postgres(url, name):
            yield
        return
    database = Path(url.removeprefix("sqlite:///").partition("?")[0])
    database.parent.mkdir(parents=True, exist_ok=True)
    # One lock for the file, not for the study: the first two studies of a file would both create its tables.
    lock = FileLock(database.with_name(f"{database.name}.lock"))
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise _taken(url) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _alone_in_postgres(url: str, name: str) -> Iterator[None]:
    from optuna.storages import RDBStorage
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    def key(subject: str) -> int:
        return int.from_bytes(bytes.fromhex(bytes_digest(subject.encode())[:16]), "big", signed=True)

    engine: Engine = create_engine(
        url,
        poolclass=NullPool,
        connect_args={"connect_timeout": CONNECT_SECONDS},
        isolation_level="AUTOCOMMIT",
    )
    with engine.connect() as connection:
        if not connection.scalar(text("select pg_try_advisory_lock(:key)"), {"key": key(name)}):
            raise _taken(url)
        # Waited for: studies of other strategies may run meanwhile, but only one process makes the tables.
        tables = {"key": key("quant_assets tuning tables")}
        connection.execute(text("select pg_advisory_lock(:key)"), tables)
        try:
            RDBStorage(
                url, engine_kwargs={"connect_args": {"connect_timeout": CONNECT_SECONDS}}
            ).engine.dispose()
        finally:
            connection.execute(text("select pg_advisory_unlock(:key)"), tables)
        yield  # the connection, and the study's lock with it, stay until the block ends


def _taken(url: str) -> StoreError:
    return StoreError(
        f"tuning storage {shown(url)}",
        expected="no other process that works on the same study",
        found="one that holds its lock",
        action="wait for the other run to end, or stop it; the lock falls with its process",
    )
