"""Positions: what was decided at a session depends on no later score and no later bar.

A decision at the close of t is filled at the next open. So when scores after t and bars after that fill change, every
trade up to the fill stays as it was, and so does every return that was earned before it.
"""

import numpy as np
import polars as pl

from quant_assets.common.settings import StrategyConfig
from quant_assets.validation.leakage.alterations import difference, with_altered_future
from quant_assets.validation.leakage.future import Original
from quant_assets.validation.leakage.report import Evidence, evidence_of
from quant_assets.validation.leakage.stages import Pipeline

TRADED = ("turnover", "commission", "spread_cost", "impact_cost")
EARNED = ("gross_return", "net_return")


def positions(original: Original, strategy: StrategyConfig, pipeline: Pipeline, *, seed: int) -> Evidence:
    """Trade seeded scores, then the same scores with another future."""
    rng = np.random.default_rng(seed)
    keys = original.training_set.frame.select("symbol", "session")
    scores = keys.with_columns(path_0=pl.Series(rng.standard_normal(keys.height)))
    sessions = original.bars["session"].unique().sort()
    decided_sessions = keys["session"].unique().sort()
    cut = decided_sessions[len(decided_sessions) // 2]
    fill = sessions.filter(sessions > cut)[0]
    other = scores.with_columns(
        path_0=pl.when(pl.col("session") > cut)
        .then(pl.Series(rng.standard_normal(keys.height)))
        .otherwise(pl.col("path_0"))
    )
    before = pipeline.decisions(scores, original.bars, strategy)
    after = pipeline.decisions(other, with_altered_future(original.bars, fill), strategy)
    by = ("path", "session")
    traded = difference(
        before.filter(pl.col("session") <= fill), after.filter(pl.col("session") <= fill), TRADED, by
    )
    earned = difference(
        before.filter(pl.col("session") <= cut), after.filter(pl.col("session") <= cut), EARNED, by
    )
    moved = difference(
        before.filter(pl.col("session") > fill),
        after.filter(pl.col("session") > fill),
        (*TRADED, *EARNED),
        by,
    )
    return evidence_of(
        "decisions",
        "later scores and bars altered",
        checked=traded.checked + earned.checked,
        violations=traded.violations + earned.violations,
        moved=moved.violations,
        offenders=(*traded.columns, *earned.columns),
        question="trades and returns moved when later scores and bars changed",
    )
