"""Importance and diversity: what features and members of a strategy's ensemble are worth out of sample."""

import dagster as dg

from quant_assets.common.settings import StrategyConfig
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.defs.guards import (
    Product,
    StoredResult,
    code_version,
    plot_metadata,
    produce,
    progress,
    stage_options,
)
from quant_assets.defs.models import LEARNER_LIBRARIES, MODEL_CODE, recipe_of
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact


def build(strategy: StrategyConfig) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """The importance report of one strategy, if it wants one."""
    if not strategy.reports.importance:
        return []
    name = strategy.name

    @dg.asset(
        key=[name, "importance_report"],
        ins={"training_set": dg.AssetIn(key=[name, "training_set"])},
        kinds={"html"},
        code_version=code_version(
            (
                *MODEL_CODE,
                "quant_assets.studies.importance",
                "quant_assets.features.report",
                "quant_assets.common.pages",
            ),
            (*LEARNER_LIBRARIES, "polars", "scipy", "matplotlib"),
            strategy.models,
            strategy.seed,
            strategy.validation.embargo_sessions,
        ),
        pool="training",
        **stage_options("validation", strategy.owner),
    )
    def importance_report(
        context: dg.AssetExecutionContext, home: Home, training_set: Artifact
    ) -> StoredResult:
        """Which features and members earn their place: SHAP, shuffles above a noise floor, gains per member."""
        from quant_assets.gates import evidence
        from quant_assets.studies.importance import importance_page as page
        from quant_assets.studies.importance.importance_report import importance_report as measure

        def compute() -> Product:
            table = training_set.table()
            found = measure(
                table.frame,
                feature_names_of(table),
                strategy.models,
                seed=strategy.seed,
                embargo_sessions=strategy.validation.embargo_sessions,
                progress=progress("stages"),
            )
            plots = page.report_plots(found)
            html = page.render_html(found, name, plots)
            file = evidence.publish_html(
                home.path, f"{name}-importance", recipe_of(strategy, training_set), html
            )
            facts = {
                "file": dg.MetadataValue.path(str(file)),
                "open": dg.MetadataValue.url(file.as_uri()),
                "recommendations": page.recommendation_table(found),
                "members": page.member_table(found),
                "agreement": page.agreement_table(found),
                "features": page.feature_table(found),
                "clusters": page.cluster_table(found),
                **{f"{key}_plot": plot_metadata(uri, key) for key, uri in plots.items()},
            }
            return Product(html, facts)

        return produce(context, home, compute, inputs={"training_set": training_set})

    return [importance_report]
