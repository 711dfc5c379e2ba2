"""Agreement of two sets of scores (ranks, errors over the spread, decisions), and the rows on which they may differ.

Rows that find conversion errors lie on every split threshold, at the ends of float32, or are not finite.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.models.ensemble import Ensemble
from quant_assets.models.trees import Tree

# A row whose native score lies closer to a cutoff than 32 float32 steps of the largest term of the stack is on
# neither side of it: float32 sums of some hundred leaves move it about that far (2.5e-9 measured with 80 trees
# where this is 2.3e-8). In spreads it is about 1e-5, a hundredth of the error limit.
_RESOLUTION = 2.0**-18


@dataclass(frozen=True)
class RowSetParity:
    """What one set of rows showed.

    Attributes
    ----------
    rows : int
    max_error : float
        Largest |graph - native|, target units; NaN when a score is missing.
    max_error_over_sd : float
        The same over the spread of the native scores of the real rows; NaN when they have none.
    flipped_decisions : int
        Rows on different sides of a cutoff, or without a score in the graph.
    undecided_rows : int
        Rows within float32 resolution of a cutoff: on neither side, so not counted as flipped there.
    """

    rows: int
    max_error: float
    max_error_over_sd: float
    flipped_decisions: int
    undecided_rows: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return plain(asdict(self))


@dataclass(frozen=True)
class Decisions:
    """The two decisions that a score stands for, and the resolution at which they are made.

    Long or short (score above zero), and upper or lower half of the cross-section (score above the median of
    the real rows' native scores).

    Attributes
    ----------
    cutoffs : tuple of float
        Zero and that median, target units.
    resolution : float
        Native scores closer to a cutoff than this are undecided, target units.
    spread : float
        Standard deviation of the native scores of the real rows; 0 when they are constant.
    """

    cutoffs: tuple[float, float]
    resolution: float
    spread: float

    @classmethod
    def of(cls, ensemble: Ensemble, rows: NDArray[np.float32], native: NDArray[np.float64]) -> "Decisions":
        """Cutoffs, resolution and spread from the native scores of the real rows."""
        terms = np.abs(ensemble.base_predictions(rows) * np.array(ensemble.stacker.coefficients))
        largest = max(float(terms.max(initial=0.0)), abs(ensemble.stacker.intercept))
        return cls((0.0, float(np.median(native))), _RESOLUTION * largest, spread_of(native))

    def compare(self, native: NDArray[np.float64], graph: NDArray[np.float32]) -> RowSetParity:
        """Errors and flips of one set of rows whose features are finite.

        Both sides decide from float32 scores, as consumers of the graph do.
        """
        narrowed = native.astype(np.float32).astype(np.float64)
        scores = graph.astype(np.float64)
        flipped = ~np.isfinite(scores)
        undecided = np.zeros(len(native), dtype=np.bool_)
        for cutoff in self.cutoffs:
            near = np.abs(native - cutoff) <= self.resolution
            flipped |= ~near & ((narrowed > cutoff) != (scores > cutoff))
            undecided |= near
        worst = float(np.max(np.abs(scores - native), initial=0.0))
        over = worst / self.spread if self.spread > 0 else math.nan
        return RowSetParity(len(native), worst, over, int(flipped.sum()), int(undecided.sum()))


def spread_of(scores: NDArray[np.float64]) -> float:
    """Standard deviation of scores; 0 when they are constant but for rounding."""
    spread = float(scores.std())
    return spread if spread > 1e-12 * float(np.abs(scores).max(initial=0.0)) else 0.0


def rank_correlation(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's rank correlation, ties at their average rank; NaN when either side is constant or not finite."""
    from scipy.stats import rankdata

    if len(a) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.nan
    left, right = rankdata(a) - (len(a) + 1) / 2, rankdata(b) - (len(b) + 1) / 2
    scale = math.sqrt(float((left * left).sum()) * float((right * right).sum()))
    return float((left * right).sum()) / scale if scale > 0 else math.nan


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same mapping with None in place of numbers that JSON cannot carry."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


# --------------------------------------------------------------------------- rows that find conversion errors


Rows = NDArray[np.float32]

_LOWEST, _HIGHEST = np.finfo(np.float32).min, np.finfo(np.float32).max
_CHUNK = 65_536


def below(value: np.float32) -> np.float32:
    """The next float32 down."""
    return np.float32(np.nextafter(value, np.float32(-np.inf)))


def above(value: np.float32) -> np.float32:
    """The next float32 up."""
    return np.float32(np.nextafter(value, np.float32(np.inf)))


def on_threshold_rows(trees: Iterable[Tree], rows: Rows, chunk: int = _CHUNK) -> Iterator[Rows]:
    """Three rows for every split of every tree, which *reach* that split and sit on its threshold.

    Random rows prove little: with thresholds rounded to the nearest float32 instead of down, 20,000 of them
    agree while rows on a threshold are off by .45.

    Parameters
    ----------
    trees : iterable of Tree
    rows : ndarray of float32, shape (n, f)
        Real rows, at least one. Each split takes the next one and moves only the features on its path, as
        little as it takes to reach the split.
    chunk : int
        Rows per yielded matrix, about.

    Yields
    ------
    ndarray of float32, shape (<= chunk + 2, f)
        For each split its threshold, one float32 below it and one above it.
    """
    pending: list[Rows] = []
    number = 0
    for tree in trees:
        for node, bounds in _reachable(tree):
            row = rows[number % len(rows)].copy()
            number += 1
            for feature, (low, high) in bounds.items():
                row[feature] = min(max(row[feature], low), high)
            feature, threshold = int(tree.feature[node]), tree.threshold[node]
            low, high = bounds.get(feature, (_LOWEST, _HIGHEST))
            probes = np.repeat(row[None], 3, axis=0)
            for place, value in enumerate((threshold, below(threshold), above(threshold))):
                probes[place, feature] = min(max(value, low), high)
            pending.append(probes)
            if 3 * len(pending) >= chunk:
                yield np.concatenate(pending)
                pending = []
    if pending:
        yield np.concatenate(pending)


def _reachable(tree: Tree) -> Iterator[tuple[int, dict[int, tuple[np.float32, np.float32]]]]:
    """Split nodes with the closed intervals of features that lead to them."""
    stack: list[tuple[int, dict[int, tuple[np.float32, np.float32]]]] = [(0, {})] if tree.n_splits else []
    while stack:
        node, bounds = stack.pop()
        yield node, bounds
        feature, threshold = int(tree.feature[node]), tree.threshold[node]
        low, high = bounds.get(feature, (_LOWEST, _HIGHEST))
        left_high = min(high, threshold if tree.inclusive else below(threshold))
        right_low = max(low, above(threshold) if tree.inclusive else threshold)
        # Symmetric trees repeat a split; the branch that no value can take is left out.
        if tree.right[node] >= 0 and right_low <= high:
            stack.append((int(tree.right[node]), {**bounds, feature: (right_low, high)}))
        if tree.left[node] >= 0 and low <= left_high:
            stack.append((int(tree.left[node]), {**bounds, feature: (low, left_high)}))


def extreme_rows(rows: Rows) -> Rows:
    """A real row with each feature in turn, then all of them, at zero, at both ends of float32, and next to 0."""
    smallest = np.finfo(np.float32).smallest_subnormal
    values = np.array([0.0, -0.0, _HIGHEST, _LOWEST, smallest, -smallest, 1e30, -1e30], dtype=np.float32)
    width = rows.shape[1]
    single = np.repeat(rows[:1], len(values) * width, axis=0)
    single[np.arange(len(single)), np.repeat(np.arange(width), len(values))] = np.tile(values, width)
    return np.concatenate((single, np.repeat(values[:, None], width, axis=1)))


def not_finite_rows(rows: Rows) -> Rows:
    """A real row with each feature in turn NaN, then plus, then minus infinity."""
    width = rows.shape[1]
    values = np.array([np.nan, np.inf, -np.inf], dtype=np.float32)
    result = np.repeat(rows[:1], len(values) * width, axis=0)
    result[np.arange(len(result)), np.repeat(np.arange(width), len(values))] = np.tile(values, width)
    return result
