"""Validation: out-of-sample predictions, path returns net of costs, the trial ledger, verdicts, the tear sheet.

A gated asset has one consumer: promotion. Dagster skips everything downstream of a failed blocking check, and a
refused candidate must still get its tear sheet and its MLflow record; those read the same evidence as the report
(paths and ledger), through the same pure function, and not the report itself.
"""

import dagster as dg

from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.common.store import Table
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.defs.gate_checks import gates_of
from quant_assets.defs.guards import (
    Product,
    StoredResult,
    code_version,
    plot_metadata,
    produce,
    progress,
    stage_options,
    to_metadata,
)
from quant_assets.defs.models import LEARNER_LIBRARIES, MODEL_CODE, recipe_of
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact, current
from quant_assets.defs.tuning import tuned, tuning_in
from quant_assets.gates import evidence
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport


def build(
    strategy: StrategyConfig, universe: UniverseConfig, gates: GatesConfig
) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets and checks of one strategy's validation stage."""
    name = strategy.name
    limits = gates.for_strategy(strategy.gates)
    common = stage_options("validation", strategy.owner)
    evidence_ins = {
        "paths": dg.AssetIn(key=[name, "cpcv_paths"]),
        "ledger": dg.AssetIn(key=[name, "trial_ledger"]),
        "ensemble": dg.AssetIn(key=[name, "ensemble"]),
    }

    @dg.asset(
        key=[name, "cpcv_predictions"],
        ins={"training_set": dg.AssetIn(key=[name, "training_set"]), **tuning_in(strategy)},
        kinds=set(strategy.models.learners),
        code_version=code_version(
            MODEL_CODE, LEARNER_LIBRARIES, strategy.models, strategy.seed, strategy.validation
        ),
        pool="training",
        **common,
    )
    def cpcv_predictions(
        context: dg.AssetExecutionContext, home: Home, training_set: Artifact, **tuning: Artifact
    ) -> StoredResult:
        """Out-of-sample scores of every CPCV path: the whole ensemble refitted inside each purged split."""
        from quant_assets.models.cross_prediction import cross_predict

        def compute() -> Product:
            table = training_set.table()
            chosen = tuned(strategy, tuning.get("tuning"))
            frame = cross_predict(
                table.frame,
                feature_names_of(table),
                chosen.models,
                strategy.validation,
                seed=strategy.seed,
                progress=progress("splits"),
            )
            recipe = recipe_of(chosen, training_set)
            return Product(Table(frame, {"recipe": recipe}), {"paths": frame.width - 2, "recipe": recipe})

        return produce(context, home, compute, inputs={"training_set": training_set, **tuning})

    @dg.asset(
        key=[name, "cpcv_paths"],
        ins={
            "predictions": dg.AssetIn(key=[name, "cpcv_predictions"]),
            "bars": dg.AssetIn(key=[universe.name, "bars"]),
        },
        kinds={"numpy"},
        code_version=code_version(
            ["quant_assets.trading", "quant_assets.gates.evidence"],
            ("numpy", "scipy"),
            strategy.portfolio,
            strategy.costs,
        ),
        **common,
    )
    def cpcv_paths(
        context: dg.AssetExecutionContext, home: Home, predictions: Artifact, bars: Artifact
    ) -> StoredResult:
        """Net-of-cost returns of each path: decided at close t, filled at open t+1."""

        def compute() -> Product:
            table = evidence.paths_table(
                predictions.table(), bars.table().frame, strategy, version_of_bars=bars.version
            )
            facts = {
                "statistics": evidence.statistics_table(table, universe),
                "equity": plot_metadata(evidence.equity_plot(table), "net equity of each path"),
            }
            return Product(table, facts)

        return produce(context, home, compute, inputs={"predictions": predictions, "bars": bars})

    @dg.asset(
        key=[name, "trial_ledger"],
        ins={"paths": dg.AssetIn(key=[name, "cpcv_paths"])},
        kinds={"json"},
        code_version=code_version(["quant_assets.ledgers", "quant_assets.gates.evidence"]),
        **common,
    )
    def trial_ledger(context: dg.AssetExecutionContext, home: Home, paths: Artifact) -> StoredResult:
        """Every configuration of this strategy that was ever evaluated, this one included."""

        def compute() -> Product:
            snapshot = evidence.count_trial(home.path, name, paths.table(), run_id=context.run.run_id)
            facts = {
                "n_trials": len(snapshot["sharpes"]),
                "effective_number_of_trials": snapshot["effective_number_of_trials"],
            }
            return Product(snapshot, facts)

        # The ledger is the outside world: another run may have added a trial.
        return produce(context, home, compute, inputs={"paths": paths}, always=True)

    @dg.asset(
        key=[name, "validation_report"],
        ins=evidence_ins,
        kinds={"json"},
        code_version=code_version(
            ["quant_assets.gates", "quant_assets.statistics"], ("numpy", "scipy"), limits, universe
        ),
        **common,
    )
    def validation_report(
        context: dg.AssetExecutionContext, home: Home, paths: Artifact, ledger: Artifact, ensemble: Artifact
    ) -> StoredResult:
        """One verdict per CPCV gate, about exactly this candidate."""

        def compute() -> Product:
            report = judged(paths, ledger, ensemble, home, universe, limits)
            return Product(report.to_json(), {"verdicts": evidence.verdict_table(report)})

        inputs = {"paths": paths, "ledger": ledger, "ensemble": ensemble}
        return produce(context, home, compute, inputs=inputs)

    @dg.asset(
        key=[name, "tear_sheet"],
        ins={
            **evidence_ins,
            "predictions": dg.AssetIn(key=[name, "cpcv_predictions"]),
            "labels": dg.AssetIn(key=[name, "labels"]),
            "bars": dg.AssetIn(key=[universe.name, "bars"]),
        },
        kinds={"html"},
        code_version=code_version(
            ["quant_assets.reports", "quant_assets.common.plotting", "quant_assets.common.pages"],
            ("numpy", "matplotlib"),
            limits,
            strategy,
            universe,
        ),
        **common,
    )
    def tear_sheet(
        context: dg.AssetExecutionContext,
        home: Home,
        paths: Artifact,
        ledger: Artifact,
        ensemble: Artifact,
        predictions: Artifact,
        labels: Artifact,
        bars: Artifact,
    ) -> StoredResult:
        """The candidate on one page: why it was refused or admitted, with the plots behind it."""
        from quant_assets.models.ensemble import Ensemble
        from quant_assets.reports.tear_sheet import candidate_tear_sheet

        def compute() -> Product:
            report = judged(paths, ledger, ensemble, home, universe, limits)
            html = candidate_tear_sheet(
                report,
                paths.table().frame,
                predictions.table().frame,
                labels.table().frame,
                bars.table().frame,
                importance=Ensemble.from_json(ensemble.json()).importance(),
                strategy=strategy,
                n_symbols=predictions.table().frame["symbol"].n_unique(),
            )
            file = evidence.publish_html(home.path, name, ensemble.version, html)
            return Product(
                html, {"file": dg.MetadataValue.path(str(file)), "open": dg.MetadataValue.url(file.as_uri())}
            )

        inputs = {
            "paths": paths,
            "ledger": ledger,
            "ensemble": ensemble,
            "predictions": predictions,
            "labels": labels,
            "bars": bars,
        }
        return produce(context, home, compute, inputs=inputs)

    checks = gates_of(validation_report.key, gate_names("validation"), f"{name}__cpcv_gates")
    proof = _leakage(strategy, universe)
    return [cpcv_predictions, cpcv_paths, trial_ledger, validation_report, tear_sheet, checks, *proof]


def _leakage(
    strategy: StrategyConfig, universe: UniverseConfig
) -> tuple[dg.AssetsDefinition, dg.AssetChecksDefinition]:
    """The proof that nothing in a strategy's path sees what it may not know, and its blocking check."""

    @dg.asset(
        key=[strategy.name, "leakage_report"],
        ins={
            "bars": dg.AssetIn(key=[universe.name, "bars"]),
            "ensemble": dg.AssetIn(key=[strategy.name, "ensemble"]),
            **tuning_in(strategy),
        },
        kinds={"json"},
        code_version=code_version(
            [
                f"quant_assets.{p}"
                for p in ("features", "datasets", "models", "trading", "splits", "studies.leakage")
            ],
            (*LEARNER_LIBRARIES, "polars"),
            strategy,
            universe,
        ),
        **stage_options("validation", strategy.owner),
    )
    def leakage_report(
        context: dg.AssetExecutionContext, home: Home, bars: Artifact, ensemble: Artifact, **tuning: Artifact
    ) -> StoredResult:
        """Every stage from bars to decisions, tried for what it may not know."""
        from quant_assets.studies.leakage.prover import prove_no_leak

        def compute() -> Product:
            report = prove_no_leak(universe, tuned(strategy, tuning.get("tuning")), bars.table().frame)
            value = {**report.to_json(), "subject": ensemble.version, "summary": report.summary}
            return Product(value, {"summary": report.summary, "experiments": report.table()})

        return produce(context, home, compute, inputs={"bars": bars, "ensemble": ensemble, **tuning})

    @dg.asset_check(
        asset=leakage_report,
        name="no_leakage",
        blocking=True,
        description="No stage from bars to decisions moved when what it may not know was changed.",
    )
    def no_leakage(context: dg.AssetCheckExecutionContext, home: Home) -> dg.AssetCheckResult:
        report = current(context.instance, leakage_report.key, home).json()
        named = {k: ", ".join(report[k]) or "none" for k in ("leaking_stages", "unproven_stages")}
        return dg.AssetCheckResult(
            passed=bool(report["passed"]), description=report["summary"], metadata=to_metadata(named)
        )

    return leakage_report, no_leakage


def judged(
    paths: Artifact,
    ledger: Artifact,
    ensemble: Artifact,
    home: Home,
    universe: UniverseConfig,
    limits: GatesConfig,
) -> GateReport:
    """The verdicts that this evidence gives, for the report, the tear sheet and the record alike."""
    return evidence.judge_evidence(
        paths.table(),
        ledger.json(),
        ensemble.json(),
        ensemble.version,
        home=home.path,
        universe=universe,
        limits=limits,
    )
