"""The feature report: what the packs of a universe look like on its bars, and what to do about it.

It reads features and nothing else: no label, no return to come. Choosing features by it is no trial.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from quant_assets.features import column_statistics as statistics
from quant_assets.features.column_statistics import (
    DEAD_MODAL_SHARE,
    LEVEL,
    MOST_SESSIONS,
    MOST_SYMBOLS,
    Floats,
    stationarity,
)
from quant_assets.features.pack import KEYS, join_packs

# --------------------------------------------------------------- what follows from the statistics of features


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


# ------------------------------------------------------------------------------------------------- the report


@dataclass(frozen=True)
class FeatureReport:
    """The features of a universe, described.

    Attributes
    ----------
    universe : str
    packs : tuple of str
        In the order of their columns. A column that two packs hold is shown as ``pack:column``.
    n_rows, n_symbols : int
    first_session, last_session : date
    coverage : polars.DataFrame
        As `quant_assets.features.column_statistics.coverage`, with the ``pack`` of each feature.
    session_coverage : polars.DataFrame
        As `quant_assets.features.column_statistics.session_coverage`.
    summary, histograms : polars.DataFrame
        As `quant_assets.features.column_statistics.distributions`.
    correlation : polars.DataFrame
        ``feature`` and one column per feature, in the order of the clusters.
    correlation_rows : int
        Rows that the correlations were read from.
    clusters : polars.DataFrame
        As `quant_assets.features.feature_report.clusters`.
    redundant : polars.DataFrame
        As `quant_assets.features.feature_report.redundant_pairs`.
    stationarity : polars.DataFrame
        As `quant_assets.features.column_statistics.stationarity`.
    recommendations : polars.DataFrame
        ``feature, finding, evidence, recommendation``.
    """

    universe: str
    packs: tuple[str, ...]
    n_rows: int
    n_symbols: int
    first_session: date
    last_session: date
    coverage: pl.DataFrame
    session_coverage: pl.DataFrame
    summary: pl.DataFrame
    histograms: pl.DataFrame
    correlation: pl.DataFrame
    correlation_rows: int
    clusters: pl.DataFrame
    redundant: pl.DataFrame
    stationarity: pl.DataFrame
    recommendations: pl.DataFrame


def feature_report(frames: Mapping[str, pl.DataFrame], *, universe: str) -> FeatureReport:
    """Describe the features of one or more packs over the same bars.

    Parameters
    ----------
    frames : mapping of str to polars.DataFrame
        By pack name: ``symbol, session`` and the features, null where masked, as `quant_assets.features.compute`
        returns them.
    universe : str
        For the title.

    Raises
    ------
    FeatureError
        No frame, packs over different bars, no rows, a column that is not floating-point, NaN or infinity.
    """
    matrix, pack_of = _side_by_side(frames)
    names = statistics.feature_columns(matrix)
    covered = statistics.coverage(matrix, names)
    summary, histograms = statistics.distributions(matrix, names)
    with_values = [name for name, rows in zip(names, covered["unmasked_rows"], strict=True) if rows]
    correlation, correlation_rows = statistics.rank_correlation(matrix, with_values)
    grouped = clusters(correlation, with_values)
    rows_of = dict(covered.select("feature", "unmasked_rows").iter_rows())
    redundant, replaced = redundant_pairs(correlation, with_values, [rows_of[n] for n in with_values])
    wandering = stationarity(matrix, names)
    symbols = matrix["symbol"].n_unique()
    places = [with_values.index(name) for name in grouped["feature"]]
    return FeatureReport(
        universe=universe,
        packs=tuple(frames),
        n_rows=matrix.height,
        n_symbols=symbols,
        first_session=_day(matrix["session"].min()),
        last_session=_day(matrix["session"].max()),
        coverage=covered.insert_column(0, pl.Series("pack", [pack_of[name] for name in names])),
        session_coverage=statistics.session_coverage(matrix, names),
        summary=summary,
        histograms=histograms,
        correlation=pl.DataFrame(
            {"feature": grouped["feature"]} | {with_values[j]: correlation[places, j] for j in places}
        ),
        correlation_rows=correlation_rows,
        clusters=grouped,
        redundant=redundant,
        stationarity=wandering,
        recommendations=recommendations(covered, summary, wandering, redundant, replaced, n_symbols=symbols),
    )


def _side_by_side(frames: Mapping[str, pl.DataFrame]) -> tuple[pl.DataFrame, dict[str, str]]:
    """One matrix of all packs, sorted by symbol and session, and the pack of each column."""
    columns = [column for frame in frames.values() for column in frame.columns if column not in KEYS]
    shared = {column for column in columns if columns.count(column) > 1}
    renamed = {
        pack: frame.rename({c: f"{pack}:{c}" for c in frame.columns if c in shared})
        for pack, frame in frames.items()
    }
    pack_of = {c: pack for pack, frame in renamed.items() for c in frame.columns if c not in KEYS}
    return join_packs(renamed).sort("symbol", "session"), pack_of


def _day(session: Any) -> date:
    return session.date() if hasattr(session, "date") else session  # type: ignore[no-any-return]


def report_plots(report: FeatureReport) -> dict[str, str]:
    """The pictures of a report by name (coverage, distributions, ...), as ``data:`` addresses."""
    from quant_assets.features import feature_plots as plots

    pictures = {
        "coverage": plots.coverage_map(report.session_coverage),
        "distributions": plots.histograms(report.histograms, report.summary),
        "stationarity": plots.rejection_bars(report.stationarity),
    }
    if report.clusters.height > 1:
        pictures["correlation"] = plots.correlation_map(report.correlation, report.clusters)
    return pictures


def advice_of(findings: pl.DataFrame) -> list[dict[str, Any]]:
    """Findings by what is found and recommended, most features first: one line where many features have the same.

    Returns
    -------
    list of dict
        ``finding, recommendation, features``. A recommendation that names its own feature keeps a line for it.
    """
    lines = findings.group_by("finding", "recommendation", maintain_order=True).agg(
        pl.col("feature").alias("features")
    )
    return lines.sort(pl.col("features").list.len(), descending=True, maintain_order=True).to_dicts()


def render_html(report: FeatureReport, plots: Mapping[str, str] | None = None) -> str:
    """The report as one self-contained HTML page: the same report gives the same bytes.

    Parameters
    ----------
    report : FeatureReport
    plots : mapping of str to str, optional
        What `report_plots` returned for this report, when it is at hand.
    """
    from quant_assets.common.pages import page_environment

    features = (
        report.coverage.join(report.summary, on="feature", how="left", maintain_order="left")
        .join(report.clusters.select("feature", "cluster"), on="feature", how="left", maintain_order="left")
        .join(report.stationarity, on="feature", how="left", maintain_order="left")
    )
    template = page_environment(Path(__file__).parent).get_template("feature_report.html.j2")
    return template.render(
        report=report,
        plots=report_plots(report) if plots is None else plots,
        features=features.to_dicts(),
        findings=report.recommendations.to_dicts(),
        advice=advice_of(report.recommendations),
        redundant=report.redundant.to_dicts(),
        groups=[
            (cluster, rows["feature"].to_list())
            for (cluster,), rows in report.clusters.group_by("cluster", maintain_order=True)
            if rows.height > 1
        ],
        n_dead=int(report.summary["dead"].sum()),
        complete=float((report.session_coverage["complete"] * report.session_coverage["symbols"]).sum())
        / report.n_rows,
        limits={
            "dead_share": statistics.DEAD_MODAL_SHARE,
            "dead_steps": statistics.DEAD_STEPS,
            "cluster": CLUSTER_CORRELATION,
            "redundant": REDUNDANT_CORRELATION,
            "level": LEVEL,
            "most_symbols": MOST_SYMBOLS,
            "most_sessions": MOST_SESSIONS,
            "tail": statistics.TAIL,
        },
    )
