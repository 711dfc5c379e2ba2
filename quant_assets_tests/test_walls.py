"""The walls of the house: who may import what."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "quant_assets"
STAGES = (
    "common", "market", "features", "datasets", "models", "validation", "artifacts", "registry", "monitoring",
)  # fmt: skip
MODULES = sorted(PACKAGE.rglob("*.py"))

# Cross-prediction and stacking split with the purged splitters; the splitters themselves import only `common`.
# The configuration names feature packs; their declarations import only `common`, and no kernel.
ALLOWED = {("models", "quant_assets.splits.cpcv"), ("common", "quant_assets.features.pack")}


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


def stage_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize(("library", "room"), [("dagster", "defs"), ("mlflow", "registry")])
def test_a_library_is_imported_only_in_its_room(library: str, room: str) -> None:
    trespassers = {
        str(file.relative_to(PACKAGE))
        for file in MODULES
        if any(name == library or name.startswith(f"{library}.") for name in imports_of(file))
        and stage_of(file) != room
    }
    wiring = {"definitions.py"} if library == "dagster" else set()
    assert trespassers == wiring


def test_no_stage_imports_a_later_stage() -> None:
    wrong = []
    for file in MODULES:
        stage = stage_of(file)
        if stage not in STAGES:
            continue
        for name in imports_of(file):
            parts = name.split(".")
            if parts[0] != "quant_assets" or len(parts) < 2 or (stage, name) in ALLOWED:
                continue
            if parts[1] not in STAGES or STAGES.index(parts[1]) > STAGES.index(stage):
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert wrong == []


def test_the_purged_splitters_import_only_common() -> None:
    for name in ("cpcv", "purging", "spans", "splitting", "walk_forward"):
        ours = {n for n in imports_of(PACKAGE / "validation" / f"{name}.py") if n.startswith("quant_assets")}
        allowed = {"cpcv", "purging", "spans", "splitting", "walk_forward"}
        assert all(n.startswith("quant_assets.common") or n.rsplit(".", 1)[1] in allowed for n in ours), name


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
    long = {str(f.relative_to(PACKAGE)): n for f in MODULES if (n := len(f.read_text().splitlines())) > 300}
    assert long == {}


def test_the_wiring_only_wires() -> None:
    assert len((PACKAGE / "definitions.py").read_text().splitlines()) <= 80
