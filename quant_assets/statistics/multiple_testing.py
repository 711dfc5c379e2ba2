"""Many trials judged together: haircut Sharpe ratios, StepM, the false discovery rate, and the Rademacher anti-serum.

Each method answers another question about the same trials:

- Harvey and Liu (2015, *Backtesting*, J. Portfolio Management 42): what is left of a Sharpe ratio when its p-value
  pays for the other tests?
- Romano and Wolf (2005, *Stepwise Multiple Testing as Formalized Data Snooping*, Econometrica 73): which trials are
  better than doing nothing, when the chance of even one wrong name on the list is held?
- Benjamini and Yekutieli (2001, *The Control of the False Discovery Rate in Multiple Testing under Dependency*,
  Annals of Statistics 29): which share of a list would be wrong if it ended at this strategy?
- Paleologo (2025, *The Elements of Quantitative Investing*, section 8.3): below which Sharpe ratio does none of the
  trials lie, with a stated confidence and for any dependence between them?
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from quant_assets.common.errors import ValidationError
from quant_assets.splits.purging import IntArray
from quant_assets.statistics.sharpe_inference import RELATIVE_ZERO, FloatArray
from quant_assets.statistics.superior_ability import (
    FEWEST_PERIODS,
    optimal_block_length,
    variance_of_mean,
)

FAMILY_WISE_RATE = 0.05
CONFIDENCE = 0.95
RESAMPLES = 1000
SIGN_DRAWS = 2000  # the standard error of a complexity is about 1 % of it
SEED = 2005
_DRAWS_AT_ONCE = 250

ADJUSTMENTS = ("bonferroni", "holm", "bhy")  # the paper's names
MEAN = "mean"
HAIRCUTS = (*ADJUSTMENTS, MEAN)


# ------------------------------------------------------------------------------------- haircut Sharpe ratios


@dataclass(frozen=True)
class HaircutSharpe:
    """What multiple testing leaves of Sharpe ratios. Arrays of shape (M,), one entry a trial.

    Attributes
    ----------
    p_values : ndarray
        Two-sided, of each trial as the only one.
    adjusted : mapping of str to ndarray
        The p-values after each of `HAIRCUTS`.
    sharpes : mapping of str to ndarray
        The Sharpe ratios that a single test would have to show for those p-values. Per period, with the sign of the
        ratio as shown.
    haircuts : mapping of str to ndarray
        Fraction of the Sharpe ratio that is lost, between 0 and 1; NaN for a ratio of 0.
    """

    p_values: FloatArray
    adjusted: Mapping[str, FloatArray]
    sharpes: Mapping[str, FloatArray]
    haircuts: Mapping[str, FloatArray]


def haircut_sharpe(sharpe: ArrayLike, n_obs: ArrayLike, n_lost: int = 0) -> HaircutSharpe:
    """Haircut Sharpe ratios of trials that are all known.

    Parameters
    ----------
    sharpe : array-like, shape (M,)
        Per period, of every trial.
    n_obs : array-like, shape (M,)
        Periods of each.
    n_lost : int, default 0
        Trials of which nothing is known but that they were made. Each counts with a p-value of 1, which no other
        value could make harder for the rest.

    Returns
    -------
    HaircutSharpe

    Raises
    ------
    ValidationError
        Ratios that are not finite, fewer than 2 periods, or a negative number of lost trials.

    Notes
    -----
    Two-sided, as in the paper: p = P(abs(t) >= SR sqrt(T)) with T - 1 degrees of freedom, so a trial that loses money
    is evidence against "no edge" too. The mean is that of the three adjusted p-values, as in the authors' program.
    They draw the p-values of the other tests from a model of what the profession tried; here every p-value is known.
    Returns are taken as independent over time.
    """
    from scipy import stats

    ratios = np.asarray(sharpe, dtype=np.float64)
    periods = np.broadcast_to(np.asarray(n_obs, dtype=np.float64), ratios.shape)
    sound = ratios.ndim == 1 and n_lost >= 0
    if not (sound and np.isfinite(ratios).all() and bool((periods >= 2).all())):
        raise _refusal(
            "haircut Sharpe ratios",
            "finite ratios of trials of 2 periods or more each, and no negative number of lost trials",
            f"shape {ratios.shape}, {int((~np.isfinite(ratios)).sum())} not finite, {n_lost} lost",
        )
    statistics = np.abs(ratios) * np.sqrt(periods)
    p_values = np.asarray(2.0 * stats.t.sf(statistics, periods - 1.0))
    every = np.concatenate([p_values, np.ones(n_lost)])
    adjusted = {name: _adjusted(every, name)[: ratios.size] for name in ADJUSTMENTS}
    adjusted[MEAN] = np.mean(list(adjusted.values()), axis=0)
    left = {}
    for name, values in adjusted.items():
        # A p-value below 1e-308 is 0 and has no quantile; none lies beyond the ratio itself but by rounding.
        quantiles = stats.t.isf(values / 2.0, periods - 1.0) / np.sqrt(periods)
        left[name] = np.where(values >= 1.0, 0.0, np.minimum(quantiles, np.abs(ratios)))
    with np.errstate(invalid="ignore", divide="ignore"):
        haircuts = {name: 1.0 - values / np.abs(ratios) for name, values in left.items()}
    sharpes = {name: np.sign(ratios) * values for name, values in left.items()}
    return HaircutSharpe(p_values, adjusted, sharpes, haircuts)


def _adjusted(p_values: FloatArray, name: str) -> FloatArray:
    """P-values after one of `ADJUSTMENTS`.

    Not through statsmodels, whose Holm collects garbage each time: .1 s here, seconds in a process that holds much.
    """
    n = p_values.size
    if name == "bhy":
        return false_discovery_rates(p_values)
    if name == "bonferroni":
        return np.minimum(p_values * n, 1.0)
    order = np.argsort(p_values, kind="stable")
    # Holm (1979): the i-th smallest of n pays for the n - i + 1 that are left, and no less than those before it.
    stepped = np.maximum.accumulate(p_values[order] * np.arange(n, 0, -1))
    adjusted = np.empty(n)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


# ------------------------------------------------------------------------------------- false discovery rate


def false_discovery_rates(p_values: ArrayLike) -> FloatArray:
    """The q-value of each test: the false discovery rate of the shortest list that holds it.

    Benjamini and Yekutieli (2001), which holds for any dependence between the tests.

    Parameters
    ----------
    p_values : array-like, shape (M,)
        NaN, of a track without variance, counts as 1: it is no evidence.
    """
    from scipy.stats import false_discovery_control

    values = np.asarray(p_values, dtype=np.float64)
    if values.size == 0:
        return values
    return np.asarray(false_discovery_control(np.where(np.isnan(values), 1.0, values), method="by"))


# ----------------------------------------------------------------------------------------------------- StepM


@dataclass(frozen=True)
class StepwiseTest:
    """Which trials are better than doing nothing.

    Attributes
    ----------
    superior : tuple of int
        Columns, ascending. The chance that any of them has no positive mean is at most ``size``.
    size : float
        Family-wise error rate.
    n_trials, n_obs : int
        Columns and periods given.
    block_length : int
        Mean length of the bootstrap's blocks, in periods.
    n_resamples, seed : int
    """

    superior: tuple[int, ...]
    size: float
    n_trials: int
    n_obs: int
    block_length: int
    n_resamples: int
    seed: int


def stepwise_superior_trials(
    returns: ArrayLike,
    *,
    size: float = FAMILY_WISE_RATE,
    block_length: int | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = SEED,
) -> StepwiseTest:
    """Romano and Wolf's StepM over all trials together, by the stationary bootstrap.

    Parameters
    ----------
    returns : array-like, shape (T, N)
        Returns per period of N trials, in excess of the benchmark (net returns: of doing nothing).
    size : float, default 0.05
    block_length : int, optional
        By default the median over trials of `optimal_block_length`, rounded up.
    n_resamples : int, default 1000
    seed : int
        Fixed, so that the same trials always give the same list and nobody can draw again.

    Returns
    -------
    StepwiseTest
        A trial that does not vary is in no list.

    Raises
    ------
    ValidationError
        Fewer than 32 periods, or returns that are not finite.

    Notes
    -----
    By ``arch.bootstrap.StepM``, which compares losses (minus the returns), with Hansen's consistent recentring. It
    divides no difference by its standard error, so each trial is divided by its long-run standard deviation first:
    the studentised test, in which a volatile trial hides no quiet one. The benchmark itself stands last among the
    trials. It never beats itself, and it keeps one trial in the set: arch 8.0 has no maximum of none when the last
    trial is found in a later step.
    """
    from arch.bootstrap import StepM

    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2 or len(values) < FEWEST_PERIODS or not np.isfinite(values).all():
        raise _refusal(
            "StepM",
            f"finite returns of at least {FEWEST_PERIODS} periods, one column a trial",
            f"shape {values.shape}, {int((~np.isfinite(values)).sum())} values that are not finite",
        )
    periods, trials = values.shape
    varies = varying(values)
    if varies.size == 0:
        return StepwiseTest((), size, trials, periods, 0, n_resamples, seed)
    moving = np.ascontiguousarray(values[:, varies])
    if block_length is None:
        block_length = max(math.ceil(np.median(optimal_block_length(moving))), 1)
    deviations = np.sqrt(periods * variance_of_mean(moving, float(block_length)))
    losses = np.column_stack([-moving / deviations, np.zeros(periods)])
    test = StepM(
        np.zeros(periods),
        losses,
        size=size,
        block_size=block_length,
        reps=n_resamples,
        bootstrap="stationary",
        seed=seed,
    )
    test.compute()
    found = sorted(int(varies[int(str(column))]) for column in test.superior_models)
    return StepwiseTest(tuple(found), size, trials, periods, block_length, n_resamples, seed)


# -------------------------------------------------------------------------------------- Rademacher anti-serum


@dataclass(frozen=True)
class RademacherBounds:
    """Lower bounds for the Sharpe ratios of trials, all at once.

    Attributes
    ----------
    lower : ndarray, shape (N,)
        Per period. With ``confidence``, no trial's true Sharpe ratio lies below its own. NaN for one that does not
        vary.
    complexity : float
        Empirical Rademacher complexity of the standardised returns: how well the trials as a set follow coin tosses.
    data_snooping, estimation_error : float
        What is taken off every ratio, per period: twice the complexity, and what one long record leaves open.
    confidence : float
    n_trials, n_obs : int
        Trials that vary, and periods.
    """

    lower: FloatArray
    complexity: float
    data_snooping: float
    estimation_error: float
    confidence: float
    n_trials: int
    n_obs: int


def rademacher_complexity(values: ArrayLike, n_draws: int = SIGN_DRAWS, seed: int = SEED) -> float:
    """Empirical Rademacher complexity of N series: E max_n (1/T) sum_t e_t x_tn over coin tosses e_t of -1 and 1.

    Tosses and their opposites are equally likely, so it is half the mean of maximum less minimum over the series:
    exactly 0 for one series, and for copies of one.

    Parameters
    ----------
    values : array-like, shape (T, N)
        Standardised: each with a standard deviation of 1, the mean not taken off.
    n_draws : int, default 2000
        Sequences of tosses.
    seed : int
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise _refusal("Rademacher complexity", "a table of finite values", f"shape {table.shape}")
    generator = np.random.default_rng(seed)
    total = 0.0
    for start in range(0, n_draws, _DRAWS_AT_ONCE):
        draws = min(_DRAWS_AT_ONCE, n_draws - start)
        signs = 2.0 * generator.integers(0, 2, size=(draws, len(table))) - 1.0
        total += float(np.ptp(signs @ table, axis=1).sum())
    return 0.5 * total / (n_draws * len(table))


def rademacher_bounds(
    returns: ArrayLike, *, confidence: float = CONFIDENCE, n_draws: int = SIGN_DRAWS, seed: int = SEED
) -> RademacherBounds:
    """Paleologo's Rademacher anti-serum for Sharpe ratios.

    With probability 1 - d, for all n of N trials over T periods at once (procedure 8.2, sub-Gaussian returns)::

        SR_n >= SR_hat_n - 2 R - 3 sqrt(2 log(2 / d) / T) - sqrt(2 log(2 N / d) / T)

    where R is `rademacher_complexity` of the returns over their standard deviations.

    Parameters
    ----------
    returns : array-like, shape (T, N)
        Per period.
    confidence : float, default 0.95
        1 - d.
    n_draws, seed : int
        Of the complexity.

    Raises
    ------
    ValidationError
        Fewer than 2 periods, returns that are not finite, no trial that varies, or a confidence outside (0, 1).

    Notes
    -----
    It holds for any dependence between the trials and for finite T, but takes periods as independent and tails as
    no fatter than a normal's. The price is width: at 95 % and 2,520 sessions a single trial loses 0.22 a session,
    3.4 a year. A trial that stays above zero is beyond doubt; one that does not is merely not beyond it. The standard
    deviation is that of the sample, where the book has a forecast.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all() or not 0.0 < confidence < 1.0:
        raise _refusal(
            "Rademacher bounds",
            "finite returns of at least 2 periods, one column a trial, and a confidence between 0 and 1",
            f"shape {values.shape}, confidence {confidence}",
        )
    varies = varying(values)
    if varies.size == 0:
        raise _refusal("Rademacher bounds", "a trial that varies", f"{values.shape[1]} that do not")
    periods, trials = len(values), int(varies.size)
    standardised = values[:, varies] / values[:, varies].std(axis=0, ddof=1)
    complexity = rademacher_complexity(standardised, n_draws, seed)
    risk = 1.0 - confidence
    error = 3.0 * math.sqrt(2.0 * math.log(2.0 / risk) / periods)
    error += math.sqrt(2.0 * math.log(2.0 * trials / risk) / periods)
    lower = np.full(values.shape[1], np.nan)
    lower[varies] = standardised.mean(axis=0) - 2.0 * complexity - error
    return RademacherBounds(lower, complexity, 2.0 * complexity, error, confidence, trials, periods)


def varying(returns: FloatArray) -> IntArray:
    """Columns with variance: a trial without it is no evidence."""
    spread = returns.std(axis=0)
    return np.flatnonzero(spread > RELATIVE_ZERO * np.abs(returns).max(axis=0, initial=0.0))


def _refusal(what: str, expected: str, found: str) -> ValidationError:
    return ValidationError(what, expected=expected, found=found, action="pass trials of the trial ledger")
