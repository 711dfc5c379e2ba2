"""Variance of the estimated Sharpe ratio under both standards, and the domains of its arguments.

sqrt(T) (SR_hat - SR) is asymptotically normal with variance 1 - g3 SR + (g4 - 1)/4 SR^2 for independent returns
with skewness g3 and kurtosis g4 (Mertens 2002; normal: 1 + SR^2/2, Lo 2002). For returns that follow an AR(1) with
coefficient r, Lopez de Prado, Lipton and Zoonekynd (2025) give a - b g3 SR + c (g4 - 1)/4 SR^2 with
a = (1 + r)/(1 - r), b = 1 + r/(1 - r) + r^2/(1 - r^2) and c = (1 + r^2)/(1 - r^2).
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from quant_assets.common.errors import ValidationError

SharpeStandard = Literal["2012", "2025"]
Statistic = Any  # a float when all arguments are scalars, a float64 array otherwise
FloatArray = NDArray[np.float64]

# A constant series has a standard deviation of about 1e-16 of its mean after rounding, not 0.
RELATIVE_ZERO = 1e-12


def sharpe_standard_error(
    sharpe: ArrayLike,
    n_obs: ArrayLike,
    skewness: ArrayLike = 0.0,
    kurtosis: ArrayLike = 3.0,
    standard: SharpeStandard = "2012",
    autocorrelation: ArrayLike = 0.0,
) -> Statistic:
    """Standard error of an estimated Sharpe ratio whose true value is ``sharpe`` (Mertens 2002; 2025: eq. for AR(1)).

    sqrt((a - b g3 SR + c (g4 - 1)/4 SR^2) / T), where a = b = c = 1 without autocorrelation, and T - 1 in place of T
    for the 2012 standard.
    """
    variance = variance_factor(sharpe, skewness, kurtosis, autocorrelation, standard)
    return plain(np.sqrt(variance / degrees(n_obs, standard)))


def critical_value(alpha: ArrayLike) -> Statistic:
    """Standard normal quantile of the one-sided level ``alpha``, which must lie in (0, 0.5]."""
    level = np.asarray(alpha, dtype=np.float64)
    check_domain("alpha", level, (level > 0) & (level <= 0.5), "above 0 and at most 0.5")
    return plain(-special.ndtri(level))


def check_domain(name: str, values: FloatArray, inside: NDArray[np.bool_] | np.bool_, expected: str) -> None:
    """Refuse values outside their domain; NaN is let through, because it comes out as NaN."""
    wrong = np.atleast_1d(~np.asarray(inside) & ~np.isnan(values))
    if wrong.any():
        raise ValidationError(
            f"{name} is outside its domain",
            expected=expected,
            found=f"{np.atleast_1d(values)[wrong][0]!s}",
            action=f"check how {name} was computed, and that it is per period where a ratio is meant",
        )


def variance_factor(
    sharpe: ArrayLike,
    skewness: ArrayLike,
    kurtosis: ArrayLike,
    autocorrelation: ArrayLike,
    standard: SharpeStandard,
) -> FloatArray:
    """Variance of sqrt(T) times the estimated Sharpe ratio, at the true value ``sharpe``; NaN where it is zero."""
    ratio, g3, g4, rho = (
        np.asarray(value, dtype=np.float64) for value in (sharpe, skewness, kurtosis, autocorrelation)
    )
    check_domain("autocorrelation", rho, np.abs(rho) < 1, "between -1 and 1, both excluded")
    if checked_standard(standard) == "2012" and bool(np.any(rho != 0)):
        raise ValidationError(
            "autocorrelation was given to the 2012 standard",
            expected="autocorrelation=0, because its variance assumes independent returns",
            found=f"autocorrelation={autocorrelation!r}",
            action='use standard="2025"',
        )
    linear, square = rho / (1.0 - rho), rho**2 / (1.0 - rho**2)
    variance = np.asarray(
        (1.0 + 2.0 * linear)
        - (1.0 + linear + square) * g3 * ratio
        + (1.0 + 2.0 * square) * (g4 - 1.0) / 4.0 * ratio**2
    )
    if bool(np.any(variance < -RELATIVE_ZERO)):
        raise ValidationError(
            "skewness and kurtosis give a negative variance of the Sharpe ratio",
            expected="kurtosis >= 1 + skewness**2 (Pearson), with kurtosis 3 for a normal",
            found=f"skewness {skewness!r} and kurtosis {kurtosis!r} at a Sharpe ratio of {sharpe!r}",
            action="pass both moments of the same returns (sharpe.moments), and no excess kurtosis",
        )
    return np.where(variance > RELATIVE_ZERO, variance, np.nan)


def degrees(n_obs: ArrayLike, standard: SharpeStandard) -> FloatArray:
    """Divisor of the variance: T - 1 under the 2012 standard, T under the 2025 standard."""
    observed = np.asarray(n_obs, dtype=np.float64)
    check_domain("n_obs", observed, observed >= 2, "at least 2 observed periods")
    return observed - (1.0 if standard == "2012" else 0.0)


def checked_standard(standard: str) -> str:
    """The name of a known standard; anything else is refused."""
    if standard not in ("2012", "2025"):
        raise ValidationError(
            "the standard of inference is unknown",
            expected='"2012" or "2025"',
            found=repr(standard),
            action="name one of the two; they give different numbers",
        )
    return standard


def plain(values: Any) -> Statistic:
    """A float for a single number, the array otherwise."""
    array = np.asarray(values, dtype=np.float64)
    return float(array) if array.ndim == 0 else array
