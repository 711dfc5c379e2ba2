"""Market: raw bars by year, reconciled where there are several sources, and the adjusted, quality-checked panel.

Suspicious raw bars are set aside in ``quarantined_bars`` before anything is adjusted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from quant_assets.common.hashing import frame_digest
from quant_assets.common.listing_settings import MembersConfig
from quant_assets.common.logging import get_logger
from quant_assets.common.settings import PluginSource, UniverseConfig
from quant_assets.common.store import Table
from quant_assets.lineage.artifact import Artifact, Panel, Partitions, frame_of
from quant_assets.lineage.declaring import Check, CheckResult, CheckSpec, Picture, Product, single, stage
from quant_assets.lineage.parted_once import parted_once, rows_that_are_no_bars
from quant_assets.lineage.scope import History, Scope

# Facts of an event of `raw_bars`, by which later reads compare themselves with it.
SYMBOL_DIGESTS, LAST_SESSION, CHANGE, IN_WORDS, KNOWN_AT = (
    "symbol_digests", "last_session", "change", "change_in_words", "known_at",
)  # fmt: skip

SET_ASIDE = (
    "set_aside"  # fact of `quarantined_bars`: sentences on what is left out and why, for a run's last lines
)
MOST_ROWS_SHOWN = 1000

_log = get_logger("quant_assets.market")


def vintage_facts(table: Table, partition: str, history: History) -> dict[str, Any]:
    """Facts about one read of a year: digests per symbol, and what it changed against the last vintage."""
    from quant_assets.market.revisions import compare_vintages, lost_vintage, symbol_digests

    digests = symbol_digests(table.frame)
    last = table.frame["session"].max()
    facts: dict[str, Any] = {SYMBOL_DIGESTS: digests, LAST_SESSION: "" if last is None else str(last)}
    previous = history.previous()
    if previous is not None and previous.version == frame_digest(table.frame, table.metadata):
        return {**facts, CHANGE: "unchanged", KNOWN_AT: previous.known_at.isoformat()}
    if previous is None:
        revision = compare_vintages(None, table.frame)
    elif not previous.artifact.store.intact(previous.artifact.sha256):
        _log.warning(
            "the object of the last vintage is lost, its rows cannot be compared",
            partition=partition,
            object=previous.artifact.sha256,
        )
        revision = lost_vintage(previous.symbol_digests, digests)
    else:
        then = previous.artifact.table().frame
        revision = compare_vintages(then, table.frame, known_through=history.last_session())
    facts |= {CHANGE: revision.kind, IN_WORDS: revision.sentence}
    if revision.kind in ("appended", "revised"):
        facts |= {
            "rows_added": revision.rows_added,
            "rows_removed": revision.rows_removed,
            "rows_changed": revision.rows_changed,
            "symbols_touched": revision.symbols,
        }
    if revision.kind == "revised":
        facts["largest_changes"] = revision.changes
        _log.warning("history rewritten", partition=partition, change=revision.sentence)
    return facts


def revisions(*, history: History) -> CheckResult:
    """WARN while the newest event of any year is one that rewrote history."""
    rows = [
        {"year": year, "change": str(facts[CHANGE]), "in_words": str(facts.get(IN_WORDS, ""))}
        for year, facts in history.facts().items()
        if CHANGE in facts
    ]
    rewritten = [row["year"] for row in rows if row["change"] == "revised"]
    described = f"history rewritten in {', '.join(rewritten)}" if rewritten else "no history was rewritten"
    return CheckResult("revisions", not rewritten, described, "WARN", {"years": pl.DataFrame(rows)})


def sources_agree(raw_bars: Partitions, *, universe: UniverseConfig) -> CheckResult:
    """WARN while two sources contradict each other systematically: by a factor, or by shifted dates."""
    from quant_assets.market.reconciliation_report import compare_sources

    differences = compare_sources(frame_of(raw_bars), universe)
    return CheckResult(
        "sources_agree",
        not differences.findings,
        "; ".join(differences.findings) or "no systematic disagreement",
        "WARN",
        {"constant_factors": differences.factors, "coverage": differences.coverage},
    )


def raw_rule_findings(
    panel: Panel, corporate_actions: Artifact, listings: Artifact | None = None, *, universe: UniverseConfig
) -> Iterator[CheckResult]:
    """What the rules about single raw bars found."""
    return _results(parted_once(panel, corporate_actions, listings, universe).findings)


def bar_rule_findings(
    bars: Artifact, corporate_actions: Artifact, quarantined_bars: Artifact, *, universe: UniverseConfig
) -> Iterator[CheckResult]:
    """What the rules about the adjusted panel found."""
    from quant_assets.features.as_known import FOUND_WRONG
    from quant_assets.market.listings import inside
    from quant_assets.market.rules.quality import check_bars

    panel = bars.table().frame
    findings = check_bars(
        panel.filter(pl.col(FOUND_WRONG).is_null()) if FOUND_WRONG in panel.columns else panel,
        corporate_actions.table().frame,
        universe,
        quarantined=inside(quarantined_bars.table().frame),  # bars of no instrument are missing from none
    )
    return _results(findings)


def survivorship(
    bars: Artifact,
    listings: Artifact | None = None,
    *,
    universe: UniverseConfig,
    members: MembersConfig | None,
) -> CheckResult:
    """WARN while nothing proves that the names of the panel were not chosen by their survival."""
    from quant_assets.market.listings import survivorship as held_against

    symbols, spells = bars.table().frame["symbol"].unique(), listings.table().frame if listings else None
    found = held_against(symbols, spells, universe, of_a_group=members is not None)
    ends = pl.DataFrame({"end_kind": list(found.ended), "instruments": list(found.ended.values())})
    return CheckResult("survivorship", found.proven, found.sentence, "WARN", {"ended": ends})


def _rule_specs(rules: Iterable[Any]) -> Sequence[CheckSpec]:
    return [
        CheckSpec(rule.name, f"{rule.severity}: {rule.description}", blocking=rule.check_severity == "ERROR")
        for rule in rules
    ]


def _raw_rules(scope: Scope) -> Sequence[CheckSpec]:
    from quant_assets.market.rules.bar_rule import raw_rules

    return _rule_specs(raw_rules(scope.bars))


def _bar_rules(scope: Scope) -> Sequence[CheckSpec]:
    from quant_assets.market.rules.bar_rule import bar_rules

    return _rule_specs(bar_rules(scope.bars))


def _rules_behind(_: Scope, __: str | None) -> Sequence[str]:
    from quant_assets.market.rules.bar_rule import rule_modules

    return rule_modules()


def _first_names(finding: Any) -> list[str]:
    """Which names a rule without sentences of its own found, in one."""
    if finding.passed or "symbol" not in finding.offenders.columns:
        return []
    names = finding.offenders["symbol"].unique(maintain_order=True).to_list()
    return [f"of {', '.join(map(str, names[:5]))}" + (f" and {len(names) - 5} more" if names[5:] else "")]


def _results(findings: Iterable[Any]) -> Iterator[CheckResult]:
    for finding in findings:
        yield CheckResult(
            finding.rule,
            bool(finding.passed),
            f"{finding.n_offenders} offenders among {finding.n_checked} checked"
            + "".join(f"; {sentence}" for sentence in finding.evidence or _first_names(finding)),
            finding.check_severity,
            {
                "n_offenders": finding.n_offenders,
                "n_checked": finding.n_checked,
                "offenders": finding.offenders,
            },
        )


def _code_of_sources(scope: Scope, _: str | None) -> Sequence[str]:
    """The code of a desk's own sources, which no import statement shows."""
    sources = scope.bars.sources.values()
    return [source.plugin.reference for source in sources if isinstance(source, PluginSource)]


@stage(
    group="market",
    owner="universe",
    team="team:data",
    kinds=lambda s: {*(source.kind for source in s.bars.sources.values()), "parquet"},
    partitions=lambda s: s.bars.years,
    roots=_code_of_sources,
    # Read every time: only the source itself knows whether it has changed.
    always=True,
    checks=(
        Check(
            "revisions",
            single(
                "revisions",
                "WARN: the newest read of a year changed bars that were known before.",
                blocking=False,
            ),
            revisions,
        ),
    ),
)
def raw_bars(*, universe: UniverseConfig, partition: str, history: History) -> Product:
    """Bars as the source gives them, one calendar year a partition; append-only, never overwritten."""
    from quant_assets.market.revisions import vintage
    from quant_assets.market.sources.sources import read_year

    read = read_year(universe, partition)
    table = vintage(read)
    facts = {
        **vintage_facts(table, partition, history),
        "provider": read.provider,
        "column_mapping": dict(read.column_mapping),
        "notes": list(read.notes),
        "sources": pl.DataFrame([asdict(outcome) for outcome in read.outcomes]),
        "head": read.bars.head(5),
    }
    return Product(table, facts)


def disagreements(raw_bars: Partitions, *, universe: UniverseConfig) -> Mapping[str, Any]:
    """Where several sources of the same bars disagree."""
    from quant_assets.market.reconciliation_report import compare_sources, reconciliation_figure

    differences = compare_sources(frame_of(raw_bars), universe)
    return {
        "findings": list(differences.findings),
        "constant_factors": differences.factors,
        "price_disagreements": differences.prices,
        "volume_disagreements": differences.volumes,
        "coverage": differences.coverage,
        "disagreement": Picture(reconciliation_figure(differences), "disagreement by size"),
    }


@stage(
    group="market",
    rederived=True,
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    wanted=lambda s: bool(s.bars.alternatives),
    describe=disagreements,
    checks=(
        Check(
            "sources_agree",
            single(
                "sources_agree",
                "WARN: a source is off by a constant factor, or its dates are shifted.",
                blocking=False,
            ),
            sources_agree,
        ),
    ),
)
def reconciled_bars(raw_bars: Partitions, *, universe: UniverseConfig) -> Product:
    """One bar of each session out of several sources: the winner of each field, and where they disagree."""
    from quant_assets.market.reconciliation import reconcile
    from quant_assets.market.set_aside import metadata_of

    chosen = reconcile(frame_of(raw_bars), universe)
    table = Table(chosen.bars, metadata_of(rows_that_are_no_bars(raw_bars)))
    return Product(table, {"why_each_source_won": chosen.reasons, "left_out": chosen.left_out})


@stage(
    group="market",
    rederived=True,
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    checks=(Check("quarantine", _raw_rules, raw_rule_findings),),
    roots=_rules_behind,
)
def quarantined_bars(
    panel: Panel, corporate_actions: Artifact, listings: Artifact | None = None, *, universe: UniverseConfig
) -> Product:
    """Raw bars that look wrong: the rule, the evidence, when it can be known. No feature sees them from then on."""
    from quant_assets.market.rules.whole_symbols import set_aside_sentences

    parted = parted_once(panel, corporate_actions, listings, universe)
    facts = {
        SET_ASIDE: set_aside_sentences(parted.listed),
        **parted.facts,
        "rows": parted.listed.head(MOST_ROWS_SHOWN),
    }
    return Product(Table(parted.listed), facts)


@stage(
    group="market",
    rederived=True,
    owner="universe",
    team="team:data",
    kinds=frozenset({"polars"}),
    checks=(
        Check("bar_quality", _bar_rules, bar_rule_findings),
        Check(
            "survivorship",
            single(
                "survivorship",
                "WARN: nothing proves that the names were not chosen by their survival.",
                blocking=False,
            ),
            survivorship,
        ),
    ),
)
def bars(
    panel: Panel,
    corporate_actions: Artifact,
    quarantined_bars: Artifact,
    listings: Artifact | None = None,
    *,
    calendar: str,
    multipliers: dict[str, float],
) -> Product:
    """The adjusted panel: prices times, and volume over, the factors of later corporate actions."""
    from quant_assets.market.actions import adjust_bars
    from quant_assets.market.listings import with_ends
    from quant_assets.market.rolls import in_units
    from quant_assets.market.rules.bar_rule import ROW_CONTRACT
    from quant_assets.market.rules.quality import found_wrong

    aside = quarantined_bars.table().frame
    # Rows that are no bars never were in the panel; another row may have their session.
    at_once = aside.filter((pl.col("rule") != ROW_CONTRACT) & (pl.col("known_on") <= pl.col("session")))
    kept = frame_of(panel)
    if at_once.height:
        kept = kept.join(at_once, on=["symbol", "session"], how="anti", maintain_order="left")
    adjusted = found_wrong(adjust_bars(kept, corporate_actions.table().frame, calendar), aside)
    adjusted = with_ends(adjusted, listings.table().frame) if listings else adjusted
    # A name that is set aside has its multiplier still.
    named = pl.concat([frame_of(panel)["symbol"], aside["symbol"].drop_nulls()])
    adjusted = in_units(adjusted, multipliers, named)
    if "contract" in kept.columns:
        adjusted = adjusted.join(
            kept.select("symbol", "session", "contract"),
            on=["symbol", "session"],
            how="left",
            maintain_order="left",
        )
    facts = {
        "symbols": adjusted["symbol"].n_unique(),
        "first_session": str(adjusted["session"].min()),
        "last_session": str(adjusted["session"].max()),
        "quarantined": aside.height,
        "quarantined_once_known": aside.filter(pl.col("known_on") > pl.col("session")).height,
        "coverage": adjusted.group_by("symbol", maintain_order=True).agg(
            first=pl.col("session").min(), last=pl.col("session").max(), sessions=pl.len()
        ),
    }
    return Product(Table(adjusted), facts)
