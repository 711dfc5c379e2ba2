"""Cross-sections: thinned sessions, ranks within them, the error of a mean over them, and rows dealt out anew."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError

# --------------------------------------------------------------------------------------------------
# Cross-sections: evenly thinned sessions, ranks within them, and the error of a mean over them.


FEWEST_SESSIONS = 32
FEWEST_NAMES = 2
# 95 % of a normal distribution lie within this many standard deviations of its mean.
TWO_SIDED_95 = 1.959963984540054


@dataclass(frozen=True)
class MeanWithError:
    """A mean over sessions with its 95 % interval.

    Attributes
    ----------
    mean, error : float
        The mean and its standard error, robust to autocorrelation.
    low, high : float
        Interval ``mean -+ 1.96 error``.
    """

    mean: float
    error: float
    low: float
    high: float


def thinned_sessions(sessions: NDArray[Any], most_rows: int) -> tuple[NDArray[np.int64], int]:
    """Rows of every k-th session, with the smallest k that leaves at most ``most_rows`` (if any k does).

    Parameters
    ----------
    sessions : ndarray, shape (n,)
        Session, or decision time, of each row.
    most_rows : int

    Returns
    -------
    rows : ndarray of int64
        Ascending positions; whole sessions, so that cross-sections stay what they are.
    step : int
        k; 1 when nothing was left out.
    """
    _, number = np.unique(sessions, return_inverse=True)
    counts = np.bincount(number)
    step = max(1, -(-len(sessions) // most_rows))
    while step < len(counts) and int(counts[::step].sum()) > most_rows:
        step += 1
    return np.flatnonzero(number % step == 0), step


class CrossSections:
    """The sessions of some rows, for ranks within them.

    Parameters
    ----------
    sessions : ndarray, shape (n,)
        Rows of one session need not be neighbours. Sessions with a single name have no order and count for nothing.

    Attributes
    ----------
    number : ndarray of int64, shape (n,)
        Position of each row's session in time.
    n_sessions : int
    """

    def __init__(self, sessions: NDArray[Any]) -> None:
        _, number = np.unique(sessions, return_inverse=True)
        self.number: NDArray[np.int64] = number.astype(np.int64)
        self.n_sessions = int(self.number.max()) + 1 if len(number) else 0
        self.sizes = np.bincount(self.number, minlength=self.n_sessions)
        self.ordered = self.sizes >= FEWEST_NAMES
        self._by_session = pl.Series(self.number)

    def unit_ranks(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ranks within each session, centred and of length 1; all 0 in a session in which the values are equal.

        The product of two of them, summed over a session, is Spearman's correlation (mean ranks for ties).
        """
        frame = pl.DataFrame({"session": self._by_session, "value": values})
        ranks = frame.select(pl.col("value").rank("average").over("session"))["value"].to_numpy()
        centred = ranks - ((self.sizes + 1) / 2.0)[self.number]
        squares = np.bincount(self.number, centred**2, minlength=self.n_sessions)
        length = np.sqrt(squares)[self.number]
        return np.divide(centred, length, out=np.zeros(len(centred)), where=length > 0)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the rows of each session with at least two names, in time order."""
        totals = np.bincount(self.number, values, minlength=self.n_sessions).astype(np.float64)
        return totals[self.ordered]

    def rank_ic(self, scores: NDArray[np.float64], outcome_ranks: NDArray[np.float64]) -> NDArray[np.float64]:
        """Spearman's correlation of scores and outcome in each session; 0 where either has no order.

        Parameters
        ----------
        scores : ndarray, shape (n,)
        outcome_ranks : ndarray, shape (n,)
            As given by `unit_ranks`.
        """
        return self.sums(self.unit_ranks(scores) * outcome_ranks)


def newey_west_lags(n: int, overlap: int) -> int:
    """Lags of the long-run variance: Newey and West's ``4 (n / 100)^(2/9)``, or the overlap of labels if longer."""
    usual = math.floor(4.0 * math.pow(n / 100.0, 2.0 / 9.0))
    return min(max(usual, overlap), n - 1)


def mean_with_error(series: NDArray[np.float64], *, overlap: int = 0) -> MeanWithError:
    """Mean of a series and its standard error by Newey and West (1987), Bartlett weights.

    Parameters
    ----------
    series : ndarray, shape (T,)
        One value per session, in time order.
    overlap : int, default 0
        Sessions over which the outcome of one reaches into others.

    Raises
    ------
    ValidationError
        With fewer than 32 sessions.
    """
    n = len(series)
    if n < FEWEST_SESSIONS:
        raise ValidationError(
            "there are too few sessions for a standard error",
            expected=f"at least {FEWEST_SESSIONS} sessions with {FEWEST_NAMES} names or more",
            found=str(n),
            action="give the universe more history or more names",
        )
    deviations = series - series.mean()
    variance = float((deviations**2).sum())
    lags = newey_west_lags(n, overlap)
    for lag in range(1, lags + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * float((deviations[lag:] * deviations[:-lag]).sum())
    mean, error = float(series.mean()), math.sqrt(max(variance, 0.0)) / n
    return MeanWithError(mean, error, mean - TWO_SIDED_95 * error, mean + TWO_SIDED_95 * error)


# --------------------------------------------------------------------------------------------------
# Rows dealt out anew: within their session, and outcomes to other names and times.


def within_sessions(sections: CrossSections, keys: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row, another of its session (or itself): the k-th row takes the one with the k-th smallest key."""
    own = np.argsort(sections.number, kind="stable")
    drawn = np.lexsort((keys, sections.number))
    order = np.empty(len(keys), dtype=np.int64)
    order[own] = drawn
    return order


def relabelled_ranks(
    sections: CrossSections,
    symbol: NDArray[np.int64],
    outcome: NDArray[np.float64],
    generator: np.random.Generator,
    draws: int,
) -> NDArray[np.float64]:
    """Outcome ranks of other names and times, shape (n, draws): one relabelling and one rotation in each draw."""
    sizes, n_sessions = sections.sizes, sections.n_sessions
    starts = np.concatenate(([0], np.cumsum(sizes)))
    # Rows of a session in the order of their names, so that equal sets of names are relabelled alike.
    own = np.lexsort((symbol, sections.number))
    number = sections.number[own]
    place = np.arange(len(own)) - starts[number]
    ranks = sections.unit_ranks(outcome)
    balanced = len(np.unique(sizes)) == 1
    result = np.empty((len(own), draws))
    for draw in range(draws):
        keys = generator.random(int(symbol.max()) + 1)[symbol]
        drawn = np.lexsort((keys, sections.number))
        other = (number + int(generator.integers(n_sessions))) % n_sessions
        source = np.empty_like(own)
        source[own] = drawn[starts[other] + place % sizes[other]]
        # Cross-sections of another size are ranked again.
        result[:, draw] = ranks[source] if balanced else sections.unit_ranks(outcome[source])
    return result
