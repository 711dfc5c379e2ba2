import pytest

from quant_assets.common.settings import CatBoostConfig, LightGBMConfig, ModelsConfig, StackerConfig
from quant_assets.models.ensemble import recipe_digest

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


def test_code_of_the_split_that_stacks_is_part_of_the_recipe(monkeypatch):
    from quant_assets.models import ensemble as recipe

    seen = []
    monkeypatch.setattr(
        recipe, "code_fingerprint", lambda code, libraries: seen.append((code, libraries)) or "x"
    )
    recipe_digest(*BASE)
    code, libraries = seen[0]
    assert {"quant_assets.models", "quant_assets.splits.cpcv", "quant_assets.splits.purging"} <= set(code)
    assert libraries == ("lightgbm", "xgboost", "numpy")
    recipe_digest(BASE[0], ModelsConfig(catboost=CatBoostConfig()), 7, 5)
    assert seen[1][1][-1] == "catboost"
