"""Validation, for people and beside the gates: the tear sheet, the proof of no leakage, what earns its place."""

from quant_assets.common.home import Home
from quant_assets.common.listing_settings import MembersConfig
from quant_assets.common.settings import (
    DelistingConfig,
    ModelsConfig,
    StrategyConfig,
    UniverseConfig,
)
from quant_assets.gates.limits import GatesConfig
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import (
    Check,
    CheckResult,
    File,
    Link,
    Picture,
    Product,
    every_gate_and_trading,
    single,
    stage,
    through,
)
from quant_assets.lineage.scope import Progress, SessionRange
from quant_assets.lineage.stages.bar_stages import survivorship
from quant_assets.lineage.stages.evidence_stages import judged, whole_ledger
from quant_assets.lineage.stages.listing_stages import members_have_bars
from quant_assets.lineage.stages.model_stages import (
    TRAINING_POOL,
    desk_learners,
    recipe_of,
    tuned,
)


@stage(group="validation", kinds=frozenset({"html"}), fresh=whole_ledger, roots=every_gate_and_trading)
def tear_sheet(
    cpcv_paths: Artifact,
    trial_ledger: Artifact,
    ensemble: Artifact,
    cpcv_predictions: Artifact,
    labels: Artifact,
    bars: Artifact,
    walk_forward: Artifact,
    linear_baseline: Artifact,
    listings: Artifact | None = None,
    memberships: Artifact | None = None,
    *,
    strategy: StrategyConfig,
    universe: UniverseConfig,
    members: MembersConfig | None,
    delisting: DelistingConfig,
    sessions: SessionRange,
    limits: GatesConfig,
    home: Home,
) -> Product:
    """The candidate on one page: why it was refused or admitted, with the plots behind it."""
    from quant_assets.gates.evidence import counted_sentence, publish_html
    from quant_assets.gates.linear_comparison import LinearComparison
    from quant_assets.models.ensemble import Ensemble
    from quant_assets.reports.tear_sheet import candidate_tear_sheet

    predictions = cpcv_predictions.table().frame
    survived = [survivorship(bars, listings, universe=universe, members=members).description]
    if members is not None and memberships is not None:
        told = members_have_bars(bars, memberships, listings, universe=universe, members=members)
        survived.append(told.description)
    report = judged(
        cpcv_paths,
        trial_ledger,
        ensemble,
        home,
        sessions,
        limits,
        strategy.name,
        strategy.further_gates,
    )
    candidate = Ensemble.from_json(ensemble.json())
    importance = candidate.importance()
    remarks = [LinearComparison.from_json(linear_baseline.json()).sentence]
    remarks = [*filter(None, [candidate.research_sentence]), *remarks]
    html = candidate_tear_sheet(
        report,
        cpcv_paths.table().frame,
        predictions,
        labels.table().frame,
        bars.table().frame,
        walk_forward=walk_forward.table().frame,
        importance=importance if any(importance.values()) else {},
        remarks=remarks,
        strategy=strategy,
        delisting=delisting,
        n_symbols=predictions["symbol"].n_unique(),
        counted=counted_sentence(home.path, report),
        survivorship=survived,
        group=members.group if members else "",
    )
    file = publish_html(home.path, strategy.name, ensemble.version, html)
    return Product(html, {"file": File(file), "open": Link(home.page_address(file))})


def no_leakage(leakage_report: Artifact) -> CheckResult:
    """Whether the proof found no leak, and could have found one in every stage."""
    report = leakage_report.json()
    named = {k: ", ".join(report[k]) or "none" for k in ("leaking_stages", "unproven_stages")}
    return CheckResult("no_leakage", bool(report["passed"]), report["summary"], facts=named)


@stage(
    group="validation",
    kinds=frozenset({"json"}),
    roots=through("cpcv_paths", given=("bars", "tuning")),
    checks=(
        Check(
            "no_leakage",
            single(
                "no_leakage",
                "No stage from bars to decisions moved when what it may not know was changed.",
                blocking=True,
            ),
            no_leakage,
        ),
    ),
)
def leakage_report(
    bars: Artifact,
    ensemble: Artifact,
    tuning: Artifact | None = None,
    *,
    universe: UniverseConfig,
    research: StrategyConfig,
) -> Product:
    """Every stage from bars to decisions, tried for what it may not know."""
    from quant_assets.lineage.pipeline import PRODUCT
    from quant_assets.studies.leakage.prover import prove_no_leak

    report = prove_no_leak(universe, tuned(research, tuning), bars.table().frame, pipeline=PRODUCT)
    value = {**report.to_json(), "subject": ensemble.version, "summary": report.summary}
    return Product(value, {"summary": report.summary, "experiments": report.table()})


@stage(
    group="validation",
    kinds=frozenset({"html"}),
    pool=TRAINING_POOL,
    roots=desk_learners,
    wanted=lambda s: s.plan.reports.importance,
)
def importance_report(
    training_set: Artifact,
    *,
    name: str,
    models: ModelsConfig,
    seed: int,
    embargo_sessions: int,
    home: Home,
    progress: Progress,
) -> Product:
    """Which features and members earn their place: SHAP, shuffles above a noise floor, gains per member."""
    from quant_assets.datasets.training_set import feature_names_of
    from quant_assets.gates.evidence import publish_html
    from quant_assets.studies.importance import importance_page as page
    from quant_assets.studies.importance.importance_report import importance_report as measure

    table = training_set.table()
    found = measure(
        table.frame,
        feature_names_of(table),
        models,
        seed=seed,
        embargo_sessions=embargo_sessions,
        progress=progress("stages"),
    )
    plots = page.report_plots(found)
    html = page.render_html(found, name, plots)
    recipe = recipe_of(models, training_set, seed, embargo_sessions)
    file = publish_html(home.path, f"{name}-importance", recipe, html)
    facts = {
        "file": File(file),
        "open": Link(home.page_address(file)),
        "recommendations": page.recommendation_table(found),
        "members": page.member_table(found),
        "agreement": page.agreement_table(found),
        "features": page.feature_table(found),
        "clusters": page.cluster_table(found),
        **{f"{key}_plot": Picture(uri, key) for key, uri in plots.items()},
    }
    return Product(html, facts)
