"""Code versions are those of the code: one changed expression behind an asset, and none elsewhere, changes it."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TypedDict

import pytest

import quant_assets
from quant_assets.common import provenance
from quant_assets.common.errors import ConfigurationError
from quant_assets.common.provenance import Closure, closure_of
from quant_assets.lineage.configured import load_settings
from quant_assets.lineage.graph import Lineage

PACKAGE = Path(quant_assets.__file__).parent
LINEAGE = Lineage(load_settings(PACKAGE.parent / "configs"))


class Edited(TypedDict):
    holding: list[str]
    changed: list[str]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Edited]:
    """Every module of a copy of the package, really edited, in a process that imports the copy."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "quant_assets", ignore=ignored)
    shutil.copytree(PACKAGE.parent / "quant_assets_tests" / "lineage", folder / "edits", ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-m", "edits.edited_sources", str(PACKAGE.parent / "configs")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Edited] = json.loads(done.stdout)
    return found


@pytest.mark.drill
def test_an_edit_changes_the_code_version_of_exactly_the_assets_whose_closure_holds_it(
    report: dict[str, Edited],
) -> None:
    wrong = {place: e for place, e in report.items() if set(e["holding"]) != set(e["changed"])}
    assert wrong == {}
    assert len(report) > 150
    assert sum(bool(e["changed"]) for e in report.values()) > 120


@pytest.mark.drill
@pytest.mark.parametrize(
    ("module", "assets"),
    [
        ("quant_assets.monitoring.window_null", {"drift_baseline", "drift_report"}),
        ("quant_assets.models.xgboost_learner", {"onnx_fp32", "parity_report", "bundle"}),
        ("quant_assets.market.synthetic", {"gate_calibration", "raw_bars"}),
        ("quant_assets.statistics.overfitting", {"trial_ledger", "validation_report"}),
        ("quant_assets.common.hashing", {node.name for node in LINEAGE.nodes.values()}),
    ],
    ids=lambda value: value.rpartition(".")[2] if isinstance(value, str) else "",
)
def test_no_asset_is_reused_after_code_behind_it_has_changed(
    report: dict[str, Edited], module: str, assets: set[str]
) -> None:
    changed = {key.split("/")[1] for key in report[module]["changed"]}
    assert assets <= changed


def test_what_only_shows_results_changes_no_version_of_data(report: dict[str, Edited]) -> None:
    changed = {key.split("/")[1] for key in report["quant_assets.common.pages"]["changed"]}
    assert not changed & {
        "bars",
        "labels",
        "training_set",
        "cpcv_predictions",
        "cpcv_paths",
        "ensemble",
        "lightgbm",
    }


def test_errors_logs_and_the_measuring_of_resources_are_plumbing(report: dict[str, Edited]) -> None:
    for name in ("errors", "logging", "lazy"):
        assert report[f"quant_assets.common.{name}"]["changed"] == [], name


def test_a_kernel_is_behind_the_features_of_the_packs_that_use_it_and_of_no_other(
    report: dict[str, Edited],
) -> None:
    changed = {key.split("/")[1] for key in report["quant_assets.features.kernels.indicators"]["changed"]}
    assert "technical_features" in changed
    assert "bars" not in changed


# ------------------------------------------------------------------------------------------------ a user's own module


def closure_in(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> Closure:
    """The closure of ``desk.features:NAME`` in a new process, as another start of the platform would take it."""
    script = (
        "import json, sys\nfrom quant_assets.common.provenance import closure_of\nimport desk.features as f\n"
        f"c = closure_of(f.{name})\n"
        "print(json.dumps([c.modules, c.definitions, c.libraries, c.digest]))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(PACKAGE.parent)])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    modules, definitions, libraries, digest = json.loads(done.stdout)
    return Closure(tuple(modules), tuple(definitions), tuple(libraries), digest)


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    package = tmp_path / "desk"
    package.mkdir()
    (package / "__init__.py").write_text("from desk.windows import WINDOW\n")
    (package / "windows.py").write_text('"""Windows."""\nWINDOW = 5\nOTHER = 7\n')
    (package / "features.py").write_text(
        "import polars as pl\nfrom desk import WINDOW\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import scipy\n\n"
        "def mine(frame):\n    '''Doc.'''\n    return helper(frame, WINDOW)\n\n"
        "def helper(frame, n):\n    return frame.with_columns(pl.lit(n))\n\n"
        "def unrelated(frame):\n    import scipy.stats\n    return scipy.stats.norm.cdf(frame)\n"
    )
    return tmp_path


def test_a_users_own_function_has_the_closure_of_its_own_package(
    desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = closure_in(desk, monkeypatch, "mine")
    assert found.modules == ("desk.windows",)
    assert found.definitions == ("desk.features:helper", "desk.features:mine")
    assert [lib.partition("==")[0] for lib in found.libraries] == ["polars"]


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("windows.py", "WINDOW = 5", "WINDOW = 6", True),
        ("features.py", "pl.lit(n)", "pl.lit(n + 1)", True),
        ("features.py", "norm.cdf", "norm.sf", False),  # another function of the same module
        ("features.py", "Doc.", "Other words.", False),
        ("windows.py", '"""Windows."""', '"""Window lengths."""  # with a comment', False),
        ("features.py", "import scipy\n\n", "import numpy\n\n", False),  # for type checkers only
    ],
)
def test_what_changes_a_users_function_changes_its_version_and_nothing_else_does(
    desk: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, changes: bool
) -> None:
    before = closure_in(desk, monkeypatch, "mine").digest
    path = desk / "desk" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert (closure_in(desk, monkeypatch, "mine").digest != before) == changes


def test_a_function_that_no_module_holds_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="move it into a module"):
        closure_of(lambda frame: frame)


def test_every_version_says_how_its_data_is_hashed() -> None:
    for node in LINEAGE.nodes.values():
        assert {"quant_assets.common.store", "quant_assets.common.hashing"} <= set(node.closure.modules), (
            node.key
        )


def test_no_code_behind_an_asset_imports_a_module_by_a_computed_name() -> None:
    """What no import statement shows is in no closure; the one exception is named as a root by its stage."""
    held = {module for node in LINEAGE.nodes.values() for module in node.closure.modules}
    computed = set()
    for module in held:
        text = (PACKAGE.parent / (module.replace(".", "/") + ".py")).with_suffix("")
        file = text.with_suffix(".py") if text.with_suffix(".py").exists() else text / "__init__.py"
        if 'import_module(f"' in file.read_text() or "import_module(module" in file.read_text():
            computed.add(module)
    # The kernels of a pack, the modules of catalogues that are imported by their literal name, and what the
    # configuration names as a plug-in: the stages that it shapes have it as a root, or its digest as their identity.
    assert computed <= {
        "quant_assets.common.plugins",
        "quant_assets.features.pack", "quant_assets.gates.gate", "quant_assets.market.rules.bar_rule",
    }  # fmt: skip


def test_the_readme_shows_every_stage_as_it_is_declared() -> None:
    # In a process of its own: stages are told in the order in which their modules are imported, here by other tests.
    program = "from quant_assets.lineage.graph import stages_table; print(stages_table())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in (PACKAGE.parent / "README.md").read_text(encoding="utf-8")


# ------------------------------------------------------------------- what an edit may hide behind, in a user's module

HIDDEN = {
    "try": ("try:\n    from up.fast import f\nexcept ImportError:\n    f = None\n", "f()", "up/fast.py", "1"),
    "if": ("import sys\nif sys.platform:\n    K = 1\nelse:\n    K = 3\n", "K", "up/st.py", "K = 1"),
    "star": ("from up.fast import *\n", "f()", "up/fast.py", "1"),
    "subscript": ("T = {'a': 1}\nT['b'] = 2\n", "T['a']", "up/st.py", "'a': 1"),
    "reassigned": ("A = 1\nA = A + 3\n", "A", "up/st.py", "A = 1"),
    "added to": ("A = 3\nA += 1\n", "A", "up/st.py", "1"),
    "called": ("T = {}\nT.update(a=1)\n", "T", "up/st.py", "a=1"),
    "loop": ("T = []\nfor i in range(1):\n    T.append(i)\n", "T", "up/st.py", "1"),
    "registered": (
        "R = {}\ndef reg(f):\n    R[0] = f\n    return f\n@reg\ndef a():\n    return 1\n", "R[0]()", "up/st.py", "1",
    ),
    "two imports, one name": ("import up.fast\nimport up.other\n", "up.fast.f()", "up/fast.py", "1"),
    "own decorator called check": (
        "def check(n):\n    return lambda f: lambda: n\n@check(1)\ndef h():\n    pass\n", "h()", "up/st.py", "1",
    ),
    "annotation that is read": (
        "from pydantic import validate_call, BaseModel\nclass M(BaseModel):\n    a: int = 1\n"
        "@validate_call\ndef h(x: M):\n    return x.a\n", "h({})", "up/st.py", "1",
    ),
    "package that acts": ("import os\n", "os.environ['UP']", "up/__init__.py", "'1'"),
    "second package": ("from second.h import f\n", "f()", "second/h.py", "1"),
    "module beside": ("import beside\n", "beside.f()", "beside.py", "1"),
    "data of the function": ("from pathlib import Path\n", "Path(__file__).with_name('w.json')", "up/w.json", "1"),
    "data one folder down": ("from pathlib import Path\n", "Path('data', 'w.yaml')", "up/data/w.yaml", "1"),
    "included template": ("", "'a.j2'", "up/b.j2", "1"),
    "relative name": ("import importlib\n", "importlib.import_module('.fast', 'up').f()", "up/fast.py", "1"),
    "globals()": ("def h():\n    return 1\n", "globals()['h']()", "up/st.py", "1"),
    "namespace": ("from up.space.h import f\n", "f()", "up/space/h.py", "1"),
}  # fmt: skip


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    f = "def f():\n    return 1\n"
    files = {
        "up/__init__.py": "import os\nos.environ['UP'] = '1'\n", "up/fast.py": f, "up/other.py": f,
        "up/w.json": "1", "up/data/w.yaml": "1", "up/a.j2": "{% include 'b.j2' %}", "up/b.j2": "1",
        "up/space/h.py": f, "second/__init__.py": "", "second/h.py": f, "beside.py": f,
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def digest_now() -> str:
    for value in vars(provenance).values():
        if hasattr(value, "cache_clear") and value is not provenance._memory:
            value.cache_clear()
    importlib.invalidate_caches()
    for name in [n for n in sys.modules if n.partition(".")[0] in ("up", "second", "beside")]:
        del sys.modules[name]
    return provenance._closed(["up.st:st", "quant_assets.common.store:"], "up.st").digest


@pytest.mark.parametrize("case", HIDDEN)
def test_no_form_of_a_users_code_hides_an_edit(source: Path, case: str) -> None:
    before, returned, file, edited = HIDDEN[case]
    (source / "up" / "st.py").write_text(f"{before}\ndef st(x):\n    return {returned}\n")
    first = digest_now()
    text = (source / file).read_text()
    assert edited in text
    (source / file).write_text(text.replace(edited, edited.replace("1", "12"), 1))
    assert digest_now() != first


def test_the_code_of_a_plug_in_is_behind_the_report_that_it_judges_in(source: Path) -> None:
    (source / "up" / "st.py").write_text("def st(x):\n    return x\n")

    def digest() -> str:
        digest_now()
        return provenance._closed(
            ["quant_assets.lineage.artifact:by_pack", "beside:"], "quant_assets.x"
        ).digest

    before = digest()
    (source / "beside.py").write_text("def f():\n    return 2\n")
    assert digest() != before


def test_the_same_bytes_in_another_package_import_from_there(source: Path) -> None:
    for name in ("one", "two"):
        folder = source / "up" / name
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        (folder / "g.py").write_text("from .h import f\n\n\ndef go():\n    return f()\n")
        (folder / "h.py").write_text("def f():\n    return 1\n")
    (source / "up" / "st.py").write_text("def st(x):\n    return x\n")
    digest_now()
    assert "up.one.h" in provenance._closed(["up.one.g:"], "up").modules
    assert "up.two.h" in provenance._closed(["up.two.g:"], "up").modules


@pytest.mark.parametrize("damage", ["null", "[1]", "5", "{broken", '{"x": 1}'])
def test_a_damaged_memory_is_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    (tmp_path / "sources.json").write_text(damage)
    monkeypatch.setattr(provenance, "_memory_file", lambda: tmp_path / "sources.json")
    provenance._memory.cache_clear()
    assert isinstance(provenance._memory(), dict)
    assert not any(provenance._is_source(wrong) for wrong in (None, 5, [], ["a", 1, [], [], True]))
