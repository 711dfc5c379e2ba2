"""Monitoring: the drift baseline of the training window, and the drift report of the newest one."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from quant_assets.common.settings import ModelsConfig
from quant_assets.gates.limits import DriftConfig
from quant_assets.lineage.artifact import Artifact, by_pack
from quant_assets.lineage.declaring import Product, gate_checks, gates_behind, stage
from quant_assets.lineage.stages.model_stages import models_of, recipe_of


@stage(group="monitoring", rederived=True, kinds=frozenset({"numpy"}))
def drift_baseline(training_set: Artifact, *, drift: DriftConfig) -> Product:
    """Frozen bins of the training window, and how far its own windows and steps stray without any drift."""
    from quant_assets.datasets.training_set import feature_names_of
    from quant_assets.monitoring.baseline import fit_baseline

    table = training_set.table()
    names = feature_names_of(table)
    baseline = fit_baseline(
        table.frame.select("symbol", "session", *names),
        names,
        drift,
        training_set_version=training_set.version,
    )
    return Product(baseline.to_json(), {"features": len(names), "rows": table.frame.height})


@stage(
    group="monitoring",
    kinds=frozenset({"numpy"}),
    rederived=True,
    gates="drift",
    checks=(gate_checks("drift"),),
    roots=gates_behind("drift"),
)
def drift_report(
    drift_baseline: Artifact,
    ensemble: Artifact,
    training_set: Artifact,
    features: Mapping[str, Artifact],
    cpcv_predictions: Artifact,
    tuning: Artifact | None = None,
    member_rows: Artifact | None = None,
    *,
    packs: Sequence[str],
    drift: DriftConfig,
    models: ModelsConfig,
    seed: int,
    embargo_sessions: int,
    basis: Mapping[str, Any],
) -> Product:
    """Which features of the newest window drifted, and whether the candidate's scores did."""
    import numpy as np

    from quant_assets.features.pack import join_packs
    from quant_assets.gates.evidence import require_recipe, verdict_table
    from quant_assets.models.ensemble import Ensemble
    from quant_assets.monitoring.baseline import DriftBaseline
    from quant_assets.monitoring.drift_report import compare_predictions, judge_drift

    recipe = recipe_of(models_of(models, tuning), training_set, seed, embargo_sessions)
    candidate = Ensemble.from_json(ensemble.json())
    require_recipe("training set of the drift report", recipe, ensemble.json())
    before = cpcv_predictions.table()
    require_recipe("out-of-sample scores of the drift report", before.metadata["recipe"], ensemble.json())
    frozen = DriftBaseline.from_json(drift_baseline.json())
    matrix = join_packs({pack: table.frame for pack, table in by_pack(features, packs).items()})
    later = matrix.filter(pl.col("session") > training_set.table().frame["session"].max())
    if member_rows is not None:
        later = later.join(
            member_rows.table().frame, on=["symbol", "session"], how="semi", maintain_order="left"
        )
    # Rows that still warm up are not scored, so they cannot drift away from what is scored.
    newest = later.drop_nulls(list(frozen.feature_names))
    scores = candidate.predict(newest.select(candidate.feature_names).to_numpy().astype(np.float32))
    predictions = compare_predictions(
        before.frame.select("symbol", "session", score="path_0"),
        newest.select("symbol", "session", score=pl.Series(scores)),
        drift,
    )
    report = judge_drift(frozen, newest, subject=ensemble.version, predictions=predictions)
    facts = {
        "verdicts": verdict_table(report),
        "features": pl.DataFrame(report.details["features"]),
        "jumps": report.details["jumps"],
        "predictions": predictions,
        "cannot_be_seen": report.details["cannot_be_seen"],
        "rows_dropped_masked": later.height - newest.height,
        "alarms_per_year_without_drift": report.details["alarms_per_year_without_drift"],
    }
    return Product(report.about(basis), facts)
