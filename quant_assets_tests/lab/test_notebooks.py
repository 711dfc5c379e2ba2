"""The notebooks of the docs run, and show what they say they show."""

from pathlib import Path

import nbformat
import pytest

from quant_assets_tests.lab.notebooks import NOTEBOOKS, executed, shown

FILES = sorted(NOTEBOOKS.glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [file.stem for file in FILES] == ["a_first_look"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_notebook_shows_what_is_stored_in_it(file: Path, tmp_path: Path) -> None:
    stored = shown(nbformat.read(file, as_version=4))
    assert stored, "run python -m quant_assets_tests.lab.notebooks"
    assert shown(executed(file, tmp_path)) == stored
