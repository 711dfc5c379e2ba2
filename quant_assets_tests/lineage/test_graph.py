"""The lineage of a configuration: one stage an asset, and what a plain run does not make."""

from dataclasses import replace
from pathlib import Path

import pytest

from quant_assets.common.errors import ConfigurationError, GateClosedError
from quant_assets.common.home import Home
from quant_assets.lineage import Lineage, load_settings, run
from quant_assets.lineage.graph import all_stages

SETTINGS = load_settings(Path(__file__).resolve().parents[2] / "configs", Path("none"))


def test_two_stages_that_make_one_asset_are_refused() -> None:
    stages = all_stages()
    doubled = {**stages, "xgboost": replace(stages["labels"], name="xgboost")}  # a learner has that name
    with pytest.raises(ConfigurationError, match=r"xgboost: expected one stage.*'learners' and 'xgboost'"):
        _ = Lineage(SETTINGS, doubled).nodes


@pytest.mark.parametrize("asset", ["promotion", "champion", "holdout_report"])
def test_a_plain_run_refuses_a_promotion_before_it_makes_anything(tmp_path: Path, asset: str) -> None:
    with pytest.raises(GateClosedError, match="a run of the orchestrator"):
        run("planted_edge", SETTINGS, asset, home=Home(str(tmp_path)))
    assert not any(tmp_path.iterdir())
