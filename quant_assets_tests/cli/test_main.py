"""What the command itself answers: its version, misspelt words, completion, the demo."""

from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quant_assets.cli import demo_command
from quant_assets.cli.main import app
from quant_assets.common.errors import ConfigurationError


def test_the_version_is_that_of_the_package() -> None:
    said = CliRunner().invoke(app, ["--version"])
    assert (said.exit_code, said.output) == (0, f"quant-assets {version('quant-assets')}\n")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["rum"], "Did you mean 'run'?"),
        (["config", "shw"], "Did you mean 'show'?"),
        (["check", "--stratgy", "x"], "Did you mean '--strategy'?"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_closest_one_once(typed: list[str], meant: str) -> None:
    said = CliRunner().invoke(app, typed)
    assert said.exit_code == 2
    assert said.output.count("Did you mean") == 1
    assert meant in " ".join(said.output.split())


@pytest.mark.parametrize(
    "command", [["run", "-s"], ["check", "-s"], ["validate", "-s"], ["promotion", "show"]]
)
def test_a_misspelt_strategy_is_answered_with_the_closest_one(command: list[str]) -> None:
    said = CliRunner().invoke(app, [*command, "planted_egde"])
    assert isinstance(said.exception, ConfigurationError)
    assert "did you mean 'planted_edge'?" in str(said.exception)


def test_a_shell_completes_commands() -> None:
    asked = {"_QUANT_ASSETS_COMPLETE": "complete_bash", "COMP_WORDS": "quant-assets con", "COMP_CWORD": "1"}
    said = CliRunner().invoke(app, prog_name="quant-assets", env=asked)
    assert said.output.split() == ["config"]


def test_the_demo_runs_the_strategies_that_ship(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(demo_command, "run", lambda **options: asked.update(options))
    assert CliRunner().invoke(app, ["demo"]).exit_code == 0
    assert asked == {"strategy": ["planted_edge", "pure_noise", "us_tech_daily"]}


def test_the_demo_does_not_run_by_another_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(tmp_path))
    said = CliRunner().invoke(app, ["demo"])
    assert isinstance(said.exception, ConfigurationError)
    assert "without QUANT_ASSETS_CONFIGS" in str(said.exception)
