"""Actions that a person declares override what is inferred, by symbol, session and reason."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.settings import UniverseConfig
from quant_assets.common.universe_settings import ActionsConfig
from quant_assets.market.actions import CorporateActions, read_actions
from quant_assets.market.declared_actions import declared_actions, digest_of_file, strays

START = date(2024, 1, 1)
WHY = "notice of the exchange"


def raw(symbol: str = "A") -> pl.DataFrame:
    """Ten days at 100, then ten at 50, adjusted as a 2:1 split."""
    close = [100.0] * 10 + [50.0] * 10
    days = [START + timedelta(days=k) for k in range(20)]
    frame = pl.DataFrame({"session": days, "close": close, "adj_close": [50.0] * 20})
    return frame.with_columns(
        symbol=pl.lit(symbol),
        volume=pl.lit(100.0),
        open=pl.col("close"),
        high=pl.col("close"),
        low=pl.col("close"),
    )


def declared(*rows: dict[str, object]) -> pl.DataFrame:
    return declared_actions(ActionsConfig.model_validate(list(rows)))


def said(kind: str, day: int = 10, symbol: str = "A", **values: object) -> dict[str, object]:
    return {
        "symbol": symbol, "session": START + timedelta(days=day), "kind": kind, "reason": WHY, **values,
    }  # fmt: skip


def rows(got: CorporateActions) -> list[tuple[object, ...]]:
    return got.actions.select("session", "kind", "ratio", "price_factor", "amount").rows()


EX = START + timedelta(days=10)


def test_a_declared_distribution_takes_the_place_of_an_inferred_split() -> None:
    got = read_actions(raw(), declared(said("spin_off", amount=50)))
    assert rows(got) == [(EX, "spin_off", None, 0.5, 50.0)]
    told = got.declared.row(0, named=True)
    assert (told["bar"], told["replaced"], told["reason"]) == (EX, "split (price factor 0.5)", WHY)


@pytest.mark.parametrize("ratio", [1.5, "3/2"])
def test_a_declared_split_and_dividend_share_a_session(ratio: object) -> None:
    # 100 / 1.5 = 66.67 a new share, of which 1 is paid: 1 - 1.5 / 100 = .985.
    got = read_actions(raw(), declared(said("dividend", amount=1.0), said("split", ratio=ratio)))
    assert rows(got) == [
        (EX, "split", 1.5, pytest.approx(2 / 3), None),
        (EX, "dividend", None, pytest.approx(0.985), 1.0),
    ]


def test_none_says_that_there_was_no_action() -> None:
    got = read_actions(raw(), declared(said("none")))
    assert got.actions.is_empty()
    assert got.declared["replaced"].to_list() == ["split (price factor 0.5)"]


def test_what_is_declared_elsewhere_is_added_to_what_is_inferred() -> None:
    got = read_actions(raw(), declared(said("dividend", day=5, price_factor=0.99)))
    assert rows(got) == [
        (START + timedelta(days=5), "dividend", None, 0.99, pytest.approx(1.0)),
        (EX, "split", 2.0, 0.5, None),
    ]
    assert got.declared["replaced"].to_list() == ["nothing"]


def test_an_action_declared_for_a_day_without_a_bar_overrides_that_of_the_next_bar() -> None:
    bars = raw().filter(pl.col("session") != START + timedelta(days=9))
    got = read_actions(bars, declared(said("split", day=9, ratio=2.5)))
    assert rows(got) == [(EX, "split", 2.5, 0.4, None)]


def test_strays_are_told_and_do_no_harm() -> None:
    every = declared(
        said("split", symbol="ZZZ", ratio=2), said("split", day=300, ratio=2), said("none", day=-1)
    )
    got = read_actions(raw(), every)
    assert rows(got) == [(EX, "split", 2.0, 0.5, None)]
    assert strays(every, raw()).select("symbol", "why").rows() == [
        ("A", "no bar on that day: it takes effect on the next"),
        ("A", "after the symbol's last bar: it has no effect"),
        ("ZZZ", "the universe has no bars of this symbol"),
    ]
    assert strays(declared(said("none")), raw()).is_empty()


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([said("split")], "a split needs `ratio:`"),
        ([said("split", ratio=0)], "greater than 0"),
        ([said("split", ratio=-2)], "greater than 0"),
        ([said("split", ratio="3/0")], "valid number"),
        ([said("split", ratio=2, amount=1)], "a split needs `ratio:`"),
        ([said("dividend")], "exactly one of `amount:` and `price_factor:`"),
        ([said("spin_off", amount=1, price_factor=0.9)], "exactly one of"),
        ([said("none", ratio=2)], "remove `ratio:`"),
        ([said("split", ratio=2), said("split", ratio=3)], "A 2024-01-11 is declared more than once"),
        ([said("none"), said("split", ratio=3)], "A 2024-01-11 is declared more than once"),
        ([{k: v for k, v in said("none").items() if k != "reason"}], "Field required"),
        ([said("merger", ratio=2)], "'split', 'dividend', 'spin_off' or 'none'"),
    ],
)
def test_what_is_no_action_is_one_clear_error(listed: list[object], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as error:
        UniverseConfig.model_validate(
            {"name": "one", "source": {"kind": "bokeh_sampledata"}, "start": "2000-01-03",
             "end": "2001-01-03", "actions": listed}
        )  # fmt: skip
    assert error.value.error_count() == 1


def test_a_dividend_of_more_than_the_close_before_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"dividend of A on 2024-01-11.*below the close before"):
        read_actions(raw(), declared(said("dividend", amount=100)))
    with pytest.raises(ConfigurationError, match="of a symbol that has one"):
        read_actions(raw(), declared(said("dividend", day=0, amount=1)))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_and_a_list_are_one(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"actions.{suffix}"
    table = pl.DataFrame([said("split", ratio=4.0)])
    table.write_csv(file) if suffix == "csv" else table.write_parquet(file)
    config = ActionsConfig.model_validate(
        {"path": str(file), "listed": [said("dividend", day=5, amount=2.0)]}
    )
    assert rows(read_actions(raw(), declared_actions(config))) == [
        (START + timedelta(days=5), "dividend", None, 0.98, 2.0),
        (EX, "split", 4.0, 0.25, None),
    ]
    before = digest_of_file(config)
    table.with_columns(ratio=pl.lit(3.0)).write_csv(file)
    assert digest_of_file(config) != before
    assert digest_of_file(ActionsConfig()) == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("symbol,session,kind,ratio\nA,2024-01-11,split,2\n", "columns symbol, session, kind"),
        ("symbol,session,kind,ratio,reason,colour\nA,2024-01-11,split,2,because so,red\n", "colour"),
        (
            f"symbol,session,kind,ratio,reason\nA,2024-01-11,split,2,{WHY}\nB,2024-01-11,split,-2,{WHY}\n",
            "data row 2",
        ),
        (
            f"symbol,session,kind,ratio,reason\nA,2024-01-11,split,2,{WHY}\nA,2024-01-11,split,2,{WHY}\n",
            "more than once",
        ),
        ("symbol,session,kind,ratio,reason\nA,2024-01-11,split,2,short\n", "at least 10 characters"),
    ],
)
def test_a_file_with_a_fault_is_refused_with_its_row(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "actions.csv"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        declared_actions(ActionsConfig(path=str(file)))
    with pytest.raises(ConfigurationError, match=r"correct `actions: \{path"):
        declared_actions(ActionsConfig(path=str(tmp_path / "absent.csv")))
