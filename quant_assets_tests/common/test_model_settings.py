"""What a strategy's file may say about labels and learners, and how it is told that it may not."""

from pathlib import Path
from typing import Any

import pytest

from quant_assets.common.configuration import parse
from quant_assets.common.errors import ConfigurationError
from quant_assets.common.settings import CatBoostConfig, LabelConfig, ModelsConfig, StrategyConfig

DIRECTIONS = {"lightgbm": {"objective": "binary"}, "xgboost": {"objective": "binary:logistic"}}


def read(**sections: Any) -> StrategyConfig:
    return parse(StrategyConfig, {"name": "some", "universe": "any", **sections}, Path("some.yaml"))


@pytest.mark.parametrize(
    ("learner", "objective", "allowed"),
    [
        ("lightgbm", "mape", "regression, huber, binary, lambdarank"),
        ("lightgbm", "multiclassova", "regression, huber, binary, lambdarank"),
        ("xgboost", "reg:logistic", "reg:squarederror, binary:logistic, rank:pairwise, rank:ndcg"),
        ("catboost", "MAE", "RMSE, Logloss"),
        ("catboost", ["RMSE"], "RMSE, Logloss"),
    ],
)
def test_an_objective_that_does_not_convert_exactly_is_refused_with_the_list_and_the_reason(
    learner: str, objective: Any, allowed: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(models={learner: {"objective": objective}})
    message = str(refused.value)
    assert f"key 'models.{learner}.objective': expected one of {allowed}: any other" in message
    assert "silently wrong" in message
    assert repr(objective) in message


def test_objectives_must_fit_the_kind_of_label() -> None:
    assert read(label={"kind": "direction"}, models=DIRECTIONS).models.label_kind == "direction"
    assert read().models.label_kind == "return"
    with pytest.raises(
        ConfigurationError, match="lightgbm binary, xgboost binary:logistic, catboost Logloss"
    ):
        read(label={"kind": "direction"})
    with pytest.raises(ConfigurationError, match=r"these fit label\.kind: direction"):
        read(models=DIRECTIONS)


def test_learners_of_returns_and_of_directions_are_not_stacked() -> None:
    with pytest.raises(ConfigurationError, match="objectives of one kind of label"):
        read(models={"lightgbm": {"objective": "binary"}})
    with pytest.raises(ConfigurationError, match="objectives of one kind of label"):
        read(models={"catboost": {"objective": "Logloss"}})


def test_weights_and_early_stopping_are_off_and_the_device_is_the_cpu_unless_asked_for() -> None:
    models = ModelsConfig()
    assert not models.weights.in_use
    assert models.early_stopping is None
    assert models.device == "cpu"
    assert LabelConfig().kind == "return"
    assert ModelsConfig(catboost=CatBoostConfig()).learners == ("lightgbm", "xgboost", "catboost")


@pytest.mark.parametrize(
    ("models", "key"),
    [
        ({"weights": {"time_decay": 1.5}}, "models.weights.time_decay"),
        ({"weights": {"time_decay": -0.1}}, "models.weights.time_decay"),
        ({"early_stopping": {"rounds": 0}}, "models.early_stopping.rounds"),
        ({"early_stopping": {"max_estimators": 9999}}, "models.early_stopping.max_estimators"),
        ({"device": "gpu"}, "models.device"),
        ({"weights": {"uniquenes": True}}, "did you mean 'uniqueness'"),
        ({"lightgbm": None, "xgboost": None}, "at least one of lightgbm, xgboost, catboost"),
    ],
)
def test_values_out_of_bounds_are_refused_by_key(models: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(models=models)
    assert key in str(refused.value)


@pytest.mark.parametrize("name", ["copy", "json", "ridge"])
def test_a_search_leaves_a_learner_of_the_desks_own_as_it_is_whatever_it_is_called(name: str) -> None:
    plan = read(models={"xgboost": None, "custom": {name: "my_desk.models:ridge"}}, tuning={"n_trials": 2})
    assert plan.tuning is not None
    assert {key.partition(".")[0] for key in plan.tuning.ranges(plan.models)} == {"lightgbm"}
