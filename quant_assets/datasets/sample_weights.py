"""Sample weights from label times: overlapping labels share their information, old ones may count less.

Lopez de Prado (2018), *Advances in Financial Machine Learning*, ch. 4: concurrency (snippet 4.1), average uniqueness
(4.2), time decay (4.11). Labels compete within their symbol; everything is computed from the rows given, so that
the weights of a split's training rows know nothing of its test rows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def sample_weights(
    symbol: Ints, t0: NDArray[Any], t1: NDArray[Any], *, uniqueness: bool, time_decay: float
) -> Floats:
    """Weights of training rows.

    Parameters
    ----------
    symbol : ndarray of int64, shape (n,)
        A number for each symbol.
    t0, t1 : ndarray of datetime64 or numbers, shape (n,)
        Decision time and time at which the outcome is known.
    uniqueness : bool
        Whether rows are weighed by the average uniqueness of their label.
    time_decay : float
        Weight of the oldest observation, in [0, 1]; 1 for no decay.

    Returns
    -------
    ndarray of float64, shape (n,)
        >= 0, of mean 1.
    """
    weights = average_uniqueness(symbol, *bar_ranges(t0, t1)) if uniqueness else np.ones(len(symbol))
    if time_decay < 1:
        weights = weights * decay_factors(t0, weights, oldest=time_decay)
    normalised: Floats = weights * (len(weights) / weights.sum())
    return normalised


def bar_ranges(t0: NDArray[Any], t1: NDArray[Any]) -> tuple[Ints, Ints]:
    """First and last bar, both inclusive, in which each label lives: the closes within [t0, t1].

    The bars are the sessions that the rows reveal: those of their decision times, and where no decision
    follows (the end of the sample, a purged gap) those at whose open an outcome became known. Such a session's
    close comes after that open, so a label that ends there does not live in it.

    Parameters
    ----------
    t0, t1 : ndarray, shape (n,)

    Returns
    -------
    tuple of two ndarrays of int64, shape (n,)
    """
    decided, known = np.unique(t0), np.unique(t1)
    following = np.searchsorted(decided, known, side="left")
    # The last outcome before a decision time falls into the session of that decision.
    same_session = (following < len(decided)) & (np.append(following[1:], -1) != following)
    revealed = known[~same_session]

    def bar(times: NDArray[Any]) -> Ints:
        passed: Ints = np.searchsorted(decided, times, side="right") + np.searchsorted(revealed, times)
        return passed - 1

    return bar(t0), bar(t1)


def concurrency(symbol: Ints, first: Ints, last: Ints) -> Ints:
    """Labels alive in each bar of each symbol (snippet 4.1).

    Parameters
    ----------
    symbol : ndarray of int64, shape (n,)
        0, 1, ... without gaps.
    first, last : ndarray of int64, shape (n,)
        Bars of each label, both inclusive.

    Returns
    -------
    ndarray of int64, shape (symbols, bars)
    """
    shape = (int(symbol.max()) + 1, int(last.max()) + 2)
    begun = np.bincount(symbol * shape[1] + first, minlength=shape[0] * shape[1])
    ended = np.bincount(symbol * shape[1] + last + 1, minlength=shape[0] * shape[1])
    alive: Ints = np.cumsum((begun - ended).reshape(shape), axis=1)[:, :-1]
    return alive


def average_uniqueness(symbol: Ints, first: Ints, last: Ints) -> Floats:
    """Mean of 1 / concurrency over the bars of each label (snippet 4.2), in (0, 1].

    Parameters
    ----------
    symbol : ndarray of int64, shape (n,)
    first, last : ndarray of int64, shape (n,)
        Bars of each label, both inclusive.
    """
    row = np.unique(symbol, return_inverse=True)[1]
    alive = concurrency(row, first, last)
    share = np.divide(1.0, alive, out=np.zeros(alive.shape), where=alive > 0)
    total = np.cumsum(np.pad(share, ((0, 0), (1, 0))), axis=1)
    mean: Floats = (total[row, last + 1] - total[row, first]) / (last + 1 - first)
    return mean


def decay_factors(t0: NDArray[Any], uniqueness: Floats, *, oldest: float) -> Floats:
    """Linear decay in cumulated uniqueness (snippet 4.11): 1 for the newest rows, towards ``oldest``.

    ``d = 1 - (1 - oldest) * (1 - x / X)`` with x the uniqueness of all rows, of all symbols, up to the row's decision
    time and X that of all rows: rows of one time have one factor, and a symbol that ended early stays old.

    Parameters
    ----------
    t0 : ndarray, shape (n,)
    uniqueness : ndarray of float64, shape (n,)
    oldest : float
        In [0, 1].
    """
    times, row = np.unique(t0, return_inverse=True)
    cumulated = np.cumsum(np.bincount(row, weights=uniqueness, minlength=len(times)))
    slope = (1.0 - oldest) / cumulated[-1]
    factors: Floats = (1.0 - slope * cumulated[-1] + slope * cumulated)[row]
    return factors
