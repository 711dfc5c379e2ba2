"""What is known of an estimated Sharpe ratio: its variance, the power of its test, the maximum without skill."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from quant_assets.common.errors import ValidationError

# ------------------------------------------------ variance of the estimated Sharpe ratio under both standards

# sqrt(T) (SR_hat - SR) is asymptotically normal with variance 1 - g3 SR + (g4 - 1)/4 SR^2 for independent returns
# with skewness g3 and kurtosis g4 (Mertens 2002; normal: 1 + SR^2/2, Lo 2002). For returns that follow an AR(1) with
# coefficient r, Lopez de Prado, Lipton and Zoonekynd (2025) give a - b g3 SR + c (g4 - 1)/4 SR^2 with
# a = (1 + r)/(1 - r), b = 1 + r/(1 - r) + r^2/(1 - r^2) and c = (1 + r^2)/(1 - r^2).

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
    impossible = g4 - 1.0 - g3**2 < -RELATIVE_ZERO * (1.0 + g3**2)  # whatever variance comes out of them
    if bool(np.any(impossible) or np.any(variance < -RELATIVE_ZERO)):
        raise ValidationError(
            "skewness and kurtosis that no returns can have, or not beside this autocorrelation",
            expected="kurtosis >= 1 + skewness**2 (Pearson), with kurtosis 3 for a normal, and a positive variance",
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


# ---------------------------------------------------- power of the test behind the probabilistic Sharpe ratio


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


# --------------------------------------------------------------------------------- what selection alone shows

# Bailey, Borwein, Lopez de Prado and Zhu (2014, *Pseudo-Mathematics and Financial Charlatanism*); Bailey and Lopez de
# Prado (2014, *The Deflated Sharpe Ratio*, the False Strategy theorem).


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


# What a deflated Sharpe ratio of at least so much really means. It is no exact test: the expected maximum is not the
# median of the maximum, V is estimated, and the 2012 standard takes one trial's spread for that of the best of N.
# For each N: ledgers of N trials without skill, and how many of them passed at each level of `ALPHA_LEVELS`.
# Made by `python -m quant_assets_tests.benchmarks.deflated_alpha`.
ALPHA_LEVELS = (0.95, 0.975, 0.99)
PASSED_WITHOUT_SKILL: dict[str, dict[int, tuple[int, ...]]] = {
    "2012": {
        2: (1_000_000, 30_014, 13_102, 4_402),
        3: (1_000_000, 15_119, 5_851, 1_697),
        5: (1_000_000, 8_712, 3_124, 840),
        10: (1_000_000, 4_898, 1_479, 326),
        20: (1_000_000, 2_954, 854, 169),
        40: (1_000_000, 1_959, 529, 97),
        100: (1_000_000, 1_136, 256, 41),
        400: (1_000_000, 635, 144, 17),
        1000: (400_000, 164, 33, 6),
        4000: (100_000, 34, 6, 0),
        10_000: (40_000, 8, 1, 0),
    },
    "2025": {
        2: (1_000_000, 59_392, 32_055, 14_582),
        3: (1_000_000, 45_579, 24_901, 11_471),
        5: (1_000_000, 43_048, 24_041, 11_473),
        10: (1_000_000, 43_114, 24_984, 12_604),
        20: (1_000_000, 44_208, 26_168, 13_725),
        40: (1_000_000, 45_788, 27_814, 15_048),
        100: (1_000_000, 48_908, 30_095, 16_890),
        400: (1_000_000, 53_225, 33_733, 19_374),
        1000: (400_000, 22_267, 14_250, 8_201),
        4000: (100_000, 5_833, 3_774, 2_166),
        10_000: (40_000, 2_334, 1_514, 868),
    },
}


def deflated_sharpe_alpha(n_trials: float, level: float, standard: SharpeStandard = "2012") -> float | None:
    """Probability that the best of ``n_trials`` without skill has a deflated Sharpe ratio of at least ``level``.

    Measured, with the variance of the trials without the best one and 1/T at least; linear in ln N between the
    measured numbers.

    Parameters
    ----------
    n_trials : float
        At least 1. With one trial the test is exact: 1 - ``level``.
    level : float
        Between two measured ones the lower counts, so that the truth is not above what is stated.

    Returns
    -------
    float or None
        None beyond what was measured: a level below .95, or more than 10,000 trials.
    """
    count = float(_checked_trials(n_trials))
    if count == 1.0:
        return 1.0 - level
    measured = PASSED_WITHOUT_SKILL[checked_standard(standard)]
    places = [place for place, held in enumerate(ALPHA_LEVELS) if held <= level]
    if not places or count > max(measured):
        return None
    shares = [passes[places[-1]] / ledgers for ledgers, *passes in measured.values()]
    known, alphas = [1, *measured], [1.0 - ALPHA_LEVELS[places[-1]], *shares]
    return float(np.interp(math.log(count), np.log(known), alphas))


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


# ------------------------------------------------------ whether one Sharpe ratio is below another by more than chance

# Two return streams of one strategy move together, so their Sharpe ratios differ far less by chance than either does
# from its true value, and a test of the difference sees what two standard errors side by side do not.


def long_run_variance(series: FloatArray, n_cosines: int) -> FloatArray:
    """Mean square of the B lowest cosine transforms of series of shape (..., T); Student's t_B goes with it.

    The equal-weighted cosine estimator of Lazarus et al. (2018), eq. 3 and 4.
    """
    from scipy.fft import dct

    # scipy's type-II transform is twice sum x_t cos(pi j (t - 1/2) / T)
    scale = math.sqrt(1 / (2 * series.shape[-1]))
    transforms = scale * dct(series, axis=-1)[..., 1 : n_cosines + 1]
    variance: FloatArray = (transforms**2).mean(axis=-1)
    return variance


FEWEST_SESSIONS = 60  # below it the fixed-b reference distribution has 6 degrees of freedom or fewer
# B = .4 T^(2/3) cosines: Lazarus, Lewis, Stock and Watson (2018), "HAR inference: recommendations for practice",
# J. Business & Economic Statistics 36:541-559, their rule for the equal-weighted cosine estimator.
COSINES = 0.4


@dataclass(frozen=True)
class SharpeDifference:
    """The test of ``a - b``.

    Attributes
    ----------
    difference : float
        Per period; NaN when one of the streams does not vary.
    standard_error : float
    p_value : float
        One-sided: probability of a difference this far below 0, or further, when the true Sharpe ratios are equal.
    n_periods : int
    """

    difference: float
    standard_error: float
    p_value: float
    n_periods: int


def sharpe_difference(a: ArrayLike, b: ArrayLike) -> SharpeDifference:
    """Test of two Sharpe ratios against each other, robust to tails and to serial and mutual dependence.

    Parameters
    ----------
    a, b : array_like, shape (T,)
        Simple returns per period, of the same periods.

    Returns
    -------
    SharpeDifference

    Raises
    ------
    ValidationError
        When the two differ in length, are shorter than 60 periods, or hold a value that is not finite.

    Notes
    -----
    The delta method of Ledoit and Wolf (2008), "Robust performance hypothesis testing with the Sharpe ratio", J.
    Empirical Finance 15:850-859, eq. 3 to 5, written as the long-run variance of one series: the influence of period
    t on a Sharpe ratio S is ``z_t - S (z_t^2 - 1) / 2`` with the standardised return z (Mertens 2002). Long-run
    variance by B equal-weighted cosines, Student's t with B degrees of freedom. Over 2,000 draws of 500 to 2,500
    sessions, normal and t(4), a test at 1 % rejects .9 to 1.4 %; of the worst of five paths at most .1 %
    (`quant_assets_tests.benchmarks.walk_forward_power`).
    """
    left, right = _stream(a, "first"), _stream(b, "second")
    if left.size != right.size or left.size < FEWEST_SESSIONS:
        raise ValidationError(
            "returns of two tracks",
            expected=f"the same {FEWEST_SESSIONS} periods or more of each",
            found=f"{left.size} and {right.size}",
            action="compare them over the sessions that both have",
        )
    from scipy.special import stdtr

    (ratio_a, influence_a), (ratio_b, influence_b) = _influence(left), _influence(right)
    difference, n = ratio_a - ratio_b, left.size
    n_cosines = int(COSINES * n ** (2.0 / 3.0))
    error = float(np.sqrt(long_run_variance(influence_a - influence_b, n_cosines) / n))
    if error == 0.0:  # the same stream twice: nothing can differ by chance, and nothing does
        return SharpeDifference(difference, error, 0.5 if difference == 0.0 else 0.0, n)
    return SharpeDifference(difference, error, float(stdtr(n_cosines, difference / error)), n)


def below_the_worst(track: ArrayLike, paths: ArrayLike) -> tuple[int, SharpeDifference]:
    """Whether a track lies below the worst of several others of the same periods by more than chance.

    Parameters
    ----------
    track : array_like, shape (T,)
        Simple returns per period.
    paths : array_like, shape (P, T)

    Returns
    -------
    worst : int
        Row of the path with the lowest Sharpe ratio; one that does not vary is the worst.
    difference : SharpeDifference
        Of the track less that path. It is the lowest of several on these very periods: a track of their skill is
        rejected less often than the p-value says.
    """
    streams = np.atleast_2d(np.asarray(paths, dtype=np.float64))
    ratios = np.array([_influence(_stream(stream, "second"))[0] for stream in streams])
    worst = int(np.where(np.isnan(ratios), -np.inf, ratios).argmin())
    return worst, sharpe_difference(track, streams[worst])


def _influence(returns: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Sharpe ratio of a stream, and the influence of each period on it; NaN when it does not vary."""
    spread = float(returns.std(ddof=1)) if returns.size > 1 else 0.0
    if not spread > 1e-12 * float(np.abs(returns).max(initial=0.0)):
        return float("nan"), np.full(returns.size, np.nan)
    standardised = (returns - returns.mean()) / spread
    ratio = float(returns.mean()) / spread
    return ratio, standardised - 0.5 * ratio * (standardised**2 - 1.0)


def _stream(values: ArrayLike, which: str) -> NDArray[np.float64]:
    stream = np.asarray(values, dtype=np.float64)
    if stream.ndim != 1 or not np.isfinite(stream).all():
        raise ValidationError(
            f"the {which} of two tracks",
            expected="one finite return per period",
            found=f"shape {stream.shape}, {int((~np.isfinite(stream)).sum())} values that are not finite",
            action="leave out what was not traded, and find out why it is there",
        )
    return stream
