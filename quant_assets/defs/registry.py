"""Registry: the MLflow record of every candidate, and the guarded promotion."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from quant_assets.common.errors import GateClosedError
from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.defs import features
from quant_assets.defs.bar_checks import required_market_checks
from quant_assets.defs.bundle_guards import signed_bundle, unrecorded_bundle
from quant_assets.defs.guards import (
    GateClosed,
    Product,
    StoredResult,
    check_reasons,
    code_version,
    produce,
    stage_options,
)
from quant_assets.defs.recording import RECORD_CODE, candidate_evidence, training_resources
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact
from quant_assets.defs.tuning import tuned, tuning_in
from quant_assets.defs.validation import judged
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.gate import KINDS, gate_names
from quant_assets.gates.limits import GatesConfig, limits_in_force
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.settings import MonitoringConfig

GATE_REPORTS = {f"{kind}_report": kind for kind in KINDS}


def build(
    strategy: StrategyConfig, universe: UniverseConfig, gates: GatesConfig, monitoring: MonitoringConfig
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets of one strategy's registry stage."""
    name = strategy.name
    limits = gates.for_strategy(strategy.gates)
    in_force = limits_in_force(limits, monitoring.drift)
    needed = required_checks(strategy, universe)
    common = stage_options("registry", strategy.owner)

    @dg.asset(
        key=[name, "training_record"],
        ins={
            k: dg.AssetIn(key=[name, k])
            for k in (
                "training_set",
                "ensemble",
                *strategy.models.learners,
                *tuning_in(strategy),
                "cpcv_predictions",
                "cpcv_paths",
                "trial_ledger",
                "tear_sheet",
                "onnx_fp32",
                "bundle",
                "bundle_signature",
            )
        },
        kinds={"mlflow"},
        code_version=code_version(RECORD_CODE, ("mlflow", "matplotlib"), strategy, limits),
        **common,
    )
    def training_record(
        context: dg.AssetExecutionContext,
        home: Home,
        training_set: Artifact,
        ensemble: Artifact,
        cpcv_predictions: Artifact,
        cpcv_paths: Artifact,
        trial_ledger: Artifact,
        tear_sheet: Artifact,
        onnx_fp32: Artifact,
        bundle: Artifact,
        bundle_signature: Artifact,
        **bases: Artifact,
    ) -> StoredResult:
        """The record of truth in MLflow: parameters, metrics of every path, dataset, verdicts, model version."""
        from quant_assets.artifacts.bundle.bundle import verify_bundle
        from quant_assets.artifacts.bundle.signing import trusted_keys
        from quant_assets.common.resource_use import machine
        from quant_assets.registry.record import candidate_record
        from quant_assets.registry.tracking import record_training, record_trials

        inputs = {
            "training_set": training_set,
            "ensemble": ensemble,
            **bases,
            "cpcv_predictions": cpcv_predictions,
            "cpcv_paths": cpcv_paths,
            "trial_ledger": trial_ledger,
            "tear_sheet": tear_sheet,
            "onnx_fp32": onnx_fp32,
            "bundle": bundle,
            "bundle_signature": bundle_signature,
        }
        tuning = bases.pop("tuning", None)

        def compute() -> Product:
            # Whoever serves reads the bundle from here: what does not verify is not recorded.
            verify_bundle(bundle.data(), bundle_signature.data(), trusted_keys(home.path))
            report = judged(cpcv_paths, trial_ledger, ensemble, home, universe, limits)
            record = candidate_record(
                tuned(strategy, tuning),
                report,
                candidate_evidence(inputs, tuple(bases)),
                run_id=context.run.run_id,
                run_url=home.dagster_ui(context.run.run_id),
                system=training_resources(context, name, (*bases, "ensemble", "cpcv_predictions")),
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
            }
            link = dg.MetadataValue.url(home.mlflow_ui(recorded.experiment_id, recorded.run_id))
            return Product(value, {**value, "mlflow": link})

        # Idempotent: finds the run of this subject and evidence, and makes one only when there is none.
        return produce(context, home, compute, inputs=inputs, always=True)

    @dg.asset(
        key=[name, "promotion"],
        ins={
            k: dg.AssetIn(key=[name, k])
            for k in (
                "ensemble",
                "training_record",
                "bundle",
                "bundle_signature",
                "leakage_report",
                *GATE_REPORTS,
            )
        },
        kinds={"mlflow"},
        code_version=code_version(
            ["quant_assets.registry.promotion", "quant_assets.gates.verdicts"],
            (),
            limits,
            monitoring.drift,
        ),
        automation_condition=dg.AutomationCondition.eager()
        & dg.AutomationCondition.all_deps_blocking_checks_passed(),
        pool="promotion",
        **common,
    )
    def promotion(
        context: dg.AssetExecutionContext,
        home: Home,
        ensemble: Artifact,
        training_record: Artifact,
        bundle: Artifact,
        bundle_signature: Artifact,
        validation_report: Artifact,
        parity_report: Artifact,
        drift_report: Artifact,
        leakage_report: Artifact,
    ) -> StoredResult:
        """The decision: moves the champion alias, or records the refusal with every reason and fails."""
        from quant_assets.ledgers.promotions import PromotionLedger
        from quant_assets.registry.champion import current_champion
        from quant_assets.registry.promotion import promote, promotion_reasons

        inputs = {
            "ensemble": ensemble,
            "training_record": training_record,
            "bundle": bundle,
            "bundle_signature": bundle_signature,
            "validation_report": validation_report,
            "parity_report": parity_report,
            "drift_report": drift_report,
            "leakage_report": leakage_report,
        }

        def compute() -> Product:
            signing_key, made_from, unsigned = signed_bundle(bundle, bundle_signature, home)
            reports = [
                GateReport.from_json(artifact.json())
                for artifact in (validation_report, parity_report, drift_report)
            ]
            record = training_record.json()
            foreign = strangers(
                ensemble.version,
                {
                    "training record": record["subject"],
                    **made_from,
                    "leakage report": leakage_report.json()["subject"],
                },
            )
            if foreign:
                # Nothing in the registry stands for this candidate yet, so there is no version to tag.
                reasons = (*foreign, *promotion_reasons(ensemble.version, reports, in_force))
                raise GateClosed(f"candidate {ensemble.version[:12]}: {'; '.join(reasons)}", reasons)
            # A gate that the evidence closes is one reason, not two.
            verdicts = [verdict for report in reports for verdict in report.verdicts]
            closed = {reason.split(":")[0] for reason in closed_reasons(ensemble.version, verdicts)}
            champion = current_champion(home.mlflow_uri, name)
            try:
                decision = promote(
                    home.mlflow_uri,
                    strategy=name,
                    subject=ensemble.version,
                    reports=reports,
                    limits_in_force=in_force,
                    further_reasons=(
                        *check_reasons(context.instance, [c for c in needed if c.name not in closed]),
                        *uncounted_trials(home.path, name, reports),
                        *unsigned,
                        *unrecorded_bundle(bundle, record),
                    ),
                    bundle_sha256=bundle.sha256,
                    signing_key=signing_key,
                    model_version=record["model_version"],
                    expected_champion=champion.subject if champion else None,
                    ledger=PromotionLedger(home.promotion_ledger),
                    actor=f"dagster:{context.run.tags.get('quant/trigger', 'manual')}",
                    run_id=context.run.run_id,
                    now=datetime.now(UTC),
                )
            except GateClosedError as refusal:
                raise GateClosed(str(refusal), refusal.found.split("; ")) from refusal
            value = {
                "strategy": name,
                "subject": decision.subject,
                "model_version": decision.model_version,
                "bundle_sha256": bundle.sha256,
                "signing_key": signing_key,
            }
            return Product(
                value, {**value, "decision": decision.decision, "ledger_entry": decision.ledger_entry}
            )

        # The guard runs every time: a decision is never reused.
        return produce(context, home, compute, inputs=inputs, always=True)

    return [training_record, promotion]


def required_checks(strategy: StrategyConfig, universe: UniverseConfig) -> list[dg.AssetCheckKey]:
    """Every check without which a strategy's candidate is not promoted: its gates, and what it was trained on."""
    gates = [
        dg.AssetCheckKey(dg.AssetKey([strategy.name, report]), gate)
        for report, kind in GATE_REPORTS.items()
        for gate in gate_names(kind)
    ]
    # What was never fit to be trained on is not promoted either, whichever run looked away.
    return [
        *gates,
        *required_market_checks(universe),
        *features.causality_checks(universe, strategy.feature_packs),
        dg.AssetCheckKey(dg.AssetKey([strategy.name, "leakage_report"]), "no_leakage"),
        dg.AssetCheckKey(dg.AssetKey([strategy.name, "bundle"]), "payload_scan"),
        dg.AssetCheckKey(dg.AssetKey([strategy.name, "bundle_signature"]), "signature"),
    ]


def strangers(subject: str, made_from: Mapping[str, str]) -> tuple[str, ...]:
    """Which of the artifacts were made from another version of the model; empty when none was."""
    return tuple(
        f"{artifact}: made from another model version ({version[:12]})"
        for artifact, version in made_from.items()
        if version != subject
    )


def uncounted_trials(home: Path, strategy: str, reports: Sequence[GateReport]) -> tuple[str, ...]:
    """Why a validation report does not count every trial; empty when it does."""
    from quant_assets.ledgers.trials import TrialLedger

    now = TrialLedger(home).snapshot(strategy)
    return tuple(
        f"validation report: counts {report.details['trials']['n_trials']} trials, the ledger {now.n_trials}"
        for report in reports
        if report.kind == "validation" and report.details["trials"]["digest"] != now.digest
    )
