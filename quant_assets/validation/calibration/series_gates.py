"""The gates of one candidate, decided for thousands of return series at once.

Each series stands for a candidate with a single path and a ledger that holds that one trial. What is decided here
and what `quant_assets.validation.gates.judge_candidate` decides is the same, series by series: a test compares them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import GatesConfig
from quant_assets.validation import sharpe
from quant_assets.validation.track_record import TrackRecord, track_record

Flags = NDArray[np.bool_]
Series = NDArray[np.float64]

# PBO needs two trials; a series is one, so that gate does not apply.
SERIES_GATES = ("cpcv_sharpe", "cpcv_probabilistic_sharpe", "cpcv_deflated_sharpe", "cpcv_max_drawdown")


@dataclass(frozen=True, eq=False)
class SeriesDecisions:
    """What each gate decided about each series.

    Attributes
    ----------
    passed : mapping of str to ndarray of bool, shape (series,)
        For each gate of `SERIES_GATES`.
    underpowered : ndarray of bool, shape (series,)
        Where the Sharpe gate says that the record is too short to tell.
    """

    passed: Mapping[str, Flags]
    underpowered: Flags

    @property
    def admitted(self) -> Flags:
        """Series that every gate let pass."""
        admitted: Flags = np.logical_and.reduce([self.passed[gate] for gate in SERIES_GATES])
        return admitted


def decide(returns: Series, limits: GatesConfig, periods_per_year: float) -> SeriesDecisions:
    """Pass many series through the gates.

    Parameters
    ----------
    returns : ndarray, shape (series, T)
        Net simple returns per period.
    limits : GatesConfig
    periods_per_year : float

    Raises
    ------
    ValidationError
        When ``returns`` is not two-dimensional, or a return is not finite.
    """
    if returns.ndim != 2 or not np.isfinite(returns).all():
        raise ValidationError(
            "return series",
            expected="finite returns of shape (series, periods)",
            found=f"shape {returns.shape}, {int((~np.isfinite(returns)).sum())} not finite",
            action="pass one row for each series",
        )
    record = track_record(returns, periods_per_year)
    rho: Series | float = autocorrelations(returns) if limits.psr_standard == "2025" else 0.0
    ratio, n = record.sharpe_per_period, record.n_obs
    psr = sharpe.probabilistic_sharpe_ratio(
        ratio, n, record.skewness, record.kurtosis, standard=limits.psr_standard, autocorrelation=rho
    )
    dsr = sharpe.deflated_sharpe_ratio(
        ratio, n, 1, 0.0, record.skewness, record.kurtosis,
        standard=limits.psr_standard, autocorrelation=rho,
    )  # fmt: skip
    annual = sharpe.annualised_sharpe(ratio, periods_per_year)
    underpowered = _underpowered(record, rho, limits, periods_per_year) & ~np.isnan(annual)
    # NaN compares false: a series without variance passes none of the first three.
    passed = {
        "cpcv_sharpe": (annual >= limits.sharpe_min) & ~underpowered,
        "cpcv_probabilistic_sharpe": psr >= limits.psr_min,
        "cpcv_deflated_sharpe": dsr >= limits.dsr_min,
        "cpcv_max_drawdown": record.max_drawdown_fraction >= limits.max_drawdown_min,
    }
    return SeriesDecisions(passed, underpowered)


def _underpowered(
    record: TrackRecord, rho: Series | float, limits: GatesConfig, periods_per_year: float
) -> Flags:
    """Whether the record is shorter than what the required Sharpe ratio needs to differ from 0."""
    required = limits.sharpe_min / math.sqrt(periods_per_year)
    if required <= 0.0:
        return np.zeros(record.sharpe_per_period.shape, dtype=np.bool_)
    alpha, standard = limits.alpha, limits.psr_standard
    normal = sharpe.minimum_track_record_length(required, alpha=alpha, standard=standard)
    own = sharpe.minimum_track_record_length(
        required, record.skewness, record.kurtosis, 0.0, alpha, standard=standard, autocorrelation=rho
    )
    return np.asarray(record.n_obs < np.fmax(normal, own))


def autocorrelations(returns: Series) -> Series:
    """First-order autocorrelation of each row; NaN where returns do not vary."""
    deviations = returns - returns.mean(axis=1, keepdims=True)
    total = (deviations * deviations).sum(axis=1)
    lagged = (deviations[:, 1:] * deviations[:, :-1]).sum(axis=1)
    found: Series = np.where(total > 0.0, lagged / np.where(total > 0.0, total, 1.0), np.nan)
    return found
