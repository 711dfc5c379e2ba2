"""Power of the test behind the probabilistic Sharpe ratio: how often a true skill passes it."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from quant_assets.validation.sharpe_variance import (
    FloatArray,
    SharpeStandard,
    Statistic,
    checked_standard,
    critical_value,
    degrees,
    plain,
    sharpe_standard_error,
)


def sharpe_test_power(
    true_sharpe: ArrayLike,
    n_obs: ArrayLike,
    skewness: ArrayLike = 0.0,
    kurtosis: ArrayLike = 3.0,
    benchmark: ArrayLike = 0.0,
    alpha: ArrayLike = 0.05,
    standard: SharpeStandard = "2012",
    autocorrelation: ArrayLike = 0.0,
) -> Statistic:
    """Probability that PSR >= 1 - alpha against ``benchmark``, for returns whose true Sharpe ratio is given.

    The estimate is taken as normal around ``true_sharpe`` with :func:`sharpe_standard_error` there. Under the 2025
    standard it passes above benchmark + z sigma(benchmark). Under the 2012 standard the variance moves with the
    estimate, so the limits are the roots of (T - 1)(x - b)^2 = z^2 (1 - g3 x + (g4 - 1)/4 x^2); for short and very
    fat-tailed records no estimate at all passes, and the power is 0.

    Parameters
    ----------
    true_sharpe, benchmark : array-like
        Per period.
    n_obs : array-like
        Periods, at least 2.
    skewness, kurtosis : array-like
        Of the returns; a normal has 0 and 3.
    alpha : array-like, default 0.05
        Level of the one-sided test, in (0, 0.5].

    Returns
    -------
    float or ndarray
        A probability; equal to ``alpha`` at ``true_sharpe = benchmark`` under the 2025 standard.

    Raises
    ------
    ValidationError
        ``n_obs < 2``, ``alpha`` outside (0, 0.5], moments that no distribution has.
    """
    truth = np.asarray(true_sharpe, dtype=np.float64)
    error = sharpe_standard_error(truth, n_obs, skewness, kurtosis, standard, autocorrelation)
    if checked_standard(standard) == "2025":
        null_error = sharpe_standard_error(benchmark, n_obs, skewness, kurtosis, standard, autocorrelation)
        lowest = np.asarray(benchmark, dtype=np.float64) + critical_value(alpha) * null_error
        return plain(special.ndtr((truth - lowest) / error))
    lowest, highest = _passing_range(
        np.asarray(benchmark, dtype=np.float64),
        np.asarray(critical_value(alpha), dtype=np.float64),
        np.asarray(skewness, dtype=np.float64),
        np.asarray(kurtosis, dtype=np.float64),
        degrees(n_obs, standard),
    )
    with np.errstate(invalid="ignore"):
        return plain(special.ndtr((highest - truth) / error) - special.ndtr((lowest - truth) / error))


def _passing_range(
    benchmark: FloatArray, z: FloatArray, skewness: FloatArray, kurtosis: FloatArray, periods: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Estimates between which the 2012 test passes: a x^2 + b x + c >= 0 and x >= benchmark."""
    a = periods - z**2 * (kurtosis - 1.0) / 4.0
    b = z**2 * skewness - 2.0 * periods * benchmark
    c = periods * benchmark**2 - z**2
    with np.errstate(invalid="ignore", divide="ignore"):
        # The parabola is negative at the benchmark itself. Opening upwards, its larger root starts the range and
        # nothing ends it; opening downwards, the range lies between the roots, if these exist above the benchmark.
        discriminant = b**2 - 4.0 * a * c
        root = np.sqrt(np.where(a > 0, np.maximum(discriminant, 0.0), discriminant))
        near, far = (-b + root) / (2.0 * a), (-b - root) / (2.0 * a)
        bounded = (a < 0) & (root > 0) & (near > benchmark)
    lowest = np.where(a > 0, near, np.where(bounded, near, np.inf))
    highest = np.where(bounded, far, np.inf)
    unknown = np.isnan(a + b + c)
    return np.where(unknown, np.nan, lowest), np.where(unknown, np.nan, highest)
