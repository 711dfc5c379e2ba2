"""The pictures of a run, as PNG: equity of every path, IC by month, learning curves, feature importance."""

import base64
from collections.abc import Mapping

import numpy as np
import polars as pl
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

from quant_assets.common.pages import ACCENT, BAD, FAN, GRID, MUTED, figure_png, themed_figure
from quant_assets.models.learning_curves import LearningCurves
from quant_assets.reports.tear_sheet_plots import WIDTH, equity_fan, importance_bars

FOLDER = "plots"
_LOSS_NAMES = {
    "l2": "mean squared error",
    "rmse": "root mean squared error",
    "huber": "Huber loss",
    "log_loss": "log loss",
}


def run_plots(
    path_returns: pl.DataFrame,
    rank_ic: pl.DataFrame,
    curves: Mapping[str, LearningCurves],
    importance: Mapping[str, float],
    *,
    median_path: int,
    trees: Mapping[str, int],
) -> dict[str, bytes]:
    """Pictures by file name below ``plots/``.

    Parameters
    ----------
    path_returns : polars.DataFrame
        As made by `quant_assets.trading.paths.path_returns`.
    rank_ic : polars.DataFrame
        As made by `quant_assets.trading.paths.rank_ic_by_session`; where it is empty (one name, no
        cross-section) there is no picture of it.
    curves : mapping of str to LearningCurves
        By base learner.
    importance : mapping of str to float
        Share of importance by feature.
    median_path : int
        The path in front.
    trees : mapping of str to int
        Trees of each fitted base learner, marked on its curves.
    """
    drawn = {
        "equity": _png(equity_fan(path_returns, median_path)),
        "feature_importance": _png(importance_bars(importance)),
        **{f"learning_curve_{name}": _curves(c, trees[name]) for name, c in sorted(curves.items())},
    }
    of_path = rank_ic.filter(pl.col("path") == median_path)
    if not of_path.is_empty():
        drawn["rank_ic_by_month"] = _rank_ic_by_month(of_path)
    return {f"{FOLDER}/{name}.png": data for name, data in sorted(drawn.items())}


def _png(data_uri: str) -> bytes:
    return base64.b64decode(data_uri.partition(",")[2])


def _curves(curves: LearningCurves, trees: int) -> bytes:
    with themed_figure(WIDTH, 2.9) as (figure, axes):
        counts = np.arange(1, len(curves.train) + 1)
        axes.plot(counts, curves.train, color=FAN, label=f"fit, {curves.rows_trained:,} rows")
        axes.plot(counts, curves.valid, color=ACCENT, label=f"unseen, {curves.rows_validated:,} rows")
        axes.axvline(trees, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), label=f"{trees} trees kept")
        axes.set_xlabel("trees")
        axes.set_ylabel(_LOSS_NAMES[curves.loss])
        axes.margins(x=0.02)
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.12, 1.0), ncols=3, columnspacing=1.0, handlelength=1.2
        )
        return figure_png(figure)


def _rank_ic_by_month(rank_ic: pl.DataFrame) -> bytes:
    months = (
        rank_ic.group_by(pl.col("session").dt.truncate("1mo").alias("month"))
        .agg(pl.col("rank_ic").mean())
        .sort("month")
    )
    values = months["rank_ic"].to_numpy()
    mean = float(rank_ic["rank_ic"].to_numpy().mean())
    with themed_figure(WIDTH, 2.6) as (figure, axes):
        colours = np.where(values >= 0, ACCENT, BAD).tolist()
        days = months["month"].to_numpy().astype("datetime64[D]")
        axes.bar(days, values, width=24, color=colours, align="edge")
        axes.axhline(0.0, color=GRID, linewidth=1.4, zorder=1)
        axes.axhline(mean, color=MUTED, linewidth=1.0, linestyle=(0, (4, 3)), label=f"mean {mean:.3f}")
        locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.set_ylabel("mean rank IC of the month")
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0))
        return figure_png(figure)
