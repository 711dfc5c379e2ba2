"""One materialised lineage, built once, and a private copy of it for each test that changes something."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from quant_assets_tests.e2e.lineage import Lineage, lineage_in


@pytest.fixture(scope="session")
def built_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both strategies have run once. Read-only by agreement."""
    folder = tmp_path_factory.mktemp("lineage")
    with lineage_in(folder) as lineage:
        outcomes = lineage.run("edge", "noise")
    assert [o.decision for o in outcomes] == ["promoted", "refused"], outcomes
    return folder


@pytest.fixture(scope="session")
def built(built_folder: Path) -> Iterator[Lineage]:
    """The lineage as it was built: for tests that only read."""
    with lineage_in(built_folder) as lineage:
        yield lineage


@pytest.fixture
def lineage(built_folder: Path, tmp_path: Path) -> Iterator[Lineage]:
    """A private copy, for tests that change something."""
    folder = tmp_path / "copy"
    shutil.copytree(built_folder, folder)
    with lineage_in(folder) as private:
        yield private
