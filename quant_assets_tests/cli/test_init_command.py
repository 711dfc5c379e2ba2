"""``quant-assets init``: a project whole or not at all."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.common.errors import QuantAssetsError
from quant_assets.common.places import shipped_configs, shipped_project
from quant_assets.lineage.configured import load_settings, require_whole
from quant_assets.lineage.requirements import required_history
from quant_assets.market.calendar import sessions
from quant_assets_tests.wheel import CHECKOUT


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to type commands in."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def init(*arguments: str) -> str:
    """What the command said; its error where it refused."""
    result = CliRunner().invoke(app, ["init", *arguments])
    if isinstance(result.exception, QuantAssetsError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def daily_bars(file: Path, names: int = 4, start: str = "2022-01-03", end: str = "2023-12-29") -> Path:
    """Bars of New York by arithmetic alone."""
    days = sessions("XNYS", pl.Series([start]).str.to_date()[0], pl.Series([end]).str.to_date()[0])
    rows = [
        {
            "symbol": f"N{name}",
            "session": day,
            "open": close - 0.1,
            "high": close + 0.5,
            "low": close - 0.5,
            "close": close,
            "volume": 100_000 + 1_000 * ((number * (name + 3)) % 17),
        }
        for name in range(names)
        for number, day in enumerate(days)
        for close in [50.0 + 10 * name + ((number * (name + 7)) % 29) / 10]
    ]
    pl.DataFrame(rows).write_csv(file)
    return file


def test_a_project_has_a_package_its_tests_a_configuration_and_a_workflow(place: Path) -> None:
    said = init("momentum_desk")
    made = place / "momentum_desk"
    assert sorted(entry.name for entry in made.iterdir()) == [
        ".github", ".gitignore", "Makefile", "README.md", "configs", "momentum_desk", "momentum_desk_tests",
        "pyproject.toml", "workspace.yaml",
    ]  # fmt: skip
    assert said.splitlines()[-2:] == ["  cd momentum_desk", "  make check"]
    project = tomllib.loads((made / "pyproject.toml").read_text())
    assert project["project"]["name"] == "momentum-desk"
    assert project["project"]["dependencies"] == ["quant-assets>=0.1.0,<0.2"]
    dg = project["tool"]["dg"]["project"]
    assert (dg["root_module"], dg["code_location_target_module"]) == (
        "momentum_desk", "quant_assets.definitions",
    )  # fmt: skip
    for file in [f for f in made.rglob("*") if f.is_file()]:
        assert "my_desk" not in file.read_text(), file
        assert "my-desk" not in file.read_text(), file


def test_every_module_of_the_package_has_a_test(place: Path) -> None:
    init("my_desk")
    own = {f.stem for f in (place / "my_desk" / "my_desk").glob("*.py")} - {"__init__"}
    assert own == {"features", "labels", "models", "sizing", "costs", "gates", "sources"}
    tested = {f.stem for f in (place / "my_desk" / "my_desk_tests").glob("test_*.py")}
    assert tested == {f"test_{name}" for name in own}


def test_the_limits_are_those_that_ship_and_are_kept_in_one_place(place: Path) -> None:
    init("my_desk")
    for name in ("gates.yaml", "monitoring.yaml"):
        assert not (shipped_project() / "configs" / name).exists()
        copied = (place / "my_desk" / "configs" / name).read_bytes()
        assert copied == (shipped_configs() / name).read_bytes()


def test_bars_become_the_universe_of_the_strategy_and_lie_in_the_project(place: Path) -> None:
    bars = daily_bars(place / "prices.csv")
    said = init("my_desk", "--from", "prices.csv", "--calendar", "XNYS")
    assert "4 names, 501 sessions, 2022-01-03 to 2023-12-29" in said
    assert "calendar XNYS: the same days" in said
    assert said.splitlines()[-2:] == ["  cd my_desk", "  make check"]
    configs = place / "my_desk" / "configs"
    assert [f.name for f in (configs / "universes").iterdir()] == ["prices.yaml"]
    assert [f.name for f in (configs / "strategies").iterdir()] == ["own_parts.yaml"]
    universe = yaml.safe_load((configs / "universes" / "prices.yaml").read_text())
    assert universe["source"] == {"kind": "csv", "path": "data/prices.csv"}
    assert yaml.safe_load((configs / "strategies" / "own_parts.yaml").read_text())["universe"] == "prices"
    assert (place / "my_desk" / "data" / "prices.csv").read_bytes() == bars.read_bytes()


def test_the_example_strategy_needs_what_the_tutorial_says(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init("yy_desk")
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(place / "yy_desk" / "configs"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    settings = require_whole(load_settings(home=place))
    needed = required_history(settings.strategies["own_parts"], settings)
    assert (needed.sessions, needed.names) == (444, 2)
    assert (needed.sessions_to_promote, needed.names_to_promote) == (633, 4)
    tutorial = (CHECKOUT / "infra" / "docs" / "tutorial.md").read_text()
    assert (
        "on 444 sessions of 2 names or more, and can be promoted from 633 sessions of 4 names on" in tutorial
    )


def test_where_several_calendars_fit_one_is_asked_for_and_nothing_written(place: Path) -> None:
    daily_bars(place / "prices.csv", start="2023-11-01")
    with pytest.raises(QuantAssetsError, match="say which it is: --calendar"):
        init("my_desk", "--from", "prices.csv")
    assert [entry.name for entry in place.iterdir()] == ["prices.csv"]
    init("my_desk", "--from", "prices.csv", "--exchange", "NASDAQ")
    universe = yaml.safe_load((place / "my_desk" / "configs" / "universes" / "prices.yaml").read_text())
    assert universe["calendar"] == "XNYS"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Desk", "no such name"),
        ("my-desk", "no such name"),
        ("2desk", "no such name"),
        ("class", "no such name"),
        ("d", "no such name"),
        ("numpy", "an installed module numpy"),
        ("json", "an installed module json"),
        ("quant_assets", "an installed module quant_assets"),
        ("configs", "another folder of the project"),
        ("data", "another folder of the project"),
        ("my_desk_tests", "another folder of the project"),
    ],
)
def test_a_name_that_can_be_no_package_or_is_one_already_is_refused(
    place: Path, name: str, says: str
) -> None:
    with pytest.raises(QuantAssetsError, match=says):
        init(name)
    assert list(place.iterdir()) == []


def test_what_is_there_is_never_written_over(place: Path) -> None:
    (place / "my_desk").mkdir()
    (place / "my_desk" / "mine.txt").write_text("mine")
    with pytest.raises(QuantAssetsError, match="1 files and folders in it"):
        init("my_desk")
    assert [entry.name for entry in (place / "my_desk").iterdir()] == ["mine.txt"]
    (place / "taken").write_text("a file")
    with pytest.raises(QuantAssetsError, match="found a file"):
        init("taken")
    with pytest.raises(QuantAssetsError, match="no folder"):
        init("nowhere/my_desk")
    (place / "other").mkdir()
    init("other")  # an empty folder is as good as none
    assert (place / "other" / "Makefile").is_file()


def test_no_project_is_made_in_a_project(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init("my_desk")
    monkeypatch.chdir(place / "my_desk")
    for folder in ("another", "configs/another", "."):
        with pytest.raises(QuantAssetsError, match=f"a project already: {place}"):
            init(folder)
    monkeypatch.chdir(place)
    with pytest.raises(QuantAssetsError, match="a project already"):
        init("my_desk")
    (place / "empty").mkdir()
    monkeypatch.chdir(place / "empty")
    with pytest.raises(QuantAssetsError, match="the folder that you are in"):
        init(".")


def test_a_file_that_cannot_be_adopted_leaves_nothing_behind(place: Path) -> None:
    (place / "prices.csv").write_text("what,is,this\n1,2,3\n")
    with pytest.raises(QuantAssetsError):
        init("my_desk", "--from", "prices.csv")
    with pytest.raises(QuantAssetsError, match="no such file"):
        init("my_desk", "--from", "price.csv")
    assert [entry.name for entry in place.iterdir()] == ["prices.csv"]


def test_what_fails_at_the_last_step_leaves_nothing_behind(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Path:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(QuantAssetsError, match="No space left"):
        init("my_desk")
    assert list(place.iterdir()) == []


def test_options_of_a_file_ask_for_a_file(place: Path) -> None:
    refused = CliRunner().invoke(app, ["init", "my_desk", "--calendar", "XNYS"])
    assert refused.exit_code == 2
    assert "goes with --from" in refused.output


def test_the_example_keeps_its_own_lint_rules_under_any_name(place: Path) -> None:
    init("zz_desk")
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "zz_desk"]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
