"""The checks of the market stage: quarantined rows, the quality of adjusted bars, and whether sources agree."""

from collections.abc import Iterable, Iterator, Mapping

import dagster as dg
import polars as pl

from quant_assets.common.settings import UniverseConfig
from quant_assets.defs.guards import to_metadata
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import current
from quant_assets.market.rules import BarRule, QualityFinding, bar_rules, raw_rules

Keys = Mapping[str, dg.AssetKey]


def required_market_checks(universe: UniverseConfig) -> list[dg.AssetCheckKey]:
    """Checks of a universe's bars without which nothing trained on them is promoted."""
    judged = {"quarantined_bars": raw_rules(universe), "bars": bar_rules(universe)}
    return [
        dg.AssetCheckKey(dg.AssetKey([universe.name, asset]), rule.name)
        for asset, rules in judged.items()
        for rule in rules
        if rule.severity == "ERROR"
    ]


def quarantine_checks(universe: UniverseConfig, panel: dg.AssetKey, keys: Keys) -> dg.AssetChecksDefinition:
    """One check for each rule about single raw bars."""

    @dg.multi_asset_check(
        name=f"{universe.name}__quarantine",
        specs=_specs(keys["quarantined_bars"], raw_rules(universe)),
    )
    def quarantine_rules(context: dg.AssetCheckExecutionContext, home: Home) -> Iterator[dg.AssetCheckResult]:
        from quant_assets.market.rules.quality import quarantine

        raw = _raw(context.instance, panel, universe, home)
        actions = current(context.instance, keys["corporate_actions"], home).table().frame
        yield from _results(keys["quarantined_bars"], quarantine(raw, actions, universe).findings)

    return quarantine_rules


def bar_quality(universe: UniverseConfig, keys: Keys) -> dg.AssetChecksDefinition:
    """One check for each rule about the adjusted panel."""

    @dg.multi_asset_check(
        name=f"{universe.name}__bar_quality", specs=_specs(keys["bars"], bar_rules(universe))
    )
    def bar_rules_hold(context: dg.AssetCheckExecutionContext, home: Home) -> Iterator[dg.AssetCheckResult]:
        from quant_assets.market.rules.quality import check_bars

        now = {
            name: current(context.instance, keys[name], home).table().frame
            for name in ("bars", "corporate_actions", "quarantined_bars")
        }
        findings = check_bars(
            now["bars"], now["corporate_actions"], universe, quarantined=now["quarantined_bars"]
        )
        yield from _results(keys["bars"], findings)

    return bar_rules_hold


def sources_agree(
    universe: UniverseConfig, reconciled: dg.AssetKey, raw_bars: dg.AssetKey
) -> dg.AssetChecksDefinition:
    """WARN while two sources contradict each other systematically: by a factor, or by shifted dates."""

    @dg.asset_check(
        asset=reconciled,
        name="sources_agree",
        description="WARN: a source is off by a constant factor, or its dates are shifted.",
    )
    def agreement(context: dg.AssetCheckExecutionContext, home: Home) -> dg.AssetCheckResult:
        from quant_assets.market.reconciliation_report import compare_sources

        differences = compare_sources(_raw(context.instance, raw_bars, universe, home), universe)
        return dg.AssetCheckResult(
            passed=not differences.findings,
            severity=dg.AssetCheckSeverity.WARN,
            description="; ".join(differences.findings) or "no systematic disagreement",
            metadata=to_metadata({"constant_factors": differences.factors, "coverage": differences.coverage}),
        )

    return agreement


def _raw(
    instance: dg.DagsterInstance, key: dg.AssetKey, universe: UniverseConfig, home: Home
) -> pl.DataFrame:
    if key.path[-1] != "raw_bars":
        return current(instance, key, home).table().frame
    years = [current(instance, key, home, partition=year).table().frame for year in universe.years]
    return pl.concat(years).sort("symbol", "session")


def _specs(asset: dg.AssetKey, rules: Iterable[BarRule]) -> list[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            rule.name,
            asset=asset,
            description=f"{rule.severity}: {rule.description}",
            blocking=rule.severity == "ERROR",
        )
        for rule in rules
    ]


def _results(asset: dg.AssetKey, findings: Iterable[QualityFinding]) -> Iterator[dg.AssetCheckResult]:
    for finding in findings:
        yield dg.AssetCheckResult(
            asset_key=asset,
            check_name=finding.rule,
            passed=bool(finding.passed),
            severity=dg.AssetCheckSeverity[finding.check_severity],
            description=f"{finding.n_offenders} offenders among {finding.n_checked} checked"
            + "".join(f"; {sentence}" for sentence in finding.evidence),
            metadata=to_metadata(
                {
                    "n_offenders": finding.n_offenders,
                    "n_checked": finding.n_checked,
                    "offenders": finding.offenders,
                }
            ),
        )
