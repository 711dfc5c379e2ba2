"""The limits: those of the files, and the stricter ones of a strategy."""

import json
import math
import pickle

import pytest
from pydantic import ValidationError

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.hashing import json_digest
from quant_assets.gates.limits import DriftConfig, GatesConfig, GatesFile, limits_in_force

GATES = GatesConfig()
SHIPPED = {
    "psr_standard": "2025",
    "sharpe_min": 1.2,
    "min_record_sessions": 504,
    "false_pass_max": 0.007,
    "psr_min": 0.95,
    "dsr_min": 0.95,
    "max_drawdown_min": -0.2,
    "reference_volatility": 0.1,
    "loss_probability_max": 0.05,
    "sharpe_at_twice_costs_min": 0.0,
    "walk_forward_p_min": 0.01,
    "baseline_max_sharpe_fall": 0.2,
    "parity_max_error_over_sd": 0.001,
    "parity_min_rank_correlation": 0.9999,
    "parity_max_flipped_decisions": 0,
    "int8_min_rank_correlation": 0.99,
}
OWN = (
    "sharpe_min",
    "min_record_sessions",
    "false_pass_max",
    "psr_min",
    "dsr_min",
    "max_drawdown_min",
    "reference_volatility",
    "loss_probability_max",
    "sharpe_at_twice_costs_min",
    "walk_forward_p_min",
)
DRIFT = {"window_sessions": 63, "alpha": 0.01, "n_bins": 10, "min_drifted_features": 3}


@pytest.mark.parametrize(
    ("name", "looser", "stricter"),
    [
        ("sharpe_min", 1.19, 1.5),
        ("psr_min", 0.9, 0.99),
        ("dsr_min", 0.0, 0.975),
        ("max_drawdown_min", -0.25, -0.1),
        ("loss_probability_max", 0.3, 0.01),
        ("min_record_sessions", 252, 756),
        ("false_pass_max", 0.05, 0.001),
        ("reference_volatility", 0.05, 0.2),
    ],
)
def test_a_strategy_may_be_stricter_and_never_looser(name: str, looser: float, stricter: float) -> None:
    assert getattr(GATES.for_strategy({name: stricter}), name) == stricter
    assert GATES.for_strategy({name: getattr(GATES, name)}) == GATES
    with pytest.raises(ConfigurationError, match=f"gates.{name}"):
        GATES.for_strategy({name: looser})


def test_without_overrides_the_limits_are_the_global_ones() -> None:
    assert GATES.for_strategy({}) == GATES


def test_the_limits_that_reports_state_are_those_of_ever() -> None:
    assert limits_in_force(GATES, DriftConfig()) == {
        **dict.fromkeys(("validation", "walk_forward", "parity"), SHIPPED),
        "drift": DRIFT,
    }
    # 0 decisions are 0, not 0.0: a stated limit is compared by its digest
    assert json_digest(GATES.model_dump(mode="json")) == json_digest(SHIPPED)
    assert json_digest(DriftConfig().model_dump(mode="json")) == json_digest(DRIFT)


def test_only_these_are_a_strategys_own_to_set() -> None:
    own = {key for key in SHIPPED if key != "psr_standard" and _may_set(key)}
    assert own == set(OWN)
    for key in ("alpha", "psr_standard", "window_sessions", "min_drifted_features"):
        assert not _may_set(key)


def _may_set(key: str) -> bool:
    try:
        GATES.for_strategy({key: getattr(GATES, key, 1.0)})
    except ConfigurationError:
        return False
    return True


def test_an_unknown_limit_of_a_strategy_is_answered_with_the_closest_one() -> None:
    with pytest.raises(ConfigurationError) as caught:
        GATES.for_strategy({"sharp_min": 2.0})
    assert caught.value.what == "key 'gates.sharp_min' of a strategy"
    assert caught.value.expected == f"one of {', '.join(OWN)}"
    assert caught.value.action == "did you mean 'sharpe_min'? Correct or remove the key"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_limit_of_a_strategy_that_is_not_finite_is_refused(value: float) -> None:
    for key in ("sharpe_min", "loss_probability_max"):
        with pytest.raises(ConfigurationError, match=f"gates.{key}.*finite number"):
            GATES.for_strategy({key: value})


def test_a_limit_of_a_strategy_that_nothing_can_meet_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"gates.psr_min.*less than or equal to 1"):
        GATES.for_strategy({"psr_min": 1.5})


def test_limits_cannot_be_changed_and_travel_to_other_processes_as_they_are() -> None:
    strict = GATES.for_strategy({"sharpe_min": 2.0})
    assert pickle.loads(pickle.dumps(strict)) == strict != GATES
    with pytest.raises(ValidationError, match="frozen"):
        strict.sharpe_min = 0.0  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        strict.another = 0.0  # type: ignore[misc]


def test_stored_limits_are_read_strictly_and_those_of_a_file_as_people_write_them() -> None:
    assert GatesConfig.model_validate({"parity_max_error_over_sd": "1e-4"}).parity_max_error_over_sd == 1e-4
    assert DriftConfig.model_validate_json(json.dumps(DRIFT)) == DriftConfig()
    with pytest.raises(ValidationError):
        DriftConfig.model_validate_json(json.dumps({**DRIFT, "min_drifted_features": "3"}))
    with pytest.raises(ValidationError):
        DriftConfig.model_validate_json(json.dumps({**DRIFT, "sharpe_min": 1.2}))


def test_the_limits_of_drift_are_no_part_of_those_that_other_reports_state() -> None:
    file = GatesFile.model_validate({"sharpe_min": 1.5, "drift": {**DRIFT, "window_sessions": 126}})
    assert file.drift == DriftConfig(window_sessions=126)
    assert file.without_drift() == GatesConfig(sharpe_min=1.5)
    assert limits_in_force(file.without_drift(), file.drift)["validation"] == {**SHIPPED, "sharpe_min": 1.5}
    with pytest.raises(ValidationError, match="Extra inputs"):
        GatesConfig.model_validate({"drift": DRIFT})
