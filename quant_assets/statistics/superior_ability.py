"""Is the best of many trials better than doing nothing? Hansen's SPA test and White's Reality Check.

Both compare the best trial's mean with its distribution when no trial is any good, found by resampling all trials
together: so trials that resemble each other are not counted as independent ones, as a count of them would be.

- White (2000, *A Reality Check for Data Snooping*): the largest mean, every trial recentred at its own mean.
- Hansen (2005, *A Test for Superior Predictive Ability*): the largest mean over its standard error, and trials that
  are far below the benchmark keep their bad mean, so that adding hopeless trials cannot hide a good one.

Resampling is the stationary bootstrap (Politis and Romano 1994) with the automatic block length of Politis and White
(2004), corrected by Patton, Politis and White (2009).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from quant_assets.common.errors import ValidationError
from quant_assets.common.hashing import bytes_digest
from quant_assets.splits.purging import IntArray
from quant_assets.statistics.sharpe_inference import RELATIVE_ZERO, FloatArray

RESAMPLES = 2000  # the standard error of a p-value of .05 is .005
FEWEST_PERIODS = 32
_RESAMPLES_AT_ONCE = 256


@dataclass(frozen=True)
class SuperiorAbility:
    """What the tests say about the best of several trials against a benchmark of zero.

    Attributes
    ----------
    p_value : float
        Of the SPA test with Hansen's consistent recentring: the one to quote.
    p_value_lower, p_value_upper : float
        Of the same statistic with the most liberal and the most conservative recentring.
    reality_check_p_value : float
        Of White's test: not divided by standard errors, every trial recentred.
    statistic : float
        Largest t-like ratio: sqrt(T) x mean / standard deviation of the resampled mean.
    best_trial : int
        Column with that ratio.
    n_trials, n_varying : int
        Columns given, and those that vary: a trial without variance is no evidence and competes for nothing.
    n_obs : int
        Periods.
    block_length : float
        Mean length of the bootstrap's blocks, in periods.
    n_resamples : int
        A p-value is a share of these.
    """

    p_value: float
    p_value_lower: float
    p_value_upper: float
    reality_check_p_value: float
    statistic: float
    best_trial: int
    n_trials: int
    n_varying: int
    n_obs: int
    block_length: float
    n_resamples: int


def superior_ability(
    returns: ArrayLike,
    *,
    block_length: float | None = None,
    n_resamples: int = RESAMPLES,
    seed: int | None = None,
) -> SuperiorAbility:
    """Test whether the best of these trials has a mean above zero.

    Parameters
    ----------
    returns : array-like, shape (T, N)
        Returns per period of N trials, in excess of the benchmark (net returns: of doing nothing).
    block_length : float, optional
        Mean length of the bootstrap's blocks, at least 1; by default the median over trials of
        `optimal_block_length`, rounded up.
    n_resamples : int, default 2000
    seed : int, optional
        Of the resampling; by default taken from the content of the returns, so that the same trials always give
        the same p-value and nobody can draw again.

    Returns
    -------
    SuperiorAbility

    Raises
    ------
    ValidationError
        Fewer than 32 periods, returns that are not finite, no trial that varies, or a block length below 1.

    Notes
    -----
    Hansen truncates statistic and resamples at zero. That changes p-values only if no trial has a positive mean,
    where it can call hopeless trials significant; here neither is truncated.
    """
    values = _checked(returns)
    periods, trials = values.shape
    spread = values.std(axis=0)
    varies = np.flatnonzero(spread > RELATIVE_ZERO * np.abs(values).max(axis=0))
    if varies.size == 0:
        raise _refusal("no trial varies", "at least one return stream with variance", f"{trials} without")
    moving = np.ascontiguousarray(values[:, varies])
    if block_length is None:
        block_length = float(max(math.ceil(np.median(optimal_block_length(moving))), 1))
    if not 1.0 <= block_length <= periods:
        raise _refusal("the block length is out of bounds", f"from 1 to {periods} periods", f"{block_length}")
    content = f"{moving.shape}{block_length}{n_resamples}".encode() + moving.astype("<f8").tobytes()
    generator = np.random.default_rng(int(bytes_digest(content), 16) if seed is None else seed)

    mean = moving.mean(axis=0)
    error = np.sqrt(variance_of_mean(moving, block_length))
    resampled = _resampled_means(moving, block_length, n_resamples, generator)
    # Hansen (2005), section 2.3: means further below zero than the law of the iterated logarithm allows are real.
    relevant = mean >= -error * math.sqrt(2.0 * math.log(math.log(periods)))
    centres = {"lower": np.maximum(mean, 0.0), "consistent": np.where(relevant, mean, 0.0), "upper": mean}
    ratios = mean / error
    p_values = {
        name: float((((resampled - centre) / error).max(axis=1) > ratios.max()).mean())
        for name, centre in centres.items()
    }
    return SuperiorAbility(
        p_value=p_values["consistent"],
        p_value_lower=p_values["lower"],
        p_value_upper=p_values["upper"],
        reality_check_p_value=float(((resampled - mean).max(axis=1) > mean.max()).mean()),
        statistic=float(ratios.max()),
        best_trial=int(varies[ratios.argmax()]),
        n_trials=trials,
        n_varying=int(varies.size),
        n_obs=periods,
        block_length=float(block_length),
        n_resamples=n_resamples,
    )


def optimal_block_length(returns: ArrayLike) -> FloatArray:
    """Mean block length that makes the stationary bootstrap's variance of the mean most accurate.

    Politis and White (2004) with the correction of Patton, Politis and White (2009), and Patton's choices where the
    paper leaves one: K_N = max(5, log10 T) insignificant autocorrelations in a row end the window, blocks are at most
    min(3 sqrt(T), T/3) long.

    Parameters
    ----------
    returns : array-like, shape (T, N)

    Returns
    -------
    ndarray, shape (N,)
        In periods, not rounded, and below 1 where there is hardly any dependence; NaN for a constant series.
    """
    values = _checked(returns)
    periods, trials = values.shape
    deviations = values - values.mean(axis=0)
    in_a_row = max(5, int(math.log10(periods)))
    longest = math.ceil(math.sqrt(periods)) + in_a_row
    products = np.empty((longest + 1, trials))
    correlations = np.empty((longest + 1, trials))
    energy = np.cumsum(deviations**2, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        for lag in range(longest + 1):
            products[lag] = np.einsum("tn,tn->n", deviations[lag:], deviations[: periods - lag])
            ahead, behind = energy[-1] - energy[lag], energy[-lag - 2]
            correlations[lag] = np.abs(products[lag]) / np.sqrt(ahead * behind)
        covariances = products / periods
        quiet = correlations < 2.0 * math.sqrt(math.log10(periods) / periods)
        windows = np.lib.stride_tricks.sliding_window_view(quiet[:longest], in_a_row, axis=0).all(axis=-1)
        first = np.where(windows.any(axis=0), windows.argmax(axis=0), longest)
        bandwidth = np.minimum(2 * np.maximum(first, 1), longest)
        lags = np.arange(1, longest + 1)[:, None]
        taper = np.clip(2.0 * (1.0 - lags / bandwidth), 0.0, 1.0)  # the flat-top lag window
        slope = 2.0 * (taper * lags * covariances[1:]).sum(axis=0)
        long_run = covariances[0] + 2.0 * (taper * covariances[1:]).sum(axis=0)
        length = np.cbrt((slope / long_run) ** 2 * periods)
    most = math.ceil(min(3.0 * math.sqrt(periods), periods / 3.0))
    return np.asarray(np.minimum(length, most))


def _resampled_means(
    values: FloatArray, block_length: float, n_resamples: int, generator: np.random.Generator
) -> FloatArray:
    """Column means of stationary bootstrap resamples, shape (resamples, N).

    A mean needs only how often each period was drawn, so resampling is one product of counts and returns.
    """
    periods = len(values)
    means = np.empty((n_resamples, values.shape[1]))
    for start in range(0, n_resamples, _RESAMPLES_AT_ONCE):
        stop = min(start + _RESAMPLES_AT_ONCE, n_resamples)
        counts = [
            np.bincount(_resample(periods, block_length, generator), minlength=periods)
            for _ in range(start, stop)
        ]
        means[start:stop] = np.asarray(counts, dtype=np.float64) @ values / periods
    return means


def _resample(periods: int, block_length: float, generator: np.random.Generator) -> IntArray:
    """Positions of one resample: blocks of geometric length from random starts, wrapping round at the end.

    Draws in the order of ``arch.bootstrap.StationaryBootstrap``, so equal seeds give equal resamples.
    """
    starts = generator.integers(periods, size=periods, dtype=np.int64)
    begins = generator.random(periods) <= 1.0 / block_length
    begins[0] = True
    places = np.arange(periods)
    block = np.maximum.accumulate(np.where(begins, places, 0))
    positions: IntArray = (starts[block] + places - block) % periods
    return positions


def variance_of_mean(values: FloatArray, block_length: float) -> FloatArray:
    """Variance that the stationary bootstrap gives to each column's mean (Politis and Romano 1994, lemma 1)."""
    periods = len(values)
    deviations = values - values.mean(axis=0)
    # Autocovariances of all lags at once; twice the length keeps the ends from wrapping round.
    spectrum = np.abs(np.fft.rfft(deviations, 2 * periods, axis=0)) ** 2
    covariances = np.fft.irfft(spectrum, 2 * periods, axis=0)[:periods] / periods
    share = np.arange(1, periods) / periods
    stays = 1.0 - 1.0 / block_length
    lags = np.arange(1, periods)
    weights = (1.0 - share) * stays**lags + share * stays ** (periods - lags)
    long_run = covariances[0] + 2.0 * weights @ covariances[1:]
    # Positive in exact arithmetic; anti-persistent returns bring it close to zero.
    return np.asarray(np.maximum(long_run, RELATIVE_ZERO * covariances[0]) / periods)


def _checked(returns: ArrayLike) -> FloatArray:
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 1 or len(values) < FEWEST_PERIODS:
        raise _refusal(
            "there is too little to resample",
            f"a table of at least {FEWEST_PERIODS} periods and one trial",
            f"shape {values.shape}",
        )
    if not np.isfinite(values).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        raise _refusal(
            "returns are not finite",
            "a finite return in each row and column",
            f"{values[row, column]} in row {row}, column {column}",
        )
    return values


def _refusal(what: str, expected: str, found: str) -> ValidationError:
    return ValidationError(
        what, expected=expected, found=found, action="pass the trial ledger's returns_matrix"
    )
