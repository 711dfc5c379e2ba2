"""What the package shows: the names of each room, what they cost to import, and that each explains itself."""

import importlib
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import quant_assets

ROOT = Path(quant_assets.__file__).parents[1]
PACKAGES = sorted(
    ".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "quant_assets").rglob("__init__.py")
)
NOTEBOOK = [
    "CombinatorialPurgedCV",
    "Lab",
    "PurgedKFold",
    "PurgedWalkForward",
    "compute",
    "deflated_sharpe_ratio",
    "lineage",
    "load_settings",
    "packs",
    "probabilistic_sharpe_ratio",
    "sharpe_ratio",
]
HEAVY = (
    "dagster", "lightgbm", "matplotlib", "mlflow", "numba", "numpy", "onnxruntime", "pandas", "polars", "pyarrow",
    "pydantic", "scipy", "sklearn", "xgboost",
)  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """Which of the heavy libraries a fresh interpreter has loaded after a statement."""
    program = f"import sys; {statement}; print(*(n for n in {HEAVY!r} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_notebook_gets_its_eleven_names_from_the_package_itself() -> None:
    assert quant_assets.__all__ == NOTEBOOK
    assert quant_assets.sharpe_ratio is importlib.import_module("quant_assets.statistics.sharpe").sharpe_ratio
    assert quant_assets.packs()["technical_v1"].features
    assert quant_assets.lineage is importlib.import_module("quant_assets.lineage")


def test_importing_the_package_costs_nothing() -> None:
    assert loaded_by("import quant_assets") == set()


def test_importing_a_room_costs_nothing_until_a_name_is_asked_for() -> None:
    lazy = [name for name in PACKAGES if not name.startswith("quant_assets.features")]
    lazy.remove("quant_assets.trading.backtest")  # its users want it whole
    assert loaded_by(f"import {', '.join(lazy)}") == set()
    assert "numpy" in loaded_by("from quant_assets import sharpe_ratio")


def test_the_command_starts_without_numbers_and_orchestrator() -> None:
    assert loaded_by("import quant_assets.cli.main") == {"pydantic"}


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_that_a_room_lists_is_there_and_explains_itself(name: str) -> None:
    package = importlib.import_module(name)
    assert len(set(package.__all__)) == len(package.__all__)
    assert set(package.__all__) <= set(dir(package))
    for public in package.__all__:
        value = getattr(package, public)
        if "__getattr__" in vars(package) and not isinstance(value, ModuleType):
            # `from room import name` must not mean a module before the first import and a function after it
            assert importlib.util.find_spec(f"{name}.{public}") is None, public
        if inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, ModuleType):
            words = inspect.getdoc(value) or ""
            assert len(words) > 20, public
            assert not words.startswith(f"{public}("), f"{public}: only the signature of a dataclass"


def test_every_room_lists_its_names() -> None:
    assert [name for name in PACKAGES if not hasattr(importlib.import_module(name), "__all__")] == []


def test_a_name_that_a_room_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'quant_assets\.models' has no attribute 'nothing'"):
        importlib.import_module("quant_assets.models").nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec("from quant_assets import nothing")


def test_type_checkers_of_other_projects_see_the_types() -> None:
    assert (ROOT / "quant_assets" / "py.typed").is_file()
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert "quant_assets" in build["targets"]["wheel"]["only-include"]
