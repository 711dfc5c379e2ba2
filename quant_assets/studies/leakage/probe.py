"""A small training set and small models: what flows where does not depend on how many trees there are."""

from dataclasses import dataclass

import polars as pl

from quant_assets.common.settings import ModelsConfig, StackerConfig, StrategyConfig, ValidationConfig

ROWS = 4000
MOST_SYMBOLS = 20
FEWEST_SYMBOLS = 4
FEWEST_SESSIONS = 200
TREES = 8
LEARNING_RATE = 0.3  # so that eight trees say something
# A leaf needs this share of the rows at the most, or small samples would never split.
LEAF_SHARE = 60


@dataclass(frozen=True)
class Probe:
    """How the fitted stages are put on trial.

    Attributes
    ----------
    models : ModelsConfig
        The strategy's learners with few trees.
    validation : ValidationConfig
        At most five groups, two of them tested.
    seed : int
    """

    models: ModelsConfig
    validation: ValidationConfig
    seed: int


def probe_rows(frame: pl.DataFrame, strategy: StrategyConfig) -> pl.DataFrame:
    """The newest sessions of some symbols, evenly chosen: about 4000 rows.

    Enough sessions for every test group to be longer than the label and the embargo together.
    """
    reach = strategy.label.horizon_sessions + 1 + strategy.validation.embargo_sessions
    sessions = frame["session"].unique().sort().tail(max(FEWEST_SESSIONS, 10 * reach))
    wanted = min(MOST_SYMBOLS, max(FEWEST_SYMBOLS, ROWS // len(sessions)))
    newest = frame.filter(pl.col("session") >= sessions[0])
    symbols = newest["symbol"].unique().sort()
    chosen = symbols.gather_every(-(-len(symbols) // wanted))
    if len(chosen) < wanted:
        # Few symbols have room for more sessions.
        sessions = frame["session"].unique().sort().tail(max(len(sessions), ROWS // len(chosen)))
        newest = frame.filter(pl.col("session") >= sessions[0])
    return newest.filter(pl.col("symbol").is_in(chosen.to_list()))


def probe_of(strategy: StrategyConfig, n_rows: int) -> Probe:
    """The strategy's own learners, small, and its own splits, few."""
    leaf = max(5, n_rows // LEAF_SHARE)
    m, v = strategy.models, strategy.validation
    small = {"n_estimators": TREES, "learning_rate": LEARNING_RATE}
    lightgbm = m.lightgbm and m.lightgbm.model_copy(
        update={**small, "min_data_in_leaf": min(m.lightgbm.min_data_in_leaf, leaf)}
    )
    xgboost = m.xgboost and m.xgboost.model_copy(
        update={**small, "min_child_weight": min(m.xgboost.min_child_weight, float(leaf))}
    )
    catboost = m.catboost and m.catboost.model_copy(update=small)
    stopping = m.early_stopping and m.early_stopping.model_copy(
        update={"inner_folds": 2, "rounds": min(m.early_stopping.rounds, TREES), "max_estimators": TREES}
    )
    # A copy, so that no setting is left out of the proof: weights, bins and device are the strategy's own.
    models = m.model_copy(
        update={
            "lightgbm": lightgbm,
            "xgboost": xgboost,
            "catboost": catboost,
            "stacker": StackerConfig(ridge_alpha=m.stacker.ridge_alpha, inner_folds=2),
            "early_stopping": stopping,
        }
    )
    validation = ValidationConfig(
        n_groups=min(v.n_groups, 5),
        n_test_groups=min(v.n_test_groups, 2),
        embargo_sessions=v.embargo_sessions,
    )
    return Probe(models, validation, strategy.seed)
