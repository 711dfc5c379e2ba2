"""The feature report: what the packs of a universe look like on its bars, and what to do about it.

It reads features and nothing else: no label, no return to come. Choosing features by it is no trial.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from quant_assets.features.report import findings, statistics
from quant_assets.features.report.stationarity import LEVEL, MOST_SESSIONS, MOST_SYMBOLS, stationarity
from quant_assets.features.selection import KEYS, join_packs


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
        As `quant_assets.features.report.statistics.coverage`, with the ``pack`` of each feature.
    session_coverage : polars.DataFrame
        As `quant_assets.features.report.statistics.session_coverage`.
    summary, histograms : polars.DataFrame
        As `quant_assets.features.report.statistics.distributions`.
    correlation : polars.DataFrame
        ``feature`` and one column per feature, in the order of the clusters.
    correlation_rows : int
        Rows that the correlations were read from.
    clusters : polars.DataFrame
        As `quant_assets.features.report.findings.clusters`.
    redundant : polars.DataFrame
        As `quant_assets.features.report.findings.redundant_pairs`.
    stationarity : polars.DataFrame
        As `quant_assets.features.report.stationarity.stationarity`.
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
    grouped = findings.clusters(correlation, with_values)
    rows_of = dict(covered.select("feature", "unmasked_rows").iter_rows())
    redundant, replaced = findings.redundant_pairs(
        correlation, with_values, [rows_of[n] for n in with_values]
    )
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
        recommendations=findings.recommendations(
            covered, summary, wandering, redundant, replaced, n_symbols=symbols
        ),
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
    from quant_assets.features.report import plots

    pictures = {
        "coverage": plots.coverage_map(report.session_coverage),
        "distributions": plots.histograms(report.histograms, report.summary),
        "stationarity": plots.rejection_bars(report.stationarity),
    }
    if report.clusters.height > 1:
        pictures["correlation"] = plots.correlation_map(report.correlation, report.clusters)
    return pictures


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
            "cluster": findings.CLUSTER_CORRELATION,
            "redundant": findings.REDUNDANT_CORRELATION,
            "level": LEVEL,
            "most_symbols": MOST_SYMBOLS,
            "most_sessions": MOST_SESSIONS,
            "tail": statistics.TAIL,
        },
    )
