"""A run that its data stopped says which check is closed and what it found, in `run` and in `check`."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from quant_assets.cli.run_commands import outcomes_json, show_outcomes
from quant_assets.defs.checks import run_checks
from quant_assets_tests.e2e.lineage import Lineage, edit, lineage_in, write_configuration
from quant_assets_tests.market.two_sources import END, START, feed

STALE = pl.col("session").is_between(pl.date(2022, 3, 1), pl.date(2022, 3, 14))


@pytest.fixture
def lineage(tmp_path: Path) -> Iterator[Lineage]:
    """A market of two names, one of which repeats its bar for two weeks: by default a WARN, here an ERROR."""
    prices = ["open", "high", "low", "close"]
    bars = pl.concat([feed("AAA", 1), feed("BBB", 2)]).drop("adj_close")
    stale = (pl.col("symbol") == "BBB") & STALE
    repeated = bars.with_columns(
        *(pl.when(stale).then(pl.lit(100.0)).otherwise(pl.col(name)).alias(name) for name in prices)
    )
    repeated.write_parquet(tmp_path / "bars.parquet")
    configs = write_configuration(tmp_path / "configs")
    source = {"kind": "parquet", "path": str(tmp_path / "bars.parquet")}
    quality = {"severity": {"stale_prices": "ERROR"}}
    edit(
        configs / "universes" / "noise_market.yaml",
        {"source": source, "start": START, "end": END, "quality": quality},
    )
    with lineage_in(tmp_path) as opened:
        yield opened


def test_a_closed_check_of_the_data_is_what_run_and_check_say(
    lineage: Lineage, capsys: pytest.CaptureFixture[str]
) -> None:
    (outcome,) = lineage.run("noise")
    assert outcome.decision == "blocked"
    assert "the blocking check stale_prices of noise_market/" in outcome.reasons[0]
    assert "BBB" in outcome.reasons[0]
    assert not [reason for reason in outcome.reasons if "bundle" in reason]
    assert outcome.verdicts == ()
    assert outcomes_json([outcome])[0]["decision"] == "blocked"
    show_outcomes([outcome])
    shown = capsys.readouterr().out
    assert "noise: blocked" in shown
    assert "stale_prices" in shown

    checked = run_checks(lineage.definitions, lineage.graph, ["noise"], lineage.instance)
    lost = [each for each in checked.results if each.outcome == "no verdict"]
    assert len(lost) == 1
    assert lost[0].check.endswith(" checks")
    assert lost[0].description.startswith(
        "never materialised: the blocking check stale_prices of noise_market/"
    )
    assert checked.exit_code == 2


def test_what_never_ran_is_one_line_too(lineage: Lineage) -> None:
    checked = run_checks(lineage.definitions, lineage.graph, ["edge"], lineage.instance)
    assert [each.description for each in checked.results] == [
        "never materialised: run quant-assets run first"
    ]
