from dataclasses import replace

import pytest

from quant_assets.common.provenance import closure_of
from quant_assets.common.settings import LightGBMConfig, ModelsConfig, StackerConfig
from quant_assets.models import cross_prediction
from quant_assets.models.cross_prediction import cross_predict, recipe_digest
from quant_assets.models.ensemble import fit_ensemble

BASE = ("v" * 64, ModelsConfig(), 7, 5)


def test_the_same_recipe_has_the_same_digest():
    assert recipe_digest(*BASE) == recipe_digest("v" * 64, ModelsConfig(), 7, 5)
    assert len(recipe_digest(*BASE)) == 64


@pytest.mark.parametrize(
    "changed",
    [
        ("w" * 64, *BASE[1:]),
        (BASE[0], ModelsConfig(xgboost=None), 7, 5),
        (BASE[0], ModelsConfig(lightgbm=LightGBMConfig(lambda_l2=1.001)), 7, 5),
        (BASE[0], ModelsConfig(stacker=StackerConfig(ridge_alpha=2.0)), 7, 5),
        (BASE[0], ModelsConfig(), 8, 5),
        (BASE[0], ModelsConfig(), 7, 6),
    ],
)
def test_anything_that_changes_the_bits_of_a_model_changes_its_recipe(changed):
    assert recipe_digest(*changed) != recipe_digest(*BASE)


def test_the_recipe_holds_the_code_that_fits_splits_weighs_and_stacks_and_the_libraries_behind_it():
    modules, libraries = set(), set()
    for function in (fit_ensemble, cross_predict):
        closure = closure_of(function)
        modules |= set(closure.modules)
        libraries |= {library.partition("==")[0] for library in closure.libraries}
    ours = "quant_assets."
    assert {
        f"{ours}models.{name}"
        for name in (
            "ensemble", "fitting", "learners", "lightgbm_learner", "xgboost_learner", "catboost_learner",
            "stacking", "training_arrays",
        )
    } | {
        f"{ours}splits.cpcv", f"{ours}splits.purging", f"{ours}datasets.labels",
    } <= modules  # fmt: skip
    assert {"lightgbm", "xgboost", "catboost", "numpy"} <= libraries


@pytest.mark.parametrize("function", [fit_ensemble, cross_predict])
def test_other_code_or_another_library_is_another_recipe(function, monkeypatch):
    before = recipe_digest(*BASE)

    def changed(asked):
        found = closure_of(asked)
        return replace(found, digest="0" * 40) if asked is function else found

    monkeypatch.setattr(cross_prediction, "closure_of", changed)
    assert recipe_digest(*BASE) != before
