"""Features: the pack's columns for the whole panel, recomputed in one kernel pass."""

import dagster as dg
import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.common.store import Table
from quant_assets.defs.guards import Product, StoredResult, code_version, produce, stage_options, to_metadata
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact, current

PACK = "technical_v1"


def build(universe: UniverseConfig) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets and checks of one universe's features stage."""
    bars_key = dg.AssetKey([universe.name, "bars"])

    @dg.asset(
        key=[universe.name, "technical_features"],
        ins={"bars": dg.AssetIn(key=bars_key)},
        kinds={"numba", "polars"},
        code_version=code_version(["quant_assets.features"], ("numba", "numpy", "polars"), PACK),
        **stage_options("features", "team:research"),
    )
    def technical_features(context: dg.AssetExecutionContext, home: Home, bars: Artifact) -> StoredResult:
        """The 29 features of pack technical_v1: scale-free, causal, null while warming up."""
        from quant_assets.features import compute, packs

        def make() -> Product:
            pack = packs()[PACK]
            frame = compute(bars.table().frame, pack=PACK)
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
            facts = {"pack": PACK, "pack_fingerprint": pack.fingerprint, "features": summary}
            return Product(Table(frame, {"pack": PACK}), facts)

        return produce(context, home, make, inputs={"bars": bars})

    @dg.asset_check(
        asset=technical_features,
        name="causality",
        blocking=True,
        description="Changing later bars, or rescaling history, changes no feature.",
    )
    def causality(context: dg.AssetCheckExecutionContext, home: Home) -> dg.AssetCheckResult:
        from quant_assets.features.causality import prove_causal

        report = prove_causal(current(context.instance, bars_key, home).table().frame, PACK)
        found = [f"{v.feature}: {v.experiment} on {v.session}" for v in report.violations]
        return dg.AssetCheckResult(
            passed=bool(report.passed),
            description=f"{len(found)} violations, {len(report.unproven)} features unproven, {report.rows} bars",
            metadata=to_metadata({"violations": found, "unproven": list(report.unproven)}),
        )

    return [technical_features, causality]
