"""Whatever is fitted inside a split (scalers, learners, stacker) may read the split's training rows and no others.

Seen from outside: a group of rows is altered where it is tested, and no score of that split may move, except of the
rows whose own inputs were altered. Then the outcomes of the rows around the group are altered, which purge and
embargo keep out of training, and again no score of the group may move.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.datasets.training_set import TARGET
from quant_assets.validation.cpcv import CombinatorialPurgedCV
from quant_assets.validation.leakage.folds import tested_runs
from quant_assets.validation.leakage.probe import Probe
from quant_assets.validation.leakage.report import Evidence, evidence_of
from quant_assets.validation.leakage.stages import CrossPredict

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
