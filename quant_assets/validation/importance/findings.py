"""What follows from the measures: dead features, redundant ones, and a recommendation for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from quant_assets.features.report.findings import REDUNDANT_CORRELATION
from quant_assets.validation.importance.permutation import GroupImportance
from quant_assets.validation.sharpe_variance import FloatArray


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
