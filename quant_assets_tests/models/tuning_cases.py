"""A search small enough to be killed again and again; as a script, one that kills itself at a given point."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from quant_assets.common.settings import (
    CostConfig,
    LightGBMConfig,
    ModelsConfig,
    PortfolioConfig,
    StackerConfig,
    StrategyConfig,
    TuningConfig,
    ValidationConfig,
)
from quant_assets.common.store import Table
from quant_assets.gates.evidence import Look
from quant_assets.ledgers.trials import TrialLedger
from quant_assets.studies.strategy_tuning import tune_strategy
from quant_assets_tests.models.training_frames import FEATURES, training_frame

MODELS = ModelsConfig(
    lightgbm=LightGBMConfig(n_estimators=6, num_leaves=5, min_data_in_leaf=20),
    xgboost=None,
    stacker=StackerConfig(inner_folds=2),
)
SPACE = {
    "lightgbm": {
        "n_estimators": {"low": 3, "high": 12},
        "learning_rate": {"low": 0.01, "high": 0.5},
        "num_leaves": {"low": 2, "high": 12},
        "min_data_in_leaf": {"low": 10, "high": 100},
        "feature_fraction": None,
        "bagging_fraction": None,
        "lambda_l2": None,
    }
}


def strategy_of(**tuning: Any) -> StrategyConfig:
    return StrategyConfig(
        name="tuned",
        universe="market",
        seed=11,
        models=MODELS,
        tuning=TuningConfig(**{"n_trials": 6, "startup_trials": 3, "space": SPACE, **tuning}),
        validation=ValidationConfig(embargo_sessions=2),
        portfolio=PortfolioConfig(holding_sessions=2),
        costs=CostConfig(),
    )


def market(n_sessions: int = 120, n_symbols: int = 8) -> tuple[Table, pl.DataFrame]:
    """A training set with an edge, and bars whose returns carry it: 30 sessions before it, 10 after it."""
    frame = training_frame(n_sessions, n_symbols)
    before, after = 30, 10
    rng = np.random.default_rng(1)
    returns = 0.01 * rng.standard_normal((before + n_sessions + after, n_symbols))
    returns[before + 2 : before + 2 + n_sessions] += 0.2 * frame["target"].to_numpy().reshape(n_sessions, -1)
    opens = 100.0 * np.cumprod(1.0 + returns, axis=0)
    session = np.datetime64("2015-01-01", "D") + np.arange(-before, n_sessions + after)
    bars = pl.DataFrame(
        {
            "symbol": np.tile([f"S{i:02d}" for i in range(n_symbols)], len(session)),
            "session": np.repeat(session, n_symbols),
            "open": opens.ravel(),
            "close": opens.ravel() * 1.0001,
            "volume": np.full(opens.size, 1e7),
        }
    )
    return Table(frame, {"features": json.dumps(FEATURES)}), bars


def tuned(home: Path, *, url: str | None = None, n_jobs: int = 1, **tuning: Any) -> dict[str, Any]:
    training_set, bars = market()
    return tune_strategy(
        strategy_of(**tuning),
        training_set,
        training_set.frame,
        bars,
        training_set_version="t" * 64,
        bars_version="b" * 64,
        home=home,
        look=LOOK,
        url=url,
        n_jobs=n_jobs,
    )


LOOK = Look("market.forward_return", "tuned", "i" * 64, "run-1")


def rows_of(home: Path) -> dict[str, float]:
    """Fingerprint and Sharpe ratio of each row of the trial ledger."""
    return {t.fingerprint: t.sharpe_per_period for t in TrialLedger(home).trials(LOOK.book)}


def die_at(owner: Any, name: str, call: int, *, afterwards: bool) -> None:
    """Let a function kill the process with SIGKILL before, or after, its n-th call has done its work."""
    original, calls = getattr(owner, name), 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not afterwards:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*args, **kwargs)
        if calls == call and afterwards:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def main(home: str, point: str, url: str = "", pruning: str = "none") -> None:
    """Tune until the point at which to die."""
    import optuna

    from quant_assets.models import tuning

    points = {
        "during a draw": (optuna.trial.Trial, "suggest_float", 2, True),
        "during a fold": (tuning, "split_scores", 5, False),
        "between ledger and storage": (TrialLedger, "append", 2, True),
        "between outcome and end": (optuna.Study, "tell", 1, False),
    }
    owner, name, call, afterwards = points[point]
    die_at(owner, name, call, afterwards=afterwards)
    tuned(Path(home), url=url or None, pruning=pruning)


if __name__ == "__main__":
    main(*sys.argv[1:])
