"""Features: each pack's columns for the whole panel, recomputed in one kernel pass, and the report on them all."""

from collections.abc import Sequence

import dagster as dg
import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.common.store import Table
from quant_assets.defs.guards import (
    Product,
    StoredResult,
    code_version,
    plot_metadata,
    produce,
    stage_options,
    to_metadata,
)
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact, current
from quant_assets.features.pack import find_pack
from quant_assets.lineage.settings import Settings

COMPUTATION = ("quant_assets.features.computation",)
REPORT = "feature_report"
REPORT_CODE = (
    "quant_assets.features.report",
    "quant_assets.features.pack",
    "quant_assets.common.plotting",
    "quant_assets.common.pages",
)


def asset_name(pack: str) -> str:
    """Name of a pack's asset: ``technical_v1`` is ``technical_features``, ``technical_v2`` has its version in it.

    It depends on the pack alone, so a second version in a universe renames nothing and collides with nothing.
    """
    family, _, version = pack.rpartition("_v")
    return f"{family}_features" if version == "1" else f"{pack}_features"


def packs_used(settings: Settings, universe: str) -> tuple[str, ...]:
    """Packs that the strategies of a universe use, by name."""
    used = {p for s in settings.strategies.values() if s.universe == universe for p in s.feature_packs}
    return tuple(sorted(used))


def keys(settings: Settings, universe: str) -> list[dg.AssetKey]:
    """Assets of a universe's features stage: every pack of its strategies, and the report."""
    names = [*map(asset_name, packs_used(settings, universe)), REPORT]
    return [dg.AssetKey([universe, name]) for name in names]


def inputs_of(universe: UniverseConfig, packs: Sequence[str]) -> dict[str, dg.AssetIn]:
    """The features of these packs as inputs of an asset, each called as its asset."""
    return {asset_name(p): dg.AssetIn(key=[universe.name, asset_name(p)]) for p in packs}


def causality_checks(universe: UniverseConfig, packs: Sequence[str]) -> list[dg.AssetCheckKey]:
    """The checks that prove these packs causal on the bars of a universe."""
    return [dg.AssetCheckKey(dg.AssetKey([universe.name, asset_name(p)]), "causality") for p in packs]


def build(
    universe: UniverseConfig, packs: Sequence[str]
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets and checks of one universe's features stage: one asset and one proof per pack, one report."""
    parts = [part for pack in packs for part in _pack_features(universe, pack)]
    return [*parts, _report(universe, packs)]


def _pack_features(
    universe: UniverseConfig, name: str
) -> tuple[dg.AssetsDefinition, dg.AssetChecksDefinition]:
    bars_key = dg.AssetKey([universe.name, "bars"])
    pack = find_pack(name)

    @dg.asset(
        key=[universe.name, asset_name(name)],
        ins={"bars": dg.AssetIn(key=bars_key)},
        kinds={"numba", "polars"},
        description=f"Pack {name}: {pack.description} Causal, null while warming up.",
        # Of the code that shapes this pack only: a new pack beside it leaves its features alone.
        code_version=code_version(COMPUTATION, ("numpy", "polars"), name, pack.fingerprint),
        **stage_options("features", "team:research"),
    )
    def pack_features(context: dg.AssetExecutionContext, home: Home, bars: Artifact) -> StoredResult:
        from quant_assets.features import compute

        def make() -> Product:
            frame = compute(bars.table().frame, pack=name)
            values = frame.select(pack.names)
            summary = pl.DataFrame(
                {
                    "feature": pack.names,
                    "warm_up": [f.warm_up for f in pack.features],
                    "unit": [f.unit for f in pack.features],
                    "mean": [values[n].mean() for n in pack.names],
                    "sd": [values[n].std() for n in pack.names],
                    "masked": [values[n].null_count() for n in pack.names],
                }
            )
            identity = {"pack": name, "pack_fingerprint": pack.fingerprint}
            return Product(Table(frame, identity), {**identity, "features": summary})

        return produce(context, home, make, inputs={"bars": bars})

    @dg.asset_check(
        asset=pack_features,
        name="causality",
        blocking=True,
        description="Changing later bars, or rescaling history, changes no feature.",
    )
    def causality(context: dg.AssetCheckExecutionContext, home: Home) -> dg.AssetCheckResult:
        from quant_assets.features.causality import prove_causal

        report = prove_causal(current(context.instance, bars_key, home).table().frame, name)
        found = [f"{v.feature}: {v.experiment} on {v.session}" for v in report.violations]
        return dg.AssetCheckResult(
            passed=bool(report.passed),
            description=f"{len(found)} violations, {len(report.unproven)} features unproven, {report.rows} bars",
            metadata=to_metadata({"violations": found, "unproven": list(report.unproven)}),
        )

    return pack_features, causality


def _report(universe: UniverseConfig, packs: Sequence[str]) -> dg.AssetsDefinition:
    inputs = inputs_of(universe, packs)

    @dg.asset(
        key=[universe.name, REPORT],
        ins=inputs,
        kinds={"html"},
        code_version=code_version(
            REPORT_CODE,
            ("numpy", "scipy", "statsmodels", "matplotlib"),
            *packs,
        ),
        **stage_options("features", "team:research"),
    )
    def feature_report(context: dg.AssetExecutionContext, home: Home, **made: Artifact) -> StoredResult:
        """Coverage, distributions, dead and redundant features, clusters and stationarity of every pack."""
        from quant_assets.common.pages import publish_page
        from quant_assets.features import report

        def make() -> Product:
            described = report.feature_report(
                {pack: made[asset_name(pack)].table().frame for pack in packs}, universe=universe.name
            )
            plots = report.report_plots(described)
            html = report.render_html(described, plots)
            file = publish_page(home.path, f"{universe.name}-features", html)
            facts = {
                "file": dg.MetadataValue.path(str(file)),
                "open": dg.MetadataValue.url(file.as_uri()),
                "recommendations": described.recommendations,
                "coverage": described.coverage,
                "distributions": described.summary,
                "clusters": described.clusters,
                "redundant_pairs": described.redundant,
                "stationarity": described.stationarity,
                **{f"{name}_plot": plot_metadata(data_uri, name) for name, data_uri in plots.items()},
            }
            return Product(html, facts)

        return produce(context, home, make, inputs=made)

    asset: dg.AssetsDefinition = feature_report
    return asset
