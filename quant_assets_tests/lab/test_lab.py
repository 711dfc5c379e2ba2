"""A project in a notebook: the platform's versions, every look counted, nothing fitted twice."""

import os
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import polars as pl
import pytest
import yaml

from quant_assets import Lab
from quant_assets.common.errors import ConfigurationError, ValidationError
from quant_assets.lab.lab import _predictions
from quant_assets.lab.results import Backtest, compared
from quant_assets.ledgers.trials import TrialLedger
from quant_assets.lineage import load_settings, run
from quant_assets.models import cross_prediction
from quant_assets_tests.e2e.lineage import write_configuration

BOOK = "edge_market.forward_return"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("own_project")
    write_configuration(folder / "configs")
    homes = {k: os.environ.pop(k) for k in ("QUANT_ASSETS_HOME", "QUANT_ASSETS_CONFIGS") if k in os.environ}
    yield folder
    os.environ |= homes


@pytest.fixture(scope="module")
def lab(project: Path) -> Lab:
    return Lab(project, progress=lambda what: lambda done, total: None)


@pytest.fixture(scope="module")
def base(lab: Lab) -> Backtest:
    return lab.backtest("edge")


def counted(lab: Lab) -> int:
    return len(TrialLedger(lab.home.path).counted(BOOK))


def test_a_lab_makes_what_the_platform_makes(lab: Lab, project: Path, base: Backtest, tmp_path: Path) -> None:
    from quant_assets.common.home import Home

    made = run("edge", load_settings(project / "configs", tmp_path), upto="labels", home=Home(str(tmp_path)))
    assert lab.labels("edge").equals(made.table("labels").frame)
    assert lab.bars("edge").equals(made.table("bars").frame)
    assert lab.bars("edge_market").equals(lab.bars("edge"))
    assert lab.features("edge").width == 2 + 29
    assert lab.features("edge_market", "technical_v1").equals(lab.features("edge"))
    assert {"target", "t0", "t1"} <= set(lab.training_set("edge").columns)


def test_a_backtest_says_how_many_looks_stand_behind_it(base: Backtest) -> None:
    assert str(base.trials).startswith(f"trial 1 of {BOOK}, counted since 20")
    assert str(base.trials) in repr(base)
    assert str(base.trials) in base._repr_html_()
    assert base.equity.startswith("data:image/png;base64,")


def test_a_second_look_at_the_same_is_no_further_trial(lab: Lab, base: Backtest) -> None:
    before = counted(lab)
    assert lab.backtest("edge").trials == base.trials
    assert counted(lab) == before


def test_the_home_of_a_lab_is_that_of_the_projects_runs(lab: Lab, project: Path) -> None:
    assert Path(lab.home.root) == project / ".quant_assets"


def test_other_costs_are_another_look_and_fit_nothing(lab: Lab, base: Backtest) -> None:
    before = counted(lab)
    with patch.object(cross_prediction, "fit_base", side_effect=AssertionError("fitted")):
        dearer = lab.backtest("edge", {"costs.half_spread_bps": 20.0})
    assert counted(lab) == before + 1
    assert dearer.median.sharpe_annual < base.median.sharpe_annual
    assert dearer.name == "edge with costs.half_spread_bps = 20.0"
    told = lab.compare(base, dearer)
    assert told.configuration == {"costs.half_spread_bps": (1.0, 20.0)}
    assert told.difference.difference > 0
    assert told.two_sided_p_value < 0.05
    assert "costs.half_spread_bps: 1.0 | 20.0" in repr(told)


def test_scores_of_ones_own_are_traded_and_counted_by_their_content(lab: Lab, base: Backtest) -> None:
    before = counted(lab)
    bars = lab.bars("edge")
    scores = bars.select(
        "symbol", "session", score=-pl.col("close").pct_change(5).over("symbol")
    ).drop_nulls()
    own = lab.backtest("edge", scores=scores)
    assert len(own.statistics) == 1
    assert own.median.sharpe_annual > 1  # the planted edge is a reversal
    assert counted(lab) == before + 1
    assert lab.backtest("edge", scores=scores.to_pandas()).median == own.median
    assert counted(lab) == before + 1
    lab.backtest("edge", scores=scores.with_columns(pl.col("score") * -1))
    assert counted(lab) == before + 2


def test_scores_of_ones_own_show_nothing_of_the_holdout(lab: Lab) -> None:
    bars = lab.bars("edge")
    held_out = bars["session"].unique().sort()[-lab.changed("edge").holdout_sessions]
    scores = bars.select("symbol", "session", score=pl.col("close").rank("dense").over("session").cast(float))
    shown = lab.backtest("edge", scores=scores)
    assert shown.paths.frame["session"].max() < held_out
    before = counted(lab)
    later = pl.col("session") >= held_out
    other = scores.with_columns(score=pl.when(later).then(-pl.col("score")).otherwise(pl.col("score")))
    assert lab.backtest("edge", scores=other).median == shown.median
    assert counted(lab) == before
    with pytest.raises(ValidationError, match="has its outcome in the holdout"):
        lab.backtest("edge", scores=scores.filter(later))


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pl.DataFrame({"symbol": ["A"], "score": [1.0]}), "add session"),
        (
            pl.DataFrame({"symbol": ["A"], "session": ["2020-01-02"], "score": [1.0]}),
            "session as String",
        ),
        (
            pl.DataFrame({"symbol": ["A"] * 2, "session": [date(2020, 1, 2)] * 2, "score": [1.0, 2.0]}),
            "2 rows that share theirs",
        ),
    ],
)
def test_scores_that_are_none_are_refused(lab: Lab, frame: pl.DataFrame, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        lab.backtest("edge", scores=frame)


def test_scores_of_pandas_may_have_their_keys_in_the_index(lab: Lab) -> None:
    rows = {
        "symbol": ["A", "A"],
        "session": [datetime(2020, 1, 2), datetime(2020, 1, 3)],
        "score": [1.0, 2.0],
    }
    frame = pd.DataFrame(rows)
    told = _predictions(frame.set_index(["session", "symbol"])).frame
    assert told.equals(_predictions(frame).frame)
    assert told["session"].to_list() == [date(2020, 1, 2), date(2020, 1, 3)]
    with pytest.raises(ValidationError, match="found list"):
        _predictions([1.0, 2.0])


def test_the_verdicts_are_those_of_a_run_of_the_platform(lab: Lab, base: Backtest, project: Path) -> None:
    verdicts = lab.verdicts("edge")
    assert {v.gate for v in verdicts} == set(verdicts.table["gate"])
    assert verdicts["cpcv_sharpe"].observed == pytest.approx(base.median.sharpe_annual, rel=1e-12)
    assert str(counted(lab)) in str(verdicts.backtest.trials)
    assert "cpcv_sharpe" in verdicts._repr_html_()
    with pytest.raises(KeyError, match="these gates were judged"):
        verdicts["cpcv_sharp"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"costs.half_spred_bps": 2.0}, "did you mean 'half_spread_bps'"),
        ({"costs.half_spread_bps": -1}, "greater than or equal to 0"),
        ({"models.lightgbm.objective": "mape"}, "silently wrong"),
        ({"costs.half_spread_bps": 0.0}, "the minima of gates.yaml"),
        ({"gates.sharpe_min": 0.1}, "at least as strict"),
        ({"portfolio.scheme": "nowhere.sizing:mine"}, "the module nowhere.sizing"),
        ({"description.of": "x"}, "a valid string"),
    ],
)
def test_a_change_that_the_file_could_not_hold_is_refused(
    lab: Lab, changes: dict[str, Any], says: str
) -> None:
    before = counted(lab)
    with pytest.raises(ConfigurationError, match=says):
        lab.backtest("edge", changes)
    assert counted(lab) == before


def test_unknown_names_say_which_there_are(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'edge'"):
        lab.backtest("edgy")
    before = counted(lab)
    with pytest.raises(ConfigurationError, match="did you mean 'edge'"):
        lab.compare("edge", "edgy")
    assert counted(lab) == before  # nothing was looked at
    with pytest.raises(ConfigurationError, match="neither"):
        lab.bars("nowhere")
    with pytest.raises(ConfigurationError, match="quant-assets init"):
        Lab(tmp_path)


def test_an_edited_file_is_read_by_refresh(lab: Lab, base: Backtest, project: Path) -> None:
    file = project / "configs" / "strategies" / "edge.yaml"
    said = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**said, "costs": {"capital": 1e6}}))
    try:
        assert lab.changed("edge").costs.capital == 1e7
        lab.refresh()
        assert lab.changed("edge").costs.capital == 1e6
    finally:
        file.write_text(yaml.safe_dump(said))
        lab.refresh()


def test_the_working_folder_and_the_environment_stay_as_they_were(lab: Lab, base: Backtest) -> None:
    before = (Path.cwd(), os.environ.get("QUANT_ASSETS_CONFIGS"))
    lab.labels("edge", {"label.horizon_sessions": 3})
    assert (Path.cwd(), os.environ.get("QUANT_ASSETS_CONFIGS")) == before


def test_backtests_of_other_years_are_not_compared(base: Backtest) -> None:
    from dataclasses import replace
    from datetime import timedelta

    from quant_assets.common.store import Table

    late = base.paths.frame.with_columns(pl.col("session") + timedelta(days=36500))
    with pytest.raises(ValidationError, match="sessions that both traded"):
        compared(base, replace(base, paths=Table(late)))
