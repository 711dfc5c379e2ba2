"""The one terminal: tables, statuses, errors, progress and JSON files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import typer

from quant_assets.cli import main as entry
from quant_assets.cli.terminal import (
    STYLES,
    json_text,
    out,
    require_folder,
    show_error,
    show_events,
    show_text,
    styled,
    table_of,
    verdict_cells,
    write_json,
)
from quant_assets.common.errors import StoreError
from quant_assets.gates.verdicts import Verdict

VERDICT = Verdict("cpcv_sharpe", "5" * 64, "fail", 0.123456, 1.2, ">=", "too low", "trade better")


@pytest.fixture
def events() -> Iterator[Any]:
    before = structlog.get_config()
    show_events()
    yield structlog.get_logger()
    structlog.configure(**before)


def test_an_option_is_no_name_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="the name of a file is missing, --strategy follows"):
        require_folder(Path("--strategy"), "--json")
    require_folder(tmp_path / "--strategy", "--json")
    require_folder(None, "--json")


def test_a_table_in_a_pipe_has_room_and_shows_brackets_as_they_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = table_of("bars[2001]", ("name", "number"), right=("number",))
    table.add_row("a" * 100, "1")
    table.add_row("b", "22")
    out().print(table)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "bars[2001]"
    assert any("a" * 100 in line for line in lines)
    assert {line.rstrip(" │").rpartition(" ")[2] for line in lines if "│" in line} == {"1", "22"}
    assert len({len(line.rstrip()) for line in lines[1:]}) == 1


def test_a_status_has_its_colour_and_an_unknown_one_is_neither_good_nor_bad() -> None:
    assert styled("pass") == "[green]pass[/]"
    assert styled("failed", "yellow") == "[yellow]failed[/]"
    assert styled("refused") == "[yellow]refused[/]"
    assert {STYLES[s] for s in ("fail", "failed", "no verdict", "error", "other bits")} == {"red"}


def test_a_verdict_shows_what_was_observed_against_what_is_required() -> None:
    assert verdict_cells(VERDICT) == ("cpcv_sharpe", "[red]fail[/]", "0.1235", ">= 1.2")


def test_an_error_is_one_message_on_the_error_stream(capsys: pytest.CaptureFixture[str]) -> None:
    message = "expected [red] and :warning:, " + "found a long line, " * 20
    show_error(message, "refused")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"refused {message}\n"


def test_a_platform_error_ends_the_command_with_code_2_and_an_interrupt_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = StoreError("object ab", expected="its bytes", found="none", action="restore it")
    for error, code in ((lost, 2), (KeyboardInterrupt(), 130)):

        def broken(error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(entry, "app", broken)
        with pytest.raises(SystemExit) as ended:
            entry.main()
        assert ended.value.code == code
    assert capsys.readouterr().err == f"error {lost}\n"


def test_events_of_assets_become_lines_and_the_chatter_is_dropped(
    events: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    events.info("asset", asset_key="edge/bars", status="reused", seconds=0.25)
    events.info("asset", asset_key="edge/labels", status="computed", seconds=12.0)
    events.info("something else", asset_key="edge/bars")
    for done in range(1, 11):
        events.info("progress", asset_key="edge/tuning", done=done, total=10, what="trials")
    events.warning("disk is slow", asset_key="edge/bars", place="[home]")
    events.warning("promotion refused", asset_key="noise/promotion")
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "edge/bars reused 0.2 s",
        "edge/labels computed 12.0 s",
        *(f"edge/tuning {done} of 10 trials" for done in (2, 4, 6, 8, 10)),
        "warning: disk is slow asset_key=edge/bars, place=[home]",
        "noise/promotion refused",
    ]


def test_text_for_another_program_is_neither_wrapped_nor_styled(capsys: pytest.CaptureFixture[str]) -> None:
    show_text("/a/path[0]/" + "x" * 300)
    assert capsys.readouterr().out == "/a/path[0]/" + "x" * 300 + "\n"


def test_json_is_sorted_unless_its_order_says_something_and_has_no_nan(tmp_path: Path) -> None:
    value = {"strategy": "edge", "decision": "promoted"}
    write_json(tmp_path / "sorted.json", value)
    write_json(tmp_path / "told.json", value, sort_keys=False)
    write_json(None, value)
    assert list(json.loads((tmp_path / "sorted.json").read_text())) == ["decision", "strategy"]
    assert list(json.loads((tmp_path / "told.json").read_text())) == ["strategy", "decision"]
    assert (tmp_path / "told.json").read_text().endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(float("nan"))
