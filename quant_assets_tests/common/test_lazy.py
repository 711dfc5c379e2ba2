"""Names that a package passes on when they are asked for."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOM = '''"""A room."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from lazy_room import inner
    from lazy_room.rule import judge
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = ["inner", "judge"]
'''


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "lazy_room"
    folder.mkdir()
    (folder / "__init__.py").write_text(ROOM)
    (folder / "rule.py").write_text("def judge() -> int:\n    return 1\n")
    (folder / "inner.py").write_text("VALUE = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    for name in [n for n in sys.modules if n.partition(".")[0] == "lazy_room"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def test_a_module_is_loaded_when_one_of_its_names_is_asked_for_and_not_before(room: Path) -> None:
    package = importlib.import_module("lazy_room")
    assert "lazy_room.rule" not in sys.modules
    assert dir(package).count("judge") == 1
    assert package.judge() == 1
    assert "lazy_room.rule" in sys.modules
    assert vars(package)["judge"] is package.judge
    assert "lazy_room.inner" not in sys.modules
    assert package.inner.VALUE == 2


def test_only_what_is_listed_is_passed_on(room: Path) -> None:
    package = importlib.import_module("lazy_room")
    with pytest.raises(AttributeError, match="'lazy_room' has no attribute 'rules'"):
        package.rules  # noqa: B018
    assert not hasattr(package, "__wrapped__")


@pytest.mark.parametrize(
    "source",
    [
        "from lazy_room import judge\n\ndef work():\n    return judge()\n",
        "import lazy_room\n\ndef work():\n    return lazy_room.judge()\n",
    ],
    ids=["by name", "through the package"],
)
def test_a_name_that_is_passed_on_counts_in_the_fingerprint_of_who_uses_it(room: Path, source: str) -> None:
    (room / "user.py").write_text(source)
    before = fingerprint(room.parent)
    assert fingerprint(room.parent) == before
    (room / "rule.py").write_text("def judge() -> int:\n    return 1 + 1\n")
    assert fingerprint(room.parent) != before


def fingerprint(folder: Path) -> str:
    """Of ``lazy_room.user.work``, in an interpreter that has read nothing yet."""
    program = (
        "from lazy_room.user import work; from quant_assets.common.provenance import closure_of; "
        "print(closure_of(work).digest)"
    )
    path = os.pathsep.join([str(folder), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
