"""Files that a universe names count in what a verdict is about: other content is another basis."""

from pathlib import Path

import pytest

from quant_assets.common.listing_settings import SpellFile
from quant_assets.common.universe_settings import ActionsConfig
from quant_assets.lineage.configured import load_settings
from quant_assets.lineage.scope import Scope, basis_of, files_behind


@pytest.fixture
def scope() -> Scope:
    settings = load_settings()
    strategy = settings.strategies["pure_noise"]
    return Scope(settings, settings.universe_of(strategy), strategy)


def naming(scope: Scope, folder: Path) -> Scope:
    files = {
        "actions": ActionsConfig(path=str(folder / "actions.csv")),
        "listings": SpellFile(kind="csv", path=str(folder / "listings.csv")),
        "memberships": SpellFile(kind="csv", path=str(folder / "memberships.csv")),
    }
    return Scope(scope.settings, scope.bars.model_copy(update=files), scope.strategy)


@pytest.mark.parametrize("name", ["actions", "listings", "memberships"])
def test_another_line_in_a_file_is_another_basis(scope: Scope, tmp_path: Path, name: str) -> None:
    for each in ("actions", "listings", "memberships"):
        (tmp_path / f"{each}.csv").write_text("as it was")
    named = naming(scope, tmp_path)
    before = basis_of(named)
    (tmp_path / f"{name}.csv").write_text("with a line that was invented")
    after = basis_of(named)
    assert before["configuration"] != after["configuration"]
    assert {key for key, value in before["files"].items() if after["files"][key] != value} == {name}


def test_a_universe_without_files_has_the_basis_that_it_had(scope: Scope) -> None:
    assert files_behind(scope.bars) == {}
    assert "files" not in basis_of(scope)


def test_a_file_that_is_not_there_is_told_by_what_reads_it(scope: Scope, tmp_path: Path) -> None:
    assert set(files_behind(naming(scope, tmp_path).bars).values()) == {"absent"}
