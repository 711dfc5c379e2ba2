"""What there is of a strategy's models: the newest candidate of the lineage, or the champion of the registry.

Everything is handed over as it is found. Verifying is the caller's first step.
"""

from collections.abc import Iterator
from typing import Protocol

import polars as pl

from quant_assets.common.errors import ConfigurationError, EvidenceError, closest
from quant_assets.common.home import Home
from quant_assets.common.store import Table
from quant_assets.gates.baseline_comparison import CandidateSummary, judged_by
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.ledgers.promotions import PromotionLedger
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.graph import Key, Lineage
from quant_assets.registry.champion import FoundBundle, promoted_bundle
from quant_assets.registry.standing import ledger_keys

ALIASES = ("champion", "candidate")


class Versions(Protocol):
    """The versions of assets that an event log names."""

    def newest(self, key: Key) -> Artifact | None:
        """The newest one of an asset; None when it was never made."""

    def each(self, key: Key) -> Iterator[Artifact]:
        """Every object of an asset that is still named, newest first, each once."""


def strategy_verdicts(versions: Versions, lineage: Lineage, strategy: str) -> tuple[Verdict, ...]:
    """Every verdict in the newest reports of a strategy."""
    verdicts: list[Verdict] = []
    for report in lineage.reports(lineage.scope(strategy)):
        made = versions.newest((strategy, report))
        if made is not None:
            verdicts += GateReport.from_json(made.json()).verdicts
    return tuple(verdicts)


def newest_candidate(versions: Versions, lineage: Lineage, strategy: str) -> CandidateSummary | None:
    """The candidate with the verdicts about exactly it by the limits in force. None before the first candidate.

    Verdicts about an earlier candidate, or by limits that have changed since, are left out: they say nothing.
    """
    made = versions.newest((strategy, "ensemble"))
    if made is None:
        return None
    subject = made.version
    settings = lineage.settings
    limits = {
        **settings.gates.for_strategy(settings.strategies[strategy].gates).model_dump(),
        **settings.drift.limit_values(),
    }
    verdicts = strategy_verdicts(versions, lineage, strategy)
    return CandidateSummary(
        strategy, subject, tuple(v for v in verdicts if v.subject == subject and judged_by(v, limits))
    )


def find_strategy(versions: Versions, home: Home, lineage: Lineage, strategy: str, alias: str) -> FoundBundle:
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
    bundle = versions.newest((strategy, "bundle"))
    if bundle is None and not (home.tracking_uri or (home.local / "mlflow.db").exists()):
        raise _nothing(strategy, "nothing materialised", f"run quant-assets run --strategy {strategy} first")
    if alias == "champion":
        ledger = PromotionLedger(home.promotion_ledger)
        found = promoted_bundle(home.mlflow_uri, strategy, ledger_keys(home).trusted, ledger)
        if found is None:
            ask = f"ask for its candidate with --alias candidate or {strategy}@candidate, or promote it"
            first = f"run quant-assets run --strategy {strategy} first"
            raise _nothing(strategy, "no champion", ask if bundle is not None else first)
        return found
    if bundle is None:
        raise _nothing(strategy, "no bundle", f"run quant-assets run --strategy {strategy} first")
    signature = versions.newest((strategy, "bundle_signature"))
    return FoundBundle(
        f"{strategy}@candidate",
        bundle.data(),
        signature.data() if signature else None,
        {"found in": "the newest materialisation of bundle", "object": str(home.store.path(bundle.sha256))},
    )


def reports_about(
    versions: Versions, lineage: Lineage, strategy: str, subject: str
) -> tuple[GateReport, ...]:
    """The newest report of each kind about one version of a model; kinds without one are left out."""
    reports = []
    if strategy not in lineage.settings.strategies:  # the bundle came from another configuration
        return ()
    for name in lineage.reports(lineage.scope(strategy)):
        for artifact in versions.each((strategy, name)):
            report = GateReport.from_json(artifact.json())
            if report.subject == subject:
                reports.append(report)
                break
    return tuple(reports)


def training_frame(versions: Versions, strategy: str, version: str) -> pl.DataFrame | None:
    """The rows of one version of a training set; None when this home does not have it."""
    for artifact in versions.each((strategy, "training_set")):
        if artifact.version == version:
            table: Table = artifact.table()
            return table.frame
    return None


def _nothing(strategy: str, found: str, action: str) -> EvidenceError:
    return EvidenceError(
        f"model of {strategy}", expected="a bundle that was materialised", found=found, action=action
    )
