"""A desk's learners and weights in the lineage: an edit of their module makes exactly what they shape stale."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quant_assets.common import plugins, provenance, syntax
from quant_assets.common.settings import LAST_CLOSE, StrategyConfig, UniverseConfig
from quant_assets.lineage.drafting import _idea
from quant_assets.lineage.graph import Lineage
from quant_assets.lineage.pipeline import settings_of
from quant_assets.models.cross_prediction import recipe_digest
from quant_assets.studies.strategy_tuning import search_digest

CACHES = (
    provenance.closure_of, provenance.closure_of_modules, provenance.closure_of_references, syntax.source_file
)  # fmt: skip
SOURCE = """
from sklearn.linear_model import Ridge
from desk_of_tests.maths import ALPHA

def ridge(alpha=1.0):
    return Ridge(alpha=alpha * ALPHA)
"""
OTHER = """
from sklearn.linear_model import Lasso

def lasso():
    return Lasso(alpha=1e-4)

def weights(rows):
    return [1.0] * rows.height
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "configs").mkdir()
    folder = tmp_path / "desk_of_tests"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "maths.py").write_text("ALPHA = 2.0\n")
    (folder / "models.py").write_text(SOURCE)
    (folder / "others.py").write_text(OTHER)
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    for cache in CACHES:
        cache.cache_clear()


def lineage(**models: object) -> Lineage:
    strategy = StrategyConfig.model_validate(
        {
            "name": "own",
            "universe": "market",
            "tuning": {"n_trials": 2, "space": {"xgboost": None}},
            "models": {
                "xgboost": None,
                "custom": {"ridge": "desk_of_tests.models:ridge", "lasso": "desk_of_tests.others:lasso"},
                **models,
            },
        }
    )
    source = {"kind": "synthetic", "seed": 1, "n_symbols": 3}
    universe = {"name": "market", "start": "2018-01-02", "end": "2019-12-31", "source": source}
    return Lineage(settings_of(UniverseConfig.model_validate(universe), strategy))


def versions(**models: object) -> dict[str, str]:
    for cache in CACHES:
        cache.cache_clear()
    return {node.name: node.code_version for node in lineage(**models).nodes.values()}


FITTED = {
    "tuning", "ensemble", "cpcv_predictions", "walk_forward", "importance_report", "leakage_report"
}  # fmt: skip


@pytest.mark.parametrize("file", ["models.py", "maths.py"])
def test_an_edit_of_a_learners_module_or_of_what_it_imports_makes_exactly_its_assets_stale(
    desk: Path, file: str
) -> None:
    before, recipe = versions(), recipe_of()
    path = desk / file
    path.write_text(path.read_text().replace("2.0", "3.0").replace("alpha=1.0", "alpha=4.0"))
    after = versions()
    changed = {name for name in before if before[name] != after[name]}
    # All that fits learners, and the one whose code it is. LightGBM, the other learner and all data stay.
    assert FITTED | {"ridge"} <= changed
    assert not changed & {"lightgbm", "lasso", "training_set", "labels", "bars", "cpcv_paths", "onnx_fp32"}
    assert changed == FITTED | {"ridge"}
    assert recipe_of() != recipe


def test_an_edit_of_the_weights_makes_every_learner_stale(desk: Path) -> None:
    weights = {"custom": "desk_of_tests.others:weights"}
    before = versions(weights=weights)
    (desk / "others.py").write_text(OTHER.replace("1.0", "2.0"))
    after = versions(weights=weights)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == FITTED | {"ridge", "lasso", "lightgbm"}


def test_what_a_look_is_counted_as_is_another_idea_after_an_edit(desk: Path) -> None:
    versions()
    before = lineage().ideas()["own"]
    (desk / "models.py").write_text(SOURCE.replace("1.0", "4.0"))
    versions()
    assert lineage().ideas()["own"].isdisjoint(before)


def test_a_comment_changes_nothing(desk: Path) -> None:
    before = versions()
    (desk / "models.py").write_text("# a ridge\n" + SOURCE)
    assert versions() == before


def test_other_options_are_another_recipe(desk: Path) -> None:
    models = lineage().scope("own").plan.models
    ridge = models.custom["ridge"].model_copy(update={"options": {"alpha": 5.0}})
    changed = models.model_copy(update={"custom": {**models.custom, "ridge": ridge}})
    assert recipe_digest("t", models, 1, 5) != recipe_digest("t", changed, 1, 5)


def recipe_of() -> str:
    for cache in CACHES:
        cache.cache_clear()
    return recipe_digest("training set", lineage().scope("own").plan.models, 1, 5)


def test_a_learner_that_is_called_like_another_asset_is_refused(desk: Path) -> None:
    from quant_assets.common.errors import ConfigurationError

    with pytest.raises(ConfigurationError, match="own/ensemble"):
        _ = lineage(custom={"ensemble": "desk_of_tests.models:ridge"}).nodes
    assert plugins.Plugin.of("desk_of_tests.models:ridge").digest


def test_the_linear_baseline_counts_no_trial_and_decides_nothing(desk: Path) -> None:
    own = lineage()
    baseline = own.nodes["own", "linear_baseline"]
    assert baseline.stage.counts is None
    assert baseline.stage.gates is None
    assert ("own", "cpcv_paths") in baseline.parents  # the look that it is part of is counted before
    assert [node.name for node in own.nodes.values() if baseline.key in node.parents] == ["tear_sheet"]


@pytest.mark.parametrize("file", ["models.py", "maths.py"])
def test_an_edit_of_a_learner_is_another_search_and_another_draft(desk: Path, file: str) -> None:
    """Else a search would take the trials of the old code for its own, and a draft go on with an old track."""

    def named() -> tuple[str, str]:
        for cache in CACHES:
            cache.cache_clear()
        made = lineage()
        plan = made.scope("own").plan
        return search_digest(plan, LAST_CLOSE), _idea(made, "own", plan)

    before = named()
    assert named() == before
    path = desk / file
    path.write_text(path.read_text().replace("2.0", "3.0").replace("alpha=1.0", "alpha=4.0"))
    assert all(one != other for one, other in zip(before, named(), strict=True))
