"""Regimes that nobody has to look ahead for, and what a strategy earns when its account grows."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.settings import CostConfig, PortfolioConfig
from quant_assets.reports.tear_sheet import capacity_sentence, monthly_coefficients
from quant_assets.trading.portfolio import simulate
from quant_assets.trading.regimes import (
    UNKNOWN,
    CapacityPoint,
    capacity,
    capacity_curve,
    market_regimes,
    regime_table,
)


def market(sigmas: list[float], *, symbols: int = 3, seed: int = 1) -> pl.DataFrame:
    """Bars whose daily returns have this common volatility on each session."""
    rng = np.random.default_rng(seed)
    n = len(sigmas)
    days = np.busday_offset("2015-01-01", np.arange(n), roll="forward")
    frames = []
    for symbol in range(symbols):
        close = 100.0 * np.cumprod(1.0 + np.array(sigmas) * rng.choice([-1.0, 1.0], n))
        frames.append(
            pl.DataFrame(
                {"symbol": f"S{symbol}", "session": days, "open": close, "high": close, "low": close}
                | {"close": close, "volume": np.full(n, 1e6)}
            )
        )
    return pl.concat(frames)


# ------------------------------------------------------------------------------------------------- regimes


def test_a_calm_market_turns_turbulent_and_calm_again() -> None:
    bars = market([0.01] * 400 + [0.03] * 150 + [0.002] * 150, symbols=1)
    regimes = market_regimes(bars)
    # 1 session has no return, 60 make a volatility, 120 earlier volatilities make terciles
    assert regimes["volatility"].null_count() == 60
    assert regimes["regime"].null_count() == 180
    assert set(regimes["regime"][460:550]) == {"turbulent"}
    assert set(regimes["regime"][640:700]) == {"calm"}
    changes = bars["close"].to_numpy()[500:561]
    last = np.std(changes[1:] / changes[:-1] - 1.0, ddof=1)
    assert regimes["volatility"][560] == pytest.approx(last)


@given(st.integers(200, 420), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_no_later_bar_changes_a_regime(cut: int, seed: int) -> None:
    sigmas = np.random.default_rng(seed).uniform(0.002, 0.03, 440).tolist()
    bars = market(sigmas, seed=seed)
    sessions = bars["session"].unique().sort()
    seen = market_regimes(bars.filter(pl.col("session") <= sessions[cut]))
    assert market_regimes(bars).head(cut + 1).equals(seen)


def test_a_session_belongs_to_the_regime_known_at_the_close_before_it() -> None:
    days = pl.date_range(pl.date(2020, 1, 1), pl.date(2020, 4, 9), eager=True)  # 100
    regimes = pl.DataFrame(
        {"session": days, "volatility": 0.01, "regime": [None] * 20 + ["calm"] * 40 + ["turbulent"] * 40}
    )
    net = np.concatenate([np.full(21, 0.5), np.tile([0.001, 0.003], 20), np.full(39, -0.002)])
    path = pl.DataFrame({"session": days, "net_return": net, "turnover": np.full(100, 0.1)})
    calm, turbulent, unknown = regime_table(path, regimes, 252.0)
    assert [calm["regime"], turbulent["regime"], unknown["regime"]] == ["calm", "turbulent", UNKNOWN]
    # one session later than the regime itself: the first turbulent close is traded in the next session
    assert [calm["sessions"], turbulent["sessions"], unknown["sessions"]] == [40, 39, 21]
    assert calm["annual_return_fraction"] == pytest.approx(0.002 * 252)
    assert calm["sharpe_annual"] == pytest.approx(0.002 / np.std([0.001, 0.003] * 20, ddof=1) * np.sqrt(252))
    assert calm["win_rate_fraction"] == 1.0
    assert turbulent["annual_return_fraction"] == pytest.approx(-0.002 * 252)
    assert np.isnan(turbulent["sharpe_annual"])  # does not vary
    assert calm["share_fraction"] == 0.4


def test_every_session_is_counted_once() -> None:
    bars = market(np.random.default_rng(3).uniform(0.002, 0.03, 700).tolist())
    days = bars["session"].unique().sort()[150:]
    rng = np.random.default_rng(4)
    path = pl.DataFrame({"session": days, "net_return": rng.normal(0, 0.01, 550), "turnover": 0.2})
    rows = regime_table(path, market_regimes(bars), 252.0)
    assert sum(row["sessions"] for row in rows) == 550
    total = sum(row["annual_return_fraction"] * row["share_fraction"] for row in rows)
    assert total == pytest.approx(float(path["net_return"].to_numpy().mean()) * 252)
    few = regime_table(path.tail(5), market_regimes(bars), 252.0)
    assert all(row["sharpe_annual"] is None for row in few)


# ------------------------------------------------------------------------------------------------ capacity


def predictions_of(bars: pl.DataFrame) -> pl.DataFrame:
    rng = np.random.default_rng(7)
    rows = bars.select("symbol", "session").filter(pl.col("session") >= bars["session"].unique().sort()[60])
    return rows.with_columns(
        pl.Series("path_0", rng.normal(size=rows.height)), pl.Series("path_1", rng.normal(size=rows.height))
    )


def test_impact_grows_with_the_square_root_of_the_account_and_nothing_else_changes() -> None:
    bars = market([0.01] * 160, symbols=6)
    portfolio, costs = PortfolioConfig(), CostConfig(capital=5e6)
    small, large = capacity_curve(predictions_of(bars), bars, 1, portfolio, costs, 252.0, (1e6, 4e6))
    # twice the impact at four times the size, but for the drift of what is held
    assert large.impact_annual_fraction == pytest.approx(2.0 * small.impact_annual_fraction, rel=1e-3)
    assert large.sharpe_annual < small.sharpe_annual
    free = costs.model_copy(update={"impact_coefficient": 0.0})
    one, other = capacity_curve(predictions_of(bars), bars, 1, portfolio, free, 252.0, (1e6, 1e9))
    assert one.sharpe_annual == other.sharpe_annual
    assert one.impact_annual_fraction == 0.0


def test_the_curve_goes_through_the_figure_of_the_report() -> None:
    bars = market([0.01] * 160, symbols=6)
    predictions, portfolio, costs = predictions_of(bars), PortfolioConfig(), CostConfig(capital=5e6)
    track = simulate(predictions, bars, portfolio, costs).filter(pl.col("path") == 1)["net_return"].to_numpy()
    (point,) = capacity_curve(predictions, bars, 1, portfolio, costs, 252.0, (5e6,))
    assert point.sharpe_annual == pytest.approx(track.mean() / track.std(ddof=1) * np.sqrt(252), rel=1e-12)


def points(*sharpes: float) -> tuple[CapacityPoint, ...]:
    return tuple(CapacityPoint(10.0 ** (6 + i), sharpe, 0.0) for i, sharpe in enumerate(sharpes))


def test_capacity_is_where_the_curve_crosses_the_requirement() -> None:
    assert capacity(points(2.0, 1.4, 1.0), 1.2) == pytest.approx(10**7.5)
    assert capacity(points(2.0, 1.2, 1.0), 1.2) == pytest.approx(1e7)
    assert capacity(points(1.1, 1.0), 1.2) is None
    assert capacity(points(math.nan, math.nan), 1.2) is None
    assert capacity(points(2.0, math.nan), 1.2) == 1e6  # nothing is known beyond
    assert capacity(points(2.0, 1.9), 1.2) == math.inf
    assert capacity((), 1.2) is None


@pytest.mark.parametrize(
    ("sharpes", "words"),
    [
        ((2.0, 1.4, 1.0), "up to an account of about 32,000,000."),
        ((1.0, 0.9), "No account of 1,000,000 or more reaches the required net Sharpe ratio of 1.20."),
        ((2.0, 1.9), "Up to 10,000,000, the largest account tried, it keeps"),
    ],
)
def test_capacity_in_words(sharpes: tuple[float, ...], words: str) -> None:
    assert words in capacity_sentence(points(*sharpes), 1.2)


# ---------------------------------------------------------------------------------------------- IC by month


def test_the_ic_of_a_month_is_the_mean_over_its_sessions() -> None:
    days = [pl.date(2020, 1, 30), pl.date(2020, 1, 31), pl.date(2020, 3, 2), pl.date(2021, 3, 1)]
    rank_ic = pl.select(pl.concat_list(days).explode().alias("session"))
    rank_ic = pl.concat(
        [
            rank_ic.with_columns(
                pl.lit(0, pl.Int32).alias("path"), pl.Series("rank_ic", [0.1, 0.3, -0.4, 0.05])
            ),
            rank_ic.with_columns(pl.lit(1, pl.Int32).alias("path"), pl.lit(9.0).alias("rank_ic")),
        ]
    )
    first, second = monthly_coefficients(rank_ic, 0)
    assert (first["year"], second["year"]) == ("2020", "2021")
    assert first["mean"] == pytest.approx(0.0)
    values = [cell["value"] for cell in first["cells"]]
    assert values[0] == pytest.approx(0.2)
    assert values[2] == pytest.approx(-0.4)
    assert values.count(None) == 10
    assert first["cells"][2]["shade"] == pytest.approx(-0.55)
    assert first["cells"][0]["shade"] == pytest.approx(0.275)
    assert monthly_coefficients(pl.DataFrame(), 0) == []
