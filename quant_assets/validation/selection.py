"""What selection alone shows: the maximum over skill-less trials.

Bailey, Borwein, Lopez de Prado and Zhu (2014, *Pseudo-Mathematics and Financial Charlatanism*); Bailey and Lopez de
Prado (2014, *The Deflated Sharpe Ratio*, the False Strategy theorem).
"""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from quant_assets.validation.sharpe_variance import FloatArray, Statistic, check_domain, plain

# Trapezoids over the density of the maximum: it is below 1e-17 outside [-9, 39] for up to 1e300 trials, and for a
# smooth function that vanishes at both ends the rule is exact to rounding at this step.
_GRID = np.linspace(-9.0, 39.0, 9601)


def expected_maximum_sharpe(n_trials: ArrayLike, trial_variance: ArrayLike = 1.0) -> Statistic:
    """Expected maximum of ``n_trials`` independent Sharpe ratios with true value 0 and the given variance.

    sqrt(V) ((1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e))), g = Euler-Mascheroni (2014, eq. 1).

    Parameters
    ----------
    n_trials : array-like
        Trials, at least 1; fractions are allowed. One trial selects nothing: the expectation is 0. (The formula is
        asymptotic, and negative below about 1.5; it is held at 0 there.)
    trial_variance : array-like, default 1.0
        Variance of the Sharpe ratios over the trials; per period if a per-period maximum is wanted.

    Raises
    ------
    ValidationError
        ``n_trials < 1`` or a negative variance.

    Examples
    --------
    >>> round(expected_maximum_sharpe(100), 4)
    2.5306
    """
    trials, variance = _checked_trials(n_trials), np.asarray(trial_variance, dtype=np.float64)
    check_domain("trial_variance", variance, variance >= 0, "a variance, at least 0")
    with np.errstate(invalid="ignore"):
        # Phi^-1(1 - p) = -Phi^-1(p): for many trials 1 - p would round to 1
        maximum = -(1.0 - np.euler_gamma) * special.ndtri(1.0 / trials)
        maximum -= np.euler_gamma * special.ndtri(1.0 / (trials * math.e))
        maximum = np.where(trials == 1.0, 0.0, np.maximum(maximum, 0.0))
        return plain(np.sqrt(variance) * maximum)


def variance_of_maximum(n_trials: ArrayLike) -> Statistic:
    """Variance of the maximum of ``n_trials`` independent standard normals, by integration of its density.

    1 for one trial, 1 - 1/pi for two, falling slowly with the number of trials.
    """
    trials = _checked_trials(n_trials)
    found, inverse = np.unique(trials, return_inverse=True)
    variances = np.array([_variance_of_maximum(float(count)) for count in found], dtype=np.float64)
    return plain(variances[inverse].reshape(trials.shape))


def minimum_backtest_length(n_trials: ArrayLike, expected_maximum: ArrayLike = 1.0) -> Statistic:
    """Years of data below which the best of ``n_trials`` skill-less trials is expected to beat a Sharpe ratio.

    (E[max_N] / ``expected_maximum``)^2 (Bailey, Borwein, Lopez de Prado and Zhu 2014, theorem 2).

    Parameters
    ----------
    n_trials : array-like
        Trials, at least 1.
    expected_maximum : array-like, default 1.0
        Annual Sharpe ratio that selection alone may be expected to reach.

    Raises
    ------
    ValidationError
        ``n_trials < 1`` or ``expected_maximum <= 0``.

    Examples
    --------
    >>> round(minimum_backtest_length(45), 3)
    4.998
    """
    target = np.asarray(expected_maximum, dtype=np.float64)
    check_domain("expected_maximum", target, target > 0, "an annual Sharpe ratio above 0")
    return plain((expected_maximum_sharpe(n_trials) / target) ** 2)


def _variance_of_maximum(trials: float) -> float:
    if math.isnan(trials):
        return math.nan
    log_density = math.log(trials) - _GRID**2 / 2 + (trials - 1.0) * special.log_ndtr(_GRID)
    weights = np.exp(log_density)
    weights /= weights.sum()
    mean = float(weights @ _GRID)
    return float(weights @ (_GRID - mean) ** 2)


def _checked_trials(n_trials: ArrayLike) -> FloatArray:
    trials = np.asarray(n_trials, dtype=np.float64)
    inside = (trials >= 1) & np.isfinite(trials)
    check_domain("n_trials", trials, inside, "at least 1 trial, counted by the trial ledger")
    return trials
