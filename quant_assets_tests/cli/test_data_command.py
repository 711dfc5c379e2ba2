"""``quant-assets data inspect``: exit codes, what it prints, and the command that it names next."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.common.errors import ConfigurationError
from quant_assets_tests.market import table_shapes as shapes

BARS = shapes.bars()


@pytest.mark.parametrize(
    ("name", "more", "code", "says"),
    [
        ("long", [], 0, "next: quant-assets run --universe-file"),
        ("hours", [], 1, "--resample session"),
        ("hours", ["--resample", "session"], 0, "bars of 1 hour put together"),
        ("closes", [], 2, "a pivot with one number for each name and day"),
    ],
)
def test_each_outcome_has_its_exit_code(
    tmp_path: Path, name: str, more: list[str], code: int, says: str
) -> None:
    made = {"long": BARS, "hours": shapes.minutes(BARS), "closes": shapes.closes_only(BARS)}[name]
    path = shapes.file(tmp_path, f"{name}.csv", shapes.text(made))
    ended = CliRunner().invoke(app, ["data", "inspect", str(path), "--calendar", "XNYS", *more])
    assert ended.exit_code == code, ended.output
    assert says in ended.output.replace("\n", " ")


def test_json_has_the_mapping_and_the_exit_code(tmp_path: Path) -> None:
    path = shapes.file(tmp_path, "long.csv", shapes.text(BARS.rename({"close": "Last"})))
    said = ["--column", "close=Last", "--calendar", "XNYS", "--json"]
    ended = CliRunner().invoke(app, ["data", "inspect", str(path), *said])
    told = json.loads(ended.output)
    assert (told["outcome"], told["exit_code"]) == ("usable", 0)
    assert told["mapping"]["close"] == "Last"
    assert told["next_command"].endswith("--column close=Last --calendar XNYS")


def test_of_several_sheets_one_is_asked_for_by_its_option(tmp_path: Path) -> None:
    path = shapes.as_excel(BARS, tmp_path, sheets=2)
    ended = CliRunner().invoke(app, ["data", "inspect", str(path), "--calendar", "XNYS"])
    assert ended.exit_code == 1, ended.output
    assert "--sheet NAME" in ended.output
    named = CliRunner().invoke(app, ["data", "inspect", str(path), "--calendar", "XNYS", "--sheet", "Bars 2"])
    assert named.exit_code == 0, named.output


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--sheet", "one", "expected no such option of a file of kind csv"),
        ("--time-zone", "Mars/Olympus", "expected the name of a time zone"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_the_order_of_expected_and_found(
    tmp_path: Path, option: str, value: str, says: str
) -> None:
    path = shapes.file(tmp_path, "long.csv", shapes.text(BARS))
    ended = CliRunner().invoke(app, ["data", "inspect", str(path), option, value])
    assert isinstance(ended.exception, ConfigurationError) or ended.exit_code == 2
    assert says in f"{ended.exception} {ended.output}".replace("\n", " ")
