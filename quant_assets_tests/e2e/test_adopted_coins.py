"""Two coins that trade on every day of the week, from a file to the verdicts."""

import json
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from quant_assets.cli.main import app
from quant_assets.common.settings import UniverseConfig
from quant_assets.market.sources.sources import read_bars
from quant_assets_tests.e2e.lineage import STRATEGY, edit, small_proof, write_configuration

COINS = {"kind": "synthetic", "seed": 9, "n_symbols": 2, "annual_volatility": 0.8}


@pytest.mark.drill
def test_two_coins_of_24_7_are_judged_and_not_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = {
        "name": "coins",
        "source": COINS,
        "calendar": "24/7",
        "start": "2019-01-01",
        "end": "2021-12-31",
    }
    bars = read_bars(UniverseConfig.model_validate(market)).bars
    named = bars.with_columns(symbol=pl.concat_str("symbol", pl.lit("-USD"))).drop("adj_close")
    named.write_csv(tmp_path / "coins.csv")
    configs = write_configuration(tmp_path / "configs")
    edit(configs / "strategies" / "noise.yaml", {**STRATEGY, "universe": "noise_market"})
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(configs))
    monkeypatch.setenv("QUANT_ASSETS_HOME", str(tmp_path / "home"))
    command = ["run", "--universe-file", str(tmp_path / "coins.csv"), "--like", "noise"]
    with small_proof():
        done = CliRunner().invoke(app, [*command, "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.stdout + done.stderr
    assert "calendar 24/7: the same days" in done.stdout
    assert "2 names, and a model is promoted from 4 on" in done.stdout
    (outcome,) = json.loads((tmp_path / "out.json").read_text())
    assert (outcome["strategy"], outcome["decision"]) == ("coins_daily", "refused")
