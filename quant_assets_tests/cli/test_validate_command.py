"""``quant-assets validate`` as a user types it."""

import dataclasses
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from quant_assets.cli.run_commands import show_validation, validate
from quant_assets.common.errors import ConfigurationError, EvidenceError
from quant_assets.gates.baseline_comparison import Validation
from quant_assets_tests.gates.test_baseline_comparison import candidate


def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(validate)
    return made


def test_the_command_explains_itself_with_its_exit_codes() -> None:
    # typer wraps and colours its help; the words are what counts
    answer = CliRunner().invoke(app(), ["--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert answer.exit_code == 0
    for words in ("--baseline", "--json", "Exit code 0", "quant-assets validate --strategy planted_edge"):
        assert words in answer.output


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--strategy", "nobody"], ConfigurationError),
        (["--strategy", "planted_edge"], EvidenceError),  # nothing was run in this home
        (["--strategy", "planted_edge", "--baseline", "absent.json"], EvidenceError),
    ],
    ids=["unknown strategy", "no candidate", "no baseline"],
)
def test_without_evidence_the_command_ends_in_an_error_that_main_turns_into_exit_code_2(
    arguments: list[str], error: type[Exception]
) -> None:
    answer = CliRunner().invoke(app(), arguments)
    assert isinstance(answer.exception, error)


def test_a_json_file_in_a_folder_that_does_not_exist_is_wrong_usage(tmp_path: Path) -> None:
    answer = CliRunner().invoke(
        app(), ["--strategy", "planted_edge", "--json", str(tmp_path / "absent" / "out.json")]
    )
    assert answer.exit_code == 2
    assert "no folder" in answer.output


def test_the_table_shows_gates_without_a_verdict_and_the_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    made = candidate(1.0)
    show_validation(Validation(dataclasses.replace(made, verdicts=made.verdicts[:-1])))
    shown = capsys.readouterr().out
    assert "feature_drift" in shown
    assert "no verdict possible; exit code 2" in shown
    assert "cpcv_sharpe: fail: it holds" in shown
