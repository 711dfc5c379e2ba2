"""What the columns of a feature matrix look like: coverage, distribution, rank correlation, unit roots."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import FeatureError
from quant_assets.features.pack import KEYS

Floats = NDArray[np.float64]


# ------------------------------------------------------------------------------------ whether features wander


LEVEL = 0.05
# Together at most 50 x 1000 values of a feature: the 1,450 tests of 29 features take about 2 s of one core.
MOST_SYMBOLS = 50
MOST_SESSIONS = 1000
# Schwert's lags leave 12 of 100 differences for the lags, and the asymptotic p-values still hold.
LEAST_SESSIONS = 100


def schwert_lags(n_observations: int) -> int:
    """Lagged differences of the test: ``12 (n / 100)^(1/4)``.

    Long, because features over overlapping windows are moving averages: with few lags the test then rejects a
    unit root too often (Schwert 1989, "Tests for unit roots: a Monte Carlo investigation", J. Business & Economic
    Statistics 7:147-159, l12). Fixed, so that the size does not depend on a search.
    """
    return int(12.0 * (n_observations / 100.0) ** 0.25)


def thinned(n_rows: int, most: int = MOST_SESSIONS) -> NDArray[np.int64]:
    """Every k-th row up to the newest, with the smallest k that leaves at most ``most``.

    The power of a unit root test comes from the years that it spans, hardly from how often they are observed
    (Shiller and Perron 1985, "Testing the random walk hypothesis: power versus frequency of observation", Economics
    Letters 18:381-386). A unit root stays one when it is sampled less often.
    """
    step = max(1, -(-n_rows // most))
    return np.arange((n_rows - 1) % step, n_rows, step)


def unit_root_p_value(values: Floats) -> float | None:
    """p-value of the augmented Dickey-Fuller test with a constant; None when there is nothing to test.

    Parameters
    ----------
    values : ndarray, shape (n,)
        One symbol's unmasked values in time order; of more than `MOST_SESSIONS`, every k-th is read.

    Notes
    -----
    A small p-value speaks against a unit root. None for fewer than `LEAST_SESSIONS` values, and for a series that
    does not move. The asymptotic p-values are MacKinnon's (1994, 2010), from statsmodels.
    """
    from statsmodels.tsa.stattools import adfuller  # type: ignore[import-untyped]

    chosen = values[thinned(values.size)]
    if chosen.size < LEAST_SESSIONS or np.ptp(chosen) == 0.0:
        return None
    # In units of its own spread: the regression is then as well conditioned for a ratio as for a volume.
    scaled = (chosen - chosen.mean()) / chosen.std()
    lags = schwert_lags(chosen.size)
    p_value = adfuller(scaled, maxlag=lags, regression="c", autolag=None, result_object=True).pvalue
    # Nine decimals: what lies beyond depends on the linear algebra library.
    return round(float(p_value), 9) if np.isfinite(p_value) else None


def even_symbols(symbols: Sequence[str], most: int = MOST_SYMBOLS) -> list[str]:
    """At most so many of the symbols, evenly over their order."""
    ordered = sorted(symbols)
    places = np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]


def combined_p_value(p_values: Sequence[float]) -> float:
    """One p-value for "every one of these series has a unit root": twice the median, in effect.

    Rueger's inequality (1978, "Das maximale Signifikanzniveau des Tests: Lehne H0 ab, wenn k unter n gegebenen Tests
    zur Ablehnung fuehren", Metrika 25:171-178): n/k times the k-th smallest of n p-values is a p-value however the
    tests depend on each other. Symbols share a market, so nothing less would do; k = n/2 rounded up asks that half of
    them agree.
    """
    ordered = sorted(p_values)
    k = -(-len(ordered) // 2)
    return min(1.0, ordered[k - 1] * len(ordered) / k)


def stationarity(matrix: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """Augmented Dickey-Fuller tests of each feature on an even choice of symbols.

    Parameters
    ----------
    matrix : polars.DataFrame
        ``symbol, session`` and the features, sorted by symbol and session; null where masked.
    names : sequence of str

    Returns
    -------
    polars.DataFrame
        ``feature``, ``symbols`` tested, ``rejecting`` a unit root at 5 %, ``share_rejecting``, ``share_by_chance``
        (0.05: what unit roots alone would give on average), ``most_by_chance`` (the share that they would stay below
        or at in 95 % of cases, were symbols independent), ``median_p``, ``combined_p`` of all symbols (Rueger),
        ``adjusted_p`` over all features (Benjamini-Hochberg), ``stationary`` (adjusted_p <= 0.05).
        Null where nothing was tested.
    """
    from scipy.stats import binom, false_discovery_control
    from threadpoolctl import threadpool_limits

    chosen = even_symbols(matrix["symbol"].unique().to_list())
    panels = matrix.filter(pl.col("symbol").is_in(chosen)).partition_by("symbol", maintain_order=True)
    found: dict[str, list[float]] = {}
    with threadpool_limits(
        1
    ):  # a second thread doubles the processor time of such small regressions, and no more
        for name in names:
            series = [panel[name].drop_nulls().to_numpy().astype(np.float64) for panel in panels]
            found[name] = [p for values in series if (p := unit_root_p_value(values)) is not None]
    tested = [name for name in names if found[name]]
    combined = {name: combined_p_value(found[name]) for name in tested}
    # A screen of features one by one: what matters is the share of wrong ones among those called stationary. To
    # guard against a single wrong one (Holm) would ask more of each feature the more of them stand beside it.
    joint = [combined[name] for name in tested]
    discovery = [float(p) for p in false_discovery_control(joint, method="bh")] if joint else []
    adjusted = dict(zip(tested, discovery, strict=True))
    rows = []
    for name in names:
        p_values = found[name]
        n, rejecting = len(p_values), sum(p <= LEVEL for p in p_values)
        rows.append(
            {
                "feature": name,
                "symbols": n,
                "rejecting": rejecting,
                "share_rejecting": rejecting / n if n else None,
                "share_by_chance": LEVEL,
                "most_by_chance": float(binom.ppf(0.95, n, LEVEL)) / n if n else None,
                "median_p": float(np.median(p_values)) if n else None,
                "combined_p": combined.get(name),
                "adjusted_p": adjusted.get(name),
                "stationary": adjusted[name] <= LEVEL if n else None,
            }
        )
    return pl.DataFrame(rows, infer_schema_length=None)


# ------------------------------------------------------------- what the columns of a feature matrix look like

# Every measure that a finding rests on is free of the feature's scale: multiplying a column by a number changes none.


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
