"""How much of a result is selection: probability of backtest overfitting, effective number of trials, HAC t.

The stationary-bootstrap tests (Reality Check, SPA) are not here: their reference implementation, ``arch``, is a
development dependency.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from numpy.typing import ArrayLike, NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.splits.purging import IntArray
from quant_assets.statistics.sharpe_inference import RELATIVE_ZERO, FloatArray, Statistic, plain

_MOST_BLOCKS = 24  # 2.7 million combinations
# 128 kB for each intermediate array: they stay in the second cache. S = 16 over 100 trials takes .015 s of processor
# time; with arrays of 8 MB it takes .06 s.
_VALUES_AT_ONCE = 2**14
# Sharpe ratios closer than this share of their size are tied: identical trials may round differently.
_TIE = 1e-10


@dataclass(frozen=True, eq=False)
class BacktestOverfitting:
    """Result of combinatorially symmetric cross-validation, one entry for each choice of in-sample blocks.

    Parameters
    ----------
    pbo : float
        Share of choices whose in-sample winner is out of sample at or below the median trial.
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
        """Share of choices whose in-sample winner has a negative Sharpe ratio out of sample."""
        return float(np.mean(self.out_of_sample_sharpe < 0))

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
        Returns per period of N trials over the same T periods.
    n_blocks : int, default 16
        S, even, 2 to 24; block lengths as equal as possible. 16 gives 12,870 combinations.

    Returns
    -------
    BacktestOverfitting

    Raises
    ------
    ValidationError
        Fewer than two trials, fewer than two rows for each block, an odd S, returns that are not finite.

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
    return BacktestOverfitting(float(np.mean(logits <= 0)), logits, selected, inside, outside, trials, blocks)


def effective_number_of_trials(returns: ArrayLike) -> float:
    """Number of independent trials that are as diverse as these correlated ones.

    The effective rank of the trials' correlation matrix (Roy and Vetterli 2007; used for this purpose by Lopez de
    Prado, Lipton and Zoonekynd 2025). It needs no seed and no number of clusters, unlike clustering (Lopez de Prado
    2018). Sampling noise lowers it: m independent series over n periods have an expected spectral entropy of
    ln m - m/(2n), not ln m (Page 1993), so it is divided by that and held in [1, N]. A record too short to tell
    trials apart therefore counts each one.

    Parameters
    ----------
    returns : array-like, shape (T, N)
        Returns per period of N trials. Trials that never vary count as one more trial together.

    Returns
    -------
    float
        In [1, N].

    Raises
    ------
    ValidationError
        No trial, fewer than two rows, or returns that are not finite.
    """
    values = _trials(returns, at_least=1)
    periods, trials = values.shape
    if periods < 2:
        raise _refusal(
            "the trials are too short to be compared",
            "at least 2 rows",
            f"{periods}",
            "pass the whole records",
        )
    deviations = values - values.mean(axis=0)
    scale = np.sqrt((deviations**2).sum(axis=0))
    varies = scale > RELATIVE_ZERO * math.sqrt(periods) * np.abs(values).max(axis=0)
    still = int(not varies.all())
    moving = int(varies.sum())
    if moving == 0:
        return 1.0
    standard = deviations[:, varies] / scale[varies]
    gram = standard.T @ standard if moving <= periods else standard @ standard.T  # equal non-zero eigenvalues
    smaller, larger = sorted((moving, periods - 1))
    expected = smaller * math.exp(-smaller / (2 * larger))
    return float(min(max(moving * effective_rank(gram) / expected, 1.0) + still, trials))


def effective_rank(correlation: ArrayLike) -> float:
    """Exponential of the entropy of the eigenvalues of a positive semi-definite matrix (Roy and Vetterli 2007)."""
    eigenvalues = np.linalg.eigvalsh(np.asarray(correlation, dtype=np.float64))
    shares = eigenvalues[eigenvalues > 0]
    shares = shares / shares.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def hac_t_statistic(series: ArrayLike, lag: int, axis: int = -1) -> Statistic:
    """t statistic of the mean under autocorrelation: Newey and West (1987), Bartlett weights, no small-sample factor.

    Parameters
    ----------
    series : array-like, shape (..., T)
        For instance the daily information coefficients.
    lag : int
        Autocovariances used; for labels over h periods, lag = h.
    axis : int, default -1
        Axis of time.

    Returns
    -------
    float or ndarray
        NaN where the series holds NaN or does not vary.

    Raises
    ------
    ValidationError
        ``lag`` is negative or not below the number of periods.
    """
    values = np.moveaxis(np.atleast_1d(np.asarray(series, dtype=np.float64)), axis, -1)
    periods = values.shape[-1]
    if isinstance(lag, bool) or not isinstance(lag, int | np.integer) or not 0 <= lag < periods:
        raise _refusal(
            "lag is out of bounds",
            f"an integer from 0 to {periods - 1} (periods - 1)",
            repr(lag),
            "use the label horizon in periods",
        )
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean(axis=-1)
        deviations = values - mean[..., None]
        variance = (deviations**2).sum(axis=-1)
        floor = periods * (RELATIVE_ZERO * mean) ** 2
        varies = variance > floor
        for step in range(1, int(lag) + 1):
            weight = 2.0 * (1.0 - step / (lag + 1.0))
            variance = variance + weight * (deviations[..., step:] * deviations[..., :-step]).sum(axis=-1)
        error = np.sqrt(np.where(varies & (variance > floor), variance, np.nan)) / periods
        return plain(mean / error)


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


def _trials(returns: ArrayLike, at_least: int = 2) -> FloatArray:
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] < at_least:
        raise _refusal(
            "there are too few trials to compare",
            f"a table of shape (periods, trials) with at least {at_least} trial(s)",
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
