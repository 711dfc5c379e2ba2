"""Market: raw bars by year, corporate actions, and the adjusted, quality-checked panel."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.common.store import Table
from quant_assets.defs.guards import (
    Inputs,
    Product,
    StoredResult,
    code_version,
    produce,
    stage_options,
    to_metadata,
)
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact, Partitions, current
from quant_assets.market.quality import RULES

LIBRARIES = ("polars", "exchange-calendars")


def build(universe: UniverseConfig) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets and checks of one universe's market stage."""
    prefix = [universe.name]
    source = universe.source.kind
    version = code_version(["quant_assets.market"], LIBRARIES, universe)

    @dg.asset(
        key=[*prefix, "raw_bars"],
        partitions_def=dg.StaticPartitionsDefinition(list(universe.years)),
        kinds={source, "parquet"},
        code_version=version,
        **stage_options("market", "team:data"),
    )
    def raw_bars(context: dg.AssetExecutionContext, home: Home) -> StoredResult:
        """Bars as the source gives them, one calendar year a partition; append-only, never overwritten."""
        from quant_assets.market.sources import read_year

        def compute() -> Product:
            read = read_year(universe, context.partition_key)
            facts = {
                "provider": read.provider,
                "column_mapping": dict(read.column_mapping),
                "notes": list(read.notes),
                "head": read.bars.head(5),
            }
            return Product(Table(read.bars, {"provider": read.provider}), facts)

        # Read every time: only the source itself knows whether it has changed.
        return produce(context, home, compute, always=True)

    @dg.asset(
        key=[*prefix, "corporate_actions"],
        ins={"raw_bars": dg.AssetIn(key=[*prefix, "raw_bars"])},
        kinds={"polars"},
        code_version=version,
        **stage_options("market", "team:data"),
    )
    def corporate_actions(
        context: dg.AssetExecutionContext, home: Home, raw_bars: Partitions
    ) -> StoredResult:
        """Splits and dividends, derived from the ratio of adjusted to raw closes."""
        from quant_assets.market.actions import derive_corporate_actions

        def compute() -> Product:
            actions = derive_corporate_actions(panel(raw_bars))
            splits = actions.filter(pl.col("kind") == "split")
            facts = {
                "splits": splits,
                "n_splits": splits.height,
                "n_dividends": actions.height - splits.height,
            }
            return Product(Table(actions), facts)

        return produce(context, home, compute, inputs={"raw_bars": raw_bars})

    @dg.asset(
        key=[*prefix, "bars"],
        ins={
            "raw_bars": dg.AssetIn(key=[*prefix, "raw_bars"]),
            "corporate_actions": dg.AssetIn(key=[*prefix, "corporate_actions"]),
        },
        kinds={"polars"},
        code_version=version,
        **stage_options("market", "team:data"),
    )
    def bars(
        context: dg.AssetExecutionContext, home: Home, raw_bars: Partitions, corporate_actions: Artifact
    ) -> StoredResult:
        """The adjusted panel: prices times, and volume over, the factors of later corporate actions."""
        from quant_assets.market.actions import adjust_bars

        def compute() -> Product:
            adjusted = adjust_bars(panel(raw_bars), corporate_actions.table().frame, universe.calendar)
            facts = {
                "symbols": adjusted["symbol"].n_unique(),
                "first_session": str(adjusted["session"].min()),
                "last_session": str(adjusted["session"].max()),
                "coverage": adjusted.group_by("symbol", maintain_order=True).agg(
                    first=pl.col("session").min(), last=pl.col("session").max(), sessions=pl.len()
                ),
            }
            return Product(Table(adjusted), facts)

        inputs: Inputs = {"raw_bars": raw_bars, "corporate_actions": corporate_actions}
        return produce(context, home, compute, inputs=inputs)

    @dg.multi_asset_check(
        name=f"{universe.name}__bar_quality",
        specs=[
            dg.AssetCheckSpec(
                rule.name,
                asset=bars.key,
                description=f"{rule.severity}: {rule.description}",
                blocking=rule.severity == "ERROR",
            )
            for rule in RULES
        ],
    )
    def bar_quality(context: dg.AssetCheckExecutionContext, home: Home) -> Iterator[dg.AssetCheckResult]:
        from quant_assets.market.quality import check_bars

        panel_now = current(context.instance, bars.key, home).table().frame
        actions_now = current(context.instance, corporate_actions.key, home).table().frame
        for finding in check_bars(panel_now, actions_now, universe):
            yield dg.AssetCheckResult(
                asset_key=bars.key,
                check_name=finding.rule,
                passed=bool(finding.passed),
                severity=dg.AssetCheckSeverity[finding.severity],
                description=f"{finding.n_offenders} offenders among {finding.n_checked} checked",
                metadata=to_metadata(
                    {
                        "n_offenders": finding.n_offenders,
                        "n_checked": finding.n_checked,
                        "offenders": finding.offenders,
                    }
                ),
            )

    return [raw_bars, corporate_actions, bars, bar_quality]


def panel(raw_bars: Partitions) -> pl.DataFrame:
    """All years of raw bars as one panel, sorted by (symbol, session)."""
    return pl.concat([part.table().frame for part in raw_bars]).sort("symbol", "session")
