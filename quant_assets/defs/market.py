"""Market: raw bars by year, reconciled where there are several sources, and the adjusted, quality-checked panel.

Suspicious raw bars are set aside in ``quarantined_bars`` before anything is adjusted.
"""

from dataclasses import asdict

import dagster as dg
import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.common.store import Table
from quant_assets.defs.bar_checks import bar_quality, quarantine_checks, sources_agree
from quant_assets.defs.guards import (
    Inputs,
    Product,
    StoredResult,
    code_version,
    plot_metadata,
    produce,
    stage_options,
)
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact, Partitions
from quant_assets.defs.vintages import revisions_check, vintage_facts

LIBRARIES = ("polars", "exchange-calendars")

# Where one source is configured, the years of `raw_bars`; where there are several, `reconciled_bars`.
Panel = Artifact | Partitions


def build(universe: UniverseConfig) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets and checks of one universe's market stage."""
    prefix = [universe.name]
    kinds = {source.kind for source in universe.sources.values()}
    version = code_version(["quant_assets.market"], LIBRARIES, universe)

    @dg.asset(
        key=[*prefix, "raw_bars"],
        partitions_def=dg.StaticPartitionsDefinition(list(universe.years)),
        kinds={*kinds, "parquet"},
        code_version=version,
        **stage_options("market", "team:data"),
    )
    def raw_bars(context: dg.AssetExecutionContext, home: Home) -> StoredResult:
        """Bars as the source gives them, one calendar year a partition; append-only, never overwritten."""
        from quant_assets.market.revisions import vintage
        from quant_assets.market.sources.sources import read_year

        def compute() -> Product:
            read = read_year(universe, context.partition_key)
            table = vintage(read)
            facts = {
                **vintage_facts(context, home.store, table, universe.years),
                "provider": read.provider,
                "column_mapping": dict(read.column_mapping),
                "notes": list(read.notes),
                "sources": pl.DataFrame([asdict(outcome) for outcome in read.outcomes]),
                "head": read.bars.head(5),
            }
            return Product(table, facts)

        # Read every time: only the source itself knows whether it has changed.
        return produce(context, home, compute, always=True)

    reconciled = [_reconciled_bars(universe, raw_bars.key, version)] if universe.alternatives else []
    panel_key = reconciled[0].key if reconciled else raw_bars.key
    # Dagster knows no union types: what a step receives is checked by mypy and by `frame_of`.
    one_panel = dg.AssetIn(key=panel_key, dagster_type=dg.Any)

    @dg.asset(
        key=[*prefix, "corporate_actions"],
        ins={"panel": one_panel},
        kinds={"polars"},
        code_version=version,
        **stage_options("market", "team:data"),
    )
    def corporate_actions(context: dg.AssetExecutionContext, home: Home, panel: Panel) -> StoredResult:
        """Splits and dividends, derived from the ratio of adjusted to raw closes."""
        from quant_assets.market.actions import derive_corporate_actions

        def compute() -> Product:
            actions = derive_corporate_actions(frame_of(panel))
            splits = actions.filter(pl.col("kind") == "split")
            facts = {
                "splits": splits,
                "n_splits": splits.height,
                "n_dividends": actions.height - splits.height,
            }
            return Product(Table(actions), facts)

        return produce(context, home, compute, inputs={"panel": panel})

    @dg.asset(
        key=[*prefix, "quarantined_bars"],
        ins={"panel": one_panel, "corporate_actions": dg.AssetIn(key=[*prefix, "corporate_actions"])},
        kinds={"polars"},
        code_version=version,
        **stage_options("market", "team:data"),
    )
    def quarantined_bars(
        context: dg.AssetExecutionContext, home: Home, panel: Panel, corporate_actions: Artifact
    ) -> StoredResult:
        """Raw bars that look wrong, each with the rule, what was observed and the evidence; not in ``bars``."""
        from quant_assets.market.rules.quality import quarantine

        def compute() -> Product:
            parted = quarantine(frame_of(panel), corporate_actions.table().frame, universe)
            facts = {
                "kept": parted.kept.height,
                "quarantined": parted.quarantined.height,
                "rows": parted.quarantined,
                "accepted_by_configuration": parted.accepted,
            }
            return Product(Table(parted.quarantined), facts)

        inputs: Inputs = {"panel": panel, "corporate_actions": corporate_actions}
        return produce(context, home, compute, inputs=inputs)

    @dg.asset(
        key=[*prefix, "bars"],
        ins={
            "panel": one_panel,
            "corporate_actions": dg.AssetIn(key=[*prefix, "corporate_actions"]),
            "quarantined_bars": dg.AssetIn(key=[*prefix, "quarantined_bars"]),
        },
        kinds={"polars"},
        code_version=version,
        **stage_options("market", "team:data"),
    )
    def bars(
        context: dg.AssetExecutionContext,
        home: Home,
        panel: Panel,
        corporate_actions: Artifact,
        quarantined_bars: Artifact,
    ) -> StoredResult:
        """The adjusted panel: prices times, and volume over, the factors of later corporate actions."""
        from quant_assets.market.actions import adjust_bars

        def compute() -> Product:
            aside = quarantined_bars.table().frame
            kept = frame_of(panel).join(aside, on=["symbol", "session"], how="anti", maintain_order="left")
            adjusted = adjust_bars(kept, corporate_actions.table().frame, universe.calendar)
            facts = {
                "symbols": adjusted["symbol"].n_unique(),
                "first_session": str(adjusted["session"].min()),
                "last_session": str(adjusted["session"].max()),
                "quarantined": aside.height,
                "coverage": adjusted.group_by("symbol", maintain_order=True).agg(
                    first=pl.col("session").min(), last=pl.col("session").max(), sessions=pl.len()
                ),
            }
            return Product(Table(adjusted), facts)

        inputs: Inputs = {
            "panel": panel,
            "corporate_actions": corporate_actions,
            "quarantined_bars": quarantined_bars,
        }
        return produce(context, home, compute, inputs=inputs)

    market_keys = {
        name: dg.AssetKey([*prefix, name]) for name in ("corporate_actions", "quarantined_bars", "bars")
    }
    return [
        raw_bars,
        revisions_check(raw_bars, universe.years),
        *reconciled,
        *([sources_agree(universe, reconciled[0].key, raw_bars.key)] if reconciled else []),
        corporate_actions,
        quarantined_bars,
        quarantine_checks(universe, panel_key, market_keys),
        bars,
        bar_quality(universe, market_keys),
    ]


def _reconciled_bars(universe: UniverseConfig, raw_bars: dg.AssetKey, version: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=[universe.name, "reconciled_bars"],
        ins={"raw_bars": dg.AssetIn(key=raw_bars)},
        kinds={"polars"},
        code_version=version,
        **stage_options("market", "team:data"),
    )
    def reconciled_bars(context: dg.AssetExecutionContext, home: Home, raw_bars: Partitions) -> StoredResult:
        """One bar of each session out of several sources: the winner of each field, and where they disagree."""
        from quant_assets.market.reconciliation import reconcile
        from quant_assets.market.reconciliation_report import compare_sources, reconciliation_figure

        def compute() -> Product:
            every = frame_of(raw_bars)
            chosen = reconcile(every, universe)
            differences = compare_sources(every, universe)
            facts = {
                "findings": list(differences.findings),
                "constant_factors": differences.factors,
                "why_each_source_won": chosen.reasons,
                "price_disagreements": differences.prices,
                "volume_disagreements": differences.volumes,
                "coverage": differences.coverage,
                "left_out": chosen.left_out,
                "disagreement": plot_metadata(reconciliation_figure(differences), "disagreement by size"),
            }
            return Product(Table(chosen.bars), facts)

        return produce(context, home, compute, inputs={"raw_bars": raw_bars})

    asset: dg.AssetsDefinition = reconciled_bars
    return asset


def keys(universe: UniverseConfig) -> list[dg.AssetKey]:
    """The universe's unpartitioned assets of this stage, in lineage order."""
    reconciled = ["reconciled_bars"] if universe.alternatives else []
    names = (*reconciled, "corporate_actions", "quarantined_bars", "bars")
    return [dg.AssetKey([universe.name, name]) for name in names]


def frame_of(panel: Panel) -> pl.DataFrame:
    """All bars in one frame, sorted by symbol and session: one artifact, or one for each year."""
    if isinstance(panel, Artifact):
        return panel.table().frame
    frames = [part.table().frame for part in panel]
    order = ["symbol", "session", *(["source"] if "source" in frames[0].columns else [])]
    return pl.concat(frames).sort(order)
