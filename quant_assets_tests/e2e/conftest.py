"""One materialised lineage, built once for all test processes, and a private copy for each test that changes it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from quant_assets_tests.e2e.lineage import Lineage, lineage_in


@pytest.fixture(scope="session")
def built_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder in which both strategies have run once. Read-only by agreement.

    Built by the test process that comes first; the others wait, and read a copy of their own.
    """
    workers = hasattr(request.config, "workerinput")
    base = tmp_path_factory.getbasetemp()
    first = (base.parent if workers else base) / "first-lineage"
    with FileLock(f"{first}.lock"):
        whole = first.with_suffix(".whole")  # MLflow knows the folder by its path: it is built where it stays
        if not whole.exists():
            shutil.rmtree(first, ignore_errors=True)
            first.mkdir()
            with lineage_in(first) as lineage:
                outcomes = lineage.run("edge", "noise")
            assert [o.decision for o in outcomes] == ["promoted", "refused"], outcomes
            whole.touch()
    folder = tmp_path_factory.mktemp("lineage") / "copy"
    shutil.copytree(first, folder)
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
