"""Tuning: the search for a strategy's parameters, an asset of those strategies that ask for it.

It belongs to the models' stage and has a module of its own because that of the models is full, and because the
search is judged by trading, which the models know nothing of. A strategy asks for it in its file::

    tuning:
      n_trials: 40
      folds: 4
      space:
        lightgbm:
          num_leaves: {low: 7, high: 63}
          bagging_fraction: null            # stays as configured
        xgboost: null                       # not tuned

What is not named has the ranges of `quant_assets.common.model_settings`. Without the section there is no such
asset, and everything is made from the models as configured.
"""

import dagster as dg

from quant_assets.common.settings import ModelsConfig, StrategyConfig, UniverseConfig
from quant_assets.defs.guards import (
    Product,
    StoredResult,
    code_version,
    plot_metadata,
    produce,
    progress,
    stage_options,
    table_metadata,
)
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import Artifact

TUNING_CODE = (
    "quant_assets.common.model_settings",
    "quant_assets.models",
    "quant_assets.datasets.labels",
    "quant_assets.datasets.sample_weights",
    "quant_assets.splits",
    "quant_assets.statistics.sharpe",
    "quant_assets.trading",
    "quant_assets.studies.strategy_tuning",
)
TUNING_LIBRARIES = ("lightgbm", "numpy", "optuna", "polars", "scipy", "xgboost")


def build(strategy: StrategyConfig, universe: UniverseConfig) -> list[dg.AssetsDefinition]:
    """The tuning of one strategy; nothing when its file has no such section."""
    name, config = strategy.name, strategy.tuning
    if config is None:
        return []

    @dg.asset(
        key=[name, "tuning"],
        ins={
            "training_set": dg.AssetIn(key=[name, "training_set"]),
            "bars": dg.AssetIn(key=[universe.name, "bars"]),
        },
        kinds={"optuna"},
        code_version=code_version(
            TUNING_CODE,
            TUNING_LIBRARIES,
            config,
            strategy.models,
            strategy.seed,
            strategy.validation.embargo_sessions,
            strategy.portfolio,
            strategy.costs,
        ),
        pool="training",
        **stage_options("models", strategy.owner),
    )
    def tuning(
        context: dg.AssetExecutionContext, home: Home, training_set: Artifact, bars: Artifact
    ) -> StoredResult:
        """The learners' parameters with the best purged out-of-fold net Sharpe ratio, every trial counted."""
        from quant_assets.gates.evidence import sessions_per_year
        from quant_assets.models.tuning_report import history_plot, importance_of, trials_table
        from quant_assets.studies.strategy_tuning import tune_strategy

        def compute() -> Product:
            result = tune_strategy(
                strategy,
                training_set.table(),
                bars.table().frame,
                training_set_version=training_set.version,
                bars_version=bars.version,
                home=home.path,
                run_id=context.run.run_id,
                progress=progress("trials"),
            )
            per_year = sessions_per_year(universe)
            facts = {
                "study": result["study"],
                "best": result["best"],
                "trials": table_metadata(trials_table(result, per_year), max_rows=config.n_trials),
                "importance": importance_of(result),
                "history": plot_metadata(history_plot(result, per_year), "net Sharpe ratio of each trial"),
            }
            return Product(result, facts)

        return produce(context, home, compute, inputs={"training_set": training_set, "bars": bars})

    return [tuning]


def tuning_in(strategy: StrategyConfig) -> dict[str, dg.AssetIn]:
    """The input of whatever is made from a strategy's models: its tuning, if it has one."""
    return {} if strategy.tuning is None else {"tuning": dg.AssetIn(key=[strategy.name, "tuning"])}


def models_of(strategy: StrategyConfig, tuning: Artifact | None) -> ModelsConfig:
    """The models that are fitted: as configured, or with what the tuning found in their place."""
    from quant_assets.models.tuning_space import apply_tuning

    return (
        strategy.models if tuning is None else apply_tuning(strategy.models, tuning.json()["best"]["params"])
    )


def tuned(strategy: StrategyConfig, tuning: Artifact | None) -> StrategyConfig:
    """The strategy with the models that are fitted."""
    return strategy.model_copy(update={"models": models_of(strategy, tuning)})
