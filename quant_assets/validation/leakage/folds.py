"""The splits themselves: no training row's label interval meets a test run, none lies in its embargo.

Written from the definitions (Lopez de Prado 2018, ch. 7) over plain intervals, without anything that the splitters
use, so that an error there is not repeated here.
"""

from itertools import islice

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.settings import StrategyConfig
from quant_assets.validation.leakage.report import Evidence, evidence_of
from quant_assets.validation.leakage.stages import Pipeline, Splits

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
