"""Cross-predictions: every row predicted, on every CPCV path, by an ensemble that never saw its surroundings.

They are evidence about a *way of making* models, other fits on other rows, and speak for a candidate only when both
have the same recipe.

Lopez de Prado (2018), *Advances in Financial Machine Learning*, ch. 12. Everything fitted (bins, weights,
number of trees, learners, stacker) is fitted inside the split, from the split's training rows alone. The one
exception is asked for: `quant_assets.models.training_arrays`.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.hashing import json_digest
from quant_assets.common.processes import run_tasks
from quant_assets.common.provenance import closure_of
from quant_assets.common.settings import ModelsConfig, ValidationConfig
from quant_assets.models.ensemble import assemble_ensemble, fit_ensemble
from quant_assets.models.fitting import fit_base, purged_splits
from quant_assets.models.stacking import fit_stacker
from quant_assets.models.training_arrays import TrainingArrays, training_arrays, unseen_rows
from quant_assets.splits.cpcv import CombinatorialPurgedCV, PurgedWalkForward

Progress = Callable[[int, int], None]


def outer_splitter(validation: ValidationConfig) -> CombinatorialPurgedCV:
    """The splits in which candidates are judged."""
    return CombinatorialPurgedCV(
        validation.n_groups, validation.n_test_groups, embargo=validation.embargo_sessions
    )


def recipe_digest(training_set_version: str, models: ModelsConfig, seed: int, embargo_sessions: int) -> str:
    """SHA-256 of everything that determines the bits of an ensemble and of its cross-predictions.

    Code and libraries are those behind `fit_ensemble` and `cross_predict`, at any depth.

    Parameters
    ----------
    training_set_version : str
        Data version of the training set.
    models : ModelsConfig
    seed : int
    embargo_sessions : int
        Of the stacker's inner split.
    """
    return json_digest(
        {
            "training_set": training_set_version,
            "models": models.model_dump(mode="json"),
            "seed": seed,
            "embargo_sessions": embargo_sessions,
            "plugins": [plugin.digest for plugin in models.plugins()],
            "code": [closure_of(function).digest for function in (fit_ensemble, cross_predict)],
        }
    )


def cross_predict(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    validation: ValidationConfig,
    *,
    seed: int,
    scored: pl.DataFrame | None = None,
    n_jobs: int | None = None,
    locally: Literal["threads", "processes"] = "threads",
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Out-of-sample scores of every row on every path.

    Parameters
    ----------
    frame : polars.DataFrame
        Training set: ``symbol, session, t0, t1``, the features (Float32, no nulls), ``target`` (forward return).
    feature_names : sequence of str
    models : ModelsConfig
    validation : ValidationConfig
        Groups, test groups, embargo (also that of the stacker's inner split).
    seed : int
    scored : polars.DataFrame, optional
        What is predicted, when that is more than what can be trained on: ``symbol, session, t0`` and the features, as
        `quant_assets.datasets.training_set.decidable_rows` gives them. The groups are those of ``frame``; a row lies
        in the last one that begins by its decision.
    n_jobs : int, optional
        Splits fitted at the same time, one thread each; all cores by default. Scores do not depend on it, nor on
        where they are fitted: here, or on the cluster of `quant_assets.common.processes.run_tasks`.
    locally : {"threads", "processes"}
        Threads share one training set and its bins; each process would bin for itself.
    progress : callable, optional
        Called in this thread with (splits done, splits in all).

    Returns
    -------
    polars.DataFrame
        ``symbol, session, path_0 ... path_{P-1}`` (Float64; expected return as a fraction, or log-odds of the
        direction), rows as in ``scored``, else ``frame``. Each path is a
        full-length out-of-sample track: splits share test groups, so paths overlap and are never averaged.

    Raises
    ------
    ModelError
        When a split has nothing to train on.
    """
    data = training_arrays(frame, feature_names, models.label_kind)
    if models.binning == "shared":
        data = data.with_shared_bins()
    cv = outer_splitter(validation)
    rows = frame if scored is None else scored
    unseen, trained = unseen_rows(rows, feature_names), cv.groups(data.t0)
    group_of = unseen.groups(np.array([data.t0[trained == group].min() for group in range(cv.n_groups)]))
    paths_of: dict[int, list[tuple[int, int]]] = {}
    for path, steps in enumerate(cv.paths()):
        for group, split in steps:
            paths_of.setdefault(split, []).append((path, group))

    # Generators: one split's rows and scores are in memory per worker, not those of all splits. The training set is
    # one object in all tasks: threads share it, a cluster sends it to each worker once.
    constants = (data, unseen.features, models, validation.embargo_sessions, seed, tuple(feature_names))
    splits = purged_splits(cv, data, "lower validation.n_test_groups or embargo_sessions")
    running = run_tasks(
        _one_fit,
        (
            (split, train, np.flatnonzero(np.isin(group_of, tested)), *constants)
            for split, ((train, _), tested) in enumerate(zip(splits, cv.test_groups(), strict=True))
        ),
        workers=n_jobs,
        locally=locally,
    )  # fmt: skip
    tracks = np.full((cv.n_paths, rows.height), np.nan)
    for done, (split, test, scores) in enumerate(running, start=1):
        for path, group in paths_of[split]:
            inside = group_of[test] == group
            tracks[path, test[inside]] = scores[inside]
        if progress is not None:
            progress(done, cv.n_splits)
    return rows.select("symbol", "session").with_columns(
        pl.Series(f"path_{path}", track) for path, track in enumerate(tracks)
    )


def _one_fit(
    number: int,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    data: TrainingArrays,
    unseen: NDArray[np.float32],
    models: ModelsConfig,
    embargo_sessions: int,
    seed: int,
    feature_names: Sequence[str],
) -> tuple[int, NDArray[np.int64], NDArray[np.float64]]:
    scores = split_scores(
        data.take(train), unseen[test], models,
        seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions,
    )  # fmt: skip
    return number, test, scores


def split_scores(
    train: TrainingArrays,
    unseen: NDArray[np.float32],
    models: ModelsConfig,
    *,
    seed: int,
    feature_names: Sequence[str],
    embargo_sessions: int,
) -> NDArray[np.float64]:
    """Scores of unseen rows by the whole ensemble, fitted to the training rows of one split and nothing else."""
    learners = [
        fit_base(
            name, train, models, seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions
        )
        for name in models.learners
    ]
    stacker = fit_stacker(
        train, models,
        seed=seed, feature_names=feature_names, embargo_sessions=embargo_sessions,
    )  # fmt: skip
    ensemble = assemble_ensemble(learners, stacker, feature_names=feature_names, recipe="inside a split")
    return ensemble.predict(unseen)


# ----------------------------------------------------------------------------------- the walk-forward track

# What a desk could have run: the ensemble refitted a few times, each time on nothing but its past. The paths train on
# the future too, purged: they are many, and say nothing of how the strategy did with only what was known. One track
# does, for a handful of fits. Bins are those of the rows that a fit trains on, also where the strategy shares bins
# between its splits: those know how features lie later.

# Sixths of the sessions, of which the first two only train: 4 fits of the whole ensemble beside the 15 to 45 of the
# paths. From the second window on half of the sessions lie behind a refit. The paths train on 67 % and more: before
# it, a track is worse for want of data, which is no fault of the strategy.
PARTS, WINDOWS, FIRST_COMPARED = 6, 4, 1


def walk_forward_splitter(n_sessions: int, embargo_sessions: int) -> PurgedWalkForward:
    """Expanding training windows, purged of outcomes that reach into the test window."""
    return PurgedWalkForward(
        n_splits=WINDOWS, test_size=max(n_sessions // PARTS, 1), embargo=embargo_sessions
    )


def walk_forward_predict(
    frame: pl.DataFrame,
    feature_names: tuple[str, ...],
    models: ModelsConfig,
    *,
    seed: int,
    embargo_sessions: int,
    scored: pl.DataFrame | None = None,
    n_jobs: int | None = None,
    locally: Literal["threads", "processes"] = "threads",
    progress: Progress | None = None,
) -> pl.DataFrame:
    """Scores of every row after the first training window, by an ensemble that saw nothing later.

    Parameters
    ----------
    frame : polars.DataFrame
        Training set, as for `quant_assets.models.cross_prediction.cross_predict`. Where it has ``known_at``, no
        window is trained on an outcome that was not known when it begins.
    feature_names : tuple of str
    models : ModelsConfig
    seed : int
    embargo_sessions : int
        Between the last outcome in training and the first decision of a window.
    scored : polars.DataFrame, optional
        What is predicted, when that is more than what can be trained on, as for `cross_predict`.
    n_jobs : int, optional
        Windows fitted at the same time; scores do not depend on it.
    progress : callable, optional
        Called in this thread with (windows done, windows in all).

    Returns
    -------
    polars.DataFrame
        ``symbol, session, path_0, window``: one track, the rows of the test windows in the order given; windows are
        counted from 0.

    Raises
    ------
    ModelError
        When the history is too short for the windows, or a window has nothing to train on.
    """
    data = training_arrays(frame, feature_names, models.label_kind)
    rows = frame if scored is None else scored
    unseen = unseen_rows(rows, feature_names)
    splitter = walk_forward_splitter(len(np.unique(data.t0)), embargo_sessions)
    splits = list(purged_splits(splitter, data, "lower embargo_sessions"))
    begins = np.array([data.t0[test].min() for _, test in splits])
    if "known_at" in frame.columns:
        # A position may end long before anybody knows: at a listing's end that was told weeks later.
        known = frame["known_at"].to_numpy()
        splits = [
            (train[known[train] <= begin], test) for (train, test), begin in zip(splits, begins, strict=True)
        ]
    window_of = np.where(unseen.t0 < begins[0], -1, unseen.groups(begins))
    constants = (data, unseen.features, models, embargo_sessions, seed, feature_names)
    running = run_tasks(
        _one_fit,
        (
            (window, train, np.flatnonzero(window_of == window), *constants)
            for window, (train, _) in enumerate(splits)
        ),
        workers=n_jobs,
        locally=locally,
    )  # fmt: skip
    track = np.full(rows.height, np.nan)
    for done, (_, test, scores) in enumerate(running, start=1):
        track[test] = scores
        if progress is not None:
            progress(done, WINDOWS)
    told = rows.select("symbol", "session").with_columns(path_0=pl.Series(track), window=pl.Series(window_of))
    return told.filter(pl.col("window") >= 0)
