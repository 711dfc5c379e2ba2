"""Tuning in a strategy's file: what it may say, how mistakes are refused, and what the found parameters change."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from quant_assets.common.configuration import parse
from quant_assets.common.errors import ConfigurationError, ModelError
from quant_assets.common.settings import (
    CatBoostConfig,
    EarlyStoppingConfig,
    LightGBMConfig,
    ModelsConfig,
    StrategyConfig,
    TuningConfig,
    XGBoostConfig,
)
from quant_assets.models.tuning_study import apply_tuning, storage_url
from quant_assets.studies.strategy_tuning import importance_of


def refusal(text: str, **models: Any) -> str:
    data = {"name": "st", "universe": "u", "tuning": yaml.safe_load(text), "models": models}
    with pytest.raises(ConfigurationError) as error:
        parse(
            StrategyConfig, {"name": "st", **{k: v for k, v in data.items() if k != "name"}}, Path("st.yaml")
        )
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "add the key 'tuning.n_trials'"),
        ("{n_trials: 0}", "greater than or equal to 1"),
        ("{n_trials: 1001}", "less than or equal to 1000"),
        ("{n_trials: 5, timeout: 60}", "unknown key 'timeout'"),
        ("{n_trials: 5, space: {lightgbm: null, xgboost: null}}", "the space is empty"),
        ("{n_trials: 5, space: {lightgbm: {num_leaves: {low: 9, high: 4}}}}", "low below high"),
        ("{n_trials: 5, space: {lightgbm: {num_leafs: {low: 4, high: 9}}}}", "did you mean 'num_leaves'"),
        ("{n_trials: 5, space: {lightbgm: {}}}", "did you mean 'lightgbm'"),
        ("{n_trials: 5, space: {catboost: {depth: {low: 2, high: 4}}}}", "not of catboost"),
        ("{n_trials: 5, space: {lightgbm: {num_leaves: {low: 1, high: 9}}}}", "greater than or equal to 2"),
        ("{n_trials: 5, space: {lightgbm: {num_leaves: {low: 2.5, high: 9}}}}", "valid integer"),
        ("{n_trials: 5, space: {xgboost: {reg_lambda: {low: 0, high: 9}}}}", "low above 0 on a log scale"),
        ("{n_trials: 5, space: {xgboost: {subsample: {low: 0.5, high: 1.5}}}}", "less than or equal to 1"),
    ],
)
def test_a_mistake_in_the_file_is_one_message_that_says_what_is_right(text: str, message: str) -> None:
    assert message in refusal(text)


def test_a_range_of_trees_beside_the_ceiling_of_early_stopping_is_refused() -> None:
    text = "{n_trials: 5, space: {lightgbm: {n_estimators: {low: 10, high: 90}}}}"
    assert "without effect" in refusal(text, early_stopping={"max_estimators": 100})


def test_shipped_ranges_are_those_of_the_configured_learners() -> None:
    tuning = TuningConfig(n_trials=5)
    names = set(tuning.ranges(ModelsConfig()))
    assert {n.split(".")[0] for n in names} == {"lightgbm", "xgboost"}
    assert len(names) == 14
    stopped = ModelsConfig(catboost=CatBoostConfig(), early_stopping=EarlyStoppingConfig())
    without = set(tuning.ranges(stopped))
    assert without >= {"catboost.depth"}
    assert not any(name.endswith("n_estimators") for name in without)


def test_hessian_weights_of_a_classifier_are_a_quarter() -> None:
    directions = ModelsConfig(
        lightgbm=LightGBMConfig(objective="binary"), xgboost=XGBoostConfig(objective="binary:logistic")
    )
    tuning = TuningConfig(n_trials=5)
    returns, classes = (tuning.ranges(m)["xgboost.min_child_weight"] for m in (ModelsConfig(), directions))
    assert (classes.low, classes.high) == (returns.low / 4, returns.high / 4)


def test_a_range_of_ones_own_keeps_the_shipped_scale_unless_told() -> None:
    space = {
        "lightgbm": {
            "learning_rate": {"low": 0.02, "high": 0.1},
            "lambda_l2": {"low": 0, "high": 1, "log": False},
        }
    }
    ranges = TuningConfig(n_trials=5, space=space).ranges(ModelsConfig())  # type: ignore[arg-type]
    assert ranges["lightgbm.learning_rate"].log is True
    assert ranges["lightgbm.lambda_l2"].log is False


def test_tuned_parameters_replace_the_configured_ones_and_nothing_else() -> None:
    models = apply_tuning(ModelsConfig(), {"xgboost": {"max_depth": 6}})
    assert models == ModelsConfig(xgboost=XGBoostConfig(max_depth=6))
    assert apply_tuning(ModelsConfig(), {}) == ModelsConfig()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"catboost": {"depth": 4}}, "one of lightgbm, xgboost"),
        ({"lightgbm": {"num_leafs": 4}}, "did you mean 'num_leaves'"),
        ({"lightgbm": {"objective": "huber"}}, "parameter of lightgbm"),
        ({"lightgbm": {"num_leaves": 1}}, "greater than or equal to 2"),
    ],
)
def test_parameters_that_do_not_go_with_the_models_are_refused(params: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        apply_tuning(ModelsConfig(), params)


def test_an_address_that_is_no_database_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ASSETS_TUNING_STORAGE", "mysql://me:secret@host/db")
    with pytest.raises(ConfigurationError, match="postgresql://user") as error:
        storage_url(tmp_path, "tuned")
    assert "secret" not in str(error.value)


def test_the_parameter_that_alone_decides_has_nearly_all_of_the_importance() -> None:
    rng = np.random.default_rng(0)
    trials = [
        {"state": "complete", "params": {"a.x": float(x), "a.y": float(y)}, "value": -abs(float(x) - 0.3)}
        for x, y in rng.random((60, 2))
    ]
    space = {name: {"low": 0.0, "high": 1.0, "log": False} for name in ("a.x", "a.y")}
    found = importance_of({"trials": trials, "space": space})
    assert found["parameter"].to_list() == ["a.x", "a.y"]
    assert found["importance"][0] > 0.8
    assert found.equals(importance_of({"trials": trials, "space": space}))


def test_definitions_are_built_without_optuna() -> None:
    code = "import sys, quant_assets.definitions; sys.exit('optuna' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "QUANT_ASSETS_CONFIGS": str(root / "configs")}
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, check=False).returncode == 0
    )
