"""What follows from the statistics of features: clusters, which twin to keep, and a recommendation per finding."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from quant_assets.features.report.stationarity import LEVEL
from quant_assets.features.report.statistics import DEAD_MODAL_SHARE, Floats

# .7 squared is .49: members of a cluster share half of the variance of their ranks on average.
CLUSTER_CORRELATION = 0.7
# .95 squared is .90: what the second of the two adds is less than a tenth of the variance of its ranks.
REDUNDANT_CORRELATION = 0.95
# Of all rows, lost to the training set because this one feature is masked.
COSTLY_SHARE = 0.05


def clusters(correlation: Floats, names: Sequence[str]) -> pl.DataFrame:
    """Hierarchical clusters of features by average linkage over ``1 - |rank correlation|``.

    Returns
    -------
    polars.DataFrame
        ``feature, cluster, size, nearest, nearest_correlation`` in the order of the tree's leaves, in which
        neighbours are alike; clusters are numbered from 1 in that order. Features that do not vary are left out.
    """
    from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
    from scipy.spatial.distance import squareform

    varying = np.flatnonzero(np.isfinite(np.diag(correlation)))
    strength = np.abs(correlation[np.ix_(varying, varying)])
    if varying.size > 1:
        distance = np.clip(1.0 - strength, 0.0, 1.0)
        np.fill_diagonal(distance, 0.0)
        tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=True)
        groups = fcluster(tree, 1.0 - CLUSTER_CORRELATION, "distance")
        leaves = leaves_list(tree)
    else:
        groups = np.ones(varying.size, dtype=np.int32)
        leaves = np.zeros(varying.size, dtype=np.int32)
    ids = {group: i for i, group in enumerate(dict.fromkeys(groups[leaves].tolist()), start=1)}
    rows = []
    for leaf in leaves.tolist():
        others = np.where(np.arange(varying.size) == leaf, -1.0, strength[leaf])
        nearest = int(others.argmax()) if varying.size > 1 else None
        rows.append(
            {
                "feature": names[varying[leaf]],
                "cluster": ids[int(groups[leaf])],
                "size": int((groups == groups[leaf]).sum()),
                "nearest": None if nearest is None else names[varying[nearest]],
                "nearest_correlation": None
                if nearest is None
                else float(correlation[varying[leaf], varying[nearest]]),
            }
        )
    schema = {
        "feature": pl.String, "cluster": pl.Int64, "size": pl.Int64,
        "nearest": pl.String, "nearest_correlation": pl.Float64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema)


def redundant_pairs(
    correlation: Floats, names: Sequence[str], unmasked_rows: Sequence[int]
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Pairs with ``|rank correlation| > 0.95``, and what to keep.

    Features are gone through from the one with most unmasked rows to the one with fewest, ties in the given order.
    Each is kept unless one that is already kept is its twin; so no feature is dropped in favour of a dropped one.

    Returns
    -------
    pairs : polars.DataFrame
        ``feature, other, rank_correlation, keep`` (null where both have a better twin), strongest first.
    replaced : dict of str to str
        Dropped feature to the kept one that stands for it.
    """
    twins = np.nan_to_num(np.abs(correlation)) > REDUNDANT_CORRELATION
    kept: list[int] = []
    replaced: dict[int, int] = {}
    for i in sorted(range(len(names)), key=lambda i: (-unmasked_rows[i], i)):
        closest = max((k for k in kept if twins[i, k]), key=lambda k: abs(correlation[i, k]), default=None)
        if closest is None:
            kept.append(i)
        else:
            replaced[i] = closest
    pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names)) if twins[i, j]]
    pairs.sort(key=lambda pair: (-abs(correlation[pair]), pair))
    rows = [
        {
            "feature": names[i],
            "other": names[j],
            "rank_correlation": float(correlation[i, j]),
            "keep": next((names[k] for k in (i, j) if k not in replaced), None),
        }
        for i, j in pairs
    ]
    schema = {"feature": pl.String, "other": pl.String, "rank_correlation": pl.Float64, "keep": pl.String}
    by_name = {names[i]: names[k] for i, k in sorted(replaced.items())}
    return pl.DataFrame(rows, schema=schema), by_name


def recommendations(
    coverage: pl.DataFrame,
    summary: pl.DataFrame,
    stationarity: pl.DataFrame,
    redundant: pl.DataFrame,
    replaced: dict[str, str],
    *,
    n_symbols: int,
) -> pl.DataFrame:
    """One row per finding: ``feature, finding, evidence, recommendation``, gravest finding first."""
    correlations = {(a, b): rho for a, b, rho, _ in redundant.rows()}
    found: list[tuple[str, str, str, str]] = []
    by_feature = {
        row["feature"]: row
        for row in coverage.join(summary, on="feature", how="left", maintain_order="left").to_dicts()
    }
    absent = [n for n, row in by_feature.items() if row["unmasked_rows"] == 0]
    dead = [n for n, row in by_feature.items() if row["dead"]]
    for name in absent:
        words = "no row has a value", "leave it out here, or give the universe more history than its warm-up"
        found.append((name, "never has a value", *words))
    for name in dead:
        row = by_feature[name]
        evidence = (
            f"{row['modal_share']:.1%} of its values are the same"
            if row["modal_share"] >= DEAD_MODAL_SHARE
            else f"its 5 % to 95 % quantiles span {row['steps']:.1f} steps of float32: rounding of a constant"
        )
        found.append((name, "dead", evidence, "leave it out: there is nothing to split on"))
    for name, row in by_feature.items():
        if row["constant_symbols"] and name not in dead:
            evidence = f"it never changes in {row['constant_symbols']} of {n_symbols} symbols"
            found.append((name, "dead in some symbols", evidence, "look at the bars of these symbols"))
    for name, kept in replaced.items():
        rho = correlations[(name, kept) if (name, kept) in correlations else (kept, name)]
        if name not in dead and kept not in dead:
            evidence = f"rank correlation {rho:+.3f} with {kept}"
            found.append((name, "redundant", evidence, f"keep {kept}, leave {name} out"))
    for row in stationarity.to_dicts():
        if row["stationary"] is False and row["feature"] not in dead:
            evidence = (
                f"{row['rejecting']} of {row['symbols']} symbols reject a unit root at {LEVEL:.0%} "
                f"({LEVEL * row['symbols']:.1f} by chance); adjusted p {row['adjusted_p']:.2g}"
            )
            advice = "take it relative to its own past, or difference it: levels of the past may not return"
            found.append((row["feature"], "unit root not rejected", evidence, advice))
    for name, row in by_feature.items():
        if row["lost_alone"] > COSTLY_SHARE:
            evidence = f"the only masked feature in {row['lost_alone']:.1%} of rows, which training loses"
            found.append(
                (name, "costs rows", evidence, "weigh it against these rows, or shorten its warm-up")
            )
    columns = ("feature", "finding", "evidence", "recommendation")
    return pl.DataFrame(found, schema=dict.fromkeys(columns, pl.String), orient="row")
