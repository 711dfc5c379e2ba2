"""A hundred names of which three are broken: ninety-seven are judged, and the run says what was set aside and why."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.common.home import Home
from quant_assets.common.settings import UniverseConfig
from quant_assets.lineage import run
from quant_assets.lineage.configured import load_settings
from quant_assets.market.sources.sources import read_bars
from quant_assets_tests.e2e.lineage import STRATEGY, edit, small_proof, write_configuration

FIELDS = ("open", "high", "low", "close", "volume", "adj_close")
BY_ROWS, BY_ACTIONS, EMPTY = "S010", "S050", "S090"


def hundred_names(file: Path, start: str, end: str) -> None:
    """A CSV file: one name with unreadable closes, one with adjusted closes of two downloads, one all NaN."""
    market = {
        "name": "hundred",
        "source": {"kind": "synthetic", "seed": 17, "n_symbols": 100},
        "calendar": "XNYS",
        "start": start,
        "end": end,
    }
    bars = read_bars(UniverseConfig.model_validate(market)).bars.with_columns(adj_close=pl.col("close"))
    text = bars.with_row_index("i").with_columns(pl.col(name).cast(pl.String) for name in FIELDS)
    here, later = pl.col("symbol") == BY_ACTIONS, pl.col("session") >= bars["session"].unique().sort()[150]
    half = (bars["adj_close"] / 2).cast(pl.String)
    unreadable = (pl.col("symbol") == BY_ROWS) & (pl.col("i") % 20 == 0)
    text.with_columns(
        close=pl.when(unreadable).then(pl.lit("n/a")).otherwise("close"),
        adj_close=pl.when(here & later).then(half).otherwise("adj_close"),
    ).with_columns(
        pl.when(pl.col("symbol") == EMPTY).then(pl.lit("NaN")).otherwise(name).alias(name) for name in FIELDS
    ).drop("i").write_csv(file)


def test_the_market_of_a_hundred_names_goes_on_with_ninety_seven(tmp_path: Path) -> None:
    hundred_names(tmp_path / "hundred.csv", "2020-01-02", "2020-12-31")
    configs = write_configuration(tmp_path / "configs")
    universe = {
        "source": {"kind": "csv", "path": str(tmp_path / "hundred.csv")},
        "calendar": "XNYS",
        "start": "2020-01-02",
        "end": "2020-12-31",
    }
    edit(configs / "universes" / "hundred.yaml", universe)
    edit(configs / "strategies" / "any.yaml", {**STRATEGY, "universe": "hundred"})
    settings = load_settings(configs, tmp_path / "home")
    made = run("any", settings, ["bars"], home=Home(str(tmp_path / "home")), facts=True, checks=True)
    names = set(made.table("bars").frame["symbol"].unique())
    assert len(names) == 97
    assert names.isdisjoint({BY_ROWS, BY_ACTIONS, EMPTY})
    said = made.facts["hundred", "quarantined_bars"]["set_aside"]
    assert [line.partition(" is set aside as a whole")[0] for line in said] == [BY_ROWS, BY_ACTIONS, EMPTY]
    assert "quarantined_fraction" in said[0]
    assert "contradictory_actions from 2020-08-06: adj_close/close x 0.5" in said[1]
    assert "value NaN (not finite)" in said[2]
    closed = [
        c.name for checks in made.checks.values() for c in checks if not c.passed and c.severity == "ERROR"
    ]
    assert closed == []


@pytest.mark.drill
def test_a_file_of_a_hundred_names_is_judged_on_ninety_seven_and_says_what_was_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hundred_names(tmp_path / "hundred.csv", "2018-01-02", "2021-12-31")
    configs = write_configuration(tmp_path / "configs")
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(configs))
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(tmp_path / "home"))
    command = ["run", "--universe-file", str(tmp_path / "hundred.csv"), "--like", "noise"]
    with small_proof():
        done = CliRunner().invoke(app, [*command, "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.stdout + done.stderr
    for name in (BY_ROWS, BY_ACTIONS, EMPTY):
        assert f"set aside: {name} is set aside as a whole" in done.stdout
    (outcome,) = json.loads((tmp_path / "out.json").read_text())
    assert (outcome["strategy"], outcome["decision"]) == ("hundred_daily", "refused")
    assert len(outcome["verdicts"]) >= 8
