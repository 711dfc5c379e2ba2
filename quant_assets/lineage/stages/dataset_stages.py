"""Datasets: labels with their times, and the training set with the manifest of everything upstream."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from quant_assets.common.model_settings import LabelConfig
from quant_assets.common.store import Table
from quant_assets.lineage.artifact import Artifact, by_pack
from quant_assets.lineage.declaring import Product, stage
from quant_assets.lineage.facts import Picture
from quant_assets.lineage.scope import SessionRange


@stage(group="datasets", kinds=frozenset({"polars"}))
def labels(bars: Artifact, *, label: LabelConfig, sessions: SessionRange) -> Product:
    """Forward returns from the next open, each with the times at which it starts, ends and is known."""
    from quant_assets.datasets.labels import forward_return_labels
    from quant_assets.market.calendar import session_times

    panel = bars.table().frame
    horizon = label.horizon_sessions
    frame = forward_return_labels(panel, session_times(*sessions), horizon_sessions=horizon)
    facts = {
        "horizon_sessions": horizon,
        "mean_return": frame["forward_return"].mean(),
        "sd_return": frame["forward_return"].std(),
        "bars_without_label": panel.height - frame.height,
    }
    return Product(Table(frame, {"horizon_sessions": str(horizon)}), facts)


def training_rows(*, value: Table) -> Mapping[str, Any]:
    """The manifest, what was dropped, and rows per session over time."""
    from quant_assets.common.pages import figure_png, new_figure, png_data_uri

    counts = value.frame.group_by("session").len().sort("session")
    figure, axes = new_figure(7.0, 2.2)
    axes.plot(counts["session"].to_numpy(), counts["len"].to_numpy(), drawstyle="steps-post")
    axes.set_ylabel("rows per session")
    axes.set_ylim(bottom=0)
    return {
        "manifest": dict(value.metadata),
        "rows_dropped_masked": int(value.metadata["rows_dropped_masked"]),
        "rows_dropped_without_features": int(value.metadata["rows_dropped_without_features"]),
        "rows_per_session": Picture(png_data_uri(figure_png(figure)), "rows"),
    }


@stage(group="datasets", kinds=frozenset({"polars"}), describe=training_rows)
def training_set(
    bars: Artifact,
    labels: Artifact,
    features: Mapping[str, Artifact],
    *,
    packs: Sequence[str],
    label: LabelConfig,
    holdout_sessions: int,
) -> Product:
    """Complete rows of every pack's features, labels known before the holdout, and what made them."""
    from quant_assets.datasets.training_set import assemble_training_set, training_known_by
    from quant_assets.features.pack import join_packs, joined_names

    tables = by_pack(features, packs)
    table = assemble_training_set(
        join_packs({pack: made.frame for pack, made in tables.items()}),
        labels.table().frame,
        joined_names(packs),
        known_by=training_known_by(bars.table().frame, holdout_sessions),
        manifest={
            "bars": bars.version,
            "labels": labels.version,
            "horizon_sessions": str(label.horizon_sessions),
            "packs": json.dumps(list(packs)),
            **{name: artifact.version for name, artifact in features.items()},
            **{f"{p}.fingerprint": made.metadata["pack_fingerprint"] for p, made in tables.items()},
        },
    )
    return Product(table)
