"""The drift baseline: what the training window looked like, frozen, with what its own windows do without drift.

Bins, frequencies and critical values are fixed here once, stored with the model they belong to, and never
re-estimated from later data.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, ClassVar

import numpy as np
import polars as pl
from pydantic import ConfigDict, TypeAdapter
from pydantic import ValidationError as PydanticValidationError

from quant_assets.common.errors import DriftError
from quant_assets.common.hashing import canonical_json
from quant_assets.gates.limits import DriftConfig
from quant_assets.monitoring.drift import Floats
from quant_assets.monitoring.whitening import Whitening, first_rehearsed, fit_whitening
from quant_assets.monitoring.window_null import (
    OVERLAP,
    AlarmRehearsal,
    WindowNull,
    alarms,
    distances_to_rest,
    fit_null,
    jumped,
    left_out_p_values,
    window_counts,
    window_drifted,
    window_starts,
)

# Fewer windows than this say nothing about how windows differ.
MIN_WINDOWS = 5

# Order statistics kept per feature for the KS statistic: its error is at most 1/1024, far below any critical
# value, and 29 features take 0.6 MB of JSON instead of 280 for 100 symbols and 20 years.
SKETCH_SIZE = 1024

# What is rehearsed: a window as it is, shifted by one standard deviation, and spread out twofold about the median.
CHANGES = ("as is", "shifted", "spread")

# Symbols of equal value have no spread; its logarithm stays finite.
SMALLEST_VARIANCE = 1e-24

Ranks = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class FeatureBaseline:
    """One feature in the training window.

    Attributes
    ----------
    edges : tuple of float
        Inner bin edges, ascending; a value belongs to the first bin whose edge is >= it.
    frequencies : tuple of float
        Share of the baseline per bin; one more than edges.
    sketch : tuple of float
        Evenly spaced order statistics of the baseline, ascending (all of it when it is short).
    null : WindowNull
        What the JS distance of a window does without drift.
    """

    name: str
    edges: tuple[float, ...]
    frequencies: tuple[float, ...]
    sketch: tuple[float, ...]
    null: WindowNull

    def counts(self, values: Floats) -> Floats:
        """Values per bin."""
        bins = np.searchsorted(np.asarray(self.edges), values, side="left")
        return np.bincount(bins, minlength=len(self.frequencies)).astype(np.float64)


@dataclass(frozen=True)
class DriftBaseline:
    """The training window as drift monitoring remembers it.

    Attributes
    ----------
    level : Whitening
        Steps of each feature's mean over symbols.
    spread : Whitening or None
        Steps of the logarithm of its standard deviation over symbols; None where a session has a single symbol.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    training_set_version: str
    first_session: str
    last_session: str
    n_sessions: int
    n_symbols: int
    n_rows: int
    drift: DriftConfig
    features: tuple[FeatureBaseline, ...]
    level: Whitening
    spread: Whitening | None
    rehearsal: AlarmRehearsal

    def __post_init__(self) -> None:
        for whitening in (self.level, self.spread):
            if whitening is not None and len(whitening.series) != len(self.features):
                raise DriftError(
                    "drift baseline",
                    expected=f"a whitened series for each of {len(self.features)} features",
                    found=f"{len(whitening.series)}",
                    action="materialise drift_baseline again",
                )
        for feature in self.features:
            sound = (
                len(feature.frequencies) == len(feature.edges) + 1
                and list(feature.edges) == sorted(set(feature.edges))
                and list(feature.sketch) == sorted(feature.sketch)
                and len(feature.sketch) > 0
                and math.isclose(sum(feature.frequencies), 1.0, abs_tol=1e-9)
            )
            if not sound:
                raise DriftError(
                    f"baseline of feature {feature.name!r}",
                    expected="ascending edges, one frequency more than edges, frequencies that sum to 1",
                    found=f"{len(feature.edges)} edges, {len(feature.frequencies)} frequencies",
                    action="materialise drift_baseline again",
                )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names in the order of the training set."""
        return tuple(feature.name for feature in self.features)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the store."""
        return {**asdict(self), "drift": self.drift.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: Any) -> "DriftBaseline":
        """Read a stored baseline back.

        Raises
        ------
        DriftError
            When a field is missing, unknown, of the wrong type or not finite.
        """
        try:
            return TypeAdapter(cls).validate_json(canonical_json(data), strict=True)
        except (PydanticValidationError, ValueError, TypeError) as error:
            raise DriftError(
                "stored drift baseline",
                expected="exactly the fields of a drift baseline",
                found=str(error).replace("\n", " ")[:400],
                action="materialise drift_baseline again",
            ) from error


def feature_matrix(
    frame: pl.DataFrame, feature_names: Sequence[str], what: str
) -> tuple[list[date], Ranks, Floats]:
    """Sessions in order, the session number of each row, and the values (n_rows, n_features).

    Raises
    ------
    DriftError
        For a missing or non-numeric column, no features or rows, a repeated (symbol, session), or a null or
        non-finite value.
    """
    missing = [name for name in ("symbol", "session", *feature_names) if name not in frame.columns]
    if missing or not feature_names or frame.is_empty():
        raise DriftError(
            what,
            expected=f"rows with symbol, session and {len(feature_names)} features (at least one)",
            found=f"{frame.height} rows, without the columns {missing}",
            action="compute the features of the pack that the model was trained on",
        )
    strange = [n for n in feature_names if not frame.schema[n].is_numeric()]
    if strange or len(set(feature_names)) < len(feature_names) or frame.schema["session"] != pl.Date:
        raise DriftError(
            what,
            expected="numeric features, each named once, and sessions as dates",
            found=f"not numeric: {strange}; names {list(feature_names)}; session {frame.schema['session']}",
            action="pass the frame that the feature pack computes",
        )
    keys = frame.select("symbol", "session")
    if keys.null_count().sum_horizontal().item() or keys.is_duplicated().any():
        raise DriftError(
            what,
            expected="each (symbol, session) once",
            found=f"{keys.filter(keys.is_duplicated()).head(3).rows()} repeated, or null keys",
            action="remove the duplicates from the source",
        )
    frame = frame.sort("session", "symbol")
    values = frame.select(pl.col(list(feature_names)).cast(pl.Float64)).to_numpy()
    bad = ~np.isfinite(values)
    if bad.any():
        row, column = (int(index[0]) for index in np.nonzero(bad))
        raise DriftError(
            what,
            expected="finite values only",
            found=f"{int(bad.sum())} null or not finite, the first in feature {feature_names[column]!r} of "
            f"{frame['symbol'][row]} on {frame['session'][row]}",
            action="drop the rows in warm-up, and find out why any other is masked",
        )
    ranks = frame["session"].rank("dense").to_numpy().astype(np.int64) - 1
    return frame["session"].unique(maintain_order=True).to_list(), ranks, np.ascontiguousarray(values)


def _bin_edges(ordered: Floats, n_bins: int) -> Floats:
    """Inner quantile edges, without repeats; one below the minimum where the first bin holds nothing less."""
    positions = (np.arange(1, n_bins) * ordered.size) // n_bins
    edges = np.unique(ordered[np.maximum(positions - 1, 0)])
    if edges[0] <= ordered[0]:
        edges = np.concatenate([[np.nextafter(ordered[0], -np.inf)], edges])
    return edges


def fit_baseline(
    features: pl.DataFrame,
    feature_names: Sequence[str],
    drift: DriftConfig,
    *,
    training_set_version: str,
) -> DriftBaseline:
    """Freeze the training window: bins, frequencies, and each feature's critical value.

    Parameters
    ----------
    features : polars.DataFrame
        Columns ``symbol``, ``session`` and the features; one row per symbol and session, in any order.
    feature_names : sequence of str
        The features the model reads, in its order.
    drift : DriftConfig
        Window, alpha, bins, and how many features make an alarm.
    training_set_version : str
        Data version of the training set that the window belongs to.

    Raises
    ------
    DriftError
        When a value is null or not finite, a key repeats, fewer than `MIN_WINDOWS` windows fit, or there are
        fewer features than an alarm needs.
    """
    what = f"drift baseline of training set {training_set_version[:12]}"
    sessions, session_of_row, values = feature_matrix(features, feature_names, what)
    window = drift.window_sessions
    n_disjoint = len(sessions) // window
    if drift.min_drifted_features > len(feature_names):
        raise DriftError(
            what,
            expected=f"at most {len(feature_names)} features for an alarm (drift.min_drifted_features)",
            found=f"{drift.min_drifted_features}: the gate could never close",
            action="lower drift.min_drifted_features",
        )
    if n_disjoint < MIN_WINDOWS:
        raise DriftError(
            what,
            expected=f"at least {MIN_WINDOWS} windows of {window} sessions ({MIN_WINDOWS * window} sessions)",
            found=f"{len(sessions)} sessions",
            action="train on a longer history, or set a shorter drift.window_sessions",
        )
    fitted, chances = zip(
        *(
            fit_feature(name, values[:, column], session_of_row, len(sessions), drift)
            for column, name in enumerate(feature_names)
        ),
        strict=True,
    )
    first = first_rehearsed(window)
    by_window = {key: np.stack([c[key] for c in chances], axis=-1)[first:] for key in CHANGES}
    # Other features in each window, as few as make an alarm.
    k = int(drift.min_drifted_features)
    planted = np.zeros((n_disjoint - first, len(feature_names)), dtype=bool)
    for i, row in enumerate(planted):
        row[np.arange(i * k, (i + 1) * k) % len(feature_names)] = True
    series = session_series(session_of_row, values)
    level, as_is, shifted = fit_whitening(series.level, window, k, planted * values.std(axis=0))
    drifted = window_drifted(by_window["as is"], drift) | jumped(*as_is, drift)
    after_shift = np.where(planted, by_window["shifted"], by_window["as is"])
    after_spread = np.where(planted, by_window["spread"], by_window["as is"])
    after_shift = window_drifted(after_shift, drift) | jumped(*shifted, drift)
    after_spread = window_drifted(after_spread, drift)
    spread = None
    if series.spread is not None:
        spread, as_is, doubled = fit_whitening(series.spread, window, k, planted * math.log(2.0))
        drifted |= jumped(*as_is, drift)
        after_spread |= jumped(*doubled, drift)
    rung = alarms(drifted, drift)
    years = max((sessions[-1] - sessions[0]).days / 365.2425, 1e-9)
    return DriftBaseline(
        training_set_version=training_set_version,
        first_session=sessions[0].isoformat(),
        last_session=sessions[-1].isoformat(),
        n_sessions=len(sessions),
        n_symbols=features["symbol"].n_unique(),
        n_rows=features.height,
        drift=drift,
        features=fitted,
        level=level,
        spread=spread,
        rehearsal=AlarmRehearsal(
            n_windows=int(rung.size),
            false_alarms=int(rung.sum()),
            power_mean_shift_1sd=float(alarms(after_shift, drift).mean()),
            power_spread_x2=float(alarms(after_spread, drift).mean()),
            windows_per_year=(len(sessions) - 1) / years / window,
        ),
    )


def fit_feature(
    name: str, x: Floats, session_of_row: Ranks, n_sessions: int, drift: DriftConfig
) -> tuple[FeatureBaseline, dict[str, Floats]]:
    """Bins, frequencies and null of one column of values.

    Returns
    -------
    FeatureBaseline
    dict
        For each of `CHANGES` the p-value of every disjoint window after it, against the windows apart from it.
    """
    window = drift.window_sessions
    starts, n_disjoint = window_starts(n_sessions, window), n_sessions // window
    ordered = np.sort(x)
    edges = _bin_edges(ordered, drift.n_bins)
    median, sd = float(np.median(ordered)), float(x.std())
    changed = dict(zip(CHANGES, (x, x + sd, median + 2.0 * (x - median)), strict=True))
    counts = {k: _session_counts(v, edges, session_of_row, n_sessions) for k, v in changed.items()}
    windows = {k: window_counts(c, starts, window) for k, c in counts.items()}
    total = counts["as is"].sum(axis=0)
    distances = {k: distances_to_rest(total, windows["as is"], w) for k, w in windows.items()}
    picks = np.unique(np.linspace(0, ordered.size - 1, min(SKETCH_SIZE, ordered.size)).round().astype(int))
    fitted = FeatureBaseline(
        name=name,
        edges=tuple(edges.tolist()),
        frequencies=tuple((total / total.sum()).tolist()),
        sketch=tuple(ordered[picks].tolist()),
        null=fit_null(distances["as is"], n_disjoint, drift.alpha),
    )
    judged = np.stack([d[::OVERLAP][:n_disjoint] for d in distances.values()])
    chances = left_out_p_values(distances["as is"], judged, n_disjoint)
    return fitted, dict(zip(CHANGES, chances, strict=True))


@dataclass(frozen=True, eq=False)
class SessionSeries:
    """What each session's symbols have in common, feature by feature, shape (n_sessions, n_features).

    Attributes
    ----------
    level : array
        Mean over symbols.
    spread : array or None
        Natural logarithm of the standard deviation over symbols; None when a session has a single symbol.
    """

    level: Floats
    spread: Floats | None


def session_series(session_of_row: Ranks, values: Floats) -> SessionSeries:
    """Level and spread of every session; rows are in the order of sessions."""
    n_rows = np.bincount(session_of_row)
    starts = np.cumsum(n_rows) - n_rows
    level = np.add.reduceat(values, starts, axis=0) / n_rows[:, None]
    if n_rows.min() < 2:
        return SessionSeries(level, None)
    squares = np.square(values - level[session_of_row])
    variance = np.add.reduceat(squares, starts, axis=0) / n_rows[:, None]
    return SessionSeries(level, 0.5 * np.log(np.maximum(variance, SMALLEST_VARIANCE)))


def _session_counts(values: Floats, edges: Floats, session_of_row: Ranks, n_sessions: int) -> Floats:
    n_bins = edges.size + 1
    cells = session_of_row * n_bins + np.searchsorted(edges, values, side="left")
    counts = np.bincount(cells, minlength=n_sessions * n_bins)
    return counts.reshape(n_sessions, n_bins).astype(np.float64)
