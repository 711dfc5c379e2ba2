"""What the columns of a feature matrix look like: coverage, distribution, spread, rank correlation.

Every measure that a finding rests on is free of the feature's scale: multiplying a column by a number changes none.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError
from quant_assets.features.selection import KEYS

Floats = NDArray[np.float64]

# A model splits on values that differ. If 95 % of the rows hold one value, every split that separates anything has
# at most one row in twenty on its smaller side.
DEAD_MODAL_SHARE = 0.95
# Models read float32, of 24 bits. Values that span less than 16 of its steps are the rounding of a constant.
DEAD_STEPS = 16.0
STEP = float(np.finfo(np.float32).eps)
BINS = 40
# Of each tail, left out of the histogram's limits (and counted), so that one outlier does not flatten the picture.
TAIL = 0.005
# The standard error of a rank correlation is 1 / sqrt(rows): 0.4 % here, whatever the rows beyond would add.
CORRELATION_ROWS = 50_000
CORRELATION_LEAST_ROWS = 30
GOLDEN = (5.0**0.5 - 1.0) / 2.0


def feature_columns(matrix: pl.DataFrame) -> tuple[str, ...]:
    """The features of a matrix, in order.

    Raises
    ------
    FeatureError
        When there is none, a column is not floating-point, or a value is NaN or infinite: masked means null.
    """
    names = tuple(name for name in matrix.columns if name not in KEYS)
    other = [name for name in names if matrix.schema[name] not in (pl.Float32, pl.Float64)]
    if other or not names or matrix.is_empty():
        raise FeatureError(
            "features of a report",
            expected="rows with symbol, session and one or more floating-point columns",
            found=f"column {other[0]} of {matrix.schema[other[0]]}" if other else f"shape {matrix.shape}",
            action="pass what `compute` returns",
        )
    for name in names:
        wrong = int((~matrix[name].is_finite()).sum())  # null stays null and is not counted
        if wrong:
            raise FeatureError(
                f"feature {name!r}",
                expected="finite values, null where masked",
                found=f"{wrong} NaN or infinite",
                action="correct the kernel of its pack",
            )
    return names


def coverage(matrix: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """How many rows each feature has a value for, and what it alone costs.

    Returns
    -------
    polars.DataFrame
        ``feature``, ``unmasked_rows``, ``coverage`` (share of rows), ``first_session`` with a value,
        ``symbols_without`` any value, and ``lost_alone``: share of all rows in which this feature is the only
        masked one, so that a training set loses them because of it.
    """
    masked = matrix.select(pl.col(names).is_null())
    masks = masked.sum_horizontal()
    alone = masked.filter(masks == 1).sum()
    symbols = matrix.group_by("symbol").agg(pl.col(names).count())
    return pl.DataFrame(
        {
            "feature": list(names),
            "unmasked_rows": [matrix.height - matrix[n].null_count() for n in names],
            "coverage": [1.0 - matrix[n].null_count() / matrix.height for n in names],
            "first_session": [matrix["session"].filter(matrix[n].is_not_null()).min() for n in names],
            "symbols_without": [int((symbols[n] == 0).sum()) for n in names],
            "lost_alone": [(alone[n].item() or 0) / matrix.height for n in names],
        }
    )


def session_coverage(matrix: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Share of a session's rows with a value: ``session, symbols, complete`` (all features) and each feature."""
    complete = pl.all_horizontal(pl.col(names).is_not_null()).mean().alias("complete")
    return (
        matrix.group_by("session")
        .agg(pl.len().alias("symbols"), complete, pl.col(names).is_not_null().mean())
        .sort("session")
    )


def distributions(matrix: pl.DataFrame, names: Sequence[str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Summary and histogram of each feature's unmasked values, and whether it is dead.

    A feature is dead when its most frequent value holds `DEAD_MODAL_SHARE` of its rows, or when the range between
    its 5 % and 95 % quantiles spans fewer than `DEAD_STEPS` float32 steps of its own size. Both are ratios of
    quantities in the feature's own unit, so no choice of unit decides.

    Returns
    -------
    summary : polars.DataFrame
        ``feature, mean, sd, q01, q05, q25, median, q75, q95, q99``, ``modal_share``, ``steps`` (see above),
        ``constant_symbols`` (symbols with at least `CORRELATION_LEAST_ROWS` values that never change), ``dead``.
    histograms : polars.DataFrame
        ``feature, low, high, counts`` (list of `BINS`), ``outside`` (share of values beyond the limits). A feature
        without a value has no row here.
    """
    one = pl.col(names)
    flat = (one.min() == one.max()) & (one.count() >= CORRELATION_LEAST_ROWS)
    constant = matrix.group_by("symbol").agg(flat).select(pl.col(names).sum()).row(0, named=True)
    rows, histograms = [], []
    for name in names:
        values = np.sort(matrix[name].drop_nulls().to_numpy()).astype(np.float64)
        rows.append({"feature": name, **_summary(values), "constant_symbols": constant[name] or 0})
        if values.size:
            histograms.append({"feature": name, **_histogram(values)})
    counted = pl.DataFrame(
        histograms,
        schema=pl.Schema(
            [
                ("feature", pl.String),
                ("low", pl.Float64),
                ("high", pl.Float64),
                ("counts", pl.List(pl.Int64)),
                ("outside", pl.Float64),
            ]
        ),
    )
    summary = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        dead=(pl.col("modal_share") >= DEAD_MODAL_SHARE) | (pl.col("steps") < DEAD_STEPS)
    )
    return summary, counted


def _summary(ordered: Floats) -> dict[str, Any]:
    quantiles = {"q01": 0.01, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "q99": 0.99}
    if not ordered.size:
        return dict.fromkeys(("mean", "sd", *quantiles, "modal_share", "steps"))
    at = {name: _quantile(ordered, share) for name, share in quantiles.items()}
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    longest = int(np.diff(np.append(starts, ordered.size)).max())
    size = max(abs(at["q05"]), abs(at["q95"]))
    steps = (at["q95"] - at["q05"]) / (STEP * size) if size > 0.0 else 0.0
    return {
        "mean": float(ordered.mean()),
        "sd": float(ordered.std()),
        **at,
        "modal_share": longest / ordered.size,
        "steps": steps,
    }


def _quantile(ordered: Floats, share: float) -> float:
    """An observed value, so that a rescaled feature has exactly the rescaled quantile."""
    return float(ordered[round(share * (ordered.size - 1))])


def _histogram(ordered: Floats) -> dict[str, Any]:
    low, high = _quantile(ordered, TAIL), _quantile(ordered, 1.0 - TAIL)
    if low == high:  # nearly all rows hold this value: one bar in the middle
        half = 0.5 * abs(low) or 0.5
        low, high = low - half, high + half
    counts, _ = np.histogram(ordered, bins=BINS, range=(low, high))
    return {
        "low": low,
        "high": high,
        "counts": counts.tolist(),
        "outside": 1.0 - int(counts.sum()) / ordered.size,
    }


def even_rows(n_rows: int, most: int) -> NDArray[np.int64]:
    """At most so many of the rows: one of each equal stratum, always the same.

    The place within the stratum follows the golden ratio's multiples, which have no period: a fixed step would
    meet the same symbol, or the same weekday, over and over.
    """
    if n_rows <= most:
        return np.arange(n_rows)
    stratum = np.arange(most)
    places = (stratum + (stratum * GOLDEN) % 1.0) * (n_rows / most)
    return np.minimum(places.astype(np.int64), n_rows - 1)


def rank_correlation(matrix: pl.DataFrame, names: Sequence[str]) -> tuple[Floats, int]:
    """Spearman's rank correlation of every pair of features over rows in which none is masked.

    Parameters
    ----------
    matrix : polars.DataFrame
        Sorted by symbol and session. Of more than `CORRELATION_ROWS` complete rows, that many are read, evenly.
    names : sequence of str
        Features that vary.

    Returns
    -------
    correlation : ndarray, shape (features, features)
        NaN where a feature does not vary over these rows, and everywhere when there are fewer than
        `CORRELATION_LEAST_ROWS` of them. Rounded to ten decimals: what lies beyond depends on the order of summation.
    rows : int
        Rows that were read.
    """
    from scipy.stats import rankdata

    complete = matrix.select(names).drop_nulls() if names else pl.DataFrame()
    rows = even_rows(complete.height, CORRELATION_ROWS)
    if not names or len(rows) < CORRELATION_LEAST_ROWS:
        return np.full((len(names), len(names)), np.nan), len(rows) if names else 0
    ranks = rankdata(complete[rows].to_numpy(), axis=0)
    centred = ranks - ranks.mean(axis=0)
    spread = np.sqrt((centred**2).sum(axis=0))
    varies = spread > 0.0
    scaled = np.divide(centred, spread, out=np.full_like(centred, np.nan), where=varies)
    correlation = np.round(np.clip(scaled.T @ scaled, -1.0, 1.0), 10)
    np.fill_diagonal(correlation, np.where(varies, 1.0, np.nan))
    return correlation, len(rows)
