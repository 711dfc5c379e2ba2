"""What was once passed over in silence: twins, days of another age, a name misspelt under exclude."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.errors import BarContractError
from quant_assets.common.settings import SyntheticSource, UniverseConfig
from quant_assets.market.actions import adjust_bars, read_actions
from quant_assets.market.rules.quality import check_bars
from quant_assets.market.rules.whole_symbols import set_aside_sentences
from quant_assets.market.sources.sources import read_bars, read_year
from quant_assets.market.synthetic import generate

START, END = date(2021, 1, 4), date(2023, 12, 29)


def feed(n: int = 3) -> pl.DataFrame:
    return generate(SyntheticSource(kind="synthetic", seed=3, n_symbols=n), "XNYS", START, END)


def universe(folder: Path, frame: pl.DataFrame, **more: object) -> UniverseConfig:
    path = folder / "feed.csv"
    frame.write_csv(path)
    source = {"kind": "csv", "path": str(path)}
    return UniverseConfig.model_validate(
        {"name": "holes", "source": source, "start": START, "end": END, **more}
    )


def twins(frame: pl.DataFrame, config: UniverseConfig) -> tuple[bool, str]:
    actions = read_actions(frame).actions
    found = {f.rule: f for f in check_bars(adjust_bars(frame, actions, config.calendar), actions, config)}
    return found["identical_symbols"].passed, " ".join(found["identical_symbols"].evidence)


def test_one_instrument_under_two_names_is_told(tmp_path: Path) -> None:
    bars = feed()
    twin = bars.filter(pl.col("symbol") == "S001").with_columns(symbol=pl.lit("X001"))
    config = universe(tmp_path, bars)
    assert twins(bars, config) == (True, "")
    passed, said = twins(pl.concat([bars, twin]).sort("symbol", "session"), config)
    assert not passed
    assert "X001" in said
    assert "all of its 753 bars are those of S001: leave one out under `exclude:`" in said


def test_a_name_that_has_one_other_bar_is_no_twin(tmp_path: Path) -> None:
    bars = feed()
    twin = bars.filter(pl.col("symbol") == "S001").with_columns(symbol=pl.lit("X001"))
    other = twin.with_columns(volume=pl.when(pl.int_range(pl.len()) == 400).then(77.0).otherwise("volume"))
    assert twins(pl.concat([bars, other]).sort("symbol", "session"), universe(tmp_path, bars))[0]


def test_a_row_of_the_year_1021_is_told_and_stands_in_the_first_year(tmp_path: Path) -> None:
    bars = feed().with_columns(pl.col("session").cast(pl.String))
    odd = bars.tail(1).with_columns(session=pl.lit("1021-06-30"))
    config = universe(tmp_path, pl.concat([bars, odd]))
    read = read_year(config, "2021")
    assert read.aside.select("problem", "value", "n_rows").rows() == [("impossible date", "1021-06-30", 1)]
    assert read_year(config, "2022").aside.is_empty()
    strict = universe(tmp_path, pl.concat([bars, odd]), quality={"strict": True})
    with pytest.raises(BarContractError, match=r"value '1021-06-30' \(impossible date\)"):
        read_bars(strict)


def test_a_misspelt_name_under_exclude_is_told_with_the_one_that_is_near(tmp_path: Path) -> None:
    read = read_bars(universe(tmp_path, feed(), exclude=["S0O1", "S002"]))
    assert "exclude: there was no bar of S0O1 (did you mean 'S001'?)" in read.notes
    assert read.bars["symbol"].unique().sort().to_list() == ["S000", "S001"]


def test_a_broken_name_is_counted_once_over_all_its_years() -> None:
    """Each year has its own number; the sentence of the run has that of all of them, and no other."""
    evidence = (
        "S7 is set aside as a whole: 251 rows are no bars, the first: f.csv row 9, column close (a word)"
    )
    listed = pl.DataFrame(
        {
            "symbol": ["S7", "S7"],
            "session": [date(2021, 1, 4), date(2022, 1, 3)],
            "rule": "row_contract",
            "observed": [251.0, 757.0],
            "evidence": [evidence, evidence],
        }
    )
    assert set_aside_sentences(listed) == [
        "S7 is set aside as a whole: as f.csv row 9, column close (a word); 1,008 rows are left out"
    ]


def test_a_broken_row_that_nobody_asked_for_leaves_the_others_in_order(tmp_path: Path) -> None:
    bars = feed().sort("session", "symbol")
    broken = (
        pl.when((pl.col("symbol") == "S000") & (pl.int_range(pl.len()) < 9)).then(-1.0).otherwise("close")
    )
    config = universe(tmp_path, bars.with_columns(close=broken), symbols=["S001", "S002"])
    expected = bars.filter(pl.col("symbol") != "S000").sort("symbol", "session")
    read = read_bars(config).bars
    assert read.select("symbol", "session", "volume").equals(expected.select("symbol", "session", "volume"))
