"""The Sharpe ratio and what can be inferred from it. Per period throughout; a normal has kurtosis 3.

Two standards exist, give different numbers on the same data, and are both offered:

- ``"2012"``: Bailey and Lopez de Prado (2012, *The Sharpe Ratio Efficient Frontier*; 2014, *The Deflated Sharpe
  Ratio*). The estimator's variance is taken at the estimate and divided by T - 1.
- ``"2025"``: Lopez de Prado, Lipton and Zoonekynd (2025, SSRN 5520741). The variance is taken at the null
  hypothesis and divided by T, it allows for first-order autocorrelation, and deflation also uses the spread of
  the maximum over the trials.

All functions broadcast over arrays. They return a float for scalars and a float64 array otherwise, and NaN for NaN
input. Undefined input (one observation, a negative variance) raises ValidationError.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.sharpe_inference import (
    RELATIVE_ZERO,
    FloatArray,
    SharpeStandard,
    Statistic,
    check_domain,
    checked_standard,
    critical_value,
    deflated_sharpe_alpha,
    degrees,
    expected_maximum_sharpe,
    minimum_backtest_length,
    plain,
    sharpe_standard_error,
    sharpe_test_power,
    variance_factor,
    variance_of_maximum,
)

__all__ = [
    "SharpeStandard",
    "annualisation_factor",
    "annualised_sharpe",
    "deflated_sharpe_alpha",
    "deflated_sharpe_ratio",
    "expected_maximum_sharpe",
    "minimum_backtest_length",
    "minimum_track_record_length",
    "moments",
    "probabilistic_sharpe_ratio",
    "sharpe_ratio",
    "sharpe_standard_error",
    "sharpe_test_power",
]


def sharpe_ratio(returns: ArrayLike, risk_free: ArrayLike = 0.0, axis: int = -1, ddof: int = 1) -> Statistic:
    """Mean over standard deviation of excess returns, per period.

    Parameters
    ----------
    returns : array-like, shape (..., T)
        Simple returns per period.
    risk_free : array-like, default 0.0
        Risk-free return per period, broadcast against ``returns``.
    axis : int, default -1
        Axis of time.
    ddof : int, default 1
        Divisor T - ddof of the variance.

    Returns
    -------
    float or ndarray
        NaN where the returns hold NaN or do not vary: a track without variance is no evidence.

    Raises
    ------
    ValidationError
        Fewer than two observations.
    """
    excess = np.asarray(returns, dtype=np.float64) - np.asarray(risk_free, dtype=np.float64)
    _check_length(excess, axis)
    with np.errstate(invalid="ignore", over="ignore"):
        mean, deviation = excess.mean(axis=axis), excess.std(axis=axis, ddof=ddof)
        varies = deviation > RELATIVE_ZERO * np.abs(mean)
        return plain(np.where(varies, mean / np.where(varies, deviation, 1.0), np.nan))


def moments(returns: ArrayLike, axis: int = -1) -> tuple[Statistic, Statistic]:
    """Skewness and kurtosis (normal = 3) of returns: standardised population moments, without bias correction.

    Returns
    -------
    skewness, kurtosis : float or ndarray
        NaN where the returns hold NaN or do not vary.
    """
    values = np.asarray(returns, dtype=np.float64)
    _check_length(values, axis)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean(axis=axis, keepdims=True)
        deviations = values - mean
        squares = deviations * deviations
        variance = squares.mean(axis=axis)
        varies = np.sqrt(variance) > RELATIVE_ZERO * np.abs(mean.squeeze(axis=axis))
        scale = np.where(varies, variance, np.nan)
        skewness = (squares * deviations).mean(axis=axis) / scale**1.5
        kurtosis = (squares * squares).mean(axis=axis) / scale**2
    return plain(skewness), plain(kurtosis)


def probabilistic_sharpe_ratio(
    sharpe: ArrayLike,
    n_obs: ArrayLike,
    skewness: ArrayLike = 0.0,
    kurtosis: ArrayLike = 3.0,
    benchmark: ArrayLike = 0.0,
    standard: SharpeStandard = "2012",
    autocorrelation: ArrayLike = 0.0,
) -> Statistic:
    """Probability that the true Sharpe ratio exceeds ``benchmark``; 1 minus the p-value of the one-sided test.

    Parameters
    ----------
    sharpe, benchmark : array-like
        Estimated Sharpe ratio and the one to beat, per period.
    n_obs : array-like
        Periods observed, T >= 2.
    skewness, kurtosis : array-like
        Of the returns; a normal has 0 and 3.
    standard : {"2012", "2025"}
        See the module's description.
    autocorrelation : array-like, default 0.0
        First-order autocorrelation of the returns; 2025 standard only.

    Returns
    -------
    float or ndarray
        In [0, 1]; NaN for NaN input, or where the estimator's variance is zero.

    Raises
    ------
    ValidationError
        ``n_obs < 2``, moments that no distribution has, an unknown standard.

    Examples
    --------
    >>> round(probabilistic_sharpe_ratio(0.036 / 0.079, 24, skewness=-2.448, kurtosis=10.164), 4)
    0.9127
    """
    point = benchmark if checked_standard(standard) == "2025" else sharpe
    variance = variance_factor(point, skewness, kurtosis, autocorrelation, standard)
    return plain(special.ndtr(_test_statistic(sharpe, benchmark, variance, degrees(n_obs, standard))))


def deflated_sharpe_ratio(
    sharpe: ArrayLike,
    n_obs: ArrayLike,
    n_trials: ArrayLike,
    trial_variance: ArrayLike,
    skewness: ArrayLike = 0.0,
    kurtosis: ArrayLike = 3.0,
    standard: SharpeStandard = "2012",
    autocorrelation: ArrayLike = 0.0,
) -> Statistic:
    """Probability that the best of ``n_trials`` has a true Sharpe ratio above what selection alone would show.

    The probabilistic Sharpe ratio against the expected maximum of ``n_trials`` skill-less trials (Bailey and Lopez
    de Prado 2014, eq. 2). The 2025 standard also multiplies the variance by that of the maximum of ``n_trials``
    standard normals.

    Parameters
    ----------
    sharpe : array-like
        Sharpe ratio per period of the selected trial.
    n_obs, skewness, kurtosis : array-like
        Of the selected trial's returns.
    n_trials : array-like
        Trials made, at least 1; fractions are allowed (effective number of trials).
    trial_variance : array-like
        Variance of the per-period Sharpe ratios over the trials.
    standard : {"2012", "2025"}
        See the module's description.
    autocorrelation : array-like, default 0.0
        First-order autocorrelation of the returns; 2025 standard only.

    Returns
    -------
    float or ndarray
        A probability; with one trial, the probabilistic Sharpe ratio against 0.

    Raises
    ------
    ValidationError
        ``n_obs < 2``, ``n_trials < 1``, a negative variance, moments that no distribution has.
    """
    threshold = expected_maximum_sharpe(n_trials, trial_variance)
    if checked_standard(standard) == "2012":
        return probabilistic_sharpe_ratio(
            sharpe, n_obs, skewness, kurtosis, threshold, standard, autocorrelation
        )
    variance = variance_factor(threshold, skewness, kurtosis, autocorrelation, standard)
    spread = np.asarray(variance * variance_of_maximum(n_trials))
    return plain(special.ndtr(_test_statistic(sharpe, threshold, spread, degrees(n_obs, standard))))


def minimum_track_record_length(
    sharpe: ArrayLike,
    skewness: ArrayLike = 0.0,
    kurtosis: ArrayLike = 3.0,
    benchmark: ArrayLike = 0.0,
    alpha: ArrayLike = 0.05,
    standard: SharpeStandard = "2012",
    autocorrelation: ArrayLike = 0.0,
) -> Statistic:
    """Periods after which an estimate of ``sharpe`` passes the test against ``benchmark`` at level ``alpha``.

    Returns
    -------
    float or ndarray
        Periods, not rounded up. Infinite where ``sharpe <= benchmark``: no record is long enough.

    Raises
    ------
    ValidationError
        ``alpha`` outside (0, 0.5], or moments that no distribution has.
    """
    point = benchmark if checked_standard(standard) == "2025" else sharpe
    variance = variance_factor(point, skewness, kurtosis, autocorrelation, standard)
    excess = np.asarray(sharpe, dtype=np.float64) - np.asarray(benchmark, dtype=np.float64)
    with np.errstate(divide="ignore", over="ignore"):
        periods = variance * (critical_value(alpha) / excess) ** 2 + (1.0 if standard == "2012" else 0.0)
    return plain(np.where(excess <= 0, np.where(np.isnan(periods), np.nan, np.inf), periods))


def annualisation_factor(periods_per_year: ArrayLike, autocorrelation: ArrayLike = 0.0) -> Statistic:
    """Factor from a per-period to an annual Sharpe ratio; sqrt(q) when returns are not autocorrelated.

    For returns that follow an AR(1) with coefficient r (Lo 2002, *The Statistics of Sharpe Ratios*, eq. 22):
    sqrt(q) / sqrt(1 + 2r/(1-r) (1 - (1-r^q) / (q (1-r)))).
    """
    q = np.asarray(periods_per_year, dtype=np.float64)
    r = np.asarray(autocorrelation, dtype=np.float64)
    check_domain("periods_per_year", q, q > 0, "a positive number, taken from the calendar")
    check_domain("autocorrelation", r, np.abs(r) < 1, "between -1 and 1, both excluded")
    overlap = 2.0 * r / (1.0 - r) * (1.0 - (1.0 - r**q) / (q * (1.0 - r)))
    return plain(np.sqrt(q / (1.0 + overlap)))


def annualised_sharpe(
    sharpe: ArrayLike, periods_per_year: ArrayLike, autocorrelation: ArrayLike = 0.0
) -> Statistic:
    """Annual Sharpe ratio, for display only: the per-period one times :func:`annualisation_factor`."""
    return plain(
        np.asarray(sharpe, dtype=np.float64) * annualisation_factor(periods_per_year, autocorrelation)
    )


def _test_statistic(
    sharpe: ArrayLike, benchmark: ArrayLike, variance: FloatArray, divisor: FloatArray
) -> FloatArray:
    excess = np.asarray(sharpe, dtype=np.float64) - np.asarray(benchmark, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        statistic: FloatArray = np.asarray(excess * np.sqrt(divisor / variance))
    return statistic


def _check_length(values: FloatArray, axis: int) -> None:
    periods = values.shape[axis] if values.ndim else 1
    if periods < 2:
        raise ValidationError(
            "the track record is too short",
            expected="at least 2 periods of returns",
            found=f"{periods} (shape {values.shape}, axis {axis})",
            action="pass the whole series, with time along the given axis",
        )
