"""The walls of the house: the import contracts of pyproject.toml, and what a module is and may do."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

PACKAGE = Path(__file__).resolve().parents[1] / "quant_assets"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Notebooks know these modules by another address: the same thing under the same name.
PASSED_ON = {f"validation/{name}.py" for name in ("cpcv", "overfitting", "sharpe")}
# Under one name the same thing in three rooms: the packs, gates and bar rules that ship, one module an idea.
CATALOGUES = {"catalogue"}
MOST_MODULES, MOST_DEFS_MODULES, MOST_DEFS_LINES = 330, 10, 1_600


def imports_of(file: Path) -> set[str]:
    """Every module that a file imports, at any depth of nesting."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add(node.module or "")
    return names


def test_the_import_contracts_hold(capfd: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(str(PACKAGE.parent / "pyproject.toml"), cache_dir=None, no_cache=True)
    assert status == EXIT_STATUS_SUCCESS, capfd.readouterr().out


def test_the_declaration_of_packs_reaches_only_common() -> None:
    reached, ahead = set[str](), {"quant_assets.features.pack"}
    while ahead:
        name = ahead.pop()
        reached.add(name)
        file = PACKAGE.parent / (name.replace(".", "/") + ".py")
        imported = imports_of(file) if file.exists() else set[str]()
        assert not {n.split(".")[0] for n in imported} & {"numba", "scipy", "matplotlib"}, name
        ahead |= {n for n in imported if n.startswith("quant_assets")} - reached
    assert {n.rpartition(".")[0] for n in reached} == {"quant_assets.common", "quant_assets.features"}
    assert not reached & {f"quant_assets.features.{m}" for m in ("causality", "computation")}


def test_no_module_loads_pickles() -> None:
    for file in MODULES:
        assert not {n.split(".")[0] for n in imports_of(file)} & {"pickle", "dill", "cloudpickle"}, file


def test_modules_stay_readable_in_one_sitting() -> None:
    long = {str(f.relative_to(PACKAGE)): n for f in MODULES if (n := len(f.read_text().splitlines())) > 500}
    assert long == {}


def test_the_package_has_no_more_modules_than_it_has_ideas() -> None:
    assert len(MODULES) <= MOST_MODULES
    adapter = [file for file in MODULES if file.parent == PACKAGE / "defs"]
    assert len(adapter) <= MOST_DEFS_MODULES
    assert sum(len(file.read_text().splitlines()) for file in adapter) <= MOST_DEFS_LINES


def test_no_name_of_a_module_or_room_has_two_meanings() -> None:
    places = defaultdict(set)
    for file in MODULES:
        place = file.parent if file.stem == "__init__" else file.with_suffix("")
        if file.stem == place.parent.name:  # the module that gives its room the name
            place = place.parent
        if str(file.relative_to(PACKAGE)) not in PASSED_ON:
            places[place.name].add(place)
    assert {name for name, found in places.items() if len(found) > 1} == CATALOGUES


def test_every_command_shows_through_the_one_terminal() -> None:
    for file in MODULES:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        called = {call.id for call in calls if isinstance(call, ast.Name)}
        if file != PACKAGE / "cli" / "terminal.py":
            assert not called & {"Console", "Progress"}, file
        assert "print" not in called, file


def test_every_did_you_mean_is_the_same() -> None:
    asking = {str(file.relative_to(PACKAGE)) for file in MODULES if "difflib" in imports_of(file)}
    assert asking == {"common/errors.py"}


def test_the_wiring_only_wires() -> None:
    assert len((PACKAGE / "definitions.py").read_text().splitlines()) <= 80
