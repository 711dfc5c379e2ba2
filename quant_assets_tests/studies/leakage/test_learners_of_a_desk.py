"""A learner or weights that know more than their training rows are named by the experiments of the leakage proof."""

from functools import partial

import polars as pl
import pytest

from quant_assets.common.settings import ModelsConfig, ValidationConfig
from quant_assets.models.cross_prediction import cross_predict
from quant_assets.studies.leakage.fitted import Probe, fitted_inside_splits
from quant_assets_tests.models import desk_learners
from quant_assets_tests.models.training_frames import FEATURES, training_frame

DESK = "quant_assets_tests.models.desk_learners:"


def violations(frame: pl.DataFrame, **models: object) -> dict[str, int]:
    chosen = {"lightgbm": None, "xgboost": None, "stacker": {"inner_folds": 2}, **models}
    validation = ValidationConfig(n_groups=4, n_test_groups=2, embargo_sessions=2)
    probe = Probe(ModelsConfig.model_validate(chosen), validation, 5)
    found = fitted_inside_splits(frame, FEATURES, probe, partial(cross_predict, n_jobs=1))
    assert all(evidence.checked for evidence in found)
    return {evidence.stage: evidence.violations for evidence in found}


@pytest.mark.parametrize("learner", ["perceptron", "ridge"])
def test_an_honest_learner_moves_no_score_that_it_may_not(learner: str) -> None:
    found = violations(
        training_frame(160, 5), custom={"own": DESK + learner}, weights={"custom": DESK + "young"}
    )
    assert found == {"models": 0, "folds": 0}


def test_a_learner_that_keeps_the_rows_of_earlier_splits_is_named() -> None:
    desk_learners.SEEN.clear()
    assert violations(training_frame(160, 5), custom={"own": DESK + "memory"})["models"] > 0


def test_a_learner_that_keeps_them_in_a_file_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("memory") / "seen.npy")
    own = {"use": DESK + "memory_in_a_file", "options": {"path": path}}
    assert violations(training_frame(160, 5), custom={"own": own})["models"] > 0


def test_weights_that_count_their_calls_are_named() -> None:
    found = violations(
        training_frame(160, 5), custom={"own": DESK + "ridge"}, weights={"custom": DESK + "counted"}
    )
    assert found["models"] > 0
