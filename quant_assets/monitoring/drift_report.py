"""The drift report: the newest window against the frozen baseline, as one verdict with every number behind it."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.errors import DriftError
from quant_assets.gates.cases import DriftCase
from quant_assets.gates.gate import gates_of
from quant_assets.gates.limits import DriftConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.monitoring.baseline import (
    DriftBaseline,
    FeatureBaseline,
    Ranks,
    feature_matrix,
    fit_feature,
    session_series,
)
from quant_assets.monitoring.drift import (
    Floats,
    benjamini_hochberg,
    js_distances,
    ks_statistic,
    population_stability_index,
)
from quant_assets.monitoring.whitening import LONGEST_LAG, Jump
from quant_assets.monitoring.window_null import JUMP_SHARE, jumped, p_value, window_drifted

METHOD = (
    "Three tests that share alpha (.1, .45, .45). Distribution: JS distance of the window from the baseline, against "
    "the baseline's own windows (predictive Student t of its logit), Benjamini-Hochberg over features. Jump of "
    "level, jump of spread: the mean over symbols and the log standard deviation over symbols of each session, "
    "whitened by an autoregression and a moving scale; the greatest joint jump of as many features as make an "
    "alarm, against that of the baseline's own sessions (Lomax tail)"
)

# Measured with `python -m quant_assets_tests.benchmarks.drift_power`.
CANNOT_BE_SEEN = (
    "a gradual move of a slow feature: one that takes the whole window for one standard deviation does nothing that "
    "it does not do by itself, and no test of one window tells it from chance; a jump more than a window ago, in a "
    "slow feature that has stayed where it jumped to; fewer moved features than make an alarm"
)

# Sessions further from the baseline than a long weekend do not follow it: what came between is not known.
MOST_DAYS_APART = 7

# The textbook bands of the PSI. Shown, never judged by: without drift they ring 98 % of the time at AR(1) = .98.
PSI_MODERATE, PSI_MAJOR = 0.1, 0.25


def judge_drift(
    baseline: DriftBaseline,
    current_window_features: pl.DataFrame,
    *,
    subject: str,
    now: datetime | None = None,
    predictions: Mapping[str, Any] | None = None,
) -> GateReport:
    """Judge whether the newest window still looks like the training window.

    Parameters
    ----------
    baseline : DriftBaseline
    current_window_features : polars.DataFrame
        Columns ``symbol``, ``session`` and the baseline's features; at least ``window_sessions`` sessions later
        than the baseline. Of more sessions the newest are judged; those between the baseline and them show where
        they come from.
    subject : str
        Data version of the candidate that was trained on the baseline.
    now : datetime, optional
        When given, sessions after its date are refused: nobody has seen them yet.
    predictions : mapping, optional
        What `compare_predictions` found. Information: no gate reads it.

    Returns
    -------
    GateReport
        Kind "drift" with the verdict ``feature_drift``: it passes iff fewer than ``min_drifted_features``
        features drifted, by any of three tests that share alpha: the window's distribution, a joint jump of
        level, a joint jump of spread.

    Raises
    ------
    DriftError
        When the window is too short, overlaps the baseline, lies in the future, lacks a feature, or holds a
        value that is not finite.
    """
    drift = baseline.drift
    what = f"drift window of candidate {subject[:12]}"
    window, later = _newest_window(baseline, current_window_features, what, now)
    sessions, ranks, values = feature_matrix(later, baseline.feature_names, what)
    found = find_drift(baseline, ranks, values, follows=_follows(baseline, sessions[0]), what=what)
    sessions = sessions[-drift.window_sessions :]
    newest = values[ranks > ranks[-1] - drift.window_sessions]
    last = values[ranks == ranks[-1]]
    rows = []
    for i, feature in enumerate(baseline.features):
        row = _compare(feature, newest[:, i], baseline.n_rows)
        row["adjusted_p_value"] = float(found.adjusted[i])
        for kind, jump in found.jumps.items():
            row[f"{kind}_jump_score"] = None if jump is None else jump.scores[i]
        row["symbols_outside_range"] = _outside(feature, last[:, i])
        row["rows_outside_range"] = _outside(feature, newest[:, i])
        row["drifted_by"] = ", ".join(name for name, drifted in found.by.items() if drifted[i])
        row["drifted"] = bool(found.drifted[i])
        rows.append(row)
    estimate, low, high = baseline.rehearsal.alarms_per_year()
    case = DriftCase(subject, drift, tuple(rows))
    return GateReport(
        kind="drift",
        subject=subject,
        limits=drift.model_dump(mode="json"),
        verdicts=tuple(gate.judge(case) for gate in gates_of("drift")),
        details={
            "training_set_version": baseline.training_set_version,
            "baseline": {
                "first_session": baseline.first_session,
                "last_session": baseline.last_session,
                "n_sessions": baseline.n_sessions,
                "n_symbols": baseline.n_symbols,
            },
            "window": {
                "first_session": sessions[0].isoformat(),
                "last_session": sessions[-1].isoformat(),
                "n_sessions": len(sessions),
                "n_symbols": window["symbol"].n_unique(),
                "n_rows": window.height,
            },
            "method": METHOD,
            "cannot_be_seen": CANNOT_BE_SEEN,
            "jumps": {
                kind: None
                if jump is None
                else {
                    "session": sessions[len(sessions) - found.judged + jump.session].isoformat(),
                    "statistic": jump.statistic,
                    "p_value": jump.p_value,
                    "significant_at": JUMP_SHARE * drift.alpha,
                    "sessions_judged": found.judged,
                }
                for kind, jump in found.jumps.items()
            },
            "predictions": None if predictions is None else dict(predictions),
            "alarms_per_year_without_drift": {
                "estimate": estimate,
                "interval_95": [low, high],
                "nominal_upper_bound": drift.alpha * baseline.rehearsal.windows_per_year,
                "how": "each disjoint window of the baseline judged against the others, once per window",
            },
            "rehearsal": asdict(baseline.rehearsal),
            "features": rows,
        },
    )


@dataclass(frozen=True, eq=False)
class Found:
    """What the three tests say about a window.

    Attributes
    ----------
    adjusted : array, shape (n_features,)
        Benjamini-Hochberg p-values of the window's distribution.
    jumps : dict of Jump or None
        The most suspicious session of the level and of the spread; None where sessions have a single symbol.
    judged : int
        Sessions of the window that could be forecast.
    by : dict of array
        Which features drifted by which test.
    """

    adjusted: Floats
    jumps: dict[str, Jump | None]
    judged: int
    by: dict[str, NDArray[np.bool_]]

    @property
    def drifted(self) -> NDArray[np.bool_]:
        """Which features drifted, by any test."""
        by_any: NDArray[np.bool_] = np.any(list(self.by.values()), axis=0)
        return by_any


def find_drift(baseline: DriftBaseline, ranks: Ranks, values: Floats, *, follows: bool, what: str) -> Found:
    """Judge the newest window of later sessions.

    Parameters
    ----------
    baseline : DriftBaseline
    ranks, values : array
        Number of the session of each row, from 0 and in order, and its features.
    follows : bool
        Whether the first of the sessions comes right after the baseline.
    what : str
        For errors.
    """
    drift = baseline.drift
    newest = values[ranks > ranks[-1] - drift.window_sessions]
    chances = [_chance(feature, newest[:, i])[1] for i, feature in enumerate(baseline.features)]
    series = session_series(ranks, values)
    jumps: dict[str, Jump | None] = {}
    by = {"window": window_drifted(np.array([chances]), drift)[0]}
    judged = 0
    for kind, whitening in (("level", baseline.level), ("spread", baseline.spread)):
        of_sessions = getattr(series, kind)
        if whitening is None or of_sessions is None:
            jumps[kind] = None
            continue
        scores = whitening.score(of_sessions, follows=follows)[-drift.window_sessions :]
        judged = len(scores)
        if not judged:
            raise DriftError(
                what,
                expected=f"sessions that follow the baseline, or {LONGEST_LAG} more before the window",
                found=f"{len(of_sessions)} sessions that begin more than {MOST_DAYS_APART} days after "
                f"{baseline.last_session}",
                action="pass the sessions since the end of the baseline",
            )
        jump = jumps[kind] = whitening.judge(scores)
        by[kind] = jumped(np.array([jump.p_value]), np.array([jump.scores]), drift)[0]
    return Found(benjamini_hochberg(chances), jumps, judged, by)


def _follows(baseline: DriftBaseline, first: date) -> bool:
    return (first - date.fromisoformat(baseline.last_session)).days <= MOST_DAYS_APART


def _newest_window(
    baseline: DriftBaseline, features: pl.DataFrame, what: str, now: datetime | None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows of the window, and those of all sessions after the baseline."""
    wanted = baseline.drift.window_sessions
    sessions = features["session"].drop_nulls().unique().sort() if "session" in features.columns else None
    if sessions is None or sessions.len() < wanted:
        raise DriftError(
            what,
            expected=f"at least {wanted} sessions (drift.window_sessions)",
            found=f"{0 if sessions is None else sessions.len()}",
            action="wait for more sessions, or hold out more of them",
        )
    window = features.filter(pl.col("session") >= sessions[-wanted])
    first, last = sessions[-wanted].isoformat(), sessions[-1].isoformat()
    if first <= baseline.last_session:
        raise DriftError(
            what,
            expected=f"{wanted} sessions after {baseline.last_session}, where the baseline ends",
            found=f"sessions from {first}: the model was trained on some of them, and would look undrifted",
            action="set holdout_sessions of the strategy to at least drift.window_sessions",
        )
    if now is not None and last > now.date().isoformat():
        raise DriftError(
            what,
            expected=f"sessions up to {now.date().isoformat()}",
            found=f"a session on {last}",
            action="correct the dates of the source, or the clock of this machine",
        )
    return window, features.filter(pl.col("session") > date.fromisoformat(baseline.last_session))


def _chance(feature: FeatureBaseline, values: Floats) -> tuple[float, float]:
    """JS distance (bits) of the values from the baseline, and its p-value against the feature's own null."""
    distance = js_distances(np.asarray(feature.frequencies), feature.counts(values) / values.size)
    null = feature.null
    chance = p_value(distance[None], null.mean_logit, null.spread_logit, null.effective_windows)
    return float(distance), float(chance[0])


def _outside(feature: FeatureBaseline, values: Floats) -> float:
    """Share of values below the least or above the greatest of the baseline."""
    return float(((values < feature.sketch[0]) | (values > feature.sketch[-1])).mean())


def _compare(feature: FeatureBaseline, values: Floats, n_rows: int) -> dict[str, Any]:
    """Every distance of one feature, and its p-value against its own null; n_rows are those of the baseline."""
    from scipy.special import kolmogorov

    distance, chance = _chance(feature, values)
    psi = population_stability_index(feature.frequencies, feature.counts(values))
    ks = ks_statistic(feature.sketch, values)
    pairs = n_rows * values.size / (n_rows + values.size)
    return {
        "feature": feature.name,
        "psi": psi,
        "ks_statistic": ks,
        "js_distance_bits": distance,
        "critical_js_distance_bits": feature.null.critical_js_distance_bits,
        "p_value": chance,
        "effective_windows": feature.null.effective_windows,
        "textbook_psi_band": "stable" if psi < PSI_MODERATE else "moderate" if psi < PSI_MAJOR else "major",
        "textbook_ks_p_value": float(kolmogorov(math.sqrt(pairs) * ks)),
    }


def compare_predictions(
    out_of_sample: pl.DataFrame, newest: pl.DataFrame, drift: DriftConfig
) -> dict[str, Any]:
    """Whether the scores of the newest window look like those that the model's kind gave out of sample before.

    A fitted tree knows its training rows: its scores there are spread out as none will be again, and every new
    window would look drifted. So the newest scores are held against cross-validated ones, each from a model that
    had not seen the row's surroundings. Neighbouring windows are scored by different models, so that how models
    differ is part of the null; that these were fitted to fewer rows than the candidate is not.

    Parameters
    ----------
    out_of_sample : polars.DataFrame
        Columns ``symbol``, ``session`` and ``score``: one path of the cross-validation.
    newest : polars.DataFrame
        The same columns; the candidate's scores of the newest sessions.
    drift : DriftConfig

    Raises
    ------
    DriftError
        For unusable rows, as `fit_baseline` and `judge_drift`.
    """
    sessions, ranks, scores = feature_matrix(out_of_sample, ["score"], "out-of-sample scores")
    fitted, _ = fit_feature("score", scores[:, 0], ranks, len(sessions), drift)
    _, ranks, newest_scores = feature_matrix(newest, ["score"], "scores of the newest window")
    values = newest_scores[ranks > ranks[-1] - drift.window_sessions, 0]
    row = _compare(fitted, values, len(scores))
    return {
        **{key: value for key, value in row.items() if key != "feature"},
        "rows_outside_range": _outside(fitted, values),
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "out_of_sample_mean": float(scores.mean()),
        "out_of_sample_sd": float(scores.std()),
        "compared_with": "cross-validated scores of the training window (path 0); no gate reads this",
    }
