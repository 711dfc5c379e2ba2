"""The importance report: which features and members earn their place, measured out of sample on purged folds.

It reads labels: acting on it is a choice among configurations, and what is then evaluated is one more trial.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from quant_assets.common.model_settings import OWN_LEARNERS
from quant_assets.common.settings import ModelsConfig
from quant_assets.features.column_statistics import rank_correlation
from quant_assets.features.feature_report import REDUNDANT_CORRELATION, clusters
from quant_assets.statistics.sharpe_inference import FloatArray
from quant_assets.studies.importance import permutation
from quant_assets.studies.importance.out_of_sample import (
    FOLDS,
    Diversity,
    Fold,
    Rows,
    ShapValues,
    diversity,
    ensemble_contributions,
    fit_folds,
    joined,
    measured_rows,
    shadow_shap,
)
from quant_assets.studies.importance.permutation import GroupImportance, HeldOut, thinned_sessions

# ----------------------------------------------------------------------------- what follows from the measures


@dataclass(frozen=True)
class FeatureImportance:
    """One feature by all measures.

    Attributes
    ----------
    feature : str
    shap : float
        Mean absolute SHAP value, in the unit of the scores.
    shap_share : float
        Of the sum over features; 0 when no tree split.
    single : GroupImportance
        Shuffled alone.
    cluster : GroupImportance
        Shuffled with its cluster, which may be itself alone.
    shap_beside_shadows : float
        Mean absolute SHAP value in members refitted with shadow features beside it.
    shap_above_shadows : bool
        Whether that is larger than that of every shadow feature.
    """

    feature: str
    shap: float
    shap_share: float
    single: GroupImportance
    cluster: GroupImportance
    shap_beside_shadows: float
    shap_above_shadows: bool

    @property
    def dead(self) -> bool:
        """Below the noise floor in every measure, though there was something to shuffle."""
        return self.single.varies and not (
            self.single.above_floor or self.cluster.above_floor or self.shap_above_shadows
        )


@dataclass(frozen=True)
class Recommendation:
    """One finding.

    Attributes
    ----------
    feature : str
    finding : {"dead", "redundant", "not measurable"}
    evidence, recommendation : str
    """

    feature: str
    finding: Literal["dead", "redundant", "not measurable"]
    evidence: str
    recommendation: str


def recommendations(
    features: Sequence[FeatureImportance], correlation: FloatArray, shap_floor: float
) -> tuple[Recommendation, ...]:
    """One row per finding, dead features first, then redundant ones.

    A redundant feature has a twin (absolute rank correlation above 0.95) that is kept, carries nothing alone (below
    the floor, as both are while the twin stands in), and is not dead. Of twins, the one with the larger loss is kept.

    Parameters
    ----------
    features : sequence of FeatureImportance
    correlation : ndarray, shape (f, f)
        Rank correlations, in the order of ``features``; NaN where a feature does not vary.
    shap_floor : float
        The largest mean absolute SHAP value of a shadow.
    """
    found = []
    for row in features:
        if not row.single.varies:
            words = "the same for every name of a session: there is nothing to shuffle within it"
            advice = "judge it by its SHAP value, or interact it with something that differs between names"
            found.append(Recommendation(row.feature, "not measurable", words, advice))
        elif row.dead:
            found.append(
                Recommendation(
                    row.feature, "dead", dead_evidence(row, shap_floor), "leave it out, and count the trial"
                )
            )
    kept: list[int] = []
    twins = _twins(features, correlation)
    for i in sorted(range(len(features)), key=lambda i: (-features[i].single.importance, i)):
        closest = max((k for k in kept if k in twins[i]), key=lambda k: abs(correlation[i, k]), default=None)
        if closest is None or features[i].single.above_floor:
            kept.append(i)
        else:
            words = (
                f"rank correlation {correlation[i, closest]:+.3f} with {features[closest].feature}; "
                f"alone it loses {features[i].single.importance:+.4f} of rank IC, "
                f"its cluster {features[i].cluster.importance:+.4f}"
            )
            advice = f"keep {features[closest].feature}, leave {features[i].feature} out"
            found.append(Recommendation(features[i].feature, "redundant", words, advice))
    rank = {"dead": 0, "redundant": 1, "not measurable": 2}
    return tuple(sorted(found, key=lambda r: rank[r.finding]))


def dead_evidence(row: FeatureImportance, shap_floor: float) -> str:
    """Why a feature is called dead, with the figures."""
    if row.shap == 0:
        return "no tree of any fold splits on it"
    parts = [
        f"alone it loses {row.single.importance:+.4f} of rank IC "
        f"(floor {row.single.floor:.4f}, p {row.single.p_value:.2f})"
    ]
    if len(row.cluster.members) > 1:
        parts.append(
            f"its cluster of {len(row.cluster.members)} {row.cluster.importance:+.4f} "
            f"(floor {row.cluster.floor:.4f}, p {row.cluster.p_value:.2f})"
        )
    parts.append(f"SHAP beside shadows {row.shap_beside_shadows:.2g} (best shadow {shap_floor:.2g})")
    return "; ".join(parts)


def _twins(features: Sequence[FeatureImportance], correlation: FloatArray) -> Mapping[int, set[int]]:
    """By feature, those that rank the rows alike; dead and unmeasurable features have none."""
    near = np.nan_to_num(np.abs(correlation)) > REDUNDANT_CORRELATION
    alive = [not row.dead and row.single.varies for row in features]
    return {
        i: {j for j in range(len(features)) if j != i and near[i, j] and alive[i] and alive[j]}
        for i in range(len(features))
    }


# ------------------------------------------------------------------------------------------------- the report


MOST_EXPLAINED_ROWS = 2_000
FEW_SYMBOLS = 20

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class ImportanceReport:
    """Importance of features and members.

    Attributes
    ----------
    features : tuple of FeatureImportance
        Most important first, by the loss of rank IC.
    clusters : tuple of GroupImportance
        Every cluster, those of one feature too, most important first.
    recommendations : tuple of Recommendation
    diversity : Diversity
    shap : ShapValues
        Of evenly thinned test rows, columns as in ``shap_features``.
    shap_features : tuple of str
    shap_floor : float
        Largest mean absolute SHAP value of a shadow feature.
    score_unit : {"expected return", "log-odds"}
    n_rows, n_sessions, n_symbols, n_folds : int
        What members were fitted and tested on.
    step : int
        Every ``step``-th session was used.
    shuffled_rows : int
        Test rows that shuffles were scored on.
    """

    features: tuple[FeatureImportance, ...]
    clusters: tuple[GroupImportance, ...]
    recommendations: tuple[Recommendation, ...]
    diversity: Diversity
    shap: ShapValues
    shap_features: tuple[str, ...]
    shap_floor: float
    score_unit: str
    n_rows: int
    n_sessions: int
    n_symbols: int
    n_folds: int
    step: int
    shuffled_rows: int

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader has to know before acting on it."""
        words = []
        if self.n_symbols < FEW_SYMBOLS:
            words.append(
                f"With {self.n_symbols} names a session's rank IC takes few values, and losses have wide floors: "
                "below the floor then means unknown rather than useless."
            )
        if self.diversity.rank_ic.low <= 0:
            words.append(
                f"The ensemble's own rank IC is {self.diversity.rank_ic.mean:+.4f} "
                f"({self.diversity.rank_ic.low:+.4f} to {self.diversity.rank_ic.high:+.4f}): it cannot be told from "
                "none, and there is little that any feature or member could be important for."
            )
        if self.step > 1:
            words.append(
                f"Members were refitted on every {self.step}. session: leaves of a fixed size are larger shares "
                "of these rows than of all."
            )
        return tuple(words)


def importance_report(
    frame: pl.DataFrame,
    feature_names: Sequence[str],
    models: ModelsConfig,
    *,
    seed: int,
    embargo_sessions: int,
    progress: Progress | None = None,
) -> ImportanceReport:
    """Measure features and members of an ensemble. Same inputs, same figures.

    Parameters
    ----------
    frame : polars.DataFrame
        Training set: ``symbol, t0, t1``, the features (Float32, no nulls), ``target`` (forward return).
    feature_names : sequence of str
    models : ModelsConfig
    seed, embargo_sessions : int
    progress : callable, optional
        Called with (stages done, stages in all).

    Raises
    ------
    ModelError
        When a fold has nothing to train on.
    ValidationError
        When no session has two names, or fewer than 32 sessions do.
    """
    done = progress or (lambda number, total: None)
    rows = measured_rows(frame, feature_names, models, embargo_sessions=embargo_sessions)
    folds = fit_folds(rows, models, seed=seed)
    done(1, 4)
    explained = [fold.test[_thinned(rows, fold, MOST_EXPLAINED_ROWS)[0]] for fold in folds]
    shap = joined(
        [
            ensemble_contributions(fold.members, fold.stacker, rows.arrays.features[unseen])
            for fold, unseen in zip(folds, explained, strict=True)
        ]
    )
    beside, shadows = shadow_shap(rows, folds, explained, models, seed=seed)
    shap_floor = float(shadows.max())
    done(2, 4)

    matrix = pl.DataFrame(rows.arrays.features, schema=list(feature_names))
    correlation, _ = rank_correlation(matrix, feature_names)
    grouped = _clusters_of(correlation, rows.feature_names)
    held = _held_out(rows, folds)
    groups: dict[str, tuple[int, ...]] = {f"feature {c}": (c,) for c in range(len(feature_names))}
    groups |= {f"cluster {k}": columns for k, columns in grouped.items() if len(columns) > 1}
    found = permutation.losses(held, groups, seed=seed)
    done(3, 4)
    names = rows.feature_names
    single = _judged(found, [f"feature {c}" for c in range(len(names))], list(names), names)
    of_cluster = [f"cluster {k}" if len(c) > 1 else f"feature {c[0]}" for k, c in grouped.items()]
    titles = [names[c[0]] if len(c) == 1 else f"cluster {k}" for k, c in grouped.items()]
    whole = _judged(found, of_cluster, titles, names)
    by_column = {c: group for group, columns in zip(whole, grouped.values(), strict=True) for c in columns}
    mean_shap = shap.mean_absolute
    total = float(mean_shap.sum())
    features = tuple(
        FeatureImportance(
            names[c],
            float(mean_shap[c]),
            float(mean_shap[c] / total) if total > 0 else 0.0,
            single[c],
            by_column[c],
            float(beside[c]),
            bool(beside[c] > shap_floor),
        )
        for c in range(len(names))
    )
    advice = recommendations(features, correlation, shap_floor)
    members = diversity(rows, folds)
    done(4, 4)
    return ImportanceReport(
        features=tuple(sorted(features, key=lambda f: (-f.single.importance, -f.shap, f.feature))),
        clusters=tuple(sorted(whole, key=lambda g: (-g.importance, g.name))),
        recommendations=advice,
        diversity=members,
        shap=shap,
        shap_features=names,
        shap_floor=shap_floor,
        score_unit="log-odds" if models.label_kind == "direction" else "expected return",
        n_rows=len(rows.outcome),
        n_sessions=len(np.unique(rows.sessions)),
        n_symbols=len(np.unique(rows.arrays.symbol)),
        n_folds=FOLDS,
        step=rows.step,
        shuffled_rows=sum(len(fold.outcome) for fold in held),
    )


def _thinned(rows: Rows, fold: Fold, most: int) -> tuple[NDArray[np.int64], int]:
    return thinned_sessions(rows.sessions[fold.test], most // FOLDS)


def _judged(
    found: permutation.Losses,
    keys: Sequence[str],
    titles: Sequence[str],
    names: Sequence[str],
) -> tuple[GroupImportance, ...]:
    judged = permutation.importances(found, keys, names)
    return tuple(
        GroupImportance(**{**asdict(group), "name": title})
        for group, title in zip(judged, titles, strict=True)
    )


def _clusters_of(correlation: NDArray[np.float64], names: Sequence[str]) -> dict[int, tuple[int, ...]]:
    """Columns of each cluster by its number; a feature that does not vary is a cluster of its own."""
    grouped: dict[int, tuple[int, ...]] = {}
    for feature, cluster in clusters(correlation, names).select("feature", "cluster").iter_rows():
        grouped[cluster] = (*grouped.get(cluster, ()), names.index(feature))
    placed = {c for columns in grouped.values() for c in columns}
    for column in range(len(names)):
        if column not in placed:
            grouped[max(grouped, default=0) + 1] = (column,)
    return grouped


def _held_out(rows: Rows, folds: Sequence[Fold]) -> list[HeldOut]:
    """Thinned test rows of each fold."""
    held = []
    for fold in folds:
        kept, _ = _thinned(rows, fold, permutation.MOST_SHUFFLED_ROWS)
        unseen = fold.test[kept]
        used = {int(c) for member in fold.members for tree in member.trees() for c in tree.feature}
        if any(member.name not in OWN_LEARNERS for member in fold.members):
            used = set(range(rows.arrays.features.shape[1]))  # what a graph reads is not looked into
        held.append(
            HeldOut(
                fold.score,
                frozenset(used),
                rows.arrays.features[unseen],
                rows.outcome[unseen],
                rows.sessions[unseen],
                rows.arrays.symbol[unseen],
            )
        )
    return held
