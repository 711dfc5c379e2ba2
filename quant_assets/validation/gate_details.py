"""The numbers behind the verdicts, as plain JSON data: what a report, a tear sheet and a record show."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from quant_assets.validation import sharpe
from quant_assets.validation.overfitting import BacktestOverfitting
from quant_assets.validation.paths import PathStatistics
from quant_assets.validation.superior_ability import SuperiorAbility
from quant_assets.validation.trials import TrialSnapshot

LOGIT_BINS = 20  # even, so that 0 is an edge


def plain_details(
    statistics: Sequence[PathStatistics],
    median: PathStatistics,
    snapshot: TrialSnapshot,
    overfitting: BacktestOverfitting | None,
    best: SuperiorAbility | None,
    *,
    periods_per_year: float,
    standard: sharpe.SharpeStandard,
    **facts: float | None,
) -> dict[str, Any]:
    """Per-path and aggregated statistics, and the trials, without NaN (a number that does not exist is None).

    Parameters
    ----------
    statistics : sequence of PathStatistics
    median : PathStatistics
        The path that the probabilistic and the deflated Sharpe ratio are about.
    snapshot : TrialSnapshot
    overfitting, best : result or None
        Of the tests over all trials of the ledger, where they are defined.
    periods_per_year : float
    standard : {"2012", "2025"}
        The Sharpe inference that was used.
    **facts : float or None
        More numbers to keep.
    """
    best_of_noise = sharpe.expected_maximum_sharpe(snapshot.n_trials, snapshot.trial_variance)
    rows = [asdict(path) for path in statistics]
    aggregated = {}
    for name in (field for field in rows[0] if field not in ("path", "n_sessions")):
        values = np.array([row[name] for row in rows], dtype=np.float64)
        values = values[np.isfinite(values)]
        aggregated[name] = (
            {
                "minimum": values.min(),
                "median": np.quantile(values, 0.5, method="lower"),
                "mean": values.mean(),
                "maximum": values.max(),
            }
            if values.size
            else None
        )
    details = {
        "standard": standard,
        "periods_per_year": periods_per_year,
        "n_paths": len(rows),
        "n_sessions": median.n_sessions,
        "median_path": median.path,
        "paths": rows,
        "aggregated": aggregated,
        "trials": {
            "strategy": snapshot.strategy,
            "n_trials": snapshot.n_trials,
            "effective_number_of_trials": snapshot.effective_number_of_trials,
            "trial_variance": snapshot.trial_variance,
            "expected_maximum_sharpe_annual": sharpe.annualised_sharpe(best_of_noise, periods_per_year),
            "digest": snapshot.digest,
            "chain_length": snapshot.chain_length,
            "chain_head": snapshot.chain_head,
            "superior_ability": asdict(best) if best else None,
            "overfitting_logits": logit_histogram(overfitting) if overfitting else None,
        },
        **facts,
    }
    plain: dict[str, Any] = plain_json(details)
    return plain


def logit_histogram(overfitting: BacktestOverfitting) -> dict[str, list[float]]:
    """How often the in-sample winner ranked where out of sample: bin edges and counts, bins closed on the right.

    So the bins up to the edge 0 hold exactly the choices that count as overfitted.
    """
    highest = math.log(overfitting.n_trials)  # ln(w / (1 - w)) at w = N / (N + 1)
    edges = np.linspace(-highest, highest, LOGIT_BINS + 1)
    edges[LOGIT_BINS // 2] = 0.0
    logits = np.clip(overfitting.logits, edges[0], edges[-1])  # the extremes differ by a rounding error
    counts, _ = np.histogram(-logits, bins=-edges[::-1])
    return {"edges": edges.tolist(), "counts": counts[::-1].tolist()}


def plain_json(value: Any) -> Any:
    """Plain data that strict JSON can carry: numpy scalars become Python's, NaN and infinity become None."""
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
