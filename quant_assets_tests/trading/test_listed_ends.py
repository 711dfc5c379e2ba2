"""Names that end as their listing says: what the book and the labels make of it, against hand calculations."""

from typing import Any

import numpy as np
import polars as pl
import pytest

from quant_assets.common.settings import CostConfig, DelistingConfig, PortfolioConfig
from quant_assets.datasets.labels import forward_return_labels
from quant_assets.datasets.training_set import decidable_rows
from quant_assets.market.listings import by_instrument, with_ends
from quant_assets.trading.account import presence
from quant_assets.trading.paths import unknown_end_sharpes
from quant_assets.trading.portfolio import simulate, unknown_ends
from quant_assets_tests.market.test_listings import listings, spell
from quant_assets_tests.trading.test_delisting import (
    DAYS,
    FREE,
    LAST,
    TIMES,
    always_the_favourite,
    decided,
    flat,
)

DAILY = PortfolioConfig(scheme="long_only", holding_sessions=1, risk_free_rate=0.0)


def told(bars: pl.DataFrame, *ends: dict[str, Any]) -> pl.DataFrame:
    """Bars with the ends of a listing; every other name is listed throughout."""
    named = {str(end["symbol"]) for end in ends}
    rest = [spell(s, "2019-01-02") for s in bars["symbol"].unique().sort() if s not in named]
    return with_ends(bars, listings(*rest, *ends))


def dying(last: int = LAST) -> pl.DataFrame:
    """S0 stands still; S1, always the favourite, has its last bar that many sessions after the first."""
    return pl.concat([flat("S0", [10.0] * 60), flat("S1", [10.0] * (last + 1))])


def moved(bars: pl.DataFrame, delisting: DelistingConfig, costs: CostConfig = FREE) -> dict[int, float]:
    """Net returns that are not zero, by session number."""
    track = simulate(always_the_favourite(decided(bars)), bars, DAILY, costs, delisting)
    rows = track.filter(pl.col("net_return").abs() > 1e-12).select("session", "net_return").rows()
    return {DAYS.index(day): value for day, value in rows}


@pytest.mark.parametrize(
    ("kind", "own", "lost"),
    [
        ("bankruptcy", -1.0, -1.0),
        ("merger_cash", 0.02, 0.02),
        ("other", -0.55, -0.55),
        ("unknown", None, -0.3),
    ],
)
def test_a_name_returns_what_its_listing_says_and_the_stand_in_where_nobody_says(
    kind: str, own: float | None, lost: float
) -> None:
    end = spell("S1", "2019-01-02", str(DAYS[LAST]), end_kind=kind, delisting_return=own)
    # decided at the last close but one, filled at the last open, worth its final value at the next
    assert moved(told(dying(), end), DelistingConfig(final_return=-0.3)) == {
        LAST: pytest.approx(lost, abs=1e-12)
    }


def test_without_a_listing_every_name_that_ended_returns_the_stand_in() -> None:
    assert moved(dying(), DelistingConfig(final_return=-0.3)) == {LAST: pytest.approx(-0.3, abs=1e-12)}


def test_a_halt_of_ten_sessions_before_the_end_is_a_halt_until_the_listing_ends() -> None:
    end = spell("S1", "2019-01-02", str(DAYS[LAST + 10]), end_kind="bankruptcy", delisting_return=-1.0)
    bars = told(dying(), end)
    # the rule of after_sessions alone would have let it leave at its last close, 11 sessions earlier
    assert moved(bars, DelistingConfig(after_sessions=5)) == {LAST + 10: pytest.approx(-1.0)}
    trading = np.zeros((60, 1), dtype=bool)
    trading[: LAST + 1] = True
    present = presence(trading, 5, np.array([LAST + 11]))
    assert np.flatnonzero(present.halted[:, 0]).tolist() == list(range(LAST + 1, LAST + 11))
    assert np.flatnonzero(present.final[:, 0]).tolist() == [LAST + 11]


def test_a_halt_of_ten_sessions_of_a_listed_name_is_carried_to_its_next_open() -> None:
    bars = pl.concat([flat("S0", [10.0] * 60), flat("S1", [10.0] * 20 + [8.0] * 40)])
    bars = bars.filter((pl.col("symbol") == "S0") | ~pl.col("session").is_between(DAYS[20], DAYS[29]))
    assert moved(told(bars), DelistingConfig()) == {29: pytest.approx(-0.2)}


def test_an_end_after_the_panel_is_none_yet() -> None:
    end = spell(
        "S1", "2019-01-02", "2021-01-04", end_kind="bankruptcy", delisting_return=-1.0, known_at="2020-02-01"
    )
    bars = told(dying(), end)
    assert bars["listed_until"].drop_nulls().len() == 1
    assert moved(bars, DelistingConfig(after_sessions=5)) == {}
    labels = forward_return_labels(bars, TIMES, horizon_sessions=2)
    assert labels.filter(pl.col("symbol") == "S1")["session"].max() == DAYS[LAST - 3]


def test_an_end_that_was_not_known_by_the_last_close_is_none() -> None:
    end = spell("S1", "2019-01-02", str(DAYS[LAST]), delisting_return=-1.0, known_at="2020-03-02")
    assert moved(told(dying(), end), DelistingConfig(final_return=-0.3)) == {LAST: pytest.approx(-0.3)}


def test_only_the_names_of_which_nobody_says_take_other_returns() -> None:
    ends = (
        spell("S1", "2019-01-02", str(DAYS[LAST]), end_kind="merger_cash", delisting_return=0.0),
        spell("S2", "2019-01-02", str(DAYS[30]), end_kind="unknown"),
    )
    bars = told(pl.concat([dying(), flat("S2", [10.0, 10.1] * 15 + [10.0])]), *ends)
    assert unknown_ends(bars, DelistingConfig()) == (2, ["S2"])
    assert unknown_ends(dying(), DelistingConfig()) == (1, ["S1"])
    assert unknown_ends(dying(57), DelistingConfig()) == (0, [])  # two sessions are no end
    scores = always_the_favourite(decided(bars))
    stand_in = DelistingConfig(final_return=-0.3)
    found = unknown_end_sharpes(scores, bars, DAILY, FREE, stand_in, 252.0)
    assert found is not None
    assert list(found.sharpe_annual) == [0.0, -0.3, -1.0]

    def ratio(value: float) -> float:
        net = simulate(scores, bars, DAILY, FREE, DelistingConfig(final_return=value))[
            "net_return"
        ].to_numpy()
        return float(net.mean() / net.std(ddof=1) * np.sqrt(252.0))

    assert list(found.sharpe_annual.values()) == pytest.approx([ratio(0.0), ratio(-0.3), ratio(-1.0)])
    assert len({ratio(0.0), ratio(-0.3), ratio(-1.0)}) == 3
    assert found.sentence.startswith(
        "2 names ended; of 1 nobody says what they returned at last, and -30% stands in"
    )
    known = told(dying(), ends[0])
    assert (
        unknown_end_sharpes(always_the_favourite(decided(known)), known, DAILY, FREE, stand_in, 252.0) is None
    )


# ------------------------------------------------------------------------------------------------------------ labels


def labels_of(bars: pl.DataFrame, symbol: str = "S1", horizon: int = 3) -> pl.DataFrame:
    found = forward_return_labels(
        bars, TIMES, horizon_sessions=horizon, delisting=DelistingConfig(final_return=-0.3)
    )
    return found.filter(pl.col("symbol") == symbol)


@pytest.mark.parametrize(("own", "value"), [(-1.0, -1.0), (0.02, 0.02), (None, -0.3)])
def test_the_last_labels_of_a_name_hold_what_its_listing_says(own: float | None, value: float) -> None:
    end = spell("S1", "2019-01-02", str(DAYS[LAST]), delisting_return=own)
    labels = labels_of(told(dying(), end))
    # entered at t+1, left at t+4: the three rows whose exit would come after the last bar
    assert labels["forward_return"].tail(3).to_list() == pytest.approx([value] * 3, abs=1e-12)
    assert labels["forward_return"].head(LAST - 3).to_list() == [0.0] * (LAST - 3)


@pytest.mark.parametrize(
    ("known_at", "session"),
    [
        (f"{DAYS[LAST]}", LAST + 1),  # once its last day is over: left at the next open, known at that close
        (f"{DAYS[LAST - 9]}T12:00:00Z", LAST + 1),  # an end announced before is one when it comes
        (f"{DAYS[LAST + 9]}T16:00:00Z", LAST + 9),  # told at the very close
        (f"{DAYS[LAST + 9]}T16:00:01Z", LAST + 10),
    ],
)
def test_a_label_that_ends_with_a_listing_is_known_when_that_was(known_at: str, session: int) -> None:
    end = spell("S1", "2019-01-02", str(DAYS[LAST]), delisting_return=-1.0, known_at=known_at)
    first, *_, last = labels_of(told(dying(), end)).tail(3).select("t1", "known_at").rows()
    for (t1, known), due in ((first, LAST + 1), (last, LAST + 3)):
        assert t1 == TIMES["open_at"][due]
        assert known == TIMES["close_at"][max(session, due)]


def test_labels_and_book_leave_a_halted_name_in_the_same_session_at_the_same_worth() -> None:
    end = spell("S1", "2019-01-02", str(DAYS[LAST + 10]), end_kind="bankruptcy", delisting_return=-0.8)
    bars = told(dying(), end)
    labels = labels_of(bars)
    assert labels["forward_return"].tail(3).to_list() == pytest.approx([-0.8] * 3)
    assert labels["t1"].tail(3).unique().to_list() == [TIMES["open_at"][LAST + 11]]
    assert labels["known_at"].tail(3).unique().to_list() == [TIMES["close_at"][LAST + 11]]
    assert moved(bars, DelistingConfig()) == {LAST + 10: pytest.approx(-0.8)}


def test_no_label_and_no_position_goes_from_one_instrument_of_a_symbol_to_the_next() -> None:
    # S1 is bought for cash at 10; eight sessions later another S1 opens at 50, and falls to 25 on its third day
    raw = pl.concat(
        [flat("S0", [10.0] * 60), flat("S1", [10.0] * 30), flat("S1", [50.0] * 2 + [25.0] * 20, first=38)]
    )
    told_of = listings(
        spell("S0", "2019-01-02"),
        spell("S1", "2019-01-02", str(DAYS[29]), end_kind="merger_cash", delisting_return=0.0),
        spell("S1", str(DAYS[38])),
    )
    bars = with_ends(by_instrument(raw, told_of), told_of)
    first = labels_of(bars, "S1:20190102", horizon=10)
    assert first["session"].max() == DAYS[28]
    assert set(first["forward_return"].to_list()) == {0.0}  # never 50 / 10 - 1
    second = labels_of(bars, "S1", horizon=1)
    assert second["session"].min() == DAYS[38]
    scores = decided(bars).select(
        "symbol", "session", path_0=pl.col("symbol").str.starts_with("S1").cast(pl.Float64)
    )
    track = simulate(scores, bars, DAILY, FREE, DelistingConfig())
    changes = {day: value for day, value in track.select("session", "gross_return").rows() if value != 0.0}
    assert changes == {DAYS[39]: pytest.approx(-0.5)}  # held from its second open on
    turnover = dict(track.select("session", "turnover").rows())
    assert turnover[DAYS[30]] == pytest.approx(1.0)  # the first one is left at its end
    assert turnover[DAYS[39]] == pytest.approx(1.0)  # and the other bought, a decision after its first close


def test_a_name_that_leaves_the_group_is_left_by_trading_at_its_own_price() -> None:
    bars = pl.concat([flat("S0", [10.0] * 60), flat("S1", [10.0] * 30 + [9.0] * 30)])
    member = (pl.col("symbol") == "S0") | (pl.col("session") <= DAYS[29])
    features = bars.select("symbol", "session", f=pl.lit(1.0).cast(pl.Float32))
    rows = decidable_rows(features, bars, ["f"], through=DAYS[50], members=bars.filter(member))
    assert rows.filter(pl.col("symbol") == "S1")["session"].max() == DAYS[29]
    costs = CostConfig(commission_bps=100.0, half_spread_bps=0.0, impact_coefficient=0.0)
    track = simulate(always_the_favourite(rows), bars, DAILY, costs, DelistingConfig())
    # the last close at which it is a member buys it for one more session; the next decision is to hold none of it
    by_session = {day: row for day, *row in track.select("session", "turnover", "gross_return").rows()}
    assert by_session[DAYS[29]] == [0.0, pytest.approx(-0.1)]  # filled at 10, worth 9 at the next open
    assert by_session[DAYS[30]] == [0.0, 0.0]
    assert by_session[DAYS[31]] == [pytest.approx(1.0), 0.0]
