"""Other markets from their bars to their verdicts."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.settings import AssetClass
from quant_assets.lineage.notebook import Run
from quant_assets.market.calendar import periods_per_year, sessions
from quant_assets_tests.e2e.other_markets import CARRY, ROOTS, futures_market, judged, spot_market

START, END = date(2020, 1, 1), date(2022, 12, 31)


def failed_blocking(run: Run) -> list[str]:
    """Names of the checks of ERROR severity that failed on the way to the bars."""
    keys = [key for key in run.checks if key[1] in ("rolls", "quarantined_bars", "bars")]
    assert keys
    return [c.name for key in keys for c in run.checks[key] if not c.passed and c.severity == "ERROR"]


def sessions_and_times_fit(run: Run, calendar: str, start: date, end: date) -> None:
    """What holds of every market: bars on all of its sessions, and label times in order."""
    assert failed_blocking(run) == []
    bars, labels = run.table("bars").frame, run.table("labels").frame
    assert bars["session"].unique().sort().is_in(sessions(calendar, start, end).implode()).all()
    assert labels.select(
        (pl.col("t0") < pl.col("t1")).all() & (pl.col("t1") < pl.col("known_at")).all()
    ).item()


def judged_by_its_own_year(run: Run, calendar: str, start: date, end: date) -> None:
    """Fills on its sessions, one after another, and annualised by their number."""
    sessions_and_times_fit(run, calendar, start, end)
    fills = run.table("cpcv_paths").frame.filter(pl.col("path") == 0)["session"]
    days = sessions(calendar, start, end)
    assert fills.to_list() == days.filter(days.is_between(fills[0], fills[-1])).to_list()
    details = run.artifact("validation_report").json()["details"]
    assert details["periods_per_year"] == pytest.approx(periods_per_year(calendar, start, end))


MARKETS: list[tuple[str, AssetClass]] = [
    ("24/7", "crypto"), ("24/5", "fx"), ("XLON", "equity"), ("XBOM", "equity"), ("XTKS", "equity"),
]  # fmt: skip


@pytest.mark.parametrize(("calendar", "asset_class"), MARKETS)
def test_every_market_has_its_own_sessions_and_label_times(
    calendar: str, asset_class: AssetClass, tmp_path: Path
) -> None:
    made = judged(spot_market(calendar, asset_class, START, END), tmp_path, "labels")
    sessions_and_times_fit(made, calendar, START, END)
    # Nothing is missing: 4 names on each of the 1096, 783, 757, 744 and 731 sessions of 2020 to 2022.
    n_bars = {"24/7": 4384, "24/5": 3132, "XLON": 3028, "XBOM": 2976, "XTKS": 2924}
    assert made.table("bars").frame.height == n_bars[calendar]
    assert made.table("bars").frame["session"].dt.weekday().is_in([6, 7]).any() == (calendar == "24/7")


def test_futures_are_rolled_before_anything_is_made_of_them(tmp_path: Path) -> None:
    made = judged(futures_market(tmp_path, START, END), tmp_path, "labels")
    assert failed_blocking(made) == []
    rolls, bars = made.table("rolls").frame, made.table("bars").frame
    assert sorted(bars["symbol"].unique()) == sorted(ROOTS)
    # Each root: twelve contracts in three years, so eleven rolls, each by volume, eight sessions before the end.
    assert rolls.group_by("root").len()["len"].to_list() == [11] * 4
    assert set(rolls["reason"]) == {"volume"}
    assert rolls["ratio"].to_list() == pytest.approx([1.0 + CARRY] * 44)
    # One price of the root behind all its contracts: the series has its moves, and no gap of the carry at any roll.
    jumps = bars.filter(pl.col("symbol") == "ES").sort("session")
    at_rolls = jumps.with_columns(move=(pl.col("open") / pl.col("close").shift() - 1.0).abs()).join(
        rolls.filter(pl.col("root") == "ES"), on="session"
    )
    quoted = made.table("front_bars").frame.filter(pl.col("symbol") == "ES").sort("session")
    gaps = quoted.with_columns(move=pl.col("open") / pl.col("close").shift() - 1.0).join(
        rolls.filter(pl.col("root") == "ES"), on="session"
    )
    assert at_rolls.height == gaps.height == 11
    assert abs(gaps["move"].mean() - CARRY) < 0.01 < 0.02 > at_rolls["move"].mean()
    units = bars.filter(pl.col("symbol") == "ES").join(quoted, on=["symbol", "session"], suffix="_quoted")
    assert (units["volume"] == 50.0 * units["volume_quoted"]).all()
    checks = {c.name: c for c in made.checks["small", "rolls"]}
    assert checks["roll_causality"].passed
    assert checks["rolls_in_time"].passed


@pytest.mark.drill
@pytest.mark.parametrize(("calendar", "asset_class"), MARKETS)
def test_every_market_goes_from_bars_to_verdicts(
    calendar: str, asset_class: AssetClass, tmp_path: Path
) -> None:
    judged_by_its_own_year(
        judged(spot_market(calendar, asset_class, START, END), tmp_path), calendar, START, END
    )


@pytest.mark.drill
def test_futures_go_from_contracts_to_verdicts_and_pay_for_their_rolls(tmp_path: Path) -> None:
    made = judged(futures_market(tmp_path, START, END), tmp_path)
    judged_by_its_own_year(made, "CMES", START, END)
    paths = made.table("cpcv_paths").frame
    rolls = made.table("rolls").frame["session"].unique()
    at_rolls = paths.filter(pl.col("session").is_in(rolls.implode()))["turnover"].mean()
    between = paths.filter(~pl.col("session").is_in(rolls.implode()))["turnover"].mean()
    assert at_rolls > between + 1.0  # the whole book is sold and bought
