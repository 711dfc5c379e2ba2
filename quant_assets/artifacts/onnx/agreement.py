"""Agreement of two sets of scores of the same rows: ranks, errors over the spread, decisions."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant_assets.models.ensemble import Ensemble

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
