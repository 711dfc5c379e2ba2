"""A broken file of one universe or strategy leaves out what uses it, and nothing else."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.common.errors import ConfigurationError, QuantAssetsError
from quant_assets.definitions import build_definitions
from quant_assets.lineage.configured import Settings, load_settings
from quant_assets.lineage.graph import Lineage

SHIPPED = Path(__file__).resolve().parents[2] / "configs"
UNIVERSE = "source: {kind: bokeh_sampledata}\nstart: 2000-01-03\nend: 2001-01-03\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "configs"))


def read(folder: Path) -> Settings:
    return load_settings(folder, folder.parent / "home")


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_a_broken_universe_leaves_out_itself_and_the_strategies_on_it(folder: Path) -> None:
    write(folder / "universes/us_tech.yaml", "source: {kind: bokeh_sampledata\n")
    settings = read(folder)
    assert sorted(settings.universes) == ["synthetic_edge", "synthetic_noise"]
    assert sorted(settings.strategies) == ["planted_edge", "pure_noise"]
    assert [(p.kind, p.name) for p in settings.left_out] == [
        ("universe", "us_tech"),
        ("strategy", "us_tech_daily"),
    ]
    assert "us_tech.yaml, line" in str(settings.left_out[1].error)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("strategies/loose.yaml", "universe: us_tech\ngates: {sharpe_min: 0.1}\n", "sharpe_min"),
        ("strategies/cheap.yaml", "universe: us_tech\ncosts: {commission_bps: 0}\n", "commission_bps"),
        ("strategies/lost.yaml", "universe: us_teck\n", "did you mean 'us_tech'"),
        ("strategies/short.yaml", "universe: us_tech\nholdout_sessions: 21\n", "drift.window_sessions"),
        ("strategies/us_tech.yaml", "universe: us_tech\n", "a name that no universe has"),
        ("universes/gates.yaml", UNIVERSE, "key 'name'"),
        ("universes/odd.yaml", UNIVERSE + "calender: XNYS\n", "did you mean 'calendar'"),
        ("universes/Odd name.yaml", UNIVERSE, "Odd name"),
        ("universes/rules.yaml", UNIVERSE + "quality: {severity: {no_such_rule: WARN}}\n", "no_such_rule"),
    ],
)
def test_one_broken_file_is_told_with_its_name_and_the_three_shipped_strategies_stay(
    folder: Path, file: str, text: str, said: str
) -> None:
    write(folder / file, text)
    settings = read(folder)
    assert sorted(settings.strategies) == ["planted_edge", "pure_noise", "us_tech_daily"]
    (problem,) = settings.left_out
    assert problem.name == Path(file).stem
    assert said in str(problem.error)
    assert file in str(problem.error)


def test_a_name_that_an_added_file_takes_again_stays_with_the_configuration_folder(folder: Path) -> None:
    write(folder.parent / "home/configs/universes/us_tech.yaml", UNIVERSE)
    write(folder.parent / "home/configs/universes/pure_noise.yaml", UNIVERSE)
    settings = read(folder)
    assert settings.universes["us_tech"].symbols == ("AAPL", "GOOG", "IBM", "MSFT")
    assert sorted(settings.strategies) == ["planted_edge", "pure_noise", "us_tech_daily"]
    assert [(p.kind, p.name) for p in settings.left_out] == [
        ("universe", "us_tech"),
        ("universe", "pure_noise"),
    ]
    settings.require("us_tech")  # the configured one can be used


@pytest.mark.parametrize("name", ["gates.yaml", "monitoring.yaml"])
def test_what_is_everyones_stays_fatal(folder: Path, name: str) -> None:
    write(folder / name, "no_such_key: 1\n")
    with pytest.raises(ConfigurationError, match=f"{name}, key 'no_such_key'"):
        read(folder)


def test_whoever_asks_for_what_was_left_out_gets_its_own_error(folder: Path) -> None:
    write(folder / "strategies/loose.yaml", "universe: us_tech\ngates: {sharpe_min: 0.1}\n")
    with pytest.raises(ConfigurationError, match=r"loose\.yaml.*sharpe_min"):
        Lineage(read(folder)).scope("loose")


def test_the_code_location_loads_the_others_and_shows_what_is_left_out(folder: Path) -> None:
    write(folder / "strategies/loose one.yaml", "universe: us_tech\ngates: {sharpe_min: 0.1}\n")
    graph = build_definitions(read(folder)).resolve_asset_graph()
    (shown,) = [key for key in graph.get_all_asset_keys() if key.path[0] == "left_out"]
    assert shown.path == ["left_out", "0_strategy_loose_one"]
    assert "loose one.yaml" in (graph.get(shown).description or "")
    assert any(key.path == ["us_tech_daily", "promotion"] for key in graph.get_all_asset_keys())


def test_commands_name_it_and_those_of_others_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "strategies/loose.yaml", "universe: us_tech\ngates: {sharpe_min: 0.1}\n")
    write(folder / "universes/broken.yaml", UNIVERSE + "calendar: XNYX\n")
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(folder))
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(folder.parent / "home"))
    shown = CliRunner().invoke(app, ["config", "validate"])
    assert shown.exit_code == 2
    assert "loose.yaml" in shown.stderr
    assert "did you mean 'XNYS'" in shown.stderr
    assert CliRunner().invoke(app, ["config", "show"]).exit_code == 0
    asked = CliRunner().invoke(app, ["run", "-s", "loose"])
    assert isinstance(asked.exception, QuantAssetsError)
    assert "loose.yaml" in str(asked.exception)
