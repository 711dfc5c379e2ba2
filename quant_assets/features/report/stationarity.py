"""Whether features wander: augmented Dickey-Fuller tests per symbol, and what many of them say together."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.features.report.statistics import Floats

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
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

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
