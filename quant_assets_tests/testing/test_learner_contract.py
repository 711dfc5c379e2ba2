"""The contracts pass for honest learners and weights, and each of their tests fails for one that breaks it."""

import pytest

from quant_assets.testing import LearnerContract, WeightsContract
from quant_assets_tests.models import desk_learners

DESK = "quant_assets_tests.models.desk_learners:"


class TestRidge(LearnerContract):
    learner = DESK + "ridge"
    options = {"alpha": 3.0}  # noqa: RUF012


class TestLogit(LearnerContract):
    learner = desk_learners.logit
    target = "class"


class TestPerceptron(LearnerContract):
    learner = {"use": DESK + "perceptron", "options": {"hidden": 3}}  # noqa: RUF012
    options = {"steps": 5}  # noqa: RUF012


class TestNeighbours(LearnerContract):
    learner = DESK + "neighbours"
    research_only = True
    takes_weights = False


class TestYoung(WeightsContract):
    weights = desk_learners.young
    options = {"half_life": 20.0}  # noqa: RUF012


def contract(name: str, **attributes: object) -> LearnerContract:
    made: LearnerContract = type("Own", (LearnerContract,), {"learner": DESK + name, **attributes})()
    return made


@pytest.mark.parametrize(
    ("name", "test"),
    [
        ("restless", "test_two_fits_of_the_same_rows_say_the_same"),
        ("memory", "test_nothing_is_kept_between_fits"),
        ("global_draws", "test_nothing_is_kept_between_fits"),
        ("scaled_boosted", "test_the_graph_says_what_the_model_says"),
        ("splines", "test_the_graph_says_what_the_model_says"),
        ("batch_mean", "test_a_row_does_not_depend_on_the_rows_beside_it"),
        ("memory", "test_sample_weights_count"),
    ],
)
def test_each_test_of_the_contract_fails_for_a_learner_that_breaks_it(name: str, test: str) -> None:
    with pytest.raises((AssertionError, Exception)) as failed:
        getattr(contract(name), test)()
    assert type(failed.value).__name__ in ("AssertionError", "ModelError")


@pytest.mark.parametrize("name", ["negative", "none", "too_few", "counted"])
def test_the_contract_of_weights_fails_for_those_that_are_none(name: str) -> None:
    made = type("Own", (WeightsContract,), {"weights": DESK + name})()
    broken = "the_same_rows_have_the_same_weights_whatever_was_asked_between" if name == "counted" else (
        "weights_are_finite_not_negative_and_of_mean_one"
    )  # fmt: skip
    with pytest.raises(Exception, match=r"weights of 'quant_assets_tests"):
        getattr(made, f"test_{broken}")()
