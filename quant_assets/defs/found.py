"""What there is of a strategy's models: the newest candidate of the lineage, or the champion of the registry.

Everything is handed over as it is found. Verifying is the caller's first step.
"""

import dagster as dg
import polars as pl

from quant_assets.common.errors import ConfigurationError, EvidenceError, closest
from quant_assets.common.home import Home
from quant_assets.common.store import Table
from quant_assets.defs.running import strategy_verdicts
from quant_assets.defs.storage import artifact_of, latest_event, versions
from quant_assets.gates.baseline_comparison import CandidateSummary, judged_by
from quant_assets.gates.verdicts import GateReport
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.lineage.graph import Lineage
from quant_assets.registry.champion import FoundBundle, promoted_bundle
from quant_assets.registry.standing import ledger_keys

ALIASES = ("champion", "candidate")


def newest_candidate(
    instance: dg.DagsterInstance, home: Home, lineage: Lineage, strategy: str
) -> CandidateSummary | None:
    """The candidate with the verdicts about exactly it by the limits in force. None before the first candidate.

    Verdicts about an earlier candidate, or by limits that have changed since, are left out: they say nothing.
    """
    event = latest_event(instance, dg.AssetKey([strategy, "ensemble"]), None)
    if event is None:
        return None
    subject = artifact_of(event, home.store).version
    settings = lineage.settings
    limits = {
        **settings.gates.for_strategy(settings.strategies[strategy].gates).model_dump(),
        **settings.drift.limit_values(),
    }
    verdicts = strategy_verdicts(instance, home, lineage, strategy)
    return CandidateSummary(
        strategy, subject, tuple(v for v in verdicts if v.subject == subject and judged_by(v, limits))
    )


def find_strategy(
    instance: dg.DagsterInstance, home: Home, lineage: Lineage, strategy: str, alias: str
) -> FoundBundle:
    """The bundle of a strategy's champion or newest candidate.

    Raises
    ------
    ConfigurationError
        For an unknown strategy or alias, with the closest one that exists.
    EvidenceError
        When there is no such bundle yet, with the command that makes one.
    """
    lineage.scope(strategy)  # refuses one that is not configured
    if alias not in ALIASES:
        raise ConfigurationError(
            f"alias {alias!r}",
            expected=f"one of {', '.join(ALIASES)}",
            found=repr(alias),
            action=closest(alias, ALIASES) or "name one of them",
        )
    event = latest_event(instance, dg.AssetKey([strategy, "bundle"]), None)
    if event is None and not (home.tracking_uri or (home.local / "mlflow.db").exists()):
        raise _nothing(strategy, "nothing materialised", f"run quant-assets run --strategy {strategy} first")
    if alias == "champion":
        ledger = PromotionLedger(home.promotion_ledger)
        found = promoted_bundle(home.mlflow_uri, strategy, ledger_keys(home).trusted, ledger)
        if found is None:
            ask = f"ask for its candidate with --alias candidate or {strategy}@candidate, or promote it"
            first = f"run quant-assets run --strategy {strategy} first"
            raise _nothing(strategy, "no champion", ask if event is not None else first)
        return found
    if event is None:
        raise _nothing(strategy, "no bundle", f"run quant-assets run --strategy {strategy} first")
    signature = latest_event(instance, dg.AssetKey([strategy, "bundle_signature"]), None)
    bundle = artifact_of(event, home.store)
    return FoundBundle(
        f"{strategy}@candidate",
        bundle.data(),
        artifact_of(signature, home.store).data() if signature else None,
        {"found in": "the newest materialisation of bundle", "object": str(home.store.path(bundle.sha256))},
    )


def reports_about(
    instance: dg.DagsterInstance, home: Home, lineage: Lineage, strategy: str, subject: str
) -> tuple[GateReport, ...]:
    """The newest report of each kind about one version of a model; kinds without one are left out."""
    reports = []
    if strategy not in lineage.settings.strategies:  # the bundle came from another configuration
        return ()
    for name in lineage.reports(lineage.scope(strategy)):
        for made in versions(instance, home.store, (strategy, name)):
            report = GateReport.from_json(made.artifact.json())
            if report.subject == subject:
                reports.append(report)
                break
    return tuple(reports)


def training_frame(
    instance: dg.DagsterInstance, home: Home, strategy: str, version: str
) -> pl.DataFrame | None:
    """The rows of one version of a training set; None when this home does not have it."""
    for made in versions(instance, home.store, (strategy, "training_set")):
        if made.artifact.version == version:
            table: Table = made.artifact.table()
            return table.frame
    return None


def _nothing(strategy: str, found: str, action: str) -> EvidenceError:
    return EvidenceError(
        f"model of {strategy}", expected="a bundle that was materialised", found=found, action=action
    )
