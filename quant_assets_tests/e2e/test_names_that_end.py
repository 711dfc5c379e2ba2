"""A market in which names end, halt and leave their symbols to others, from its source to its verdicts."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from quant_assets.common.home import Home
from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.lineage.graph import Lineage
from quant_assets.lineage.notebook import Run, run
from quant_assets.lineage.pipeline import settings_of
from quant_assets.market.listings import instruments
from quant_assets_tests.e2e.lineage import EDGE, STRATEGY

UNIVERSE: dict[str, Any] = {
    "name": "mortal",
    # Of the names that are there from the start, 1 - .85^4 = 48 % are expected to end within these four years.
    "source": {
        "kind": "synthetic", "seed": 7, "n_symbols": 24, "edge": EDGE,
        "lives": {"delisted_per_year": 0.15, "halted_per_year": 0.1, "reused": 0.5},
    },
    "start": "2017-01-03",
    "end": "2020-12-31",
    "quality": {"max_missing_fraction": 0.5},  # a halt of ten sessions may be much of a short life
    "delisting": {"final_return": -0.3},
}  # fmt: skip
MODELS = {"lightgbm": STRATEGY["models"]["lightgbm"], "stacker": {"inner_folds": 2}}  # type: ignore[index]


def made(upto: str | list[str], home: Path, *, checks: bool = False, **fields: Any) -> Run:
    universe = UniverseConfig.model_validate({**UNIVERSE, **fields})
    strategy = StrategyConfig.model_validate(
        {**STRATEGY, "name": "edge", "universe": "mortal", "models": MODELS}
    )
    settings = settings_of(universe, strategy)
    return run("edge", settings, upto, home=Home(str(home)), facts=checks, checks=checks)


def test_a_market_with_delistings_halts_and_reused_symbols_runs_to_its_verdicts(tmp_path: Path) -> None:
    found = made(["verdicts", "tear_sheet"], tmp_path, checks=True)
    assert {v.gate for v in found.verdicts} >= {"cpcv_sharpe", "walk_forward", "onnx_parity", "feature_drift"}
    # nothing but gates blocks: no bar rule, no proof of causality
    blocking = {
        (key[1], check.name)
        for key, results in found.checks.items()
        for check in results
        if check.severity == "ERROR" and not check.passed
    }
    assert blocking <= {(report, verdict.gate) for verdict in found.verdicts for report in found.reports}
    bars = found.table("bars").frame
    ends = bars.filter(pl.col("listed_until").is_not_null())
    # 31 instruments had the 24 symbols, one of which three had; 9 of the first 24 ended, and one of the others
    assert bars["symbol"].n_unique() == 31
    assert bars["symbol"].str.head(4).n_unique() == 24
    assert ends.height == 10
    assert ends.filter(pl.col("symbol").is_in(["S019:20170103", "S019:20190801"])).height == 2
    said = (
        "listings of 31 instruments, of which 10 ended (1 bankruptcy, 8 merger_cash, 1 unknown; "
        "the final return of 9 is known)"
    )
    (survived,) = [c for c in found.checks["mortal", "bars"] if c.name == "survivorship"]
    assert (survived.passed, survived.severity, survived.description) == (True, "WARN", said)
    assert [c.passed for c in found.checks["mortal", "bars"] if c.name == "early_ends"] == [True]
    # of one name nobody says what it returned: what stands in for it is shown, with the Sharpe ratio at 0 and -1
    facts = found.facts["edge", "cpcv_paths"]
    assert "10 names ended; of 1 nobody says what they returned at last, and -30% stands in for it" in str(
        facts["names_that_ended"]
    )
    assert facts["final_returns"]["final_return"].to_list() == [0.0, -0.3, -1.0]
    stated = facts["final_returns"].filter(pl.col("final_return") == -0.3)["median_net_sharpe_annual"].item()
    assert stated == pytest.approx(facts["statistics"]["sharpe_annual"].median(), rel=1e-12)
    page = found.artifact("tear_sheet").text()
    first_box = page[page.index("Before you believe a figure") : page.index("</ul>")]
    assert said[1:] in first_box
    assert "of 1 nobody says what they returned at last" in first_box


@pytest.mark.drill
def test_a_larger_market_that_changes_under_the_book_leaks_nothing(tmp_path: Path) -> None:
    """60 symbols over eight years, half of whose names end; the group is whoever was listed for a year."""
    lives = {"delisted_per_year": 0.08, "halted_per_year": 0.1, "reused": 0.5}
    source = {**UNIVERSE["source"], "n_symbols": 60, "lives": lives}
    span = {"source": source, "start": "2013-01-02", "end": "2020-12-31"}
    listed = instruments(made("listings", tmp_path, **span).table("listings").frame)
    columns = ("group", "instrument_id", "valid_from", "valid_to", "known_at")
    seasoned = listed.select(
        group=pl.lit("seasoned"),
        instrument_id="instrument_id",
        valid_from=pl.col("valid_from").dt.offset_by("1y"),
        valid_to=pl.lit(None, dtype=pl.Date),
        known_at=pl.col("valid_from").dt.offset_by("1y"),
    )
    seasoned.select(columns).write_csv(tmp_path / "members.csv")
    told = {"kind": "csv", "path": str(tmp_path / "members.csv")}
    upto = ["verdicts", "leakage_report", "tear_sheet"]
    found = made(upto, tmp_path, checks=True, memberships=told, members={"group": "seasoned"}, **span)
    first = listed.filter(pl.col("valid_from") == pl.col("valid_from").min())
    assert first["listed_until"].count() > 0.3 * first.height
    assert found.artifact("leakage_report").json()["passed"]
    assert {v.gate for v in found.verdicts} >= {"cpcv_sharpe", "walk_forward", "onnx_parity", "feature_drift"}
    # nobody is scored in its first year, and everybody is left in the book until it ends
    scored = found.table("cpcv_predictions").frame.join(listed, left_on="symbol", right_on="name")
    assert (scored["session"] > scored["valid_from"].dt.offset_by("1y")).all()
    page = found.artifact("tear_sheet").text()
    assert "Only members of seasoned" in page
    (have_bars,) = found.checks["mortal", "member_rows"]
    assert have_bars.passed
    assert have_bars.description in page


def test_switching_membership_on_changes_no_feature_only_the_mask(tmp_path: Path) -> None:
    """Half of the names are members, one is known late, and one leaves."""
    listed = made("listings", tmp_path).table("listings").frame
    ids = listed["instrument_id"].unique().sort().to_list()
    rows = [("index", name, "2017-01-03", None, "2017-01-02") for name in ids[::2]]
    rows += [
        ("index", "7-S001-0", "2017-01-03", None, "2019-06-03T20:00:00Z"),  # announced at that very close
        ("index", "7-S003-0", "2017-01-03", "2019-06-03", "2019-05-01"),
    ]
    columns = ["group", "instrument_id", "valid_from", "valid_to", "known_at"]
    pl.DataFrame(rows, schema=columns, orient="row").write_csv(tmp_path / "members.csv")
    told = {"kind": "csv", "path": str(tmp_path / "members.csv")}
    without = made("scored_rows", tmp_path)
    masked = made("scored_rows", tmp_path, memberships=told, members={"group": "index"})
    moved = {name for name, version in without.versions.items() if masked.versions[name] != version}
    assert moved == {"edge/training_set", "edge/scored_rows"}
    assert {*masked.versions} - {*without.versions} == {"mortal/memberships", "mortal/member_rows"}
    mask = masked.table("member_rows").frame
    for name in ("training_set", "scored_rows"):
        rows_before, rows_after = without.table(name).frame, masked.table(name).frame
        assert 0 < rows_after.height < rows_before.height
        assert rows_after.equals(
            rows_before.join(mask, on=["symbol", "session"], how="semi", maintain_order="left")
        )
    scored = masked.table("scored_rows").frame
    assert str(scored.filter(pl.col("symbol") == "S001")["session"].min()) == "2019-06-03"
    assert str(scored.filter(pl.col("symbol") == "S003")["session"].max()) == "2019-06-03"
    assert masked.table("training_set").metadata["rows_of_no_member"] != "0"


def test_survivorship_blocks_nothing_on_the_way_to_promotion() -> None:
    strategy = StrategyConfig.model_validate({**STRATEGY, "name": "edge", "universe": "mortal"})
    lineage = Lineage(settings_of(UniverseConfig.model_validate(UNIVERSE), strategy))
    names = {name for _, name in lineage.blocking_checks(("edge", "promotion"))}
    assert "missing_fraction" in names
    assert not names & {"survivorship", "outside_listing", "revisions"}
