"""How often the data set's alarm rings without drift, and how often with it: rehearsed on the baseline itself."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quant_assets.common.settings import DriftConfig
from quant_assets.monitoring.drift import Floats, benjamini_hochberg


@dataclass(frozen=True)
class AlarmRehearsal:
    """The data set's alarm, rehearsed on the baseline's own disjoint windows, each left out of its own null.

    Attributes
    ----------
    n_windows, false_alarms : int
        Windows judged as they are, and how many of them raised the alarm.
    power_mean_shift_1sd, power_spread_x2 : float
        Share of windows that raise it after every feature is shifted by one of its standard deviations, or
        spread out twofold about its median.
    windows_per_year : float
        Disjoint windows in a calendar year.
    """

    n_windows: int
    false_alarms: int
    power_mean_shift_1sd: float
    power_spread_x2: float
    windows_per_year: float

    def alarms_per_year(self, confidence: float = 0.95) -> tuple[float, float, float]:
        """Alarms per year without drift, judged once per window: estimate and Clopper-Pearson interval."""
        from scipy.special import betaincinv

        k, n, tail = self.false_alarms, self.n_windows, (1.0 - confidence) / 2
        low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
        high = float(betaincinv(k + 1, n - k, 1.0 - tail)) if k < n else 1.0
        return k / n * self.windows_per_year, low * self.windows_per_year, high * self.windows_per_year


def alarms(p_values: Floats, drift: DriftConfig) -> NDArray[np.bool_]:
    """Whether each window (rows) raises the data set's alarm over its features (columns)."""
    drifted = benjamini_hochberg(p_values) <= drift.alpha
    return np.asarray(drifted.sum(axis=-1) >= drift.min_drifted_features)
