"""Models: base learners, the stacked ensemble (the candidate), and the champion, which is another asset."""

from typing import Any

import dagster as dg
import polars as pl

from quant_assets.common.settings import StrategyConfig
from quant_assets.datasets.training_set import feature_names_of
from quant_assets.defs.guards import Product, StoredResult, code_version, produce, stage_options
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact
from quant_assets.defs.tuning import tuned, tuning_in

LEARNER_LIBRARIES = ("lightgbm", "xgboost", "numpy")
MODEL_CODE = (
    "quant_assets.models",
    "quant_assets.datasets.labels",
    "quant_assets.datasets.sample_weights",
    "quant_assets.splits",
)


def build(strategy: StrategyConfig) -> list[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """Assets of one strategy's models stage."""
    learners = {name: _base_learner(strategy, name) for name in strategy.models.learners}
    training_set_key = dg.AssetKey([strategy.name, "training_set"])

    @dg.asset(
        key=[strategy.name, "ensemble"],
        ins={
            "training_set": dg.AssetIn(key=training_set_key),
            **{name: dg.AssetIn(key=asset.key) for name, asset in learners.items()},
            **tuning_in(strategy),
        },
        kinds={"scikitlearn"},
        code_version=model_version(strategy),
        **stage_options("models", strategy.owner),
        pool="training",
    )
    def ensemble(
        context: dg.AssetExecutionContext, home: Home, training_set: Artifact, **bases: Artifact
    ) -> StoredResult:
        """The candidate: base learners under a stacker fitted on inner purged out-of-fold predictions."""
        from quant_assets.models.ensemble import assemble_ensemble
        from quant_assets.models.learners import from_text
        from quant_assets.models.stacking import fit_stacker
        from quant_assets.models.training_arrays import training_arrays

        inputs = {"training_set": training_set, **bases}
        tuning = bases.pop("tuning", None)

        def compute() -> Product:
            table = training_set.table()
            names = feature_names_of(table)
            chosen = tuned(strategy, tuning)
            stacker = fit_stacker(
                training_arrays(table.frame, names, strategy.models.label_kind),
                chosen.models,
                seed=strategy.seed,
                feature_names=names,
                embargo_sessions=strategy.validation.embargo_sessions,
                n_jobs=2,  # the bits do not depend on it
            )
            fitted = [from_text(name, base.json()["model"]) for name, base in bases.items()]
            candidate = assemble_ensemble(
                fitted, stacker, feature_names=names, recipe=recipe_of(chosen, training_set)
            )
            importance = pl.DataFrame(
                sorted(candidate.importance().items(), key=lambda item: -item[1]),
                schema=["feature", "gain_share"],
                orient="row",
            )
            facts = {
                "recipe": candidate.recipe,
                "stacker": dict(zip(stacker.learners, stacker.coefficients, strict=True)),
                "importance": importance,
            }
            return Product(candidate.to_json(), facts)

        return produce(context, home, compute, inputs=inputs)

    @dg.asset(
        key=[strategy.name, "champion"],
        ins={"promotion": dg.AssetIn(key=[strategy.name, "promotion"])},
        kinds={"onnx"},
        code_version=code_version(["quant_assets.gates.verdicts"]),
        **stage_options("models", strategy.owner),
    )
    def champion(context: dg.AssetExecutionContext, home: Home, promotion: Artifact) -> StoredResult:
        """The model in production: the version that the promotion ledger last let through."""

        def compute() -> Product:
            decision = promotion.json()
            return Product(
                decision, {"champion": decision["subject"], "model_version": decision["model_version"]}
            )

        return produce(context, home, compute, inputs={"promotion": promotion})

    return [*learners.values(), ensemble, champion]


def model_version(strategy: StrategyConfig) -> str:
    """Code version of everything that is fitted: model code, libraries, configuration, seed."""
    return code_version(
        MODEL_CODE,
        LEARNER_LIBRARIES,
        strategy.models,
        strategy.seed,
        strategy.validation.embargo_sessions,
    )


def recipe_of(strategy: StrategyConfig, training_set: Artifact) -> str:
    """What binds out-of-sample evidence to a candidate: same data, same configuration (tuned), same code."""
    from quant_assets.models.cross_prediction import recipe_digest

    return recipe_digest(
        training_set.version, strategy.models, strategy.seed, strategy.validation.embargo_sessions
    )


def _base_learner(strategy: StrategyConfig, name: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=[strategy.name, name],
        ins={"training_set": dg.AssetIn(key=[strategy.name, "training_set"]), **tuning_in(strategy)},
        kinds={name},
        description=f"The {name} base learner, fitted on the whole training window.",
        code_version=model_version(strategy),
        **stage_options("models", strategy.owner),
        pool="training",
    )
    def base_learner(
        context: dg.AssetExecutionContext, home: Home, training_set: Artifact, **tuning: Artifact
    ) -> StoredResult:
        from quant_assets.models.fitting import fit_base
        from quant_assets.models.learning_curves import learning_curves
        from quant_assets.models.training_arrays import training_arrays

        def compute() -> Product:
            table = training_set.table()
            names = feature_names_of(table)
            models = tuned(strategy, tuning.get("tuning")).models
            data = training_arrays(table.frame, names, models.label_kind)
            options: dict[str, Any] = {
                "seed": strategy.seed,
                "feature_names": names,
                "embargo_sessions": strategy.validation.embargo_sessions,
            }
            fitted = fit_base(name, data, models, **options)
            curves = learning_curves(name, data, models, **options)
            config = getattr(models, name).model_dump(mode="json")
            facts = {"rows": table.frame.height, "trees": len(fitted.trees()), "parameters": config}
            value = {"learner": name, "features": list(names), "model": fitted.to_text()}
            return Product({**value, "curves": curves.to_json()}, facts)

        return produce(context, home, compute, inputs={"training_set": training_set, **tuning})

    asset: dg.AssetsDefinition = base_learner
    return asset
