"""How much of a result is selection: CSCV, effective number of trials, whether trials were searched for; and the t
statistic of a dependent mean.

The stationary-bootstrap tests (Reality Check, SPA) are not here: their reference implementation, ``arch``, is a
development dependency.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, islice, permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from quant_assets.common.errors import ValidationError
from quant_assets.splits.purging import IntArray
from quant_assets.statistics.sharpe_inference import (
    RELATIVE_ZERO,
    FloatArray,
    Statistic,
    long_run_variance,
    plain,
)

_MOST_BLOCKS = 24  # 2.7 million combinations
# 128 kB for each intermediate array: they stay in the second cache. S = 16 over 100 trials takes .015 s of processor
# time; with arrays of 8 MB it takes .06 s.
_VALUES_AT_ONCE = 2**14
_RESOLUTION = 80.0  # (1 + L / 10)^2 = 1 + L: see effective_number_of_trials
FEWEST_FOR_MEAN = 8  # two cosines
# Sharpe ratios closer than this share of their size are tied: identical trials may round differently.
_TIE = 1e-10


@dataclass(frozen=True, eq=False)
class BacktestOverfitting:
    """Result of combinatorially symmetric cross-validation, one entry for each choice of in-sample blocks.

    Parameters
    ----------
    pbo : float
        Share of choices whose in-sample winner is out of sample at or below the median trial; NaN with one trial.
    logits : ndarray, shape (C,)
        ln(w / (1 - w)), w the relative rank out of sample of the in-sample winner.
    selected : ndarray, shape (C,)
        Column of the in-sample winner.
    in_sample_sharpe, out_of_sample_sharpe : ndarray, shape (C,)
        Sharpe ratios per period of that winner.
    n_trials, n_blocks : int
        Columns compared, and blocks the record was cut into.
    """

    pbo: float
    logits: FloatArray
    selected: IntArray
    in_sample_sharpe: FloatArray
    out_of_sample_sharpe: FloatArray
    n_trials: int
    n_blocks: int

    @property
    def probability_of_loss(self) -> float:
        """Share of choices whose in-sample winner loses out of sample (Bailey et al. 2017, section 4.3).

        Not to gain is to lose: a winner that did not move out of sample counts. With one trial it is the share of
        halves of the record in which that trial lost, about the p-value of its Sharpe ratio. Copies of a trial change
        nothing, because whichever of them wins, its other half is the same.
        """
        return float(np.mean(self.out_of_sample_sharpe <= 0))

    @property
    def degradation_slope(self) -> float:
        """Least-squares slope of out-of-sample on in-sample Sharpe over the choices; NaN if that is constant."""
        x = self.in_sample_sharpe - self.in_sample_sharpe.mean()
        squares = float(x @ x)
        return float(x @ self.out_of_sample_sharpe) / squares if squares > 0 else math.nan


def probability_of_backtest_overfitting(returns: ArrayLike, n_blocks: int = 16) -> BacktestOverfitting:
    """Probability that the trial which is best in sample is no better than the median out of sample (CSCV).

    Bailey, Borwein, Lopez de Prado and Zhu (2017, *The Probability of Backtest Overfitting*). The record is cut into
    S blocks of consecutive rows, each of the C(S, S/2) halves serves once as in-sample half, and the rest is out of
    sample. w = rank / (N + 1), ties take the average rank, PBO = P(lambda <= 0).

    Parameters
    ----------
    returns : array-like, shape (T, N)
        Returns per period of N trials over the same T periods. One trial has no PBO, but a probability of loss.
    n_blocks : int, default 16
        S, even, 2 to 24; block lengths as equal as possible. 16 gives 12,870 combinations.

    Returns
    -------
    BacktestOverfitting

    Raises
    ------
    ValidationError
        No trial, fewer than two rows for each block, an odd S, returns that are not finite.

    Notes
    -----
    Sharpe ratios of all halves come from block sums of returns and their squares times a 0/1 matrix. A trial that
    does not vary within a half scores 0 there.
    """
    values, blocks = _trials(returns), _checked_blocks(n_blocks)
    periods, trials = values.shape
    if periods < 2 * blocks:
        raise _refusal(
            "the record is too short for its blocks",
            f"at least {2 * blocks} rows (2 for each of {blocks} blocks)",
            f"{periods} rows",
            "lower n_blocks, or pass a longer record",
        )
    size, longer = divmod(periods, blocks)
    starts = np.array([block * size + min(block, longer) for block in range(blocks)])
    mean = values.mean(axis=0)
    centred = values - mean  # keeps the sums of squares well conditioned
    sums = np.add.reduceat(centred, starts, axis=0)
    squares = np.add.reduceat(centred**2, starts, axis=0)
    lengths = np.diff(np.append(starts, periods)).astype(np.float64)

    count = math.comb(blocks, blocks // 2)
    logits, inside, outside = np.empty(count), np.empty(count), np.empty(count)
    selected = np.empty(count, dtype=np.int64)
    # In lexicographic order the complement of choice i is choice count - 1 - i, so one pass over the first half
    # of the choices, read in both directions, is all.
    done = 0
    for chosen in _choices(blocks, at_once=max(1, _VALUES_AT_ONCE // trials)):
        halves = [
            _sharpe_ratios(half @ sums, half @ squares, (half @ lengths)[:, None], mean)
            for half in (chosen, 1.0 - chosen)
        ]
        forwards = np.arange(done, done + len(chosen))
        for rows, (train, test) in ((forwards, halves), (count - 1 - forwards, halves[::-1])):
            winner = train.argmax(axis=1)
            pick = np.arange(len(winner))
            selected[rows], inside[rows], outside[rows] = winner, train[pick, winner], test[pick, winner]
            logits[rows] = _logits(test, test[pick, winner])
        done += len(chosen)
    pbo = float(np.mean(logits <= 0)) if trials > 1 else math.nan
    return BacktestOverfitting(pbo, logits, selected, inside, outside, trials, blocks)


def effective_number_of_trials(returns: ArrayLike) -> float:
    """Number of independent trials that are as diverse as these correlated ones; it never falls when one is added.

    ln det(I + L C) / ln(1 + L) with C the trials' correlations and L = 80: the information that they carry together
    over that of one (the capacity of a Gaussian channel, Cover and Thomas 2006, section 9.4; the diversity of a
    determinantal point process, Kulesza and Taskar 2012). A trial of which a tenth is its own (correlation .95 with
    what is there) counts as a half. One more trial multiplies the determinant by 1 + L - L^2 c'(I + L C)^-1 c >= 1,
    whatever it correlates with, and by 1 + L at the most (Hadamard). The effective rank (Roy and Vetterli 2007) and
    other functions of the *shares* of eigenvalues do not have that property: 400 near copies of one of 20 independent
    trials lower it from 20 to 1.9.

    Parameters
    ----------
    returns : array-like, shape (T, N)
        Returns per period of N trials; NaN where a trial has no such period. Trials without a period in common do not
        correlate. Trials that never vary count as one more trial together.

    Returns
    -------
    float
        In [1, N]. Sampling noise lowers it a little: N independent trials over T periods count as about
        N (1 - N / (9 T)).

    Raises
    ------
    ValidationError
        No trial, fewer than two rows, a trial without two periods, or returns that are infinite.
    """
    standard, _, _ = _standardised(returns)
    n_trials, varies = standard.shape[1], standard.any(axis=0)
    still, moving = int(not varies.all()), int(varies.sum())
    if moving == 0:
        return 1.0
    standard = standard[:, varies]
    # equal non-zero eigenvalues
    gram = standard.T @ standard if moving <= len(standard) else standard @ standard.T
    eigenvalues = np.maximum(np.linalg.eigvalsh(gram), 0.0)
    diversity = float(np.log1p(_RESOLUTION * eigenvalues).sum()) / math.log1p(_RESOLUTION)
    return float(min(max(diversity, 1.0) + still, n_trials))


def _standardised(returns: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Deviations of each trial at unit length, its Sharpe ratio per period, and its number of periods.

    0 where a trial has no such period; deviations and ratio of a trial that does not vary are 0. So the products of
    deviations are the correlations of the trials' *means*, also where they share some of their periods only.
    """
    values = np.asarray(returns, dtype=np.float64)
    absent = np.isnan(values)
    values = _trials(np.where(absent, 0.0, values))
    counts = (~absent).sum(axis=0)
    if counts.min() < 2:
        raise _refusal(
            "the trials are too short to be compared",
            "at least 2 periods of each",
            f"{counts.min()}",
            "pass the whole records",
        )
    means = values.sum(axis=0) / counts
    deviations = np.where(absent, 0.0, values - means)
    scale = np.sqrt((deviations**2).sum(axis=0))
    varies = scale > RELATIVE_ZERO * np.sqrt(counts) * np.abs(values).max(axis=0)
    divisor = np.where(varies, scale, 1.0)
    ratios = np.where(varies, means * np.sqrt(counts - 1.0) / divisor, 0.0)
    return np.where(varies, deviations / divisor, 0.0), ratios, counts.astype(np.float64)


# ------------------------------------------------------------------------------ whether trials were searched for

# Whoever changes the best trial so far and keeps what looks better finds more than the best of N independent trials,
# because gains add up: 40 trials without skill show 3.6 standard errors where independent ones show 2.2. What is left
# of it is the order of arrival: each trial resembles the one that was best when it was made.

# So often honest trials count as searched for. Five trials have 60 orders that differ (the first two may change
# places), so their smallest p-value is .017.
SEARCH_LEVEL = 0.02
# From here on the Sharpe ratios are drawn again too: those of ten trials follow any order too often by chance.
_FEWEST_REDRAWN = 11
_MOST_ENUMERATED = 7  # 5,040 orders; beyond, and for ratios:
_REDRAWN = 999
_SAME, _DECIMALS = 1e-9, 12  # of sums of correlations; of Sharpe ratios


def search_p_value(returns: ArrayLike) -> float:
    """Probability that trials which were not searched for follow the best of the earlier ones so closely.

    The statistic is ``sum_k C(k, best) - mean_j C(k, j)`` over the trials k in their order, with C the correlation of
    return streams, j the earlier trials, and ``best`` the earlier one with the highest Sharpe ratio. It is compared
    with that of other orders of the same trials, which are as likely when the order says nothing: exact, whatever the
    returns are. From 11 trials on also with that of other Sharpe ratios in the same order, drawn from a normal with
    correlations C (the means of normal returns are independent of their covariances); the larger p-value counts.

    Either alone takes honest trials for a search. A grid that is walked in order is no random order: of such grids of
    40 trials the first finds 38 %, both 2 %. Means of skewed returns do depend on their covariances: of 40 strategies
    that crash together (skewness -2, correlation .9) the second finds 47 %, both 2 % (300 ledgers each; what honest
    and searched ledgers show is in `quant_assets_tests.benchmarks.searched_trials`).

    Parameters
    ----------
    returns : array-like, shape (T, N)
        Returns per period of N trials *in their order of arrival*; NaN where a trial has no such period.

    Returns
    -------
    float
        1 with fewer than three trials; with three at least 1/3, and with four 1/12.

    Raises
    ------
    ValidationError
        As `effective_number_of_trials`.

    Notes
    -----
    The draws come from a fixed seed, so equal trials have equal p-values.
    """
    standard, ratios, counts = _standardised(returns)
    periods, n_trials = standard.shape
    if n_trials < 3:
        return 1.0
    # Equal ones may differ by a rounding error; the earlier of them is the best.
    ratios = ratios.round(_DECIMALS)
    correlations = standard.T @ standard
    p_value = _share(_following(correlations, _orders(n_trials), ratios[None]))
    if n_trials < _FEWEST_REDRAWN:
        return p_value
    # A root of the correlations; where they are more than the periods, the streams are one.
    values, vectors = np.linalg.eigh(correlations) if n_trials <= periods else (np.ones(1), standard.T)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    drawn = _normals(root.shape[1]) @ root.T / np.sqrt(counts)
    redrawn = _following(correlations, np.arange(n_trials)[None], np.vstack([ratios, drawn]))
    return max(p_value, _share(redrawn))


def level_of_best(n_trials: int, false_pass: float, *, searched: bool = False) -> float:
    """Level of a one-sided test that the best of ``n_trials`` without skill passes in ``false_pass`` of cases.

    Of independent trials ``1 - (1 - false_pass)^(1/N)`` (Sidak 1967; dependent ones pass less often). Of searched
    ones the level of the bar x with ``P(chi_N > x) = false_pass``, after Scheffe (1953), "A method for judging all
    contrasts in the analysis of variance", Biometrika 40:87-104: let each trial be a combination of what is new in it
    and of the earlier ones. What is new has a t statistic e_k that is standard normal whatever happened before, so a
    trial's own is ``w'e`` with ``|w| = 1``, at most ``|e|``, however w was chosen, and ``|e|^2`` is chi-square with N
    degrees of freedom. It does not hold for a change that was itself fitted to the returns it is judged by.

    Parameters
    ----------
    n_trials : int
        At least 1.
    false_pass : float
        In (0, 1).
    searched : bool, default False

    Examples
    --------
    >>> round(level_of_best(40, 0.01), 6)
    0.000251
    >>> round(float(-special.ndtri(level_of_best(40, 0.01, searched=True))), 3)
    7.981
    """
    if not searched:
        return -math.expm1(math.log1p(-false_pass) / n_trials)
    level = float(special.ndtr(-math.sqrt(special.chdtri(n_trials, false_pass))))
    return max(level, float(np.finfo(np.float64).tiny))  # 37 standard errors, from 1,300 trials on


def _following(correlations: FloatArray, orders: IntArray, ratios: FloatArray) -> FloatArray:
    """How closely trials follow the best of the earlier ones, for rows of orders and of ratios (of each trial)."""
    n = max(len(orders), len(ratios))
    every, rows = np.broadcast_to(orders, (n, orders.shape[1])), np.arange(len(orders))
    shown = np.take_along_axis(np.broadcast_to(ratios, every.shape), every, axis=1)
    best, highest = every[:, 0].copy(), shown[:, 0].copy()
    sums, found = correlations[orders[:, 0]], np.zeros(n)
    for number in range(1, orders.shape[1]):
        new = orders[:, number]
        found += correlations[new, best] - sums[rows, new] / number
        sums = sums + correlations[new]
        better = shown[:, number] > highest
        best[better], highest[better] = every[better, number], shown[better, number]
    return found


def _share(found: FloatArray) -> float:
    """p-value of the first of these."""
    return float(np.mean(found >= found[0] - _SAME))


@cache
def _orders(n_trials: int) -> IntArray:
    """Orders of trials to compare with; the first is the one they have."""
    if n_trials <= _MOST_ENUMERATED:
        return np.array(list(permutations(range(n_trials))), dtype=np.int64)
    orders = np.tile(np.arange(n_trials), (1 + _REDRAWN, 1))
    np.random.Generator(np.random.PCG64(n_trials)).permuted(orders[1:], axis=1, out=orders[1:])
    return orders


@cache
def _normals(n_values: int) -> FloatArray:
    return np.random.Generator(np.random.PCG64(n_values)).standard_normal((_REDRAWN, n_values))


@dataclass(frozen=True, eq=False)
class DependentMean:
    """A test of the mean of a dependent series.

    Attributes
    ----------
    statistic, p_value : float or ndarray
        t statistic, and the two-sided p-value by Student's t with ``degrees_of_freedom``; NaN where the series holds
        NaN or does not vary.
    degrees_of_freedom : int
        Cosines that the variance was estimated with. With 20 of them the 5 % critical value is 2.09, not 1.96.
    standard_error : float or ndarray
        Of the mean; NaN where there is no statistic.
    """

    statistic: Statistic
    p_value: Statistic
    degrees_of_freedom: int
    standard_error: Statistic


def dependent_mean(series: ArrayLike, axis: int = -1) -> DependentMean:
    """Test whether a dependent series has mean 0, for instance information coefficients of overlapping labels.

    The equal-weighted cosine estimator (EWC) of the long-run variance: the mean square of the B lowest type-II cosine
    transforms, with t_B critical values and B = 0.41 T^(2/3) (Lazarus, Lewis, Stock and Watson 2018, *HAR Inference:
    Recommendations for Practice*, eq. 3, 4 and 10). It needs no lag: a Bartlett kernel as wide as the label's horizon
    rejects 11 % at a stated 5 % for 20 sessions and persistent scores, this one 6 %.

    Parameters
    ----------
    series : array-like, shape (..., T)
    axis : int, default -1
        Axis of time.

    Raises
    ------
    ValidationError
        Fewer than 8 periods.
    """
    from scipy.special import stdtr

    values = np.moveaxis(np.atleast_1d(np.asarray(series, dtype=np.float64)), axis, -1)
    periods = values.shape[-1]
    if periods < FEWEST_FOR_MEAN:
        raise _refusal(
            "the series is too short for the variance of its mean",
            f"at least {FEWEST_FOR_MEAN} periods",
            f"{periods}",
            "pass the whole record",
        )
    cosines = round(0.41 * periods ** (2 / 3))
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        mean = values.mean(axis=-1)
        deviations = values - mean[..., None]
        variance = long_run_variance(deviations, cosines)
        varies = (deviations**2).mean(axis=-1) > (RELATIVE_ZERO * mean) ** 2
        error = np.sqrt(np.where(varies, variance, np.nan) / periods)
        statistic = mean / error
        p_value = 2.0 * stdtr(cosines, -np.abs(statistic))
    return DependentMean(plain(statistic), plain(p_value), cosines, plain(error))


def _sharpe_ratios(
    sums: FloatArray, squares: FloatArray, lengths: FloatArray, mean: FloatArray
) -> FloatArray:
    """Sharpe ratios of halves from the sums of their centred returns; 0 where a half does not vary."""
    centre = sums / lengths
    variance = (squares - sums * centre) / (lengths - 1.0)
    varies = variance > RELATIVE_ZERO * squares / lengths
    ratios: FloatArray = np.where(varies, (centre + mean) / np.sqrt(np.where(varies, variance, 1.0)), 0.0)
    return ratios


def _logits(test: FloatArray, winner: FloatArray) -> FloatArray:
    """Logit of the relative rank of each row's winner among the row; ties take their average rank."""
    own = winner[:, None]
    margin = _TIE * np.maximum(np.abs(own), RELATIVE_ZERO)
    below = (test < own - margin).sum(axis=1)
    tied = (np.abs(test - own) <= margin).sum(axis=1)
    share = (below + (tied + 1) / 2) / (test.shape[1] + 1)
    logits: FloatArray = np.log(share / (1.0 - share))
    return logits


def _choices(blocks: int, at_once: int) -> Iterator[NDArray[np.float64]]:
    """0/1 rows of the choices of half of the blocks that hold block 0, in lexicographic order."""
    choices = ((0, *others) for others in combinations(range(1, blocks), blocks // 2 - 1))
    while chunk := list(islice(choices, at_once)):
        matrix = np.zeros((len(chunk), blocks))
        matrix[np.arange(len(chunk))[:, None], np.array(chunk)] = 1.0
        yield matrix


def _trials(returns: ArrayLike) -> FloatArray:
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < 1:
        raise _refusal(
            "there are no trials to compare",
            "a table of shape (periods, trials) with at least one trial",
            f"shape {values.shape}",
            "pass the returns of all trials of the ledger, one column each",
        )
    broken = np.argwhere(~np.isfinite(values))
    if len(broken):
        row, column = (int(position) for position in broken[0])
        raise _refusal(
            f"{len(broken)} returns of the trials are not finite",
            "a finite return in each row and column",
            f"{values[row, column]} in row {row}, column {column}",
            "compare the trials over the sessions that all of them have",
        )
    return values


def _checked_blocks(n_blocks: int) -> int:
    is_count = isinstance(n_blocks, int | np.integer) and not isinstance(n_blocks, bool)
    if not is_count or n_blocks % 2 or not 2 <= n_blocks <= _MOST_BLOCKS:
        raise _refusal(
            "n_blocks is out of bounds",
            f"an even integer from 2 to {_MOST_BLOCKS}",
            repr(n_blocks),
            "16 blocks are usual",
        )
    return int(n_blocks)


def _refusal(what: str, expected: str, found: str, action: str) -> ValidationError:
    return ValidationError(what, expected=expected, found=found, action=action)
