"""The importance report for people: pictures, tables and one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from quant_assets.common.pages import (
    ACCENT,
    BAD,
    FAN,
    GOOD,
    GRID,
    INK,
    MUTED,
    figure_png,
    plot_label,
    png_data_uri,
    themed_figure,
)
from quant_assets.features.feature_report import CLUSTER_CORRELATION, REDUNDANT_CORRELATION, advice_of
from quant_assets.studies.importance import permutation
from quant_assets.studies.importance.importance_report import FeatureImportance, ImportanceReport
from quant_assets.studies.importance.out_of_sample import Diversity, ShapValues
from quant_assets.studies.importance.permutation import GroupImportance

# --------------------------------------------------------------------------------------------------- pictures


WIDTH = 5.2  # inches: 9 points of text are still readable when a telephone shows it 340 pixels wide
ROW = 0.21
MOST_ROWS = 30
MOST_DOTS = 500  # of a row of the summary: more would only cover each other
DPI = 150


def shap_summary(shap: ShapValues, names: Sequence[str], unit: str) -> str:
    """One dot per row of data at its SHAP value, coloured by the rank of the feature's value, piled where many."""
    order = sorted(range(len(names)), key=lambda c: (-shap.mean_absolute[c], c))[:MOST_ROWS]
    rows = np.unique(np.linspace(0, len(shap.base) - 1, min(MOST_DOTS, len(shap.base))).round().astype(int))
    colours = LinearSegmentedColormap.from_list("value", [ACCENT, "#c9b8d6", BAD])
    with themed_figure(WIDTH, 1.1 + 0.27 * len(order)) as (figure, axes):
        extent = float(np.abs(shap.values[rows][:, order]).max(initial=0.0)) or 1.0
        dots = None
        for place, column in enumerate(order):
            values = shap.values[rows, column]
            dots = axes.scatter(
                values, place + _piled(values, extent), c=_rank_share(shap.features[rows, column]),
                cmap=colours, vmin=0.0, vmax=1.0, s=5, linewidths=0, alpha=0.8, zorder=3,
            )  # fmt: skip
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        _names(axes, [names[c] for c in order])
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.set_xlabel(f"SHAP value ({unit})")
        if dots is not None:
            bar = figure.colorbar(dots, ax=axes, fraction=0.03, pad=0.02, ticks=[0.0, 1.0])
            bar.ax.set_yticklabels(["low", "high"])
            bar.set_label("value of the feature", labelpad=-14)
            bar.outline.set_visible(False)
        return _address(figure)


def shap_bars(features: Sequence[FeatureImportance], floor: float, unit: str) -> str:
    """Mean absolute SHAP value of each feature, and the largest that a shadow reached."""
    shown = sorted(features, key=lambda f: (-f.shap_beside_shadows, f.feature))[:MOST_ROWS]
    with themed_figure(WIDTH, 1.0 + ROW * len(shown)) as (figure, axes):
        axes.barh(
            range(len(shown)),
            [f.shap_beside_shadows for f in shown],
            height=0.7,
            color=[ACCENT if f.shap_above_shadows else FAN for f in shown],
        )
        _floor_line(axes, floor, "largest of the shadow features")
        _names(axes, [f.feature for f in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel(f"mean absolute SHAP value ({unit})")
        _legend_above(axes)
        return _address(figure)


def losses_above_floor(groups: Sequence[GroupImportance]) -> str:
    """Loss of rank IC with two standard errors, and each group's floor."""
    shown = groups[:MOST_ROWS]
    with themed_figure(WIDTH, 1.1 + ROW * len(shown)) as (figure, axes):
        places = np.arange(len(shown))
        for above, colour, words in ((True, ACCENT, "above the floor"), (False, FAN, "not above it")):
            mine = [i for i, group in enumerate(shown) if group.above_floor is above]
            if mine:
                axes.barh(mine, [shown[i].importance for i in mine], height=0.7, color=colour, label=words)
        axes.errorbar(
            [g.importance for g in shown], places, xerr=[2.0 * g.error for g in shown],
            fmt="none", ecolor=MUTED, elinewidth=0.9, label="2 standard errors",
        )  # fmt: skip
        axes.scatter(
            [g.floor for g in shown], places, marker="|", s=70, color=BAD, linewidths=1.8, zorder=4,
            label="noise floor",
        )  # fmt: skip
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        names = [g.name if len(g.members) == 1 else f"{g.name} ({len(g.members)})" for g in shown]
        _names(axes, names)
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.set_xlabel("loss of rank IC")
        _legend_above(axes)
        return _address(figure)


def member_gains(diversity: Diversity) -> str:
    """Gain of each member with its 95 % interval, green and red where it excludes nothing."""
    colours = {"adds": GOOD, "harms": BAD}
    rows = diversity.members
    with themed_figure(WIDTH, 1.0 + 0.5 * len(rows)) as (figure, axes):
        for place, row in enumerate(rows):
            colour = colours.get(row.verdict, MUTED)
            axes.plot([row.gain.low, row.gain.high], [place, place], color=colour, linewidth=2.4)
            axes.scatter(row.gain.mean, place, s=46, color=colour, zorder=3)
            axes.annotate(
                row.verdict, (row.gain.mean, place), (0, 8), textcoords="offset points",
                ha="center", color=colour, fontsize=9,
            )  # fmt: skip
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        axes.margins(x=0.12)
        _names(axes, [row.member for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("rank IC of the ensemble with it minus without it")
        return _address(figure)


def member_correlation(diversity: Diversity) -> str:
    """Rank correlation of the members' predictions, mean over sessions."""
    names = [row.member for row in diversity.members]
    matrix = np.eye(len(names))
    for pair in diversity.pairs:
        i, j = names.index(pair.first), names.index(pair.second)
        matrix[i, j] = matrix[j, i] = pair.rank_correlation
    # Square cells leave no room of their own: names to the left and the bar to the right have to find theirs.
    side = 0.6 + 0.55 * len(names)
    room = 0.085 * max(len(plot_label(name)) for name in names)
    with themed_figure(side + room + 1.3, side + 0.6) as (figure, axes):
        figure.set_layout_engine("compressed")
        image = axes.imshow(
            matrix,
            cmap=LinearSegmentedColormap.from_list("correlation", [BAD, "#ffffff", ACCENT]),
            vmin=-1.0,
            vmax=1.0,
        )
        for (i, j), value in np.ndenumerate(matrix):
            ink = "white" if abs(value) > 0.7 else INK
            axes.annotate(f"{value:.2f}", (j, i), ha="center", va="center", color=ink, fontsize=9)
        _names(axes, names)
        axes.set_xticks(range(len(names)), [plot_label(name) for name in names], fontsize=9)
        axes.grid(visible=False)
        bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.03)
        bar.set_label("rank correlation")
        bar.outline.set_visible(False)
        return _address(figure)


def _piled(values: NDArray[np.float64], extent: float) -> NDArray[np.float64]:
    """Vertical offsets: dots of one cell of the axis are stacked around the row, the fullest cell filling it."""
    cells = np.round(values / extent * 120.0).astype(int)
    order = np.argsort(cells, kind="stable")
    same = cells[order]
    starts = np.flatnonzero(np.concatenate(([True], same[1:] != same[:-1])))
    counts = np.diff(np.append(starts, len(same)))
    rank = np.arange(len(same)) - np.repeat(starts, counts)
    offsets = np.empty(len(values))
    middle = (np.repeat(counts, counts) - 1) / 2.0
    offsets[order] = (rank - middle) / max(int(counts.max(initial=1)), 12)
    return offsets * 0.84


def _rank_share(values: NDArray[np.float32]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    ranks: NDArray[np.float64] = rankdata(values)
    return (ranks - 1.0) / max(len(values) - 1, 1)


def _floor_line(axes: Axes, floor: float, words: str) -> None:
    axes.axvline(floor, color=BAD, linestyle=(0, (4, 3)), linewidth=1.3, label=words)


def _legend_above(axes: Axes) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2, columnspacing=1.3, handlelength=1.5)


def _names(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [plot_label(n) for n in names], fontsize=9, color=INK)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(4))  # more would touch each other on a narrow picture
    axes.tick_params(length=0, color=GRID)


def _address(figure: Figure) -> str:
    return png_data_uri(figure_png(figure, dpi=DPI))


# ---------------------------------------------------------------------------------------- tables and the page


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

    pictures = {
        "shap": shap_summary(report.shap, report.shap_features, report.score_unit),
        "shap_bars": shap_bars(report.features, report.shap_floor, report.score_unit),
        "permutation": losses_above_floor([row.single for row in report.features]),
        "gains": member_gains(report.diversity),
    }
    if any(len(group.members) > 1 for group in report.clusters):
        pictures["clusters"] = losses_above_floor(report.clusters)
    if report.diversity.pairs:
        pictures["agreement"] = member_correlation(report.diversity)
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

    environment = page_environment(Path(__file__).parent)
    template = environment.get_template("importance_report.html.j2")
    return template.render(
        title=title,
        report=report,
        plots=report_plots(report) if plots is None else plots,
        features=feature_table(report).to_dicts(),
        groups=[row for row in cluster_table(report).to_dicts() if ", " in row["features"]],
        n_above=sum(row.single.above_floor for row in report.features),
        n_dead=sum(row.dead for row in report.features),
        advice=advice_of(recommendation_table(report)),
        limits={
            "rate": permutation.FAMILY_WISE_RATE,
            "draws": permutation.DRAWS,
            "repeats": permutation.REPEATS,
            "cluster": CLUSTER_CORRELATION,
            "redundant": REDUNDANT_CORRELATION,
        },
    )
