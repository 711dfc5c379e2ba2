"""How far two sources of the same bars agree, as one picture."""

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.ticker import PercentFormatter

from quant_assets.common.plotting import INK, MUTED, figure_png, png_data_uri, themed_figure
from quant_assets.market.reconciliation_report import PRICE_CLASSES, Disagreements, size_classes

MAX_ROWS = 20
_WORDS = ("≤ 1 bp", "1 to 5 bp", "5 to 50 bp", "50 to 500 bp", "> 500 bp")


def reconciliation_figure(disagreements: Disagreements) -> str:
    """Closes by size of difference, one bar for each symbol and pair of sources, as a PNG ``data:`` address.

    The pairs that differ most are shown, at most `MAX_ROWS`; beside each bar stand the median ratio of volumes and
    the number of daily returns that differ by more than 50 bp.
    """
    pair = ["symbol", "first", "second"]
    classes = size_classes(PRICE_CLASSES)
    closes = disagreements.prices.filter(pl.col("field") == "close")
    volumes = disagreements.volumes.select(*pair, volume_ratio="median_ratio")
    rows = (
        closes.join(volumes, on=pair, how="left", maintain_order="left")
        .join(
            disagreements.coverage.select(*pair, "returns_over_50bp"),
            on=pair,
            how="left",
            maintain_order="left",
        )
        .with_columns(apart=1 - pl.col("within_tolerance") / pl.col("compared"))
        .sort("apart", *pair, descending=[True, False, False, False])
        .head(MAX_ROWS)
    )
    colours = mpl.colormaps["YlOrRd"](np.linspace(0.12, 0.92, len(classes)))
    colours[0] = (0.83, 0.87, 0.92, 1.0)  # agreement is background, not a finding
    with themed_figure(7.6, 1.3 + 0.34 * max(rows.height, 1)) as (figure, axes):
        several = rows.select(pl.struct("first", "second").n_unique()).item() > 1 if rows.height else False
        left = np.zeros(rows.height)
        places = np.arange(rows.height)[::-1]
        for name, words, colour in zip(classes, _WORDS, colours, strict=True):
            share = (rows[name] / rows["compared"]).to_numpy()
            axes.barh(places, share, left=left, height=0.66, color=colour, edgecolor="white", label=words)
            left = left + share
        names = [
            f"{symbol}  {first} / {second}" if several else symbol
            for symbol, first, second in rows.select(pair).iter_rows()
        ]
        axes.set_yticks(places, [name.replace("$", r"\$") for name in names], color=INK)
        for place, ratio, returns in zip(
            places, rows["volume_ratio"], rows["returns_over_50bp"], strict=True
        ):
            volume = "no volume" if ratio is None else f"volume × {ratio:.3g}"
            axes.text(
                1.015,
                place,
                f"{volume}, {returns} returns > 50 bp apart",
                va="center",
                fontsize=9,
                color=MUTED,
            )
        axes.set_xlim(0, 1)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        pairs = "" if several or not rows.height else f", {rows['first'][0]} against {rows['second'][0]}"
        axes.set_xlabel(f"share of closes by size of difference{pairs}")
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=5, columnspacing=1.2, handlelength=1.2
        )
        return png_data_uri(figure_png(figure))
