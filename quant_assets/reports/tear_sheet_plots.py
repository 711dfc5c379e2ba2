"""The pictures of the tear sheet: each a ``data:`` address of a PNG, in the one plot theme."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter
from numpy.typing import NDArray

from quant_assets.common.pages import (
    ACCENT,
    BAD,
    FAN,
    GRID,
    INK,
    MUTED,
    figure_png,
    number,
    percent,
    plot_label,
    png_data_uri,
    themed_figure,
)
from quant_assets.trading.regimes import CapacityPoint

MOST_FEATURES = 20
WIDTH = 5.4  # inches: 10 points of text are still readable when a telephone shows it 360 pixels wide


def sharpe_distribution(sharpes: Mapping[int, float | None], median_path: int, required: float) -> str:
    """One dot per path at its annual net Sharpe ratio, the median path named, and the required line."""
    with themed_figure(WIDTH, 2.1) as (figure, axes):
        known = {path: value for path, value in sharpes.items() if value is not None}
        values = np.array(list(known.values()))
        # Dots that would cover each other are stacked, in steps of a fortieth of the range.
        span = max(float(np.ptp(np.append(values, [required, 0.0]))), 1e-9)
        cells = np.round(values / (span / 40.0)).astype(int)
        heights = np.array([int((cells[:i] == cell).sum()) for i, cell in enumerate(cells)])
        for path, value, height in zip(known, values, heights, strict=True):
            chosen = path == median_path
            axes.scatter(value, height, s=90, color=ACCENT if chosen else FAN, edgecolor="white", zorder=3)
            if chosen:
                axes.annotate(
                    f"median {number(value)}", (value, height), (0, 11), textcoords="offset points",
                    ha="center", color=ACCENT, fontsize=9, fontweight="bold",
                )  # fmt: skip
        axes.axvline(required, color=BAD, linestyle=(0, (4, 3)), label=f"required {required:.2f}")
        axes.axvline(0.0, color=GRID, linewidth=1.4, zorder=1)
        axes.set_ylim(-0.8, max(int(heights.max(initial=0)) + 1.6, 2.2))
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("annual Sharpe ratio, net of costs")
        _legend_above(axes)
        return png_data_uri(figure_png(figure))


def equity_fan(path_returns: pl.DataFrame, median_path: int, walk_forward: pl.DataFrame | None = None) -> str:
    """Net equity of each path, that of the median Sharpe ratio in front, and the walk-forward track if any."""
    with themed_figure(WIDTH, 2.9) as (figure, axes):
        sessions, net = _net_returns(path_returns)
        growth = {path: np.asarray(np.cumprod(1.0 + values) - 1.0) for path, values in net.items()}
        _fan(axes, sessions, growth, median_path)
        if walk_forward is not None and walk_forward.height:
            dates, tracks = _net_returns(walk_forward)
            (track,) = tracks.values()
            axes.plot(
                dates, np.cumprod(1.0 + track) - 1.0, color=INK, linewidth=1.2, linestyle=(0, (4, 2)),
                label="walk-forward",
            )  # fmt: skip
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        axes.set_ylabel("net return since start")
        _legend_above(axes)
        return png_data_uri(figure_png(figure))


def drawdown_fan(path_returns: pl.DataFrame, median_path: int, limit: float) -> str:
    """Fall of each path below its running maximum, with the limit of the gate."""
    with themed_figure(WIDTH, 2.5) as (figure, axes):
        sessions, net = _net_returns(path_returns)
        falls: dict[int, NDArray[np.float64]] = {}
        for path, values in net.items():
            equity = np.append(1.0, np.cumprod(1.0 + values))
            falls[path] = (equity / np.maximum.accumulate(equity) - 1.0)[1:]
        _fan(axes, sessions, falls, median_path)
        axes.fill_between(sessions, falls[median_path], 0.0, color=ACCENT, alpha=0.12, linewidth=0)
        axes.axhline(
            limit, color=BAD, linestyle=(0, (4, 3)), linewidth=1.4, label=f"limit {percent(limit, 0)}"
        )
        axes.set_ylabel("drawdown")
        _legend_above(axes)
        return png_data_uri(figure_png(figure))


def importance_bars(importance: Mapping[str, float]) -> str:
    """Share of importance of the leading features, largest on top."""
    ordered = sorted(importance.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ordered[:MOST_FEATURES], ordered[MOST_FEATURES:]
    if rest:
        shown.append((f"{len(rest)} others", sum(share for _, share in rest)))
    with themed_figure(WIDTH, 0.8 + 0.22 * len(shown)) as (figure, axes):
        places = np.arange(len(shown))[::-1]
        colours = [FAN if rest and i == len(shown) - 1 else ACCENT for i in range(len(shown))]
        axes.barh(places, [share for _, share in shown], height=0.68, color=colours)
        for place, (_, share) in zip(places, shown, strict=True):
            axes.annotate(
                f"{share:.1%}", (share, place), (4, 0), textcoords="offset points",
                va="center", color=MUTED, fontsize=8.5,
            )  # fmt: skip
        axes.set_yticks(places, [plot_label(name) for name, _ in shown], color=INK)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.12)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("share of importance")
        return png_data_uri(figure_png(figure))


def overfitting_histogram(edges: Sequence[float], counts: Sequence[float]) -> str:
    """How the in-sample winner ranked out of sample, as logits; what is left of 0 is the overfitted share."""
    with themed_figure(WIDTH, 2.3) as (figure, axes):
        places, total = np.array(edges), float(sum(counts))
        shares = np.array(counts) / total
        overfitted = places[1:] <= 0.0
        for chosen, colour, words in (
            (overfitted, BAD, "below the median"),
            (~overfitted, ACCENT, "above it"),
        ):
            axes.bar(
                places[:-1][chosen], shares[chosen], np.diff(places)[chosen], align="edge", color=colour,
                edgecolor="white", linewidth=0.6, label=f"{words}: {shares[chosen].sum():.1%}",
            )  # fmt: skip
        axes.axvline(0.0, color=MUTED, linewidth=1.0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_xlabel("logit of the winner's rank in the other half")
        axes.set_ylabel("choices of halves")
        _legend_above(axes)
        return png_data_uri(figure_png(figure))


def capacity_curve(points: Sequence[CapacityPoint], required: float, capital: float | None) -> str:
    """Annual net Sharpe ratio against the size of the account, with the required line and the assumed size."""
    with themed_figure(WIDTH, 2.5) as (figure, axes):
        capitals = [point.capital for point in points]
        axes.plot(capitals, [point.sharpe_annual for point in points], color=ACCENT, marker="o", markersize=5)
        axes.axhline(
            required, color=BAD, linestyle=(0, (4, 3)), linewidth=1.4, label=f"required {required:.2f}"
        )
        axes.axhline(0.0, color=GRID, linewidth=1.4, zorder=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: _account_size(size)))
        axes.xaxis.set_minor_locator(NullLocator())
        if capital is not None and capitals[0] <= capital <= capitals[-1]:
            axes.axvline(capital, color=MUTED, linewidth=1.0, label="assumed by this report")
        axes.set_xlabel("size of the account")
        axes.set_ylabel("annual net Sharpe")
        _legend_above(axes)
        return png_data_uri(figure_png(figure))


def _account_size(size: float) -> str:
    for unit, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:g}{letter}"
    return f"{size:g}"


def _legend_above(axes: Axes) -> None:
    """Keys in one row over the axes, where they cover no data."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, columnspacing=1.4, handlelength=1.6)


def _net_returns(
    path_returns: pl.DataFrame,
) -> tuple[NDArray[np.datetime64], dict[int, NDArray[np.float64]]]:
    groups = path_returns.sort("path", "session").partition_by("path", maintain_order=True)
    net = {int(group["path"][0]): group["net_return"].to_numpy() for group in groups}
    return groups[0]["session"].to_numpy().astype("datetime64[D]"), net


def _fan(
    axes: Axes,
    sessions: NDArray[np.datetime64],
    series: Mapping[int, NDArray[np.float64]],
    median_path: int,
) -> None:
    others = [path for path in series if path != median_path]
    for path in others:
        label = f"{len(others)} other paths" if path == others[0] else None
        axes.plot(sessions, series[path], color=FAN, linewidth=0.9, alpha=0.85, label=label)
    axes.plot(
        sessions,
        series[median_path],
        color=ACCENT,
        linewidth=1.8,
        label=f"path {median_path} (median Sharpe)",
    )
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.margins(x=0.01)
