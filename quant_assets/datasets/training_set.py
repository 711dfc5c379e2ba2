"""The training set: features joined to labels that were known in time, with a manifest of what made it."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime

import polars as pl

from quant_assets.common.errors import DatasetError
from quant_assets.common.store import Table

KEY_COLUMNS = ("symbol", "session", "t0", "t1", "known_at")
TARGET = "target"

# Below this many sessions no split has a test group of a month and a training window worth the name.
MIN_SESSIONS = 120


def training_end(sessions: Sequence[date], holdout_sessions: int) -> date:
    """Last session whose close may be known to the training set.

    Parameters
    ----------
    sessions : sequence of date
        Distinct sessions of the bars, ascending.
    holdout_sessions : int
        Newest sessions kept out of training, to monitor on.

    Raises
    ------
    DatasetError
        When fewer than `MIN_SESSIONS` sessions would remain.
    """
    if len(sessions) < holdout_sessions + MIN_SESSIONS:
        raise DatasetError(
            "training window",
            expected=f"at least {holdout_sessions + MIN_SESSIONS} sessions ({holdout_sessions} held out)",
            found=f"{len(sessions)} sessions of bars",
            action="widen the universe's dates, or lower holdout_sessions in the strategy",
        )
    return sessions[-holdout_sessions - 1]


def training_known_by(bars: pl.DataFrame, holdout_sessions: int) -> datetime:
    """The time up to which a training set may know anything: the close of the last session before the holdout.

    Parameters
    ----------
    bars : polars.DataFrame
        Adjusted bars with ``session`` and ``known_at``.
    holdout_sessions : int

    Raises
    ------
    DatasetError
        As `training_end`.
    """
    end = training_end(bars["session"].unique().sort().to_list(), holdout_sessions)
    close: datetime = bars.filter(pl.col("session") == end)["known_at"][0]
    return close


def assemble_training_set(
    features: pl.DataFrame,
    labels: pl.DataFrame,
    feature_names: Sequence[str],
    *,
    known_by: datetime,
    manifest: Mapping[str, str],
    members: pl.DataFrame | None = None,
) -> Table:
    """Join features and labels of the training window.

    Parameters
    ----------
    features : polars.DataFrame
        ``symbol, session`` and the columns of the packs; null where masked.
    labels : polars.DataFrame
        As made by `quant_assets.datasets.label_kinds.make_labels`. Without a ``target`` of its own the forward return
        is learnt.
    feature_names : sequence of str
        Model inputs, in order.
    known_by : datetime
        Rows whose label was not known by then are left out (UTC).
    manifest : mapping of str to str
        Versions of everything upstream; kept with the frame as part of its identity.
    members : polars.DataFrame, optional
        ``symbol, session`` of the rows that may be trained on, where not all may; the others are counted.

    Returns
    -------
    Table
        ``symbol, session, t0, t1, known_at``, the features (float32, no nulls) and ``target`` (float64, of a class
        int8), sorted by (session, symbol). Its metadata is the manifest plus feature names, row and symbol counts,
        dates, and how many rows with a known label were dropped: ``rows_dropped_masked`` because a feature is
        masked, ``rows_dropped_without_features`` because the features have no such row.

    Raises
    ------
    DatasetError
        When a feature is missing or not one row remains.
    """
    absent = [name for name in feature_names if name not in features.columns]
    if absent:
        raise DatasetError(
            "training set",
            expected=f"the {len(feature_names)} features of the strategy's packs",
            found=f"no column {', '.join(absent)}",
            action="materialise the features of each pack again",
        )
    every = labels.filter(pl.col("known_at") <= known_by)
    known = every if members is None else every.join(members, on=["symbol", "session"], how="semi")
    met = known.join(
        features.select("symbol", "session", *feature_names), on=["symbol", "session"], how="inner"
    )
    # Dropped and counted, never filled.
    named = met if TARGET in met.columns else met.rename({"forward_return": TARGET})
    frame = (
        named.drop_nulls(list(feature_names))
        .select(*KEY_COLUMNS, *feature_names, TARGET)
        .sort("session", "symbol")
    )
    if frame.is_empty():
        complete = features.drop_nulls(list(feature_names)).height
        raise DatasetError(
            "training set",
            expected="rows with every feature past its warm-up and a label known in time",
            found=f"none of {complete} complete feature rows and {known.height} known labels meet",
            action="widen the universe's dates: the longest warm-up must end before the holdout begins",
        )
    facts = {
        **manifest,
        "features": json.dumps(list(feature_names)),
        "rows": str(frame.height),
        "rows_dropped_masked": str(met.height - frame.height),
        "rows_dropped_without_features": str(known.height - met.height),
        "symbols": str(frame["symbol"].n_unique()),
        "first_session": str(frame["session"].min()),
        "last_session": str(frame["session"].max()),
        "known_by": known_by.isoformat(),
    }
    if members is not None:
        facts["rows_of_no_member"] = str(every.height - known.height)
    return Table(frame, facts)


def decidable_rows(
    features: pl.DataFrame,
    bars: pl.DataFrame,
    feature_names: Sequence[str],
    *,
    through: date,
    members: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Every row that a decision could be made on: a bar and complete features at its close, whatever came of it.

    What is trained on depends on labels, so on what happened later. What is scored must not: a book that is shown
    only names with an outcome leaves each name before it dies.

    Parameters
    ----------
    features : polars.DataFrame
        ``symbol, session`` and the columns of the packs; null where masked.
    bars : polars.DataFrame
        Adjusted panel with ``symbol, session, known_at``.
    feature_names : sequence of str
        Model inputs, in order.
    through : date
        The last session, for all names alike.
    members : polars.DataFrame, optional
        ``symbol, session`` of the rows that may be decided on, where not all may.

    Returns
    -------
    polars.DataFrame
        ``symbol, session, t0`` (UTC, when the bar is known) and the features, sorted by (session, symbol).
    """
    rows = (
        features.filter(pl.col("session") <= through)
        .select("symbol", "session", *feature_names)
        .drop_nulls(list(feature_names))
        .join(bars.select("symbol", "session", t0="known_at"), on=["symbol", "session"])
        .select("symbol", "session", "t0", *feature_names)
        .sort("session", "symbol")
    )
    if members is None:
        return rows
    return rows.join(members, on=["symbol", "session"], how="semi", maintain_order="left")


def feature_names_of(training_set: Table) -> tuple[str, ...]:
    """The model inputs of a training set, in order."""
    return tuple(json.loads(training_set.metadata["features"]))
