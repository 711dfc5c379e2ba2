"""The book of names that end, halt or simply have no newer bars yet: against hand calculations."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from quant_assets.common.settings import CostConfig, DelistingConfig, PortfolioConfig
from quant_assets.datasets.labels import forward_return_labels
from quant_assets.datasets.training_set import decidable_rows
from quant_assets.trading.account import presence, run_accounts
from quant_assets.trading.portfolio import simulate

FREE = CostConfig(commission_bps=0.0, half_spread_bps=0.0, impact_coefficient=0.0, borrow_fee_bps=0.0)
START = date(2020, 1, 1)
DAYS = [START + timedelta(days=t) for t in range(60)]
TIMES = pl.DataFrame(
    {
        "session": DAYS,
        "open_at": [datetime(d.year, d.month, d.day, 9, tzinfo=UTC) for d in DAYS],
        "close_at": [datetime(d.year, d.month, d.day, 16, tzinfo=UTC) for d in DAYS],
    }
)
LAST = 40  # the favourite's last bar
WEEKLY = PortfolioConfig(scheme="long_only", holding_sessions=5, risk_free_rate=0.0)


def flat(symbol: str, prices: list[float], first: int = 0) -> pl.DataFrame:
    sessions = DAYS[first : first + len(prices)]
    frame = pl.DataFrame(
        {"symbol": symbol, "session": sessions, "open": prices, "close": prices, "volume": 1e6}
    )
    return frame.with_columns(known_at=pl.col("session").cast(pl.Datetime("us", "UTC")))


def favourite_that_dies() -> pl.DataFrame:
    """Eleven names that stand still, and one that halves three sessions in a row and is never seen again."""
    others = [flat(f"S{i:02d}", [10.0] * 60) for i in range(11)]
    return pl.concat([*others, flat("S99", [10.0] * (LAST - 2) + [5.0, 2.5, 1.25])])


def always_the_favourite(rows: pl.DataFrame) -> pl.DataFrame:
    """The model ranks names by their number, so S99 first, in every row that it is shown."""
    return rows.select("symbol", "session", path_0=pl.col("symbol").str.slice(1).cast(pl.Float64))


def decided(bars: pl.DataFrame) -> pl.DataFrame:
    features = bars.select("symbol", "session", f=pl.lit(1.0).cast(pl.Float32))
    return decidable_rows(features, bars, ["f"], through=DAYS[50])


def lost(
    rows: pl.DataFrame, bars: pl.DataFrame, delisting: DelistingConfig, costs: CostConfig = FREE
) -> float:
    track = simulate(always_the_favourite(rows), bars, WEEKLY, costs, delisting)
    return 1.0 - float(np.prod(1.0 + track["net_return"].to_numpy()))


# Of twelve names the six best are held, by 5.5, 4.5, ... 0.5 of 18: the favourite by 11/36, whose half is 11/72.
HALF = 11.0 / 72.0


def test_the_book_of_a_delisted_favourite_is_the_hand_calculation_with_every_decidable_row() -> None:
    bars = favourite_that_dies()
    got = lost(decided(bars), bars, DelistingConfig())
    assert got == pytest.approx(1.0 - (1.0 - HALF) ** 3, rel=1e-12)  # held in full through all three halvings
    assert got == pytest.approx(0.392, abs=5e-4)


def test_scoring_only_rows_with_an_outcome_would_have_left_it_before() -> None:
    bars = favourite_that_dies()
    rows = decided(bars)
    # the rule of before: a row whose exit bar does not exist has no label, and without a label no score
    exits = bars.select("symbol", session=pl.col("session").dt.offset_by("-6d"))
    labelled = rows.join(exits, on=["symbol", "session"], how="semi")
    got = lost(labelled, bars, DelistingConfig())
    assert got == pytest.approx(1.0 - (1.0 - 0.6 * HALF) * (1.0 - 0.4 * HALF) * (1.0 - 0.2 * HALF), rel=1e-12)
    assert got == pytest.approx(0.173, abs=5e-4)


def test_what_a_name_returns_at_its_end_is_lost_with_its_last_position() -> None:
    bars = favourite_that_dies()
    got = lost(decided(bars), bars, DelistingConfig(final_return=-0.3))
    kept = (1.0 - HALF) ** 3
    # decided at the last close but one, filled at the last open: its value falls from 1.25 to 0.875
    assert got == pytest.approx(1.0 - kept * (1.0 - 2.0 * HALF * 0.3), rel=1e-12)


def test_leaving_a_name_that_ended_costs_what_a_sale_costs() -> None:
    bars = pl.concat([flat("S0", [10.0] * 60), flat("S1", [10.0] * LAST + [5.0])])
    costs = CostConfig(commission_bps=100.0, half_spread_bps=0.0, impact_coefficient=0.0)
    daily = PortfolioConfig(scheme="long_only", holding_sessions=1, risk_free_rate=0.0)
    track = simulate(always_the_favourite(decided(bars)), bars, daily, costs)
    gone = track.filter(pl.col("session") == DAYS[LAST + 1])
    # the whole book is sold at the first open without a bar, and the other name alone orders nothing
    assert gone["turnover"].item() == pytest.approx(1.0, rel=1e-12)
    assert gone["net_return"].item() == pytest.approx(-0.01, rel=1e-12)
    assert track.filter(pl.col("session") > DAYS[LAST + 1])["turnover"].to_list() == [0.0] * 10


def test_the_label_of_a_row_that_ends_inside_the_horizon_is_its_last_price_over_the_entry() -> None:
    bars = favourite_that_dies()
    labels = forward_return_labels(
        bars, TIMES, horizon_sessions=5, delisting=DelistingConfig(final_return=-0.5)
    ).filter(pl.col("symbol") == "S99")
    assert labels["session"].max() == DAYS[LAST - 1]  # the last close that could still be filled
    assert labels["forward_return"].to_list()[-4:] == pytest.approx(
        [0.625 / 10 - 1, 0.625 / 5 - 1, 0.625 / 2.5 - 1, 0.625 / 1.25 - 1]
    )


def test_a_position_in_a_halted_name_is_carried_to_its_next_open() -> None:
    halted = [10.0] * 20 + [8.0] * 40
    bars = pl.concat([flat("S0", [10.0] * 60), flat("S1", halted)])
    bars = bars.filter((pl.col("symbol") == "S0") | ~pl.col("session").is_between(DAYS[15], DAYS[19]))
    daily = PortfolioConfig(scheme="long_only", holding_sessions=1, risk_free_rate=0.0)
    track = simulate(always_the_favourite(decided(bars)), bars, daily, FREE)
    by_session = dict(track.select("session", "gross_return").rows())
    moved = {day: value for day, value in by_session.items() if value != 0.0}
    # the fall of a fifth is earned when the name opens again: nobody could leave it, nobody was told before
    assert moved == {DAYS[19]: pytest.approx(-0.2, rel=1e-12)}
    turnover = dict(track.select("session", "turnover").rows())
    assert all(turnover[DAYS[t]] == 0.0 for t in range(15, 20))


def test_a_name_without_newer_bars_is_halted_until_it_has_ended() -> None:
    trading = np.ones((10, 3), dtype=bool)
    trading[7:, 1] = False  # three sessions missing at the end
    trading[:3, 2] = False  # not listed yet
    assert presence(trading, 4).halted[:, 1].tolist() == [False] * 7 + [True] * 3
    ended = presence(trading, 3)
    assert not ended.halted.any()
    assert np.argwhere(ended.final).tolist() == [[7, 1]]


def test_what_is_wanted_of_a_halted_name_is_not_traded_and_counts_as_held() -> None:
    returns = np.array([[0.1], [0.0], [-0.1]])
    unknown = np.full((3, 1), np.nan)
    halted = np.array([[False], [True], [False]])
    accounts = run_accounts(np.array([[[0.5], [0.0], [0.0]]]), returns, unknown, unknown, FREE, halted)
    drifted = 0.5 * 1.1 / 1.05
    assert accounts.targets[0, :, 0].tolist() == pytest.approx([0.5, drifted, 0.0])
    assert accounts.turnover[0].tolist() == pytest.approx([0.5, 0.0, drifted])
