"""Validation: out-of-sample predictions, path returns net of costs, the trial ledger, verdicts, proofs and reports.

A gated asset has one consumer: promotion. An orchestrator skips everything downstream of a failed blocking check, and
a refused candidate must still get its tear sheet and its MLflow record; those read the same evidence as the report
(paths and ledger), through the same pure function, and not the report itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import polars as pl

from quant_assets.common.errors import EvidenceError
from quant_assets.common.home import Home
from quant_assets.common.plugins import Plugin
from quant_assets.common.settings import (
    CostConfig,
    DelistingConfig,
    ModelsConfig,
    PortfolioConfig,
    ValidationConfig,
)
from quant_assets.common.store import Table
from quant_assets.gates.cases import WalkForwardCase, WalkForwardTrack
from quant_assets.gates.evidence import Look
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import (
    Picture,
    Product,
    gate_checks,
    gates_behind,
    stage,
    trading_code,
)
from quant_assets.lineage.scope import History, Progress, SessionRange
from quant_assets.lineage.sizing_check import SIZING_CHECK
from quant_assets.lineage.stages.model_stages import (
    TRAINING_POOL,
    desk_learners,
    fitting_and_trading,
    models_of,
    recipe_of,
)
from quant_assets.models.kept_fits import FitStore


@stage(group="validation", kinds=lambda s: s.plan.models.learners, pool=TRAINING_POOL, roots=desk_learners)
def cpcv_predictions(
    training_set: Artifact,
    scored_rows: Artifact,
    tuning: Artifact | None = None,
    *,
    models: ModelsConfig,
    validation: ValidationConfig,
    seed: int,
    progress: Progress,
    n_jobs: int | None,
    fits: FitStore,
) -> Product:
    """Out-of-sample scores of every CPCV path: the whole ensemble refitted inside each purged split."""
    from quant_assets.datasets.training_set import feature_names_of
    from quant_assets.models.cross_prediction import cross_predict

    table = training_set.table()
    chosen = models_of(models, tuning)
    frame = cross_predict(
        table.frame,
        feature_names_of(table),
        chosen,
        validation,
        seed=seed,
        scored=scored_rows.table().frame,
        n_jobs=n_jobs,
        progress=progress("splits"),
        fits=fits,
    )
    recipe = recipe_of(chosen, training_set, seed, validation.embargo_sessions)
    return Product(Table(frame, {"recipe": recipe}), {"paths": frame.width - 2, "recipe": recipe})


def path_figures(
    cpcv_predictions: Artifact,
    bars: Artifact,
    *,
    value: Table,
    sessions: SessionRange,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig,
) -> Mapping[str, Any]:
    """Statistics and equity of each path, and what they would be had names ended otherwise."""
    from quant_assets.gates.evidence import equity_plot, statistics_table
    from quant_assets.market.calendar import periods_per_year
    from quant_assets.trading.paths import unknown_end_sharpes

    predictions, per_year = cpcv_predictions.table().frame, periods_per_year(*sessions)
    ends = unknown_end_sharpes(predictions, bars.table().frame, portfolio, costs, delisting, per_year)
    return {
        "statistics": statistics_table(value, per_year),
        "equity": Picture(equity_plot(value), "net equity of each path"),
        **({"names_that_ended": ends.sentence, "final_returns": ends.table()} if ends else {}),
    }


def count_paths(
    bars: Artifact, member_rows: Artifact | None = None, *, value: Table, look: Look, home: Home
) -> Mapping[str, Any]:
    """Enter the paths into the trial ledger: whoever sees them has looked at an outcome."""
    from quant_assets.gates.evidence import counted_facts, enter_trial

    trial = enter_trial(home.path, look, value, bars.table().frame, _members(member_rows))
    return {"trial": trial.fingerprint, **counted_facts(home.path, look.book)}


def _members(member_rows: Artifact | None) -> pl.DataFrame | None:
    return None if member_rows is None else member_rows.table().frame


@stage(
    group="validation",
    rederived=True,
    kinds=frozenset({"numpy"}),
    describe=path_figures,
    counts=count_paths,
    checks=(SIZING_CHECK,),
    roots=trading_code,
)
def cpcv_paths(
    cpcv_predictions: Artifact,
    bars: Artifact,
    member_rows: Artifact | None = None,
    *,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig,
) -> Product:
    """Net-of-cost returns of each path: decided at close t, filled at open t+1. Counted as a trial when made."""
    from quant_assets.trading.paths import path_track

    predictions = cpcv_predictions.table()
    made = path_track(predictions.frame, bars.table().frame, portfolio, costs, delisting)
    bound = [{"constraint": name, "cuts": times} for name, times in made.sized.bound.items()]
    facts = {"constraints_bound": pl.DataFrame(bound)} if bound else {}
    metadata = {"recipe": predictions.metadata["recipe"], "bars": bars.version}
    if member_rows is not None:
        metadata["member_rows"] = member_rows.version
    return Product(Table(made.frame, metadata), facts)


def book_unmoved(*, made: Artifact, book: str, home: Home) -> str:
    """Why the trial ledger is not where it was when it was last read; empty when it is."""
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.ledgers.trial_records import Anchor, promoted_anchors
    from quant_assets.ledgers.trials import TrialLedger

    seen = made.json()
    anchors = [Anchor.of(seen), *promoted_anchors(PromotionLedger(home.promotion_ledger).entries())]
    return (
        "" if TrialLedger(home.path).snapshot(book, anchors).record == seen else "trials were counted since"
    )


# The ledger is the outside world: another run may have added a trial.
@stage(group="validation", kinds=frozenset({"json"}), always=True, still=book_unmoved)
def trial_ledger(
    cpcv_paths: Artifact,
    bars: Artifact,
    member_rows: Artifact | None = None,
    *,
    look: Look,
    home: Home,
    history: History,
) -> Product:
    """Every configuration that was ever evaluated on this universe and label family, this one included."""
    from quant_assets.gates.evidence import count_trial
    from quant_assets.ledgers.promotions import PromotionLedger

    last = history.previous()
    snapshot, facts = count_trial(
        home.path,
        look,
        cpcv_paths.table(),
        bars.table().frame,
        earlier=last.artifact.json() if last and home.store.intact(last.artifact.sha256) else None,
        decided=PromotionLedger(home.promotion_ledger).entries(),
        members=_members(member_rows),
    )
    return Product(snapshot, facts)


def judged(
    cpcv_paths: Artifact,
    trial_ledger: Artifact,
    ensemble: Artifact,
    home: Home,
    sessions: SessionRange,
    limits: GatesConfig,
    strategy: str,
    further_gates: Sequence[Plugin],
) -> GateReport:
    """The verdicts that this evidence gives, for the report, the tear sheet and the record alike."""
    from quant_assets.gates.desk_judging import with_desk_gates
    from quant_assets.gates.evidence import judge_evidence
    from quant_assets.market.calendar import periods_per_year

    paths = cpcv_paths.table()
    report = judge_evidence(
        paths,
        trial_ledger.json(),
        ensemble.json(),
        ensemble.version,
        home=home.path,
        periods_per_year=periods_per_year(*sessions),
        limits=limits,
    )
    return with_desk_gates(report, paths.frame, strategy, further_gates)


def whole_ledger(*, book: str, home: Home) -> Sequence[str]:
    """Nothing that shapes a report, once the trial ledger continues its anchors: none is reused where it does not.

    Raises
    ------
    LedgerError
        When trials are missing.
    """
    from quant_assets.ledgers.trials import TrialLedger

    ledger = TrialLedger(home.path)
    ledger.anchors.require(book, ledger.heads)
    return ()


@stage(
    group="validation",
    kinds=frozenset({"json"}),
    rederived=True,
    fresh=whole_ledger,
    gates="validation",
    checks=(gate_checks("validation"),),
    roots=gates_behind("validation"),
)
def validation_report(
    cpcv_paths: Artifact,
    trial_ledger: Artifact,
    ensemble: Artifact,
    *,
    sessions: SessionRange,
    name: str,
    limits: GatesConfig,
    further_gates: Sequence[Plugin],
    home: Home,
    basis: Mapping[str, Any],
) -> Product:
    """One verdict per CPCV gate, and per gate of the desk's own, about exactly this candidate."""
    from quant_assets.gates.evidence import counted_facts, verdict_table
    from quant_assets.models.ensemble import Ensemble

    report = judged(cpcv_paths, trial_ledger, ensemble, home, sessions, limits, name, further_gates)
    facts = counted_facts(home.path, report.details["trials"]["book"])
    research = Ensemble.from_json(ensemble.json()).research_sentence
    only = {"research_only": research} if research else {}
    return Product(report.about(basis), {"verdicts": verdict_table(report), **only, **facts})


# It shows an outcome of what the paths have shown: it reads them, so that nobody sees it before they are counted.
@stage(
    group="validation", kinds=lambda s: s.plan.models.learners, pool=TRAINING_POOL, roots=fitting_and_trading
)
def walk_forward(
    training_set: Artifact,
    scored_rows: Artifact,
    bars: Artifact,
    cpcv_paths: Artifact,
    tuning: Artifact | None = None,
    *,
    models: ModelsConfig,
    seed: int,
    embargo_sessions: int,
    portfolio: PortfolioConfig,
    costs: CostConfig,
    delisting: DelistingConfig,
    progress: Progress,
    n_jobs: int | None,
    fits: FitStore,
) -> Product:
    """Net-of-cost returns of the ensemble refitted four times, each time on its past alone."""
    from quant_assets.datasets.training_set import feature_names_of
    from quant_assets.gates.evidence import require_recipe
    from quant_assets.models.cross_prediction import FIRST_COMPARED, WINDOWS, walk_forward_predict
    from quant_assets.trading.paths import path_returns

    table, chosen = training_set.table(), models_of(models, tuning)
    predictions = walk_forward_predict(
        table.frame,
        tuple(feature_names_of(table)),
        chosen,
        seed=seed,
        embargo_sessions=embargo_sessions,
        scored=scored_rows.table().frame,
        n_jobs=n_jobs,
        progress=progress("windows"),
        fits=fits,
    )
    recipe = recipe_of(chosen, training_set, seed, embargo_sessions)
    require_recipe("path returns", cpcv_paths.table().metadata.get("recipe"), {"recipe": recipe})
    frame = path_returns(predictions.drop("window"), bars.table().frame, portfolio, costs, delisting)
    compared = predictions.filter(pl.col("window") >= FIRST_COMPARED)["session"].min()
    return Product(
        Table(frame, {"recipe": recipe, "bars": bars.version, "compared_from": str(compared)}),
        {"refits": WINDOWS, "sessions": frame.height, "recipe": recipe},
    )


def beside_the_paths(track: pl.DataFrame, paths: pl.DataFrame, periods_per_year: float) -> WalkForwardTrack:
    """The track against the path that did worst over the same sessions.

    Parameters
    ----------
    track, paths : polars.DataFrame
        As made by `quant_assets.trading.paths.path_returns`; of the track the sessions that are compared.

    Raises
    ------
    EvidenceError
        When a session of the track is missing in the paths: they were traded on other bars.
    """
    from quant_assets.statistics.sharpe import annualised_sharpe, sharpe_ratio
    from quant_assets.statistics.sharpe_inference import below_the_worst

    ordered = track.sort("session")
    known = paths.filter(pl.col("session").is_in(ordered["session"].implode())).sort("path", "session")
    numbers = known["path"].unique().sort()
    if known.height != ordered.height * len(numbers):
        raise EvidenceError(
            "walk-forward track",
            expected=f"its {ordered.height} sessions in each of the {len(numbers)} paths",
            found=f"{known.height} of {ordered.height * len(numbers)}",
            action="materialise cpcv_paths and walk_forward from the same bars",
        )
    net = known["net_return"].to_numpy().reshape(len(numbers), ordered.height)
    worst, test = below_the_worst(ordered["net_return"].to_numpy(), net)
    ratios = (sharpe_ratio(ordered["net_return"].to_numpy()), sharpe_ratio(net[worst]))
    own, other = (float(annualised_sharpe(ratio, periods_per_year)) for ratio in ratios)
    return WalkForwardTrack(ordered.height, own, int(numbers[worst]), other, test.p_value)


@stage(
    group="validation",
    rederived=True,
    kinds=frozenset({"json"}),
    gates="walk_forward",
    checks=(gate_checks("walk_forward"),),
    roots=gates_behind("walk_forward"),
)
def walk_forward_report(
    walk_forward: Artifact,
    cpcv_paths: Artifact,
    ensemble: Artifact,
    *,
    sessions: SessionRange,
    limits: GatesConfig,
    basis: Mapping[str, Any],
) -> Product:
    """Whether the walk-forward track lies below the worst CPCV path by more than chance."""
    from quant_assets.gates.details import plain_json
    from quant_assets.gates.evidence import require_recipe, verdict_table
    from quant_assets.gates.gate import gates_of
    from quant_assets.gates.verdicts import GateReport
    from quant_assets.market.calendar import periods_per_year

    track, paths, candidate = walk_forward.table(), cpcv_paths.table(), ensemble.json()
    for what, table in (("walk-forward track", track), ("path returns", paths)):
        require_recipe(what, table.metadata.get("recipe"), candidate)
    compared = track.frame.filter(pl.col("session") > date.fromisoformat(track.metadata["compared_from"]))
    found = beside_the_paths(compared, paths.frame, periods_per_year(*sessions))
    case = WalkForwardCase(ensemble.version, limits, found)
    report = GateReport(
        "walk_forward",
        ensemble.version,
        limits.model_dump(mode="json"),
        tuple(gate.judge(case) for gate in gates_of("walk_forward")),
        {"track": plain_json(asdict(found))},
    )
    return Product(report.about(basis), {"verdicts": verdict_table(report), **report.details["track"]})
