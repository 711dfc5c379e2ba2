"""Models: tuning, base learners, the stacked ensemble (the candidate), and the champion, which is another asset."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from quant_assets.common.errors import RegistryError
from quant_assets.common.hashing import canonical_json, json_digest
from quant_assets.common.home import Home
from quant_assets.common.plugins import references
from quant_assets.common.provenance import closure_of
from quant_assets.common.settings import DelistingConfig, ModelsConfig, StrategyConfig
from quant_assets.gates.evidence import Look
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import (
    Check,
    CheckResult,
    LongTable,
    Picture,
    Product,
    single,
    stage,
    trading_code,
)
from quant_assets.lineage.scope import Progress, Scope, SessionRange
from quant_assets.models.kept_fits import FitStore

TRAINING_POOL = "training"


def models_of(models: ModelsConfig, tuning: Artifact | None) -> ModelsConfig:
    """The models that are fitted: as configured, or with what the tuning found in their place."""
    if tuning is None:
        return models
    from quant_assets.models.tuning_study import apply_tuning

    return apply_tuning(models, tuning.json()["best"]["params"])


def tuned(strategy: StrategyConfig, tuning: Artifact | None) -> StrategyConfig:
    """The strategy with the models that are fitted."""
    return strategy.model_copy(update={"models": models_of(strategy.models, tuning)})


def recipe_of(models: ModelsConfig, training_set: Artifact, seed: int, embargo_sessions: int) -> str:
    """What binds out-of-sample evidence to a candidate: same data, same configuration (tuned), same code."""
    from quant_assets.models.cross_prediction import recipe_digest

    return recipe_digest(training_set.version, models, seed, embargo_sessions)


def desk_learners(scope: Scope, _: str | None) -> Sequence[str]:
    """Roots of whatever fits the learners: code of the desk's own behind learners and weights."""
    return references(scope.plan.models.plugins())


def fitting_and_trading(scope: Scope, member: str | None) -> Sequence[str]:
    """Roots of what fits the learners and trades their scores."""
    return (*desk_learners(scope, member), *trading_code(scope, member))


def own_learner(scope: Scope, member: str | None) -> Sequence[str]:
    """Roots of one base learner: its own code and that of the weights, of no other learner."""
    return references(scope.plan.models.plugins(member))


def search_history(*, value: Mapping[str, Any], sessions: SessionRange) -> Mapping[str, Any]:
    """The trials of a search, the importance of parameters, and how it went."""
    from quant_assets.market.calendar import periods_per_year
    from quant_assets.studies.strategy_tuning import history_plot, importance_of, trials_table

    per_year = periods_per_year(*sessions)
    trials = trials_table(value, per_year)
    return {
        "study": value["study"],
        "best": value["best"],
        "trials": LongTable(trials, trials.height),
        "importance": importance_of(value),
        "history": Picture(history_plot(value, per_year), "net Sharpe ratio of each trial"),
    }


@stage(
    group="models",
    kinds=frozenset({"optuna"}),
    wanted=lambda s: s.plan.tuning is not None,
    pool=TRAINING_POOL,
    roots=fitting_and_trading,
    describe=search_history,
)
def tuning(
    training_set: Artifact,
    scored_rows: Artifact,
    bars: Artifact,
    member_rows: Artifact | None = None,
    *,
    research: StrategyConfig,
    delisting: DelistingConfig,
    home: Home,
    look: Look,
    progress: Progress,
) -> Product:
    """The learners' parameters with the best purged out-of-fold net Sharpe ratio, every trial counted."""
    from quant_assets.models.tuning_study import storage_url
    from quant_assets.studies.strategy_tuning import tune_strategy

    result = tune_strategy(
        research,
        training_set.table(),
        scored_rows.table().frame,
        bars.table().frame,
        delisting=delisting,
        training_set_version=training_set.version,
        bars_version=bars.version,
        home=home.path,
        url=storage_url(home.local, research.name),
        look=look,
        members=None if member_rows is None else member_rows.table().frame,
        progress=progress("trials"),
    )
    return Product(result)


@stage(
    name="learners",
    group="models",
    kinds=frozenset(),
    members=lambda s: {name: name for name in s.plan.models.learners},
    pool=TRAINING_POOL,
    roots=own_learner,
    sentence=lambda _, member: f"The {member} base learner, fitted on the whole training window.",
)
def base_learner(
    training_set: Artifact,
    tuning: Artifact | None = None,
    *,
    member: str,
    models: ModelsConfig,
    seed: int,
    embargo_sessions: int,
    fits: FitStore,
) -> Product:
    """One base learner, fitted on the whole training window, with its learning curves."""
    from quant_assets.datasets.training_set import feature_names_of
    from quant_assets.models.fitting import fit_base, learning_curves, samples_of
    from quant_assets.models.kept_fits import FitKeys, kept_or_made
    from quant_assets.models.learner_proof import prove_weights, proven_fit
    from quant_assets.models.learners import from_text
    from quant_assets.models.training_arrays import training_arrays

    table = training_set.table()
    names = feature_names_of(table)
    chosen = models_of(models, tuning)
    data = training_arrays(table.frame, names, chosen.label_kind).with_shared_bins()
    options: dict[str, Any] = {"seed": seed, "feature_names": names, "embargo_sessions": embargo_sessions}
    prove_weights(chosen.weights, data)
    config = chosen.config_of(member)
    facts: dict[str, Any] = {"rows": table.frame.height, "parameters": config.model_dump(mode="json")}
    value = {"learner": member, "features": list(names)}
    if member in chosen.custom:  # proven each time that it is made: nothing of it is kept
        research = member in chosen.research_learners
        own = proven_fit(
            member, config, samples_of(data, chosen), seed=seed, feature_names=names, research_only=research
        )
        facts |= {
            "exported": f"{own.agreement.rows} rows within {own.agreement.error:.2g} spreads of the model"
            if own.agreement
            else f"not, for research only ({own.learner.research_only})",
            "sample_weights": "taken by its fit" if own.weights_taken else "none, or its fit takes none",
        }
        curves = learning_curves(member, data, chosen, **options)
        return Product({**value, "model": own.learner.to_text(), "curves": curves.to_json()}, facts)
    code = json_digest([closure_of(function).digest for function in (fit_base, learning_curves)])
    keys = FitKeys(data.digest, "", chosen, seed, embargo_sessions, tuple(names), code)

    def made() -> bytes:
        fitted = fit_base(member, data, chosen, **options)
        curves = learning_curves(member, data, chosen, **options)
        return canonical_json({"model": fitted.to_text(), "curves": curves.to_json()})

    nobody = np.empty(0, dtype=np.int64)
    kept = json.loads(kept_or_made(fits, keys.key("learner", member, None, nobody), made))
    facts |= {"trees": len(from_text(member, kept["model"]).trees())}
    return Product({**value, **kept}, facts)


def gain_shares(*, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Share of the split gain that each feature earned."""
    from quant_assets.models.ensemble import Ensemble

    importance = sorted(Ensemble.from_json(value).importance().items(), key=lambda item: -item[1])
    return {"importance": pl.DataFrame(importance, schema=["feature", "gain_share"], orient="row")}


@stage(
    group="models",
    kinds=frozenset({"scikitlearn"}),
    pool=TRAINING_POOL,
    roots=desk_learners,
    describe=gain_shares,
)
def ensemble(
    training_set: Artifact,
    learners: Mapping[str, Artifact],
    tuning: Artifact | None = None,
    *,
    models: ModelsConfig,
    seed: int,
    embargo_sessions: int,
    fits: FitStore,
) -> Product:
    """The candidate: base learners under a stacker fitted on inner purged out-of-fold predictions."""
    from quant_assets.datasets.training_set import feature_names_of
    from quant_assets.models.ensemble import assemble_ensemble
    from quant_assets.models.learners import from_text
    from quant_assets.models.stacking import fit_stacker
    from quant_assets.models.training_arrays import training_arrays

    table = training_set.table()
    names = feature_names_of(table)
    chosen = models_of(models, tuning)
    stacker = fit_stacker(
        training_arrays(table.frame, names, chosen.label_kind),
        chosen,
        seed=seed,
        feature_names=names,
        embargo_sessions=embargo_sessions,
        n_jobs=2,  # the bits do not depend on it
        fits=fits,
    )
    fitted = [from_text(name, base.json()["model"]) for name, base in learners.items()]
    recipe = recipe_of(chosen, training_set, seed, embargo_sessions)
    candidate = assemble_ensemble(fitted, stacker, feature_names=names, recipe=recipe)
    facts = {
        **({"research_only": candidate.research_only} if candidate.research_only else {}),
        "recipe": candidate.recipe,
        "stacker": dict(zip(stacker.learners, stacker.coefficients, strict=True)),
    }
    return Product(candidate.to_json(), facts)


def ledger_agreement(champion: Artifact, *, name: str, home: Home) -> CheckResult:
    """Whether the ledger, the registry's alias and this asset say the same about who is in charge."""
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.registry.champion import contradictions

    found = contradictions(home, name)
    moves = [e for e in PromotionLedger(home.promotion_ledger).entries(name) if e.moves]
    made, now = champion.json()["ledger_entry"], moves[-1].hash if moves else "none"
    if made != now:
        found = (*found, f"champion: made of ledger entry {made[:12]}, the last one is {now[:12]}")
    said = "; ".join(found) or f"ledger entry {now[:12]}, alias and asset agree"
    return CheckResult("ledger_agreement", not found, said)


# The ledger is the outside world: a roll-back by a person is in it, and in no run.
@stage(
    group="registry",
    kinds=frozenset({"onnx"}),
    guarded=True,
    always=True,
    checks=(
        Check(
            "ledger_agreement",
            single(
                "ledger_agreement",
                "The signed promotion ledger, the registry's alias and this asset name the same model.",
                blocking=True,
            ),
            ledger_agreement,
        ),
    ),
)
def champion(promotion: Artifact, *, name: str, home: Home) -> Product:
    """The model in production: the version that the promotion ledger last let through."""
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.registry.champion import in_charge
    from quant_assets.registry.standing import ledger_keys

    ledger = PromotionLedger(home.promotion_ledger)
    found = in_charge(home.mlflow_uri, name, ledger_keys(home).trusted, ledger)
    if found is None:
        raise RegistryError(
            f"champion of {name}",
            expected="one in the promotion ledger",
            found=f"none, though {promotion.key} was materialised",
            action="find out what became of the ledger, then materialise promotion again",
        )
    entry = found.entry
    value = {
        "strategy": name,
        "subject": entry.subject,
        "model_version": entry.model_version,
        "bundle_sha256": found.bundle_sha256,
        "ledger_entry": entry.hash,
    }
    facts = {"champion": entry.subject, "model_version": entry.model_version, "put in charge by": entry.actor}
    return Product(value, facts)
