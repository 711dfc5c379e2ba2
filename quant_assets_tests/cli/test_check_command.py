"""``quant-assets check``: what is shown of a run of checks, and the report for CI."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.cli.run_commands import show_checks, write_junit
from quant_assets.lineage.declaring import CheckOutcome, CheckRun

RUN = CheckRun(
    (
        CheckOutcome("edge/bundle", "signed", "passed", "ERROR", "by the configured key"),
        CheckOutcome("edge/bars", "gaps", "failed", "WARN", "two sessions without a bar"),
        CheckOutcome("edge/paths", "sharpe", "failed", "ERROR", "0.3, required is >= 1.2 [annual]"),
        CheckOutcome("edge/drift", "recent", "no verdict", "ERROR", "the check crashed"),
    )
)


def test_the_table_has_every_check_and_ends_with_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    show_checks(RUN)
    shown = capsys.readouterr().out
    for outcome in RUN.results:
        line = next(line for line in shown.splitlines() if outcome.asset in line)
        assert outcome.check in line
        assert outcome.outcome in line
    assert shown.splitlines()[-1] == "1 passed, 2 failed, 1 no verdict; exit code 2"


def test_junit_has_a_failure_for_a_failed_error_and_an_error_for_no_verdict(tmp_path: Path) -> None:
    write_junit(RUN, tmp_path / "checks.xml")
    suite = ElementTree.parse(tmp_path / "checks.xml").getroot()
    assert suite.attrib == {"name": "asset checks", "tests": "4"}
    found = [(case.get("name"), [(child.tag, child.get("message")) for child in case]) for case in suite]
    assert found == [
        ("signed", []),
        ("gaps", []),
        ("sharpe", [("failure", "0.3, required is >= 1.2 [annual]")]),
        ("recent", [("error", "the check crashed")]),
    ]


@pytest.mark.parametrize(
    ("command", "option"),
    [("check", "--json"), ("check", "--junit"), ("run", "--json"), ("calibrate", "--json")],
)
def test_a_report_in_a_folder_that_is_not_there_is_wrong_usage_before_any_work(
    command: str, option: str, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, [command, option, str(tmp_path / "absent" / "report")])
    assert result.exit_code == 2
    assert option in result.stderr
    assert not any(tmp_path.iterdir())
