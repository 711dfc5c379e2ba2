"""Training sets with a known edge, small enough to fit in a fraction of a second."""

import numpy as np
import polars as pl

from quant_assets.common.settings import (
    EarlyStoppingConfig,
    LightGBMConfig,
    ModelsConfig,
    StackerConfig,
    WeightsConfig,
    XGBoostConfig,
)

FEATURES = tuple(f"feature_{n}" for n in range(8))

# Leaves of 20 rows, so that a few hundred rows grow real trees.
SMALL_MODELS = ModelsConfig(
    lightgbm=LightGBMConfig(n_estimators=12, num_leaves=7, min_data_in_leaf=20),
    xgboost=XGBoostConfig(n_estimators=12, max_depth=3, min_child_weight=20),
    stacker=StackerConfig(inner_folds=3),
)

# A direction, with everything that is worked out from training rows: weights and numbers of trees.
SMALL_DIRECTIONS = ModelsConfig(
    lightgbm=LightGBMConfig(objective="binary", n_estimators=12, num_leaves=7, min_data_in_leaf=20),
    xgboost=XGBoostConfig(objective="binary:logistic", n_estimators=12, max_depth=3, min_child_weight=5),
    stacker=StackerConfig(inner_folds=3),
    weights=WeightsConfig(uniqueness=True, time_decay=0.5),
    early_stopping=EarlyStoppingConfig(rounds=4, max_estimators=16),
)


def training_frame(
    n_sessions: int = 120, n_symbols: int = 10, *, seed: int = 3, edge: float = 0.6, horizon: int = 5
) -> pl.DataFrame:
    """Rows sorted by (session, symbol). ``feature_0`` drives the target; half the features are on a coarse grid.

    A grid like that of a rounded oscillator makes rows sit exactly on split thresholds.
    """
    rng = np.random.default_rng(seed)
    n = n_sessions * n_symbols
    features = rng.standard_t(4, (n, len(FEATURES)))
    features[:, ::2] = np.round(features[:, ::2], 1)
    features = features.astype(np.float32)
    signal = np.tanh(features[:, 0]) + 0.3 * np.abs(features[:, 1])
    target = 0.01 * (edge * signal + rng.standard_normal(n))
    session = np.repeat(np.arange(n_sessions), n_symbols)
    t0 = np.datetime64("2015-01-01T21:00", "us") + session * np.timedelta64(1, "D")
    t1 = t0 + np.timedelta64(horizon + 1, "D")
    return pl.DataFrame(
        {
            "symbol": np.tile([f"S{i:02d}" for i in range(n_symbols)], n_sessions),
            "session": t0.astype("datetime64[D]"),
            "t0": t0,
            "t1": t1,
            "known_at": t1,
            **{name: features[:, column] for column, name in enumerate(FEATURES)},
            "target": target,
        }
    ).with_columns(pl.col("t0", "t1", "known_at").dt.replace_time_zone("UTC"))
