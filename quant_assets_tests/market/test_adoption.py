"""A file of bars becomes a universe once: its name, its calendar, and what a second adoption leaves alone."""

import gzip
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
import yaml

from quant_assets.common.errors import BarContractError, CalendarError, ConfigurationError, SourceError
from quant_assets.common.settings import StrategyConfig, UniverseConfig
from quant_assets.lineage.configured import is_reserved
from quant_assets.market.calendar import session_times, sessions
from quant_assets.market.sources import adopt_file, describe_file, read_bars
from quant_assets.market.sources.adoption import Adopted, market_days, suggested_calendar

LIKE = StrategyConfig(name="like_me", universe="another")
OTHER = StrategyConfig(name="like_her", universe="another", seed=11)
YEAR = (date(2021, 1, 1), date(2021, 12, 31))


def days_of(calendar: str, start: date = YEAR[0], end: date = YEAR[1]) -> list[date]:
    return sessions(calendar, start, end).to_list()


def bars_file(file: Path, days: Sequence[date], symbols: Sequence[str] = ("A", "B")) -> Path:
    frame = pl.DataFrame({"session": days}).join(pl.DataFrame({"symbol": symbols}), how="cross")
    prices = frame.with_columns(open=10.0, high=11.0, low=9.0, close=10.0, volume=1000.0)
    file.parent.mkdir(parents=True, exist_ok=True)
    prices.write_csv(file) if file.suffix == ".csv" else prices.write_parquet(file)
    return file


def adopt(file: Path, folder: Path, **options: object) -> Adopted:
    taken: Callable[[str], bool] = lambda name: name in {"us_tech", "pure_noise"} or is_reserved(name)  # noqa: E731
    return adopt_file(file, folder / "configs", **{"like": LIKE, "taken": taken, **options})  # type: ignore[arg-type]


def said(adopted: Adopted) -> dict[str, object]:
    return dict(yaml.safe_load(adopted.universe_file.read_text()))


@pytest.mark.parametrize(
    ("stem", "universe", "strategy"),
    [
        ("us_tech", "us_tech_2", "us_tech_2_daily"),
        ("Pure Noise", "pure_noise_2", "pure_noise_2_daily"),
        ("gates", "gates_2", "gates_2_daily"),
        ("my_raw_bars", "my_raw_bars_2", "my_raw_bars_2_daily"),
        ("x", "u_x", "u_x_daily"),
        ("2024", "u_2024", "u_2024_daily"),
        ("株", "universe", "universe_daily"),
        ("bars[1]", "bars_1", "bars_1_daily"),
        ("eod_daily", "eod_daily", "eod_daily_strategy"),
    ],
)
def test_a_name_is_one_that_nothing_else_has(tmp_path: Path, stem: str, universe: str, strategy: str) -> None:
    adopted = adopt(bars_file(tmp_path / f"{stem}.csv", days_of("XNYS")), tmp_path)
    assert (adopted.universe, adopted.strategy) == (universe, strategy)
    universe_config = UniverseConfig.model_validate({"name": universe, **said(adopted)})
    assert universe_config.calendar == "XNYS"
    assert (universe_config.start, universe_config.end) == (date(2021, 1, 4), date(2021, 12, 31))
    assert any("is taken" in note for note in adopted.notes) == universe.endswith("_2")


def test_two_files_of_one_stem_are_two_universes(tmp_path: Path) -> None:
    first = adopt(bars_file(tmp_path / "a/bars.csv", days_of("XNYS")), tmp_path)
    second = adopt(bars_file(tmp_path / "b/bars.csv", days_of("XNYS")), tmp_path)
    assert (first.universe, second.universe) == ("bars", "bars_2")
    assert said(first)["source"] != said(second)["source"]
    assert adopt(tmp_path / "a/bars.csv", tmp_path).universe == "bars"
    assert adopt(tmp_path / "b/bars.csv", tmp_path).universe == "bars_2"


@pytest.mark.parametrize(("mark", "name"), [(";", "bars.csv"), ("\t", "bars.tsv"), ("|", "bars.csv.gz")])
def test_the_delimiter_is_read_from_the_header(tmp_path: Path, mark: str, name: str) -> None:
    text = pl.read_csv(bars_file(tmp_path / "plain.csv", days_of("XNYS"))).write_csv(separator=mark)
    text = text.replace(".", ",").replace("10,0", "10,5") if mark == ";" else text
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    adopted = adopt(file, tmp_path)
    assert said(adopted)["source"] == {"kind": "csv", "path": str(file)}
    config = UniverseConfig.model_validate({"name": adopted.universe, **said(adopted)})
    assert read_bars(config).bars["close"].unique().to_list() == [10.5 if mark == ";" else 10.0]


def test_a_refused_file_says_where_the_keys_go_that_it_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "bars.csv"
    pl.read_csv(bars_file(tmp_path / "plain.csv", days_of("XNYS"))).drop("volume").write_csv(file)
    with pytest.raises(
        BarContractError, match=r"`columns:`.*no universe was written: .*universes/NAME\.yaml"
    ):
        adopt(file, tmp_path)
    with pytest.raises(SourceError, match=r"found no such file\. To do: correct the path\."):
        adopt(tmp_path / "none.csv", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="found none"):
        adopt(tmp_path / "empty", tmp_path)
    damaged = tmp_path / "bars.csv.gz"
    damaged.write_bytes(b"\x1f\x8b no gzip")
    with pytest.raises(SourceError, match="expected a complete gzip file"):
        adopt(damaged, tmp_path)
    assert not (tmp_path / "configs").exists()


def test_what_was_edited_since_stays(tmp_path: Path) -> None:
    file = bars_file(tmp_path / "bars.parquet", days_of("XNYS"))
    first = adopt(file, tmp_path)
    edited = first.universe_file.read_text().replace("XNYS", "XTSE") + "quality: {jump_fraction: 0.7}\n"
    first.universe_file.write_text(edited)
    strategy = first.strategy_file.read_text() + "# mine\n"
    first.strategy_file.write_text(strategy)
    again = adopt(file, tmp_path)
    assert again.universe_file.read_text() == edited
    assert again.strategy_file.read_text() == strategy
    assert "adopted before" in again.notes[0]


def test_an_option_that_contradicts_the_file_of_before_names_that_file(tmp_path: Path) -> None:
    file = bars_file(tmp_path / "bars.csv", days_of("XNYS"))
    first = adopt(file, tmp_path)
    assert adopt(file, tmp_path, calendar="nasdaq").universe == "bars"
    with pytest.raises(ConfigurationError, match=r"bars\.yaml, key 'calendar'.*XLON.*XNYS"):
        adopt(file, tmp_path, calendar="LSE")
    with pytest.raises(ConfigurationError, match=r"key 'asset_class'.*crypto.*equity"):
        adopt(file, tmp_path, asset_class="crypto")
    assert said(first)["calendar"] == "XNYS"


def test_the_settings_of_another_strategy_are_another_strategy_on_the_same_universe(tmp_path: Path) -> None:
    file = bars_file(tmp_path / "bars.csv", days_of("XNYS"))
    first, other = adopt(file, tmp_path), adopt(file, tmp_path, like=OTHER)
    assert (first.strategy, other.strategy) == ("bars_daily", "bars_like_like_her")
    assert yaml.safe_load(other.strategy_file.read_text())["seed"] == 11
    assert adopt(file, tmp_path).strategy == "bars_daily"


def test_a_file_that_grew_is_told_and_not_read_further(tmp_path: Path) -> None:
    file = bars_file(tmp_path / "bars.csv", days_of("XNYS"))
    adopt(file, tmp_path)
    bars_file(file, days_of("XNYS", end=date(2022, 2, 1)))
    again = adopt(file, tmp_path)
    assert "goes on to 2022-02-01, the universe ends 2021-12-31" in again.notes[1]


@pytest.mark.parametrize("calendar", ["XNYS", "XLON", "XTKS", "XBOM", "XTSE", "XHKG", "24/7", "24/5"])
def test_the_calendar_is_the_one_whose_sessions_are_those_of_the_file(calendar: str) -> None:
    assert suggested_calendar(tuple(days_of(calendar)), "f").calendar == calendar


@pytest.mark.parametrize("calendar", ["XETR", "XPAR"])
def test_neighbours_that_share_most_holidays_are_told_apart_by_years(calendar: str) -> None:
    days = days_of(calendar, date(2013, 1, 1), date(2021, 12, 31))
    assert suggested_calendar(tuple(days), "f").calendar == calendar


def test_a_holiday_bar_of_one_name_and_a_hole_do_not_change_the_calendar(tmp_path: Path) -> None:
    days = days_of("XNYS")
    file = bars_file(tmp_path / "bars.csv", [d for d in days if d != date(2021, 3, 9)], list("ABCDE"))
    stray = "2021-07-05,A,10.0,11.0,9.0,10.0,1000.0\n"  # the Monday on which the Fourth was kept
    file.write_text(file.read_text() + stray)
    adopted = adopt(file, tmp_path)
    assert said(adopted)["calendar"] == "XNYS"
    assert "extra_sessions" not in said(adopted)
    assert "1 of its sessions without bars (2021-03-09)" in " ".join(adopted.notes)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (days_of("XNYS", date(2021, 2, 16), date(2021, 3, 31)), "several fit"),  # six weeks without a holiday
        (days_of("XMEX"), "none fits"),
        ([date(2021, 1, 1) + timedelta(days=2 * n) for n in range(180)], "none fits"),
        # Frankfurt and Paris differ by two days of 2021, and weekdays without Christmas from either by as many.
        (days_of("XETR"), "several fit"),
        ([day for day in days_of("24/5") if (day.month, day.day) not in ((1, 1), (12, 25))], "several fit"),
    ],
)
def test_no_exchange_is_guessed(days: list[date], words: str) -> None:
    with pytest.raises(CalendarError, match=f"{words}.*--calendar XNYS"):
        suggested_calendar(tuple(days), "bars.csv")


def test_an_exchange_by_its_own_name_gives_its_calendar(tmp_path: Path) -> None:
    file = bars_file(tmp_path / "bars.csv", days_of("XMEX"))
    with pytest.raises(CalendarError, match="--exchange"):
        adopt(file, tmp_path)
    assert not (tmp_path / "configs").exists()
    assert said(adopt(file, tmp_path, calendar="XMEX"))["calendar"] == "XMEX"
    with pytest.raises(CalendarError, match="did you mean 'NASDAQ'"):
        adopt(bars_file(tmp_path / "other.csv", days_of("XNYS")), tmp_path, calendar="NASDAK")


def test_special_sessions_of_most_names_become_extra_sessions(tmp_path: Path) -> None:
    saturday, muhurat = date(2020, 2, 1), date(2020, 11, 14)  # budget day; Diwali, a Saturday
    days = sorted({*days_of("XBOM", date(2020, 1, 1), date(2020, 12, 31)), saturday, muhurat})
    adopted = adopt(bars_file(tmp_path / "nse.csv", days), tmp_path)
    universe = UniverseConfig.model_validate({"name": adopted.universe, **said(adopted)})
    assert set(sessions(universe.calendar, universe.start, universe.end)) == set(days)
    hours = session_times(universe.calendar, muhurat, muhurat).row(0)
    assert [moment.strftime("%H:%M") for moment in hours[1:]] == ["03:45", "10:00"]  # 9:15 to 15:30 in Mumbai


def test_weekend_bars_are_24_7_and_costs_are_those_of_crypto(tmp_path: Path) -> None:
    adopted = adopt(bars_file(tmp_path / "coins.csv", days_of("24/7"), ["BTC", "ETH"]), tmp_path)
    assert (said(adopted)["calendar"], said(adopted)["asset_class"]) == ("24/7", "crypto")


def test_costs_below_the_least_of_the_asset_class_are_raised_and_told(tmp_path: Path) -> None:
    file = bars_file(tmp_path / "coins.csv", days_of("24/7"), ["BTC", "ETH"])
    floors = {"crypto": {"commission_bps": 1.0, "half_spread_bps": 1.0}, "equity": {"commission_bps": 9.0}}
    adopted = adopt(file, tmp_path, floors=floors)
    costs = yaml.safe_load(adopted.strategy_file.read_text())["costs"]
    assert (costs["commission_bps"], costs["half_spread_bps"]) == (1.0, 1.0)
    assert adopted.notes[-1] == (
        "costs of like_me raised to the least of asset class crypto: commission_bps 0.5 to 1"
    )


@pytest.mark.parametrize("stray", [date(2099, 6, 1), date(2023, 3, 1), date(2011, 3, 2)])
def test_a_bar_of_one_name_years_away_moves_neither_calendar_nor_dates(tmp_path: Path, stray: date) -> None:
    days = days_of("XNYS")
    file = bars_file(tmp_path / "far.csv", days, ("A", "B", "C"))
    with file.open("a") as stream:
        stream.write(f"{stray},C,10.0,11.0,9.0,10.0,1000.0\n")
    adopted = adopt(file, tmp_path)
    assert (said(adopted)["calendar"], said(adopted)["start"], said(adopted)["end"]) == (
        "XNYS",
        days[0],
        days[-1],
    )
    assert any(
        "1 bars lie before or after the days of the market" in n and f"C {stray}" in n for n in adopted.notes
    )


def test_a_bar_of_one_name_on_the_holiday_before_all_others_begin_is_no_session(tmp_path: Path) -> None:
    days = days_of("XNYS")
    file = bars_file(tmp_path / "holiday.csv", days, ("A", "B", "C"))
    with file.open("a") as stream:
        stream.write("2021-01-01,A,10.0,11.0,9.0,10.0,1000.0\n")
    universe = said(adopt(file, tmp_path))
    assert universe["start"] == days[0] == date(2021, 1, 4)
    assert "extra_sessions" not in universe


def test_a_day_of_the_market_has_a_bar_of_half_of_the_names_that_are_listed_then() -> None:
    one, two, three = date(2021, 1, 4), date(2021, 1, 5), date(2021, 1, 6)
    held = [
        ("A", one),
        ("A", two),
        ("A", three),
        ("B", one),
        ("B", three),
        ("C", one),
        ("C", three),
        ("D", three),
    ]
    bars = pl.DataFrame(held, schema={"symbol": pl.String, "session": pl.Date}, orient="row")
    assert market_days(bars) == [one, three]  # on the second 1 of 3


def test_a_file_is_described_whole(tmp_path: Path) -> None:
    summary = describe_file(bars_file(tmp_path / "bars[1].csv", days_of("XNYS")))
    assert (summary.symbols, summary.n_rows, len(summary.market_days)) == (("A", "B"), 504, 252)
