"""Training rows of a ranking: the names of a session are one group, their labels its relevance in equal buckets.

Burges (2010), "From RankNet to LambdaRank to LambdaMART: an overview", MSR-TR-2010-82.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import ModelError
from quant_assets.common.model_settings import RANKING_OBJECTIVES, RELEVANCE_GRADES
from quant_assets.models.training_arrays import Samples


@dataclass(frozen=True)
class Ranked:
    """Rows of a fit in order of their sessions.

    Attributes
    ----------
    rows : Samples
        Sorted by session; ``target`` holds grades, 0 for the worst. As they were for any other objective.
    sizes : ndarray of int64, shape (sessions,), or None
        Rows of each session; None for an objective that ranks nothing.
    """

    rows: Samples
    sizes: NDArray[np.int64] | None = None

    @property
    def session_weights(self) -> NDArray[np.float64] | None:
        """Mean weight of each session's rows; None without weights."""
        if self.rows.weights is None or self.sizes is None:
            return self.rows.weights
        starts = np.concatenate(([0], np.cumsum(self.sizes)[:-1]))
        means: NDArray[np.float64] = np.add.reduceat(self.rows.weights, starts) / self.sizes
        return means


def ranked(objective: str, rows: Samples, grades: int | None) -> Ranked:
    """The rows as a ranking reads them, or as they are for any other objective.

    Parameters
    ----------
    objective : str
    rows : Samples
        With their sessions.
    grades : int or None
        Equal buckets of a session's labels; 5 when None. Names of one label share the bucket of their mean rank.

    Raises
    ------
    ModelError
        When the rows have no sessions, or shared bins in another order than that of their sessions.
    """
    if objective not in RANKING_OBJECTIVES:
        return Ranked(rows)
    if rows.session is None:
        raise ModelError(
            f"rows of objective {objective!r}",
            expected="the session of each row: names are ranked within one",
            found="none",
            action="pass the decision times of the training set",
        )
    buckets = grades or RELEVANCE_GRADES
    order = np.argsort(rows.session, kind="stable")
    if rows.binned is not None and np.any(np.diff(order) < 0):
        raise ModelError(
            f"rows of objective {objective!r}",
            expected="rows in order of their sessions, where bins are shared",
            found="another order",
            action="sort the training set by session, or set models.binning: exact",
        )
    place = pl.DataFrame({"session": rows.session[order], "target": rows.target[order]}).select(
        grade=((pl.col("target").rank() - 0.5) / pl.len() * buckets).floor().over("session")
    )
    grade = np.minimum(place["grade"].to_numpy(), buckets - 1).astype(np.float64)
    _, sizes = np.unique(rows.session[order], return_counts=True)
    weights = None if rows.weights is None else rows.weights[order]
    features = rows.features if rows.binned is not None else np.ascontiguousarray(rows.features[order])
    sorted_rows = Samples(features, grade, weights, rows.binned, rows.session[order])
    return Ranked(sorted_rows, sizes.astype(np.int64))
