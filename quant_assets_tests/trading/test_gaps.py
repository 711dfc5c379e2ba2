"""A gap in the bars hides no loss: positions are carried over it; book and label take it on the next bar."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.settings import CostConfig, DelistingConfig, PortfolioConfig, UniverseConfig
from quant_assets.datasets.labels import forward_return_labels
from quant_assets.market.actions import ACTIONS_SCHEMA
from quant_assets.market.rules.quality import quarantine
from quant_assets.trading.backtest import BacktestSettings, panel_of, run_backtest
from quant_assets.trading.backtest.outcomes import outcomes_of
from quant_assets.trading.portfolio import simulate

FREE = CostConfig(commission_bps=0.0, half_spread_bps=0.0, impact_coefficient=0.0, borrow_fee_bps=0.0)
DAILY = PortfolioConfig(scheme="long_only", holding_sessions=1, risk_free_rate=0.0)
WEEKLY = PortfolioConfig(scheme="long_only", holding_sessions=5, risk_free_rate=0.0)
SHORT = PortfolioConfig(scheme="long_short", holding_sessions=1, risk_free_rate=0.0)
NO_ACTIONS = pl.DataFrame(schema=ACTIONS_SCHEMA)
N, CRASH = 60, 30
DAYS = [date(2024, 1, 1) + timedelta(days=t) for t in range(N)]
TIMES = pl.DataFrame(
    {
        "session": DAYS,
        "open_at": [datetime(d.year, d.month, d.day, 9, tzinfo=UTC) for d in DAYS],
        "close_at": [datetime(d.year, d.month, d.day, 16, tzinfo=UTC) for d in DAYS],
    }
)


def bars_of(symbol: str, before: float, after: float) -> pl.DataFrame:
    """A price that stands still, but for one night."""
    price = [before] * CRASH + [after] * (N - CRASH)
    return pl.DataFrame(
        {"symbol": symbol, "session": DAYS, "open": price, "high": price, "low": price, "close": price}
    ).with_columns(pl.lit(1e6).alias("volume"))


def market(*, long: float = 100.0, then: float = 60.0) -> pl.DataFrame:
    """B stands still; A, which the scores below prefer, leaps overnight."""
    return pl.concat([bars_of("A", long, then), bars_of("B", 50.0, 50.0)])


def without(bars: pl.DataFrame, *sessions: int) -> pl.DataFrame:
    return bars.filter((pl.col("symbol") != "A") | ~pl.col("session").is_in([DAYS[t] for t in sessions]))


def traded(
    bars: pl.DataFrame,
    portfolio: PortfolioConfig = DAILY,
    *,
    favourite: str = "A",
    costs: CostConfig = FREE,
    delisting: DelistingConfig | None = None,
) -> pl.DataFrame:
    preferred = (pl.col("symbol") == favourite).cast(pl.Float64)
    scores = bars.select("symbol", "session", path_0=preferred)
    return simulate(scores, bars, portfolio, costs, delisting or DelistingConfig())


def total(track: pl.DataFrame) -> float:
    return float(np.prod(1.0 + track["net_return"].to_numpy()) - 1.0)


@pytest.mark.parametrize(
    "gap",
    [
        (),
        (CRASH,),
        (CRASH - 1,),
        (CRASH, CRASH + 1),
        tuple(range(CRASH - 3, CRASH + 3)),
        tuple(range(22, 45)),
    ],
    ids=["no gap", "the crash day", "the day before", "two days", "days around it", "a month"],
)
def test_a_long_book_loses_an_overnight_fall_of_40_percent_whatever_bars_are_missing(
    gap: tuple[int, ...],
) -> None:
    assert total(traded(without(market(), *gap))) == pytest.approx(-0.4, rel=1e-12)


@pytest.mark.parametrize("gap", [(), (CRASH,), (CRASH, CRASH + 1, CRASH + 2)])
def test_a_short_book_loses_an_overnight_leap_whatever_bars_are_missing(gap: tuple[int, ...]) -> None:
    # Half is short in A, which rises by a half: a quarter of capital is lost at the open of the next bar.
    track = traded(without(market(long=100.0, then=150.0), *gap), SHORT, favourite="B")
    assert total(track) == pytest.approx(-0.25, rel=1e-12)


def test_a_short_book_earns_a_fall_that_a_gap_hides_and_no_more_than_without_the_gap() -> None:
    whole, gapped = (total(traded(b, SHORT, favourite="B")) for b in (market(), without(market(), CRASH)))
    assert whole == pytest.approx(0.2, rel=1e-12)
    assert gapped == pytest.approx(0.2, rel=1e-12)


def test_tranches_held_through_a_gap_take_it_in_full() -> None:
    assert total(traded(without(market(), CRASH), WEEKLY)) == pytest.approx(-0.4, rel=1e-12)


def test_nothing_is_traded_in_a_name_while_it_has_no_bar() -> None:
    costs = CostConfig(commission_bps=10.0, half_spread_bps=0.0, impact_coefficient=0.0, borrow_fee_bps=0.0)
    gap = range(CRASH, CRASH + 4)
    track = traded(without(market(), *gap), costs=costs)
    turnover = dict(track.select("session", "turnover").rows())
    commission = dict(track.select("session", "commission").rows())
    assert [turnover[DAYS[t]] for t in gap] == [0.0] * 4
    assert [commission[DAYS[t]] for t in gap] == [0.0] * 4
    # no close of the gap could be decided on: the position goes at the first open after it, and is back a day later
    assert turnover[DAYS[CRASH + 4]] == pytest.approx(1.0)
    assert turnover[DAYS[CRASH + 5]] == pytest.approx(1.0)


def test_a_quarantined_crash_bar_costs_what_the_crash_cost() -> None:
    """A fall of 40 % overnight on a day whose high lies half a percent below its open."""
    glitch = (pl.col("symbol") == "A") & (pl.col("session") == DAYS[CRASH])
    raw = market().with_columns(
        high=pl.when(glitch).then(pl.col("open") * 0.995).otherwise("high"),
        low=pl.when(glitch).then(pl.col("open") * 0.99).otherwise("low"),
        close=pl.when(glitch).then(pl.col("open") * 0.99).otherwise("close"),
        adj_close=pl.lit(None, dtype=pl.Float64),
    )
    universe = UniverseConfig.model_validate(
        {
            "name": "gap",
            "source": {"kind": "csv", "path": "gap.csv"},
            "calendar": "24/7",
            "start": DAYS[0],
            "end": DAYS[-1],
        }
    )
    parted = quarantine(raw, NO_ACTIONS, universe)
    taken = parted.quarantined.filter(pl.col("symbol") == "A").select("session", "rule").rows()
    assert taken == [(DAYS[CRASH], "ohlc_consistency")]
    kept = parted.kept.filter((pl.col("symbol") == "A") | (pl.col("symbol") == "B"))
    assert total(traded(kept)) == pytest.approx(-0.4, rel=1e-12)


def test_a_name_whose_last_bars_are_missing_ends_at_its_last_close_with_costs_and_its_final_return() -> None:
    costs = CostConfig(commission_bps=100.0, half_spread_bps=0.0, impact_coefficient=0.0, borrow_fee_bps=0.0)
    bars = without(market(), *range(CRASH, N))
    track = traded(bars, costs=costs, delisting=DelistingConfig(final_return=-0.3, after_sessions=5))
    by_session = dict(track.select("session", "net_return").rows())
    # held at the last open, it is worth 70 at the next, where there is none: the name has ended
    assert by_session[DAYS[CRASH - 1]] == pytest.approx(-0.3, rel=1e-12)
    assert by_session[DAYS[CRASH]] == pytest.approx(-0.01, rel=1e-12)  # and leaving costs one percent


def test_a_name_that_comes_back_has_not_ended_however_long_it_was_away() -> None:
    away = without(market(), *range(CRASH - 10, CRASH + 20))
    track = traded(away, delisting=DelistingConfig(final_return=-1.0, after_sessions=5))
    assert total(track) == pytest.approx(-0.4, rel=1e-12)


BACKTEST = BacktestSettings(
    top_k=1, horizon_sessions=1, returns_from="prices", costs=FREE, extended_metrics=True
)


@pytest.mark.parametrize("gap", [(), (CRASH,), tuple(range(CRASH - 2, CRASH + 3))])
def test_the_backtest_command_carries_a_position_over_a_gap_too(gap: tuple[int, ...]) -> None:
    preferred = (pl.col("symbol") == "A").cast(pl.Float64)
    table = without(market(), *gap).with_columns(score=preferred).drop("high", "low", "volume")
    result = run_backtest(panel_of(table, name="table"), BACKTEST)
    assert result.model.account is not None
    assert result.model.account.max_drawdown_fraction == pytest.approx(-0.4, rel=1e-9)


def test_the_outcomes_of_the_backtest_command_have_a_loss_behind_a_gap_and_the_last_move_of_a_name() -> None:
    preferred = (pl.col("symbol") == "A").cast(pl.Float64)
    ends = market(then=60.0).filter((pl.col("symbol") == "B") | (pl.col("session") < DAYS[50]))
    ends = ends.with_columns(
        close=pl.when((pl.col("symbol") == "A") & (pl.col("session") == DAYS[49]))
        .then(30.0)
        .otherwise("close")
    )
    table = without(ends, CRASH).with_columns(score=preferred).drop("high", "low", "volume")
    label = outcomes_of(panel_of(table, name="table"), BACKTEST).label[:, 0]
    # held from the open before the gap to the one after it; entered in the gap by nobody
    assert label[CRASH - 2 : CRASH] == pytest.approx([-0.4, np.nan], nan_ok=True)
    # bought at the last open, it left at the last close; the row before it left at that open; later rows buy nothing
    assert label[47:50] == pytest.approx([0.0, -0.5, np.nan], nan_ok=True)


@pytest.mark.parametrize("gap", [(), (CRASH,), (CRASH, CRASH + 1, CRASH + 2)])
def test_the_label_of_every_row_that_is_held_through_a_gap_has_the_loss(gap: tuple[int, ...]) -> None:
    labels = forward_return_labels(without(market(), *gap), TIMES, horizon_sessions=5).filter(
        pl.col("symbol") == "A"
    )
    returns = dict(labels.select("session", "forward_return").rows())
    # entered at the latest at the open before the crash, left at the earliest at the one after it
    held = [t for t in range(CRASH - 6, CRASH - 1) if t not in gap]
    assert [returns[DAYS[t]] for t in held] == pytest.approx([-0.4] * len(held))


@settings(max_examples=25, deadline=None)
@given(
    gap=st.sets(st.integers(1, N - 2), max_size=30),
    last=st.integers(20, N - 1),
    final_return=st.sampled_from([-1.0, -0.25, 0.0]),
    seed=st.integers(0, 2**16),
)
def test_what_the_simulator_earns_of_one_decision_is_its_label_whatever_bars_are_missing(
    gap: set[int], last: int, final_return: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    price = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.05, N)))
    a = bars_of("A", 1.0, 1.0).with_columns(
        open=pl.Series(price), close=pl.Series(price * np.exp(rng.normal(0.0, 0.02, N)))
    )
    bars = without(pl.concat([a, bars_of("B", 50.0, 50.0)]), *gap, *range(last + 1, N))
    end = DelistingConfig(final_return=final_return, after_sessions=3)
    labels = forward_return_labels(bars, TIMES, horizon_sessions=1, delisting=end)
    for session, t1, value in (
        labels.filter(pl.col("symbol") == "A").select("session", "t1", "forward_return").rows()[::7]
    ):
        # A is wanted once; afterwards B alone is scored, and one name orders nothing
        wanted = (pl.col("session") == session) | ((pl.col("session") > session) & (pl.col("symbol") == "B"))
        scores = bars.filter(wanted).select(
            "symbol", "session", path_0=(pl.col("symbol") == "A").cast(pl.Float64)
        )
        fills = simulate(scores, bars, DAILY, FREE, end).filter(pl.col("session") < t1.date())
        if fills.height and fills["net_return"].min() != -1.0:
            assert total(fills) == pytest.approx(value, rel=1e-9, abs=1e-12), session
