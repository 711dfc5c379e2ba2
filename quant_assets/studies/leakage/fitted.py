"""What is fitted inside a split may read its training rows and no others, and those keep their distance."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.settings import StrategyConfig
from quant_assets.datasets.training_set import TARGET
from quant_assets.splits.cpcv import CombinatorialPurgedCV
from quant_assets.studies.leakage.leakage_report import Evidence, evidence_of
from quant_assets.studies.leakage.probe import Probe
from quant_assets.studies.leakage.stages import CrossPredict, Pipeline, Splits

# --------------------------------------------------------------------------------------------------
# The splits themselves: no training row's label interval meets a test run, none lies in its embargo.
#
# Written from the definitions (Lopez de Prado 2018, ch. 7) over plain intervals, without anything that the splitters
# use, so that an error there is not repeated here.


# C(16, 8) is 12,870 splits; the first so many show a missing purge as well as all of them.
MOST_SPLITS = 60

Times = NDArray[np.int64]


def checked_splits(frame: pl.DataFrame, strategy: StrategyConfig, pipeline: Pipeline) -> tuple[Evidence, ...]:
    """Check the outer splits of a training set, and the stacker's inner ones."""
    named: tuple[tuple[str, Splits], ...] = (
        ("outer splits", pipeline.splits),
        ("inner splits of the stacker", pipeline.inner_splits),
    )
    return tuple(_checked(name, splits, frame, strategy) for name, splits in named)


def _checked(name: str, splits: Splits, frame: pl.DataFrame, strategy: StrategyConfig) -> Evidence:
    t0, t1 = (frame[c].to_physical().to_numpy() for c in ("t0", "t1"))
    checked = violations = 0
    offenders: list[str] = []
    for number, (train, test) in enumerate(islice(splits(frame["t0"], frame["t1"], strategy), MOST_SPLITS)):
        counts = {
            "tested rows": int(np.isin(train, test).sum()),
            "rows whose label overlaps the test run": 0,
            "rows inside the embargo": 0,
        }
        for start, end, embargo_end in tested_runs(t0, t1, test, strategy.validation.embargo_sessions):
            overlaps = (t0[train] <= end) & (t1[train] >= start)
            counts["rows whose label overlaps the test run"] += int(overlaps.sum())
            embargoed = (t0[train] > end) & (t0[train] <= embargo_end)
            counts["rows inside the embargo"] += int(embargoed.sum())
        checked += len(train)
        violations += sum(counts.values())
        offenders += [f"split {number} trains on {n} {what}" for what, n in counts.items() if n]
    return evidence_of(
        "folds", name, checked=checked, violations=violations, moved=None, offenders=offenders,
        question="training rows touch what is tested",
    )  # fmt: skip


def tested_runs(t0: Times, t1: Times, test: Times, embargo_sessions: int) -> list[tuple[int, int, int]]:
    """Contiguous runs of tested sessions: first decision, last outcome, last decision time under embargo."""
    sessions = np.unique(t0)
    tested = np.isin(sessions, t0[test])
    edges = np.flatnonzero(np.diff(np.concatenate(([False], tested, [False])).astype(np.int8)))
    runs = []
    for first, stop in zip(edges[::2], edges[1::2], strict=True):
        inside = test[(t0[test] >= sessions[first]) & (t0[test] <= sessions[stop - 1])]
        end = int(t1[inside].max())
        following = sessions[sessions > end][:embargo_sessions]
        runs.append((int(sessions[first]), end, int(following[-1]) if len(following) else end))
    return runs


# --------------------------------------------------------------------------------------------------
# Whatever is fitted inside a split (scalers, learners, stacker) may read the split's training rows and no others.
#
# Seen from outside: a group of rows is altered where it is tested, and no score of that split may move, except of the
# rows whose own inputs were altered. Then the outcomes of the rows around the group are altered, which purge and
# embargo keep out of training, and again no score of the group may move.


# Far outside of what features take, with both signs, so that a scaler that sees them crushes everything else.
OUTLIERS = (1e4, -1e4, 3e4, -2e4)
OUTLIER_TARGETS = (-0.9, 0.7, 1.3, -0.4)

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Tracks:
    """Scores by path, the split that each came from, and which splits test the group on trial."""

    scores: NDArray[np.float64]  # (paths, rows)
    in_trial: Mask  # (paths, rows): from a split that tests the group
    own: Mask  # (rows,): in the group


def fitted_inside_splits(
    frame: pl.DataFrame, names: Sequence[str], probe: Probe, predict: CrossPredict
) -> tuple[Evidence, ...]:
    """Evidence about the stage "models", and about the folds as the models really get them.

    Parameters
    ----------
    frame : polars.DataFrame
        A training set: ``symbol, session, t0, t1``, the features, ``target``.
    names : sequence of str
        Feature columns.
    probe : Probe
    predict : CrossPredict
        The function on trial.
    """
    v = probe.validation
    cv = CombinatorialPurgedCV(v.n_groups, v.n_test_groups, embargo=v.embargo_sessions)
    group_of = cv.groups(frame["t0"])
    trial = v.n_groups // 2
    own = group_of == trial

    def scores(rows: pl.DataFrame) -> NDArray[np.float64]:
        made = predict(rows, names, probe.models, v, seed=probe.seed)
        return made.select(pl.col("^path_.*$")).to_numpy().T

    tested = [trial in groups for groups in cv.test_groups()]
    in_trial = np.zeros((cv.n_paths, frame.height), dtype=np.bool_)
    for path, steps in enumerate(cv.paths()):
        for group, split in steps:
            in_trial[path, group_of == group] = tested[split]
    tracks = _Tracks(scores(frame), in_trial, own)
    found = [_group_altered(frame, names, tracks, scores)]
    if not found[0].violations:
        # Models that read tested outcomes would move here too, and the folds would be blamed for it.
        found.append(_surroundings_altered(frame, tracks, scores, v.embargo_sessions))
    return tuple(found)


def _group_altered(frame: pl.DataFrame, names: Sequence[str], tracks: _Tracks, scores: Any) -> Evidence:
    """All outcomes of the tested group, and the inputs of every second of its rows."""
    inputs = tracks.own & (np.arange(frame.height) % 2 == 0)
    altered = _with(frame, TARGET, tracks.own, OUTLIER_TARGETS)
    for name in names:
        altered = _with(altered, name, inputs, OUTLIERS)
    changed = tracks.scores != scores(altered)
    held = tracks.in_trial & ~inputs
    return evidence_of(
        "models",
        "a tested group altered",
        checked=int(held.sum()),
        violations=int((changed & held).sum()),
        moved=int((changed & ~tracks.in_trial).sum()),
        question="scores moved when rows that their split tests were altered",
    )


def _surroundings_altered(
    frame: pl.DataFrame, tracks: _Tracks, scores: Any, embargo_sessions: int
) -> Evidence:
    """The outcomes of rows that overlap the tested group or lie in its embargo."""
    t0, t1 = (frame[c].to_physical().to_numpy() for c in ("t0", "t1"))
    around = np.zeros(frame.height, dtype=np.bool_)
    for start, _, embargo_end in tested_runs(t0, t1, np.flatnonzero(tracks.own), embargo_sessions):
        around |= (t0 <= embargo_end) & (t1 >= start)
    around &= ~tracks.own
    changed = tracks.scores != scores(_with(frame, TARGET, around, OUTLIER_TARGETS))
    held = np.broadcast_to(tracks.own, changed.shape)
    return evidence_of(
        "folds",
        "labels around a tested group altered",
        checked=int(held.sum()) if around.any() else 0,
        violations=int((changed & held).sum()),
        moved=int((changed & ~held).sum()),
        question="scores moved when labels that purge and embargo exclude were altered",
    )


def _with(frame: pl.DataFrame, name: str, rows: Mask, values: Sequence[float]) -> pl.DataFrame:
    replacement = np.resize(np.asarray(values), frame.height)
    column = np.where(rows, replacement, frame[name].to_numpy())
    return frame.with_columns(pl.Series(name, column, dtype=frame.schema[name]))
