"""Registry: the MLflow record of every candidate, the guarded promotion, and the holdout once it has decided."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from quant_assets.common.errors import ArtifactError, GateClosedError, LedgerError
from quant_assets.common.hashing import json_digest
from quant_assets.common.home import Home
from quant_assets.common.plugins import Plugin
from quant_assets.common.settings import CostConfig, DelistingConfig, PortfolioConfig, StrategyConfig
from quant_assets.gates.evidence import Look
from quant_assets.gates.limits import DriftConfig, GatesConfig, MinimaConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.artifact import Artifact, by_pack
from quant_assets.lineage.declaring import File, Link, Picture, Product, every_gate, stage, trading_code
from quant_assets.lineage.refusals import refusals_told
from quant_assets.lineage.scope import Guard, RunFacts, SessionRange, now
from quant_assets.lineage.stages.evidence_stages import judged
from quant_assets.lineage.stages.model_stages import tuned

if TYPE_CHECKING:
    from quant_assets.ledgers.promotions import LedgerEntry

# ------------------------------------------------------------------------ what promotion asks beside verdicts


def signed_bundle(
    bundle: Artifact, signature: Artifact, home: Home
) -> tuple[str | None, dict[str, str], tuple[str, ...]]:
    """The key that signed the bundle, whose model it holds, and why it is refused (nothing when it is not)."""
    from quant_assets.artifacts.bundle.bundle import verify_bundle
    from quant_assets.artifacts.bundle.signing import trusted_keys

    try:
        verified = verify_bundle(bundle.data(), signature.data(), trusted_keys(home.local))
    except ArtifactError as error:
        return None, {}, (f"{error.what}: expected {error.expected}; found {error.found}",)
    return verified.fingerprint, {"bundle": verified.manifest.subject}, ()


def unrecorded_bundle(bundle: Artifact, record: Mapping[str, str]) -> tuple[str, ...]:
    """Why the registry does not hold the bundle that would be served; empty when it does."""
    recorded = record.get("bundle_sha256", "none")
    if recorded == bundle.sha256:
        return ()
    return (f"training record: holds bundle {recorded[:12]}, not {bundle.sha256[:12]}",)


def leaks(leakage_report: Artifact) -> tuple[str, ...]:
    """Why the proof does not open the way, read from the proof itself and not from its check; empty when it does."""
    proof = leakage_report.json()
    return () if proof["passed"] is True else (f"leakage report: {proof['summary']}",)


def strangers(subject: str, made_from: Mapping[str, str]) -> tuple[str, ...]:
    """Which of the artifacts were made from another version of the model; empty when none was."""
    return tuple(
        f"{artifact}: made from another model version ({version[:12]})"
        for artifact, version in made_from.items()
        if version != subject
    )


def refuse_strangers(
    subject: str,
    made_from: Mapping[str, str],
    reports: Sequence[GateReport],
    in_force: Mapping[str, Mapping[str, Any]],
    required: Sequence[str],
) -> None:
    """Refuse a candidate for which nothing in the registry stands yet, so that there is no version to tag.

    Raises
    ------
    GateClosedError
        When an artifact was made from another version of the model, with every reason there is.
    """
    from quant_assets.registry.promotion import promotion_reasons

    foreign = strangers(subject, made_from)
    if foreign:
        reasons = (*foreign, *promotion_reasons(subject, reports, in_force, required))
        raise GateClosedError(
            f"candidate {subject[:12]}",
            expected="a record, a bundle and a proof about this exact version",
            found="; ".join(reasons),
            action="materialise what was made from another version again",
            reasons=reasons,
        )


def uncounted_trials(
    home: Home, book: str, reports: Sequence[GateReport]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """Why the trials close the way (nothing when they do not), and where the ledger stands, for the record.

    The ledger is held to every anchor that is known: its own, MLflow's and the promotion ledger's. One that does not
    continue them is no record of anything, and leaves no anchor.
    """
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.ledgers.trial_records import promoted_anchors
    from quant_assets.ledgers.trials import TrialLedger
    from quant_assets.registry.tracking import recorded_anchors

    ledger = TrialLedger(home.path)
    anchors = {
        *recorded_anchors(home.mlflow_uri, book),
        *promoted_anchors(PromotionLedger(home.promotion_ledger).entries()),
    }
    try:
        now = ledger.snapshot(book, anchors)
    except LedgerError as error:
        return (f"{error.what}: expected {error.expected}; found {error.found}; {error.action}",), {}
    return tuple(
        f"validation report: counts {report.details['trials']['n_trials']} trials, the ledger {now.n_trials}"
        for report in reports
        if report.kind == "validation"
        and (report.details["trials"]["book"], report.details["trials"]["digest"]) != (book, now.digest)
    ), {"trials": now.anchor.text}


def withdrawn_gates(entries: Iterable["LedgerEntry"], required: Sequence[str]) -> tuple[str, ...]:
    """A desk's own gates that refused the strategy once and are not asked any more: named beside what is decided."""
    from quant_assets.gates.desk_gates import PREFIX

    refused = [entry for entry in entries if entry.action == "refused"]
    closed = {reason.split(":")[0] for entry in refused for reason in entry.reasons}
    own = {name for name in closed if name.startswith(PREFIX) and " " not in name}
    return tuple(sorted(own - set(required)))


def told_in_full(basis: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in force as the ledger keeps them: each in full, and its digest."""
    return {"settings": basis, "digests": {part: json_digest(told) for part, told in basis.items()}}


# ------------------------------------------------------------------------------------------------- the stages


def still_recorded(bundle: Artifact, *, made: Artifact, name: str, home: Home) -> str:
    """Why the registry does not hold the record that was written; empty when it does."""
    from quant_assets.registry.promotion import recorded_version

    record = made.json()
    held = recorded_version(home.mlflow_uri, name, record["model_version"])
    wanted = (record["subject"], record["mlflow_run_id"], bundle.sha256)
    found = (held.subject, held.mlflow_run_id, record["bundle_sha256"])
    return "" if found == wanted else "the registry holds another record"


# Idempotent: finds the run of this subject and evidence, and makes one only when there is none.
@stage(group="registry", kinds=frozenset({"mlflow"}), always=True, still=still_recorded, roots=every_gate)
def training_record(
    training_set: Artifact,
    ensemble: Artifact,
    learners: Mapping[str, Artifact],
    cpcv_predictions: Artifact,
    cpcv_paths: Artifact,
    trial_ledger: Artifact,
    tear_sheet: Artifact,
    onnx_fp32: Artifact,
    bundle: Artifact,
    bundle_signature: Artifact,
    tuning: Artifact | None = None,
    *,
    strategy: StrategyConfig,
    sessions: SessionRange,
    limits: GatesConfig,
    home: Home,
    run: RunFacts,
) -> Product:
    """The record of truth in MLflow: parameters, metrics of every path, dataset, verdicts, model version."""
    from quant_assets.artifacts.bundle.bundle import verify_bundle
    from quant_assets.artifacts.bundle.signing import trusted_keys
    from quant_assets.common.logging import machine
    from quant_assets.registry.champion import BUNDLE_FILE, SIGNATURE_FILE
    from quant_assets.registry.record import CandidateEvidence, candidate_record
    from quant_assets.registry.tracking import record_training, record_trials

    # Whoever serves reads the bundle from here: what does not verify is not recorded.
    verify_bundle(bundle.data(), bundle_signature.data(), trusted_keys(home.local))
    evidence = CandidateEvidence(
        training_set=training_set.table(),
        training_set_version=training_set.version,
        ensemble=ensemble.json(),
        base_learners={name: base.json() for name, base in learners.items()},
        predictions=cpcv_predictions.table(),
        paths=cpcv_paths.table(),
        onnx=onnx_fp32.data(),
        files={
            "ensemble.json": ensemble.raw(),
            "tear_sheet.html": tear_sheet.text().encode(),
            BUNDLE_FILE: bundle.data(),
            SIGNATURE_FILE: bundle_signature.data(),
        },
    )
    record = candidate_record(
        tuned(strategy, tuning),
        judged(
            cpcv_paths,
            trial_ledger,
            ensemble,
            home,
            sessions,
            limits,
            strategy.name,
            strategy.further_gates,
        ),
        evidence,
        run_id=run.run_id,
        run_url=run.url,
        system=dict(run.resources((*learners, "ensemble", "cpcv_predictions"))),
        machine=machine(),
    )
    recorded = record_training(home.mlflow_uri, record, artifact_root=home.mlflow_artifacts)
    if tuning is not None:
        record_trials(home.mlflow_uri, recorded, tuning.json())
    value = {
        "subject": ensemble.version,
        "mlflow_run_id": recorded.run_id,
        "experiment_id": recorded.experiment_id,
        "model_name": recorded.model_name,
        "model_version": recorded.model_version,
        "bundle_sha256": bundle.sha256,
        "names": training_set.table().frame["symbol"].n_unique(),
    }
    shown = home.mlflow_ui(recorded.experiment_id, recorded.run_id)
    return Product(value, {**value, **({"mlflow": Link(shown)} if shown else {})})


# The guard runs every time: a decision is never reused.
@stage(
    group="registry",
    kinds=frozenset({"mlflow"}),
    always=True,
    guarded=True,
    decides=True,
    pool="promotion",
    roots=every_gate,
)
def promotion(
    ensemble: Artifact,
    training_record: Artifact,
    bundle: Artifact,
    bundle_signature: Artifact,
    leakage_report: Artifact,
    reports: Mapping[str, Artifact],
    *,
    name: str,
    book: str,
    limits: GatesConfig,
    gates: GatesConfig,
    drift: DriftConfig,
    minima: MinimaConfig,
    home: Home,
    run: RunFacts,
    guard: Guard,
    basis: Mapping[str, Any],
    further_gates: Sequence[Plugin],
) -> Product:
    """The decision: moves the champion alias, or records the refusal with every reason and fails."""
    from quant_assets.gates.admission import closed_reasons, foreign_settings
    from quant_assets.gates.desk_gates import desk_names
    from quant_assets.gates.gate import gate_names
    from quant_assets.gates.limits import gates_digest, limits_in_force, unapproved
    from quant_assets.gates.verdicts import GateReport
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.registry.champion import current_champion
    from quant_assets.registry.promotion import promote
    from quant_assets.registry.standing import ledger_keys

    in_force, by_limits = limits_in_force(limits, drift), gates_digest(gates, drift, minima)
    signing_key, made_from, unsigned = signed_bundle(bundle, bundle_signature, home)
    judged_reports = [GateReport.from_json(report.json()) for report in reports.values()]
    record = training_record.json()
    stands_for = {
        "training record": record["subject"],
        **made_from,
        "leakage report": leakage_report.json()["subject"],
    }
    required = (*gate_names(), *desk_names(further_gates))
    with refusals_told(judged_reports):
        refuse_strangers(ensemble.version, stands_for, judged_reports, in_force, required)
    # A gate that the evidence closes is one reason, not two.
    verdicts = [verdict for report in judged_reports for verdict in report.verdicts]
    closed = frozenset(
        reason.split(":")[0] for reason in closed_reasons(ensemble.version, verdicts, required)
    )
    scrutiny = guard(closed)
    uncounted, counted = uncounted_trials(home, book, judged_reports)
    standing = current_champion(home.mlflow_uri, name)
    ledger = PromotionLedger(home.promotion_ledger)
    withdrawn = withdrawn_gates(ledger.entries(name), required)
    with refusals_told(judged_reports):
        decision = promote(
            home.mlflow_uri,
            strategy=name,
            subject=ensemble.version,
            reports=judged_reports,
            limits_in_force=in_force,
            further_reasons=(
                *scrutiny.reasons,
                *(reason for report in judged_reports for reason in foreign_settings(report, basis)),
                *leaks(leakage_report),
                *uncounted,
                *minima.of_record(record["names"]),
                *unsigned,
                *unrecorded_bundle(bundle, record),
                *unapproved(by_limits, to_promote=True),
            ),
            bundle_sha256=bundle.sha256,
            signing_key=signing_key,
            model_version=record["model_version"],
            expected_champion=standing.subject if standing else None,
            required_gates=required,
            ledger=ledger,
            keys=ledger_keys(home),
            actor=f"dagster:{run.trigger}",
            run_id=run.run_id,
            now=now(),
            basis={
                **({"withdrawn_gates": list(withdrawn)} if withdrawn else {}),
                "gates": by_limits,
                "minima": minima.model_dump(mode="json"),
                **told_in_full(basis),
                **counted,
            },
        )
    value = {
        "strategy": name,
        "subject": decision.subject,
        "model_version": decision.model_version,
        "bundle_sha256": bundle.sha256,
        "signing_key": signing_key,
    }
    facts: dict[str, Any] = {"decision": decision.decision, "ledger_entry": decision.ledger_entry}
    facts |= {"withdrawn_gates": ", ".join(withdrawn)} if withdrawn else {}
    return Product(value, {**value, **facts, "seconds_to_find_out_again": dict(scrutiny.seconds)})


# Reads the promotion: a blocked or refused candidate has no holdout to look at. The look is in the ledger before
# anything is returned.
@stage(group="registry", kinds=frozenset({"html"}), guarded=True, roots=trading_code)
def holdout_report(
    promotion: Artifact,
    ensemble: Artifact,
    features: Mapping[str, Artifact],
    bars: Artifact,
    cpcv_paths: Artifact,
    member_rows: Artifact | None = None,
    *,
    name: str,
    packs: Sequence[str],
    holdout_sessions: int,
    sessions: SessionRange,
    limits: GatesConfig,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig,
    basis: Mapping[str, Any],
    look: Look,
    home: Home,
    run: RunFacts,
) -> Product:
    """Performance of the promoted model on the untouched holdout, shown once it is decided; each look is counted."""
    import numpy as np

    from quant_assets.common.hashing import frame_digest
    from quant_assets.datasets.training_set import decidable_rows, training_end
    from quant_assets.features.pack import join_packs, joined_names
    from quant_assets.gates.evidence import publish_html
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.ledgers.trials import TrialLedger
    from quant_assets.market.calendar import periods_per_year
    from quant_assets.models.ensemble import Ensemble
    from quant_assets.registry.promotion import enter_look
    from quant_assets.registry.standing import ledger_keys
    from quant_assets.reports.holdout import (
        HoldoutLook,
        equity_plot,
        holdout_page,
        holdout_performance,
        looks_before,
    )
    from quant_assets.trading.paths import path_returns

    if promotion.json()["subject"] != ensemble.version:
        raise GateClosedError(
            f"holdout of {name}",
            expected=f"a promotion of the candidate {ensemble.version[:12]}",
            found=f"one of {promotion.json()['subject'][:12]}",
            action="let promotion decide about this candidate first",
        )
    panel = bars.table().frame
    days = panel["session"].unique().sort().to_list()
    rows = decidable_rows(
        join_packs({pack: table.frame for pack, table in by_pack(features, packs).items()}),
        panel,
        joined_names(packs),
        through=days[-1],
        members=member_rows.table().frame if member_rows else None,
    ).filter(pl.col("session") > training_end(days, holdout_sessions))
    model = Ensemble.from_json(ensemble.json())
    scores = model.predict(rows.select(model.feature_names).to_numpy().astype(np.float32))
    predictions = rows.select("symbol", "session", path_0=pl.Series(scores, dtype=pl.Float64))
    track = path_returns(predictions, panel, portfolio, costs, delisting)
    shown = track["session"].unique().sort().to_list()
    seen = HoldoutLook(look.book, look.idea, shown[0], shown[-1])
    entry, before = enter_look(
        PromotionLedger(home.promotion_ledger),
        ledger_keys(home),
        strategy=name,
        subject=ensemble.version,
        look=seen,
        evidence={"returns": frame_digest(track)},
        settings={part: json_digest(told) for part, told in basis.items()},
        actor=f"dagster:{run.trigger}",
        run_id=run.run_id,
        now=now(),
    )
    paths = cpcv_paths.table().frame
    found = holdout_performance(
        track,
        paths,
        periods_per_year(*sessions),
        looks_before(seen, before, TrialLedger(home.path).kin(look.book)),
        standard=limits.psr_standard,
    )
    plot = equity_plot(track, paths)
    html = holdout_page(found, strategy=name, subject=ensemble.version, entry=entry.index, plot=plot)
    file = publish_html(home.path, f"{name}-holdout", ensemble.version, html)
    facts = {
        "file": File(file),
        "open": Link(home.page_address(file)),
        "said": found.sentence,
        **found.to_json(),
        "equity": Picture(plot, "net equity on the holdout"),
    }
    return Product(html, facts)
