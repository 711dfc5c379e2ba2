"""``quant-assets features`` as a user types it."""

from pathlib import Path

import polars as pl
import pytest
from click.testing import Result
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.features import compute
from quant_assets_tests.features.panels import irregular_bars, same_bits

BARS = irregular_bars()


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["features", *map(str, arguments)])


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    file = tmp_path / "bars.parquet"
    BARS.write_parquet(file, row_group_size=300)
    return file


def test_features_are_written_with_progress_and_a_last_line_of_what(bars: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    result = invoke("--bars", bars, "--pack", "stationary_v1", "--out", out, "--block-rows", 1_000)
    assert (result.exit_code, result.stderr) == (0, "")
    assert " of " in result.stdout.splitlines()[0]
    assert f"{BARS.height:,} rows of stationary_v1 in" in " ".join(result.stdout.split())
    assert same_bits(pl.read_parquet(out), compute(BARS, "stationary_v1"))


def test_refused_bars_are_code_1_and_the_output_stays(bars: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    out.write_bytes(b"earlier")
    pl.concat([BARS, BARS[5:6]]).write_parquet(bars)
    result = invoke("--bars", bars, "--out", out)
    assert result.exit_code == 1
    assert "one bar per symbol and session" in result.stderr
    assert out.read_bytes() == b"earlier"
    assert invoke("--bars", tmp_path / "none.parquet", "--out", out).exit_code == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--pack", "technical_v9"), ("--out", "/no/such/folder/f.parquet"), ("--workers", "0")],
)
def test_wrong_usage_is_code_2_and_names_the_option(
    bars: Path, tmp_path: Path, option: str, value: str
) -> None:
    options = {"--bars": str(bars), "--out": str(tmp_path / "f.parquet"), option: value}
    result = invoke(*(word for pair in options.items() for word in pair))
    assert result.exit_code == 2
    assert option in result.stderr


def test_help_has_an_example_and_the_exit_codes() -> None:
    text = " ".join(invoke("--help").output.split())
    assert "Example: quant-assets features" in text
    assert "Exit code 0" in text
