"""The importance report for people: tables, pictures and one self-contained HTML page."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import polars as pl

from quant_assets.features.report.findings import CLUSTER_CORRELATION, REDUNDANT_CORRELATION
from quant_assets.validation.importance import permutation
from quant_assets.validation.importance.report import ImportanceReport


def feature_table(report: ImportanceReport) -> pl.DataFrame:
    """Features with every measure, for people and the UI."""
    rows = [
        {
            "feature": row.feature,
            "loss_of_rank_ic": row.single.importance,
            "standard_error": row.single.error,
            "error_over_folds": row.single.fold_error,
            "floor": row.single.floor,
            "adjusted_p": row.single.p_value,
            "cluster": row.cluster.name,
            "cluster_size": len(row.cluster.members),
            "cluster_loss": row.cluster.importance,
            "cluster_floor": row.cluster.floor,
            "cluster_adjusted_p": row.cluster.p_value,
            "shap": row.shap,
            "shap_share": row.shap_share,
            "shap_beside_shadows": row.shap_beside_shadows,
            "shap_above_shadows": row.shap_above_shadows,
            "dead": row.dead,
        }
        for row in report.features
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def cluster_table(report: ImportanceReport) -> pl.DataFrame:
    """Clusters with their members."""
    rows = [
        {
            "cluster": group.name,
            "features": ", ".join(group.members),
            "loss_of_rank_ic": group.importance,
            "standard_error": group.error,
            "floor": group.floor,
            "adjusted_p": group.p_value,
        }
        for group in report.clusters
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def recommendation_table(report: ImportanceReport) -> pl.DataFrame:
    """Findings as a table, empty when there is none."""
    columns = ("feature", "finding", "evidence", "recommendation")
    return pl.DataFrame(
        [asdict(row) for row in report.recommendations], schema=dict.fromkeys(columns, pl.String)
    )


def member_table(report: ImportanceReport) -> pl.DataFrame:
    """Members with their gains and verdicts."""
    rows = [
        {
            "member": row.member,
            "verdict": row.verdict,
            "gain_of_rank_ic": row.gain.mean,
            "low": row.gain.low,
            "high": row.gain.high,
            "own_rank_ic": row.own_rank_ic.mean,
            "own_low": row.own_rank_ic.low,
            "own_high": row.own_rank_ic.high,
            "weight": row.coefficient_share,
        }
        for row in report.diversity.members
    ]
    return pl.DataFrame(rows)


def agreement_table(report: ImportanceReport) -> pl.DataFrame:
    """How alike each pair of members predicts."""
    columns = ("first", "second", "rank_correlation", "same_sign", "same_half")
    kinds = dict(zip(columns, (pl.String, pl.String, pl.Float64, pl.Float64, pl.Float64), strict=True))
    return pl.DataFrame([asdict(pair) for pair in report.diversity.pairs], schema=kinds)


def report_plots(report: ImportanceReport) -> dict[str, str]:
    """The pictures by name, as ``data:`` addresses."""
    from quant_assets.validation.importance import plots

    pictures = {
        "shap": plots.shap_summary(report.shap, report.shap_features, report.score_unit),
        "shap_bars": plots.shap_bars(report.features, report.shap_floor, report.score_unit),
        "permutation": plots.losses_above_floor([row.single for row in report.features]),
        "gains": plots.member_gains(report.diversity),
    }
    if any(len(group.members) > 1 for group in report.clusters):
        pictures["clusters"] = plots.losses_above_floor(report.clusters)
    if report.diversity.pairs:
        pictures["agreement"] = plots.member_correlation(report.diversity)
    return pictures


def render_html(report: ImportanceReport, title: str, plots: Mapping[str, str] | None = None) -> str:
    """The report as one self-contained HTML page: the same report gives the same bytes.

    Parameters
    ----------
    report : ImportanceReport
    title : str
        Name of the strategy.
    plots : mapping of str to str, optional
        What `report_plots` returned for this report, when it is at hand.
    """
    from quant_assets.common.pages import page_environment

    template = page_environment(Path(__file__).parent).get_template("importance_report.html.j2")
    return template.render(
        title=title,
        report=report,
        plots=report_plots(report) if plots is None else plots,
        features=feature_table(report).to_dicts(),
        groups=[row for row in cluster_table(report).to_dicts() if ", " in row["features"]],
        n_above=sum(row.single.above_floor for row in report.features),
        n_dead=sum(row.dead for row in report.features),
        limits={
            "rate": permutation.FAMILY_WISE_RATE,
            "draws": permutation.DRAWS,
            "repeats": permutation.REPEATS,
            "cluster": CLUSTER_CORRELATION,
            "redundant": REDUNDANT_CORRELATION,
        },
    )
