"""Monitoring: the drift baseline of the training window, and the drift report of the newest one."""

import dagster as dg
import polars as pl

from quant_assets.common.settings import MonitoringConfig, StrategyConfig, UniverseConfig
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.defs import features
from quant_assets.defs.gate_checks import gates_of
from quant_assets.defs.guards import Product, StoredResult, code_version, produce, stage_options
from quant_assets.defs.models import recipe_of
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact
from quant_assets.defs.tuning import tuned, tuning_in
from quant_assets.gates.verdicts import DRIFT_GATES


def build(
    strategy: StrategyConfig, universe: UniverseConfig, monitoring: MonitoringConfig
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets and checks of one strategy's monitoring stage."""
    name = strategy.name
    common = stage_options("monitoring", strategy.owner)

    @dg.asset(
        key=[name, "drift_baseline"],
        ins={"training_set": dg.AssetIn(key=[name, "training_set"])},
        kinds={"numpy"},
        code_version=code_version(
            ["quant_assets.monitoring.baseline", "quant_assets.monitoring.drift"],
            ("numpy",),
            monitoring.drift,
        ),
        **common,
    )
    def drift_baseline(context: dg.AssetExecutionContext, home: Home, training_set: Artifact) -> StoredResult:
        """Frozen bins of the training window, and how far its own windows stray without any drift."""
        from quant_assets.monitoring.baseline import fit_baseline

        def compute() -> Product:
            table = training_set.table()
            names = feature_names_of(table)
            baseline = fit_baseline(
                table.frame.select("symbol", "session", *names),
                names,
                monitoring.drift,
                training_set_version=training_set.version,
            )
            return Product(baseline.to_json(), {"features": len(names), "rows": table.frame.height})

        return produce(context, home, compute, inputs={"training_set": training_set})

    @dg.asset(
        key=[name, "drift_report"],
        ins={
            "baseline": dg.AssetIn(key=[name, "drift_baseline"]),
            "ensemble": dg.AssetIn(key=[name, "ensemble"]),
            "training_set": dg.AssetIn(key=[name, "training_set"]),
            **features.inputs_of(universe, strategy.feature_packs),
            **tuning_in(strategy),
        },
        kinds={"numpy"},
        code_version=code_version(
            ["quant_assets.monitoring", "quant_assets.gates.verdicts"],
            ("numpy", "scipy"),
            monitoring.drift,
            *strategy.feature_packs,
        ),
        **common,
    )
    def drift_report(
        context: dg.AssetExecutionContext,
        home: Home,
        baseline: Artifact,
        ensemble: Artifact,
        training_set: Artifact,
        **packs: Artifact,
    ) -> StoredResult:
        """Which features of the newest window drifted, against a null of the baseline's own windows."""
        from quant_assets.features.pack import join_packs
        from quant_assets.gates.evidence import require_recipe, verdict_table
        from quant_assets.monitoring.baseline import DriftBaseline
        from quant_assets.monitoring.drift_report import judge_drift

        inputs = {
            "baseline": baseline,
            "ensemble": ensemble,
            "training_set": training_set,
            **packs,
        }

        def compute() -> Product:
            recipe = recipe_of(tuned(strategy, packs.get("tuning")), training_set)
            require_recipe("training set of the drift report", recipe, ensemble.json())
            frozen = DriftBaseline.from_json(baseline.json())
            matrix = join_packs(
                {p: packs[features.asset_name(p)].table().frame for p in strategy.feature_packs}
            )
            later = matrix.filter(pl.col("session") > training_set.table().frame["session"].max())
            # Rows that still warm up are not scored, so they cannot drift away from what is scored.
            newest = later.drop_nulls(list(frozen.feature_names))
            report = judge_drift(frozen, newest, subject=ensemble.version)
            facts = {
                "verdicts": verdict_table(report),
                "features": pl.DataFrame(report.details["features"]),
                "rows_dropped_masked": later.height - newest.height,
                "alarms_per_year_without_drift": report.details["alarms_per_year_without_drift"],
            }
            return Product(report.to_json(), facts)

        return produce(context, home, compute, inputs=inputs)

    checks = gates_of(drift_report.key, DRIFT_GATES, f"{name}__drift_gates")
    return [drift_baseline, drift_report, checks]
