"""The pictures of the feature report: each a ``data:`` address of a PNG, in the one plot theme."""

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from quant_assets.common.pages import (
    ACCENT,
    BAD,
    FAN,
    GRID,
    INK,
    MUTED,
    figure_png,
    plot_label,
    png_data_uri,
    themed_figure,
)

WIDTH = 7.4  # inches, of pictures that a telephone shows in a box that scrolls
NARROW = 5.2  # of those that it shows whole
ROW = 0.19  # inches per feature, of an 8-point name
MOST_COLUMNS = (
    500  # sessions side by side: more than the picture has pixels for would be averaged away anyway
)
DPI = 130
PANELS_PER_ROW = 5


def coverage_map(session_coverage: pl.DataFrame) -> str:
    """Share of symbols with a value, per feature (rows) and session (columns)."""
    names = [n for n in session_coverage.columns if n not in ("session", "symbols", "complete")]
    step = -(-session_coverage.height // MOST_COLUMNS)
    shown = session_coverage.gather_every(step)
    with themed_figure(WIDTH, 1.1 + ROW * (len(names) + 1)) as (figure, axes):
        image = axes.imshow(
            shown.select("complete", *names).to_numpy().T,
            cmap=LinearSegmentedColormap.from_list("coverage", ["#ffffff", FAN, ACCENT]),
            vmin=0.0,
            vmax=1.0,
            aspect="auto",
            interpolation="nearest",
        )
        _names(axes, ["every feature", *names])
        axes.get_yticklabels()[0].set_fontweight("bold")
        axes.axhline(0.5, color=INK, linewidth=1.0)
        places = np.unique(np.linspace(0, shown.height - 1, min(6, shown.height)).round().astype(int))
        axes.set_xticks(places, [str(shown["session"][int(i)])[:7] for i in places])
        bar = figure.colorbar(
            image, ax=axes, fraction=0.03, pad=0.02, format=PercentFormatter(1.0, decimals=0)
        )
        bar.set_label("symbols with a value")
        bar.outline.set_visible(False)
        return _address(figure)


def histograms(histograms: pl.DataFrame, summary: pl.DataFrame) -> str:
    """The distribution of each feature between its 0.5% and 99.5% quantiles; dead ones in red."""
    dead = dict(summary.select("feature", "dead").iter_rows())
    shown = histograms.to_dicts()
    n_rows = max(1, -(-len(shown) // PANELS_PER_ROW))
    with themed_figure(WIDTH, 0.2 + 1.12 * n_rows) as (figure, _):
        figure.clear()
        # Constrained layout of sixty axes takes seconds; they are all alike.
        figure.set_layout_engine("none")
        inch = 1.0 / figure.get_figheight()
        grid = figure.add_gridspec(
            n_rows, PANELS_PER_ROW, left=0.015, right=0.985, top=1.0 - 0.24 * inch, bottom=0.3 * inch,
            hspace=0.85, wspace=0.14,
        ).subplots(squeeze=False)  # fmt: skip
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, row in zip(grid.flat, shown, strict=False):
            edges = np.linspace(row["low"], row["high"], len(row["counts"]) + 1)
            colour = BAD if dead[row["feature"]] else ACCENT
            axes.stairs(row["counts"], edges, fill=True, color=colour, alpha=0.85)
            axes.set_title(plot_label(row["feature"], 16), fontsize=8, pad=3)
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            axes.grid(visible=False)
            axes.xaxis.set_major_locator(MaxNLocator(3))
            axes.tick_params(axis="x", labelsize=7, pad=1, length=2)
            axes.margins(x=0.0)
            axes.set_ylim(bottom=0)
        return _address(figure)


def correlation_map(correlation: pl.DataFrame, clusters: pl.DataFrame) -> str:
    """Rank correlations in the order of the tree's leaves, a frame around each cluster of two or more."""
    names = correlation["feature"].to_list()
    # Square cells leave no room of their own: names to the left and below have to find theirs.
    room = 0.3 + 0.085 * max((len(plot_label(name)) for name in names), default=0)
    side = room + ROW * len(names)
    with themed_figure(side + 1.2, side + 0.2) as (figure, axes):
        figure.set_layout_engine("compressed")
        image = axes.imshow(
            correlation.drop("feature").to_numpy(),
            cmap=LinearSegmentedColormap.from_list("correlation", [BAD, "#ffffff", ACCENT]),
            vmin=-1.0,
            vmax=1.0,
            interpolation="nearest",
        )
        _names(axes, names)
        axes.set_xticks(range(len(names)), [plot_label(n) for n in names], rotation=90, fontsize=8)
        start = 0
        for (_,), rows in clusters.group_by("cluster", maintain_order=True):
            if rows.height > 1:
                axes.add_patch(
                    Rectangle(
                        (start - 0.5, start - 0.5), rows.height, rows.height,
                        fill=False, edgecolor=INK, linewidth=1.4,
                    )
                )  # fmt: skip
            start += rows.height
        bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02)
        bar.set_label("rank correlation")
        bar.outline.set_visible(False)
        return _address(figure)


def rejection_bars(stationarity: pl.DataFrame) -> str:
    """Share of symbols that reject a unit root, with what chance alone would give."""
    rows = stationarity.to_dicts()
    with themed_figure(NARROW, 1.2 + ROW * len(rows)) as (figure, axes):
        for place, row in enumerate(rows):
            if row["share_rejecting"] is None:
                axes.annotate("not tested", (0.01, place), va="center", color=MUTED, fontsize=8)
                continue
            colour = ACCENT if row["stationary"] else BAD
            axes.barh(place, row["share_rejecting"], height=0.7, color=colour)
        chance = [row["most_by_chance"] for row in rows if row["most_by_chance"] is not None]
        if chance:
            axes.axvspan(0.0, max(chance), color=GRID, zorder=0.5, label="by chance, 95% of the time")
        axes.axvline(
            rows[0]["share_by_chance"], color=INK, linewidth=1.0, linestyle=(0, (4, 3)),
            label=f"{rows[0]['share_by_chance']:.0%} by chance",
        )  # fmt: skip
        _names(axes, [row["feature"] for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0.0, 1.0)
        axes.grid(visible=True, axis="x")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("symbols that reject (red: too few)")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=1, handlelength=1.6)
        return _address(figure)


def _names(axes: Axes, names: list[str]) -> None:
    axes.set_yticks(range(len(names)), [plot_label(name) for name in names], fontsize=9, color=INK)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)


def _address(figure: Figure) -> str:
    return png_data_uri(figure_png(figure, dpi=DPI))
