"""Datasets: labels with their times, and the training set with the manifest of everything upstream."""

import json

import dagster as dg

from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.common.store import Table
from quant_assets.datasets.labels import forward_return_labels
from quant_assets.datasets.training_set import assemble_training_set, training_end
from quant_assets.defs import features
from quant_assets.defs.guards import (
    Product,
    StoredResult,
    code_version,
    plot_metadata,
    produce,
    stage_options,
)
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact


def build(
    strategy: StrategyConfig, universe: UniverseConfig
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets of one strategy's datasets stage."""
    bars_key = dg.AssetKey([universe.name, "bars"])
    modules = ["quant_assets.datasets"]

    @dg.asset(
        key=[strategy.name, "labels"],
        ins={"bars": dg.AssetIn(key=bars_key)},
        kinds={"polars"},
        code_version=code_version(modules, ("polars",), strategy.label, universe.calendar),
        **stage_options("datasets", strategy.owner),
    )
    def labels(context: dg.AssetExecutionContext, home: Home, bars: Artifact) -> StoredResult:
        """Forward returns from the next open, each with the times at which it starts, ends and is known."""
        from quant_assets.market.calendar import session_times

        def compute() -> Product:
            panel = bars.table().frame
            times = session_times(universe.calendar, universe.start, universe.end)
            horizon = strategy.label.horizon_sessions
            frame = forward_return_labels(panel, times, horizon_sessions=horizon)
            facts = {
                "horizon_sessions": horizon,
                "mean_return": frame["forward_return"].mean(),
                "sd_return": frame["forward_return"].std(),
                "bars_without_label": panel.height - frame.height,
            }
            return Product(Table(frame, {"horizon_sessions": str(horizon)}), facts)

        return produce(context, home, compute, inputs={"bars": bars})

    @dg.asset(
        key=[strategy.name, "training_set"],
        ins={
            "bars": dg.AssetIn(key=bars_key),
            "labels": dg.AssetIn(key=[strategy.name, "labels"]),
            **features.inputs_of(universe, strategy.feature_packs),
        },
        kinds={"polars"},
        code_version=code_version(
            [*modules, "quant_assets.features.pack"],
            ("polars",),
            strategy.holdout_sessions,
            *strategy.feature_packs,
        ),
        **stage_options("datasets", strategy.owner),
    )
    def training_set(
        context: dg.AssetExecutionContext, home: Home, bars: Artifact, labels: Artifact, **packs: Artifact
    ) -> StoredResult:
        """Complete rows of every pack's features, labels known before the holdout, and what made them."""
        from quant_assets.features.pack import join_packs, joined_names

        def compute() -> Product:
            panel = bars.table().frame
            end = training_end(panel["session"].unique().sort().to_list(), strategy.holdout_sessions)
            tables = {p: packs[features.asset_name(p)].table() for p in strategy.feature_packs}
            table = assemble_training_set(
                join_packs({pack: made.frame for pack, made in tables.items()}),
                labels.table().frame,
                joined_names(strategy.feature_packs),
                known_by=panel.filter(panel["session"] == end)["known_at"][0],
                manifest={
                    "bars": bars.version,
                    "labels": labels.version,
                    "horizon_sessions": str(strategy.label.horizon_sessions),
                    "packs": json.dumps(strategy.feature_packs),
                    **{name: artifact.version for name, artifact in packs.items()},
                    **{f"{p}.fingerprint": made.metadata["pack_fingerprint"] for p, made in tables.items()},
                },
            )
            facts = {
                "manifest": dict(table.metadata),
                "rows_dropped_masked": int(table.metadata["rows_dropped_masked"]),
                "rows_dropped_without_features": int(table.metadata["rows_dropped_without_features"]),
                "rows_per_session": plot_metadata(rows_plot(table), "rows"),
            }
            return Product(table, facts)

        return produce(context, home, compute, inputs={"bars": bars, "labels": labels, **packs})

    return [labels, training_set]


def rows_plot(table: Table) -> str:
    """Rows per session over time, as a data URI."""
    from quant_assets.common.plotting import figure_png, new_figure, png_data_uri

    counts = table.frame.group_by("session").len().sort("session")
    figure, axes = new_figure(7.0, 2.2)
    axes.plot(counts["session"].to_numpy(), counts["len"].to_numpy(), drawstyle="steps-post")
    axes.set_ylabel("rows per session")
    axes.set_ylim(bottom=0)
    return png_data_uri(figure_png(figure))
