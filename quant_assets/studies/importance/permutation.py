"""Permutation importance on purged folds, of single features and of whole clusters, with a floor that noise sets.

The importance of a feature is what the ensemble's rank IC loses when the feature's values are shuffled among the
names of each session: the cross-section keeps its distribution, and only who has which value is lost. A cluster's
members are shuffled together (Lopez de Prado 2020, *Machine Learning for Asset Managers*, ch. 6.5), so that none
stands in for another.

The floor of a fold: outcomes are handed to other names and another time, by a random relabelling of the names and a
random rotation of the fold's sessions, and the losses of the same shuffles are measured against them. Scores,
features and their persistence stay what they are, and so does that of the outcomes; only the knowledge is gone. The
largest studentised loss over all groups of such a draw, and of many draws, is the null distribution of the largest
(Westfall and Young 1993, *Resampling-Based Multiple Testing*, max-T).

Folds do not judge together: each trains on the outcomes that the others test, which makes their losses move together.
A sum over folds against independently relabelled outcomes showed a feature above the floor in 9 % of reports on
noise instead of 5 %. So a feature is above the floor when it is in half of the folds, each at about half of the rate
(Rueger 1978: twice the middle p-value is one, however they depend). With nothing to be learnt, at most 5 % of all
reports show *any* feature above the floor. "Nothing" includes that names keep no drift of their own from one fold to
the next: a feature that lasts as long tells names apart, and that counts as knowledge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtrit

from quant_assets.common.errors import ValidationError
from quant_assets.common.hashing import bytes_digest
from quant_assets.statistics.overfitting import dependent_mean

# --------------------------------------------------------------------------------------------- cross-sections


FEWEST_SESSIONS = 32
FEWEST_NAMES = 2


@dataclass(frozen=True)
class MeanWithError:
    """A mean over sessions with its 95 % interval.

    Attributes
    ----------
    mean, error : float
        The mean and its standard error, robust to autocorrelation.
    low, high : float
        By Student's t, as `quant_assets.statistics.overfitting.dependent_mean` tests.
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


def mean_with_error(series: NDArray[np.float64]) -> MeanWithError:
    """Mean of a dependent series, with the standard error and the interval of `dependent_mean`.

    Parameters
    ----------
    series : ndarray, shape (T,)
        One value per session, in time order; labels may overlap. One that does not vary has no error.

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
    test, mean = dependent_mean(series), float(series.mean())
    error = 0.0 if np.isnan(test.standard_error) else float(test.standard_error)
    reach = float(stdtrit(test.degrees_of_freedom, 0.975)) * error
    return MeanWithError(mean, error, mean - reach, mean + reach)


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


# ------------------------------------------------------------------------------------------------- importance


FAMILY_WISE_RATE = 0.05
DRAWS = 399  # with the observed one 400, of which 5 % are 20
REPEATS = 3
# The rows of all folds together that shuffles are scored on.
MOST_SHUFFLED_ROWS = 20_000


class Scorer(Protocol):
    """Anything that scores rows: higher is better."""

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores, shape (n,)."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """The test rows of one fold and what scores them.

    Attributes
    ----------
    score : Scorer
        Fitted without these rows.
    used : frozenset of int
        Columns that it reads at all: shuffling any other changes nothing.
    features : ndarray of float32, shape (n, f)
    outcome : ndarray of float64, shape (n,)
        Forward return.
    sessions, symbol : ndarray, shape (n,)
    """

    score: Scorer
    used: frozenset[int]
    features: NDArray[np.float32]
    outcome: NDArray[np.float64]
    sessions: NDArray[np.datetime64]
    symbol: NDArray[np.int64]


@dataclass(frozen=True)
class GroupImportance:
    """Importance of one feature or cluster.

    Attributes
    ----------
    name : str
    members : tuple of str
        Features shuffled together.
    importance : float
        Mean loss of rank IC over sessions; positive when shuffling hurts.
    error : float
        Its standard error over sessions.
    fold_error : float
        The standard error that the folds' means give: their standard deviation over the root of their number.
    floor : float
        Mean over folds of what the largest of this many groups of noise exceeds at the fold's rate, on the scale of
        this group: for the eye, since folds judge one by one.
    p_value : float
        Adjusted for the number of groups and of folds. In a fold, the share of draws, the observed one included,
        whose largest studentised loss is not below this one.
    varies : bool
        Whether any of its features differs between the names of a session. Nothing can be shuffled otherwise.
    """

    name: str
    members: tuple[str, ...]
    importance: float
    error: float
    fold_error: float
    floor: float
    p_value: float
    varies: bool

    @property
    def above_floor(self) -> bool:
        """Whether noise alone would hardly reach this importance."""
        return self.p_value <= FAMILY_WISE_RATE


@dataclass(frozen=True, eq=False)
class Losses:
    """What `losses` measured.

    Attributes
    ----------
    groups : dict of str to tuple of int
        Columns of each group.
    by_session : ndarray of float64, shape (groups, T)
        Loss of rank IC in each session, in time order.
    fold_of : ndarray of int64, shape (T,)
    null : ndarray of float64, shape (folds, groups, draws)
        Mean loss of each fold against outcomes of other names and times.
    rank_ic : ndarray of float64, shape (T,)
        Of the scores as they are.
    varies : dict of str to bool
    """

    groups: dict[str, tuple[int, ...]]
    by_session: NDArray[np.float64]
    fold_of: NDArray[np.int64]
    null: NDArray[np.float64]
    rank_ic: NDArray[np.float64]
    varies: dict[str, bool]


def losses(
    folds: Sequence[HeldOut],
    groups: Mapping[str, Sequence[int]],
    *,
    seed: int,
    repeats: int = REPEATS,
    draws: int = DRAWS,
) -> Losses:
    """Losses of rank IC by shuffling each group within sessions.

    Parameters
    ----------
    folds : sequence of HeldOut
        In time order.
    groups : mapping of str to sequence of int
        Columns to shuffle together, by name.
    seed : int
    repeats : int, default 3
        Shuffles whose losses are averaged.
    draws : int, default 399
        Relabellings of the outcomes.
    """
    named = {name: tuple(columns) for name, columns in groups.items()}
    observed, fold_of, ics = [], [], []
    null = np.zeros((len(folds), len(named), draws))
    varies = dict.fromkeys(named, False)
    for number, fold in enumerate(folds):
        sections = CrossSections(fold.sessions)
        ranks = sections.unit_ranks(fold.outcome)
        base = sections.unit_ranks(fold.score(fold.features))
        relabelled = relabelled_ranks(
            sections, fold.symbol, fold.outcome, np.random.default_rng([seed, number]), draws
        )
        moving = {c for c in range(fold.features.shape[1]) if _varies(sections, fold.features[:, c])}
        rows = np.zeros((len(named), int(sections.ordered.sum())))
        for place, (name, columns) in enumerate(named.items()):
            varies[name] |= bool(moving & set(columns))
            if not moving & fold.used & set(columns):
                continue  # not one score can change
            # By the members, so that a cluster of one is shuffled as its only member is.
            own = int(bytes_digest(repr(sorted(columns)).encode())[:8], 16)
            shuffled = _shuffled_ranks(
                sections, fold, columns, np.random.default_rng([seed, number, own]), repeats
            )
            change = base - shuffled
            rows[place] = sections.sums(change * ranks)
            null[number, place] = np.einsum("n,nb->b", change, relabelled) / rows.shape[1]
        observed.append(rows)
        fold_of.append(np.full(rows.shape[1], number))
        ics.append(sections.sums(base * ranks))
    by_session = np.concatenate(observed, axis=1)
    return Losses(named, by_session, np.concatenate(fold_of), null, np.concatenate(ics), varies)


def importances(
    found: Losses, names: Sequence[str], feature_names: Sequence[str]
) -> tuple[GroupImportance, ...]:
    """Judge one family of groups together.

    Parameters
    ----------
    found : Losses
    names : sequence of str
        The groups of the family: all features, or all clusters.
    feature_names : sequence of str

    Returns
    -------
    tuple of GroupImportance
        In the order of ``names``.
    """
    places = [list(found.groups).index(name) for name in names]
    numbers = np.unique(found.fold_of)
    p_values = np.ones((len(numbers), len(names)))
    floors = np.zeros((len(numbers), len(names)))
    sizes = np.array([(found.fold_of == number).sum() for number in numbers])
    means = np.column_stack([found.by_session[places][:, found.fold_of == n].mean(axis=1) for n in numbers])
    for k, number in enumerate(numbers):
        p_values[k], floors[k] = _fold_judgement(means[:, k], found.null[number][places], _rate(len(numbers)))
    middle = np.sort(p_values, axis=0)[_half(len(numbers)) - 1]
    adjusted = np.minimum(middle * (len(numbers) / _half(len(numbers))), 1.0)
    result = []
    for row, (name, place) in enumerate(zip(names, places, strict=True)):
        series, by_fold = found.by_session[place], means[row]
        several = len(numbers) > 1
        result.append(
            GroupImportance(
                name=name,
                members=tuple(feature_names[c] for c in found.groups[name]),
                importance=float(series.mean()),
                error=mean_with_error(series).error,
                fold_error=float(by_fold.std(ddof=1) / np.sqrt(len(numbers))) if several else float("nan"),
                floor=float((floors[:, row] * sizes).sum() / sizes.sum()),
                p_value=float(adjusted[row]),
                varies=found.varies[name],
            )
        )
    return tuple(result)


def _half(n_folds: int) -> int:
    """Folds that have to agree."""
    return -(-n_folds // 2)


def _rate(n_folds: int) -> float:
    """The rate at which each fold judges."""
    return FAMILY_WISE_RATE * _half(n_folds) / n_folds


def _fold_judgement(
    observed: NDArray[np.float64], null: NDArray[np.float64], rate: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P-values of one fold, adjusted for the number of groups, and floors on the scale of the losses."""
    # The observed loss is one of the draws: under the null it is exchangeable with them, and p-values are exact.
    everything = np.column_stack([observed, null])
    spread = np.sqrt((everything**2).mean(axis=1))
    moves = spread > 0
    ratios = np.divide(
        everything, spread[:, None], out=np.full_like(everything, -np.inf), where=moves[:, None]
    )
    largest = np.sort(ratios.max(axis=0))
    p_values = (largest >= ratios[:, :1]).mean(axis=1)
    # A ratio above this one has at most the stated share of all maxima at or above it.
    level = largest[len(largest) - 1 - int(np.floor(rate * len(largest)))]
    return np.where(moves, p_values, 1.0), np.where(moves, max(float(level), 0.0) * spread, 0.0)


def _varies(sections: CrossSections, column: NDArray[np.float32]) -> bool:
    return bool(np.any(sections.unit_ranks(column.astype(np.float64))))


def _shuffled_ranks(
    sections: CrossSections,
    fold: HeldOut,
    columns: Sequence[int],
    generator: np.random.Generator,
    repeats: int,
) -> NDArray[np.float64]:
    """Ranks of the scores, averaged over shuffles of these columns."""
    total = np.zeros(len(fold.outcome))
    for _ in range(repeats):
        order = within_sessions(sections, generator.random(len(fold.outcome)))
        features = fold.features.copy()
        features[:, columns] = fold.features[np.ix_(order, np.asarray(columns))]
        total += sections.unit_ranks(fold.score(features))
    return total / repeats
