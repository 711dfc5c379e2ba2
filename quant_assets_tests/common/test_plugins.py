"""Code of a desk's own, by name."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.plugins import Plugin, forget_edited


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a module of its own beside its configuration."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "own_desk").mkdir()
    (tmp_path / "own_desk" / "__init__.py").touch()
    (tmp_path / "own_desk" / "labels.py").write_text(
        "from own_desk.maths import half\n\ndef mine(x):\n    return half(x)\n"
    )
    (tmp_path / "own_desk" / "maths.py").write_text("def half(x):\n    return x / 2\n")
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget_edited(tmp_path)
    yield tmp_path
    forget_edited(tmp_path)


def test_an_object_is_found_beside_the_configuration_folder(desk: Path) -> None:
    assert Plugin.of("own_desk.labels:mine").load("a label")(5.0) == 2.5


def test_a_text_is_a_plugin_without_options() -> None:
    assert Plugin.model_validate("own_desk.labels:mine") == Plugin.of("own_desk.labels:mine")
    assert Plugin.model_validate({"use": "a:b", "options": {"n": 3}}).options == {"n": 3}


@pytest.mark.parametrize("text", ["Own Desk", "a:b:c", "a.b:", ":b", "../a:b", "a-b:c", ""])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Plugin.of(text)


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("own_desk.lables:mine", "no module named 'own_desk.lables'"),
        ("no_desk.labels:mine", "no module named 'no_desk'"),
        ("own_desk.labels:mime", "did you mean 'mine'"),
        ("unheard_of", "none is installed"),
    ],
)
def test_a_reference_to_nothing_says_what_is_there(desk: Path, reference: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Plugin.of(reference).load("a label")


def test_a_module_that_fails_to_import_gives_its_own_error(desk: Path) -> None:
    (desk / "own_desk" / "broken.py").write_text("import nothing_of_the_kind\n")
    with pytest.raises(ConfigurationError, match="No module named 'nothing_of_the_kind'"):
        Plugin.of("own_desk.broken:mine").load("a label")


def test_the_digest_is_that_of_the_code_behind_the_object_and_of_its_options(desk: Path) -> None:
    plugin = Plugin.of("own_desk.labels:mine")
    before = plugin.digest
    assert plugin.digest == before
    assert Plugin(use=plugin.use, options={"n": 1}).digest != before
    (desk / "own_desk" / "maths.py").write_text("def half(x):\n    return x / 2.0 + 0\n")
    forget_edited(desk)
    assert plugin.digest != before


def test_what_was_edited_added_or_is_read_beside_a_module_counts_once_it_is_forgotten(desk: Path) -> None:
    """A notebook lives on while its modules change: a file that was not there is found, and data that it names."""
    reference = Plugin.of("own_desk.later:tilted")
    with pytest.raises(ConfigurationError, match="no module of that name"):
        reference.require_source()
    (desk / "own_desk" / "later.py").write_text("def tilted():\n    return open('tilts.csv').read()\n")
    (desk / "own_desk" / "tilts.csv").write_text("1")
    forget_edited(desk)
    reference.require_source()
    before = reference.digest
    (desk / "own_desk" / "tilts.csv").write_text("2")
    forget_edited(desk)
    assert reference.digest != before
