"""The numbers behind verdicts, as plain data for a report."""

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from quant_assets.gates.cases import ValidationCase

if TYPE_CHECKING:
    from quant_assets.statistics.overfitting import BacktestOverfitting


# ---------------------------------------------------------------------------- the numbers behind the verdicts


LOGIT_BINS = 20  # even, so that 0 is an edge


def gate_details(case: ValidationCase) -> dict[str, Any]:
    """Per-path and aggregated statistics, and the trials, without NaN (a number that does not exist is None)."""
    from quant_assets.statistics import sharpe

    median, snapshot, best = case.median, case.snapshot, case.best_of_trials
    choice = case.cross_validated_choice
    best_of_noise = sharpe.expected_maximum_sharpe(snapshot.n_trials, case.selection_variance)
    rows = [asdict(path) for path in case.statistics]
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
        "standard": case.limits.psr_standard,
        "periods_per_year": case.periods_per_year,
        "n_paths": len(rows),
        "n_sessions": median.n_sessions,
        "median_path": median.path,
        "paths": rows,
        "aggregated": aggregated,
        "trials": {
            "book": snapshot.book,
            "n_trials": snapshot.n_trials,
            "effective_number_of_trials": snapshot.effective_number_of_trials,
            "trial_variance": snapshot.trial_variance,
            "selection_variance": case.selection_variance,
            "expected_maximum_sharpe_annual": sharpe.annualised_sharpe(best_of_noise, case.periods_per_year),
            "lost_trials": snapshot.lost_trials,
            "search_p_value": case.search_p_value,
            "searched": case.searched,
            "digest": snapshot.digest,
            "anchor": snapshot.anchor.text,
            "superior_ability": asdict(best) if best else None,
            "overfitting_logits": logit_histogram(case.overfitting) if case.overfitting else None,
        },
        "minimum_track_record_sessions": case.required_record,
        "drawdown_worst_decile_fraction": case.worst_decile(case.limits.reference_volatility),
        "account_drawdown_worst_decile_fraction": case.worst_decile(),
        "leverage_within_drawdown_limit": case.leverage_within_limit,
        "probability_of_backtest_overfitting": case.overfitting.pbo if case.overfitting else None,
        "probability_of_loss": choice.probability_of_loss if choice else None,
    }
    plain: dict[str, Any] = plain_json(details)
    return plain


def logit_histogram(overfitting: "BacktestOverfitting") -> dict[str, list[float]]:
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
