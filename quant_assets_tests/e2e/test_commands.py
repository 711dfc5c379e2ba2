"""The ``quant-assets`` command as a user types it."""

import json
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.common.errors import QuantAssetsError
from quant_assets.common.logging import configure_logging
from quant_assets.market.sources.sources import read_bars
from quant_assets_tests.e2e.lineage import Lineage, small_proof


@dataclass(frozen=True)
class Said:
    """What a command ended with."""

    returncode: int
    stdout: str
    stderr: str


class Desk:
    """The command in this process: starting another takes longer than what most commands do."""

    def __init__(self, lineage: Lineage) -> None:
        self.lineage = lineage

    def __call__(self, *arguments: str) -> Said:
        """A platform error is code 2, as ``main`` makes it."""
        try:
            with small_proof():
                result = CliRunner().invoke(app, arguments)
        finally:
            configure_logging(level=logging.WARNING)
        if isinstance(result.exception, QuantAssetsError):
            return Said(2, result.stdout, result.stderr + str(result.exception))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def desk(lineage: Lineage, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """The built lineage as a home of its own, whose configuration folder is beside it."""
    home = lineage.folder / "home"
    home.mkdir()
    for name in ("artifacts", "dagster", "keys", "mlflow.db", "promotions", "trials", "reports", "objects"):
        if (lineage.folder / name).exists():
            (lineage.folder / name).rename(home / name)
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(home))
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(lineage.configs))
    return Desk(lineage)


def as_a_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a shell starts it, with its error of the platform and without a traceback."""
    command = [sys.executable, "-m", "quant_assets.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_config_show_prints_every_setting_as_json(desk: Desk) -> None:
    shown = desk("config", "show")
    assert shown.returncode == 0
    assert json.loads(shown.stdout)["gates"]["sharpe_min"] == 1.2


def test_config_validate_names_file_key_and_the_closest_key(desk: Desk) -> None:
    assert as_a_process("config", "validate").returncode == 0
    (desk.lineage.configs / "gates.yaml").write_text("sharp_min: 1.2")
    broken = as_a_process("config", "validate")
    assert broken.returncode == 2
    assert "gates.yaml, key 'sharp_min'" in broken.stderr
    assert "did you mean 'sharpe_min'" in broken.stderr
    assert "Traceback" not in broken.stderr


def test_run_of_an_unknown_strategy_lists_the_known_ones(desk: Desk) -> None:
    unknown = desk("run", "--strategy", "nois")
    assert unknown.returncode == 2
    assert "edge, noise" in unknown.stderr
    unlike = desk("run", "--universe-file", "anything.csv", "--like", "nois")
    assert unlike.returncode == 2
    assert "option --like" in unlike.stderr


def test_run_reuses_everything_and_ends_with_the_verdicts_and_exit_code_0(desk: Desk, tmp_path: Path) -> None:
    verdicts = tmp_path / "verdicts.json"
    done = desk("run", "-s", "edge", "-s", "noise", "--json", str(verdicts))
    assert done.returncode == 0, done.stdout + done.stderr
    assert " computed " not in done.stdout
    for text in (
        "reused",
        "cpcv_deflated_sharpe",
        "edge: promoted",
        "noise: refused",
        "quant-assets ui",
        ".html",
    ):
        assert text in done.stdout
    edge, noise = json.loads(verdicts.read_text())
    assert (edge["decision"], noise["decision"]) == ("promoted", "refused")
    assert len(noise["verdicts"]) == 10


def test_check_exits_0_when_all_pass_1_on_an_error_and_2_without_a_verdict(
    desk: Desk, tmp_path: Path
) -> None:
    junit = tmp_path / "checks.xml"
    passed = desk("check", "-s", "edge", "--junit", str(junit), "--json", str(tmp_path / "checks.json"))
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert len(ElementTree.parse(junit).getroot()) == len(
        json.loads((tmp_path / "checks.json").read_text())["results"]
    )
    failed = desk("check", "-s", "noise", "--junit", str(junit))
    assert failed.returncode == 1
    assert ElementTree.parse(junit).getroot().findall(".//failure")
    assert desk("check", "-s", "nothing").returncode == 2
    for file in (desk.lineage.folder / "home" / "artifacts" / "objects").glob("*/*"):
        file.write_bytes(b"")
    assert desk("check", "-s", "edge").returncode == 2


def test_a_universe_file_becomes_a_strategy_of_its_own(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "My bars.2017.parquet"
    bars = read_bars(desk.lineage.settings.universes["noise_market"]).bars.drop("adj_close")
    bars.rename({"session": "Date", "symbol": "ticker"}).write_parquet(file)
    done = desk("run", "--universe-file", str(file), "--like", "noise")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "my_bars_daily" in done.stdout
    assert "my_bars_daily: refused" in done.stdout
    adopted = desk.lineage.folder / "home" / "configs" / "strategies" / "my_bars_daily.yaml"
    assert "universe: my_bars" in adopted.read_text()


def test_a_universe_file_that_breaks_the_contract_writes_no_configuration(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    file.write_text("symbol,date,open,high,low,volume\nA,2020-01-02,1,2,1,5\n")
    broken = desk("run", "--universe-file", str(file), "--like", "noise")
    assert broken.returncode == 2
    assert "close" in broken.stderr
    assert not (desk.lineage.folder / "home" / "configs").exists()


def test_every_command_has_help_with_an_example(desk: Desk) -> None:
    for command in (["run"], ["check"], ["config", "show"], ["config", "validate"]):
        shown = desk(*command, "--help")
        assert shown.returncode == 0
        assert "Example: quant-assets" in " ".join(shown.stdout.split()), command
