"""Selection: many trials without skill, and the best of them presented to the gates.

With the ledger, the deflated Sharpe ratio knows how many trials there were and how far they spread. Without it, the
best of many looks like the only one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import GatesConfig
from quant_assets.validation import sharpe
from quant_assets.validation.calibration.binomial import Rate
from quant_assets.validation.calibration.series import (
    DAILY_LAW,
    PERIODS_PER_YEAR,
    ReturnLaw,
    returns_of,
    scatters,
)
from quant_assets.validation.calibration.series_gates import autocorrelations, decide
from quant_assets.validation.track_record import track_record


@dataclass(frozen=True)
class SelectionRates:
    """How often the best of several skill-less trials passed.

    Attributes
    ----------
    n_trials : int
        Independent trials of true Sharpe ratio 0, of which the best is presented.
    years : float
    with_ledger, without_ledger : Rate
        By every gate; without the ledger, the deflated Sharpe ratio takes the best for the only trial.
    deflated_alone, probabilistic_alone : Rate
        The deflated Sharpe gate that counts all trials, and the probabilistic one that knows of none.
    """

    n_trials: int
    years: float
    with_ledger: Rate
    without_ledger: Rate
    deflated_alone: Rate
    probabilistic_alone: Rate

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "n_trials": self.n_trials,
            "years": self.years,
            "with_ledger": self.with_ledger.to_json(),
            "without_ledger": self.without_ledger.to_json(),
            "deflated_alone": self.deflated_alone.to_json(),
            "probabilistic_alone": self.probabilistic_alone.to_json(),
        }


def calibrate_selection(
    limits: GatesConfig,
    *,
    n_trials: int,
    n_repetitions: int,
    years: float,
    seed: int,
    law: ReturnLaw = DAILY_LAW,
) -> SelectionRates:
    """Measure how often the best of ``n_trials`` series without skill passes the gates.

    Parameters
    ----------
    limits : GatesConfig
    n_trials : int
        At least 2.
    n_repetitions : int
        Times that the whole selection is repeated.
    years : float
    seed : int
    law : ReturnLaw

    Raises
    ------
    ValidationError
        Fewer than two trials, or no repetition.
    """
    if n_trials < 2 or n_repetitions < 1:
        raise ValidationError(
            "calibration of selection",
            expected="at least two trials and one repetition",
            found=f"{n_trials} trials, {n_repetitions} repetitions",
            action="ask for more",
        )
    n_periods = round(years * PERIODS_PER_YEAR)
    columns: dict[str, list[Any]] = {k: [] for k in ("ratio", "skewness", "kurtosis", "rho", "others", "psr")}
    for scatter in scatters(law, n_trials * n_repetitions, n_periods, seed):
        returns = returns_of(scatter, 0.0, law)
        record, decisions = track_record(returns, PERIODS_PER_YEAR), decide(returns, limits, PERIODS_PER_YEAR)
        columns["ratio"].append(record.sharpe_per_period)
        columns["skewness"].append(record.skewness)
        columns["kurtosis"].append(record.kurtosis)
        columns["rho"].append(
            autocorrelations(returns) if limits.psr_standard == "2025" else np.zeros(len(returns))
        )
        others = [flags for gate, flags in decisions.passed.items() if gate != "cpcv_deflated_sharpe"]
        columns["others"].append(np.logical_and.reduce(others))
        columns["psr"].append(decisions.passed["cpcv_probabilistic_sharpe"])
    table = {name: np.concatenate(parts).reshape(n_repetitions, n_trials) for name, parts in columns.items()}
    best = table["ratio"].argmax(axis=1)
    chosen = {name: values[np.arange(n_repetitions), best] for name, values in table.items()}
    deflated = sharpe.deflated_sharpe_ratio(
        chosen["ratio"],
        n_periods,
        n_trials,
        table["ratio"].var(axis=1, ddof=1),
        chosen["skewness"],
        chosen["kurtosis"],
        standard=limits.psr_standard,
        autocorrelation=chosen["rho"],
    )
    passed = deflated >= limits.dsr_min
    # One trial is not deflated: its deflated Sharpe ratio is the probabilistic one.
    alone = sharpe.probabilistic_sharpe_ratio(
        chosen["ratio"], n_periods, chosen["skewness"], chosen["kurtosis"],
        standard=limits.psr_standard, autocorrelation=chosen["rho"],
    ) >= limits.dsr_min  # fmt: skip

    def rate(flags: Any) -> Rate:
        return Rate(int(flags.sum()), n_repetitions)

    return SelectionRates(
        n_trials=n_trials,
        years=years,
        with_ledger=rate(chosen["others"] & passed),
        without_ledger=rate(chosen["others"] & alone),
        deflated_alone=rate(passed),
        probabilistic_alone=rate(chosen["psr"]),
    )
