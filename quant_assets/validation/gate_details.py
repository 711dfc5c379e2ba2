"""The numbers behind the verdicts, as plain JSON data: what a report, a tear sheet and a record show."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from quant_assets.validation import sharpe
from quant_assets.validation.paths import PathStatistics
from quant_assets.validation.trials import TrialSnapshot


def plain_details(
    statistics: Sequence[PathStatistics],
    median: PathStatistics,
    snapshot: TrialSnapshot,
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
        },
        **facts,
    }
    plain: dict[str, Any] = plain_json(details)
    return plain


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
