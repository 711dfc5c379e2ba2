"""The harness against independent implementations: scipy, statsmodels, and the platform's other simulator."""

import math
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.fft import dct

from quant_assets.common.settings import CostConfig, PortfolioConfig
from quant_assets.trading.backtest import BacktestSettings, panel_of, run_backtest
from quant_assets.trading.backtest.harness import information, trade
from quant_assets.trading.backtest.outcomes import (
    average_ranks,
    baseline_books,
    outcomes_of,
    row_medians,
    top_k,
    weigh,
)
from quant_assets.trading.paths import rank_ic_by_session
from quant_assets.trading.portfolio import simulate
from quant_assets_tests.trading.backtest.tables import START, long_table, market

Matrix = NDArray[np.float64]


def with_holes(seed: int, shape: tuple[int, int] = (60, 12)) -> tuple[Matrix, Matrix]:
    """Scores with ties and returns, both with NaN."""
    rng = np.random.default_rng(seed)
    scores, returns = rng.integers(0, 6, shape).astype(float), rng.normal(0, 0.02, shape)
    returns += 0.002 * scores
    scores[rng.random(shape) < 0.2] = np.nan
    returns[rng.random(shape) < 0.2] = np.nan
    return scores, returns


def test_average_ranks_equal_those_of_scipy() -> None:
    scores, returns = with_holes(1)
    for values in (scores, returns, np.full((2, 3), np.nan), np.array([[1.0]])):
        expected = stats.rankdata(values, axis=1, nan_policy="omit")
        assert np.array_equal(average_ranks(values), expected, equal_nan=True)


def test_row_medians_equal_those_of_numpy() -> None:
    _, returns = with_holes(2)
    assert np.array_equal(row_medians(returns), np.nanmedian(returns, axis=1))
    assert np.isnan(row_medians(np.full((1, 4), np.nan)))[0]


def test_information_coefficients_equal_those_of_scipy_session_by_session() -> None:
    scores, returns = with_holes(3)
    found = information(scores, returns)
    for t in range(len(scores)):
        both = np.isfinite(scores[t]) & np.isfinite(returns[t])
        x, y = scores[t][both], returns[t][both]
        assert found.ic[t] == pytest.approx(stats.pearsonr(x, y).statistic, abs=1e-12)
        assert found.rank_ic[t] == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_a_session_that_orders_nothing_has_no_coefficient() -> None:
    found = information(
        np.array([[0.1, 0.1, 0.1], [1.0, np.nan, 2.0], [1.0, 2.0, 3.0]]),
        np.array([[1.0, 2.0, 3.0], [1.0, 1.0, np.nan], [0.3, 0.3, 0.3]]),
    )
    assert np.isnan(found.ic).all()
    assert np.isnan(found.rank_ic).all()


def test_rank_coefficients_equal_those_of_the_validation_report() -> None:
    rng = np.random.default_rng(4)
    frame = long_table(
        list("ABCDEFG"),
        score=rng.integers(0, 5, (30, 7)).astype(float).tolist(),
        forward_return=rng.normal(0, 0.02, (30, 7)).tolist(),
    )
    expected = rank_ic_by_session(
        frame.select("symbol", "session", path_0="score"), frame.select("symbol", "session", "forward_return")
    )
    result = run_backtest(panel_of(frame, name="t"), BacktestSettings(top_k=2, extended_metrics=True))
    assert result.by_session is not None
    assert result.by_session.rank_ic == pytest.approx(expected["rank_ic"].to_list(), abs=1e-12)


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_t_statistic_is_that_of_the_lowest_cosines(horizon: int) -> None:
    frame = market(80).drop("open", "volume")
    settings = BacktestSettings(top_k=2, horizon_sessions=horizon, extended_metrics=True)
    result = run_backtest(panel_of(frame, name="t"), settings)
    assert result.by_session is not None
    assert result.information is not None
    for series, found in (
        (result.by_session.ic, result.information.ic),
        (result.by_session.rank_ic, result.information.rank_ic),
    ):
        defined = np.array([v for v in series if np.isfinite(v)])
        assert found.n_sessions == len(defined) == 80 - 1 - horizon
        cosines = round(0.41 * len(defined) ** (2 / 3))
        transforms = dct(defined, norm="ortho")[1 : cosines + 1]
        statistic = defined.mean() / math.sqrt(np.mean(transforms**2) / len(defined))
        assert found.t_statistic == pytest.approx(statistic)
        assert found.p_value == pytest.approx(2 * stats.t.sf(abs(statistic), cosines))


@pytest.mark.parametrize("holding", [1, 3])
def test_the_account_is_that_of_the_portfolio_simulator(holding: int) -> None:
    # 1 for the k best and 0 for the rest: its centred ranks, positive part only, are equal weights on the k best
    bars = market(90, 6)
    scored = bars.with_columns(pl.when(pl.int_range(pl.len()) >= 30 * 6).then(pl.col("score")).alias("score"))
    panel = panel_of(scored, name="t")
    costs = CostConfig()
    outcomes = outcomes_of(panel, BacktestSettings(top_k=2, horizon_sessions=holding, costs=costs))
    chosen = top_k(panel.score[outcomes.start :], 2)
    accounts = trade([weigh(chosen.astype(float))], outcomes, costs)
    days, columns = np.indices(chosen.shape)
    predictions = pl.DataFrame(
        {
            "symbol": [f"S{i}" for i in columns.ravel()],
            "session": [panel.sessions[30 + t].item() for t in days.ravel()],
            "path_0": chosen.ravel().astype(float),
        }
    )
    portfolio = PortfolioConfig(scheme="long_only", holding_sessions=holding, risk_free_rate=0.0)
    expected = simulate(predictions, bars.drop("score", "market_cap"), portfolio, costs)
    assert expected.height == accounts.net.shape[1] == 58
    for name, found in (
        ("gross_return", accounts.gross),
        ("commission", accounts.commission),
        ("spread_cost", accounts.spread),
        ("impact_cost", accounts.impact),
        ("net_return", accounts.net),
        ("turnover", accounts.turnover),
    ):
        assert found[0] == pytest.approx(expected[name].to_numpy(), abs=1e-13), name
    assert accounts.impact.sum() > 0


def test_momentum_chooses_by_the_return_known_at_the_decision() -> None:
    frame = market(60, 6)
    panel = panel_of(frame, name="t")
    book = baseline_books(panel, 0, panel.score, 2, 0)[3]
    assert book.weights is not None
    assert panel.close is not None
    assert not book.weights[:21].any()
    for t in range(21, 60):
        best = np.argsort(panel.close[t] / panel.close[t - 21])[-2:]
        assert sorted(np.flatnonzero(book.weights[t])) == sorted(best)


def test_twelve_to_one_momentum_needs_two_years_of_prices() -> None:
    panel = panel_of(market(504, 6), name="t")
    book = baseline_books(panel, 0, panel.score, 2, 0)[3]
    assert book.weights is not None
    assert panel.close is not None
    assert not book.weights[:252].any()
    for t in range(252, 504):
        best = np.argsort(panel.close[t - 21] / panel.close[t - 252])[-2:]
        assert sorted(np.flatnonzero(book.weights[t])) == sorted(best)


@pytest.mark.parametrize("column", ["open", "close", "volume", "market_cap"])
def test_nothing_decided_by_a_session_changes_with_later_prices(column: str) -> None:
    frame = market(80, 6)
    later = pl.col("session").cast(pl.Int32) > pl.lit(START).cast(pl.Int32) + 50
    shaken = frame.with_columns(
        pl.when(later).then(pl.col(column) * (1.5 + 0.3 * pl.col("score").sin())).otherwise(pl.col(column))
    )
    before, after = (panel_of(f, name="t") for f in (frame, shaken))
    for old, new in zip(
        baseline_books(before, 0, before.score, 2, 0),
        baseline_books(after, 0, after.score, 2, 0),
        strict=True,
    ):
        assert old.weights is not None
        assert new.weights is not None
        assert np.array_equal(old.weights[:51], new.weights[:51]), old.name
    settings = BacktestSettings(top_k=2)
    one, two = outcomes_of(before, settings), outcomes_of(after, settings)
    same = one.decisions <= 50
    assert np.array_equal(one.sigma_daily[same], two.sigma_daily[same], equal_nan=True)
    assert np.array_equal(one.adv_notional[same], two.adv_notional[same], equal_nan=True)


def test_impact_waits_for_a_month_of_liquidity() -> None:
    outcomes = outcomes_of(panel_of(market(60), name="t"), BacktestSettings(top_k=2))
    assert outcomes.decisions[0] == 20  # 20 returns need 21 closes
    assert outcomes.impact_note is None


def test_impact_that_cannot_be_charged_is_said() -> None:
    for frame, reason in (
        (market(60).drop("volume"), "needs the columns close and volume"),
        (market(15), "needs 20 sessions of returns and volume"),
    ):
        result = run_backtest(panel_of(frame, name="t"), BacktestSettings(top_k=2, extended_metrics=True))
        assert reason in result.warnings[0]
        assert result.model.account is not None
        assert result.model.account.annual_impact_fraction == 0.0
        assert "no market impact" in result.conventions.costs


def test_a_ruined_account_stays_ruined() -> None:
    frame = long_table(["A", "B"], score=[[2, 1]] * 3, forward_return=[[0.1, 0.0], [-1.0, 0.0], [5.0, 0.0]])
    result = run_backtest(panel_of(frame, name="t"), BacktestSettings(top_k=1, extended_metrics=True))
    assert result.by_session is not None
    assert result.by_session.net_return[1:] == (-1.0, 0.0)
    assert result.model.annual_return_fraction == -1.0


def test_adjustment_leaves_returns_and_traded_value_as_they_were() -> None:
    frame = market(60)
    # The same market before a 4:1 split that its vendor has applied to adj_close alone.
    unsplit = frame.with_columns(
        pl.col("open") * 4, pl.col("close") * 4, pl.col("volume") / 4, adj_close=pl.col("close")
    )
    settings = BacktestSettings(top_k=2)
    one, two = (outcomes_of(panel_of(f, name="t"), settings) for f in (frame, unsplit))
    for name in ("label", "returns", "sigma_daily", "adv_notional"):
        assert np.allclose(getattr(one, name), getattr(two, name), rtol=1e-12, equal_nan=True), name


def test_a_day_without_volume_is_charged_with_the_liquidity_last_known() -> None:
    frame = market(60, 3)
    gap = (pl.col("symbol") == "S0") & (pl.col("session") == START + timedelta(days=39))
    quiet = frame.with_columns(volume=pl.when(~gap).then(pl.col("volume")))
    settings = BacktestSettings(top_k=1)
    whole, holed = (outcomes_of(panel_of(f, name="t"), settings) for f in (frame, quiet))
    at = int(np.flatnonzero(holed.decisions == 39)[0])
    assert holed.tradable.all()
    assert holed.adv_notional[at, 0] == whole.adv_notional[at - 1, 0]
    assert holed.sigma_daily[at, 0] == whole.sigma_daily[at - 1, 0]


def test_a_symbol_that_stops_trading_is_sold_and_never_costs_an_unknown_amount() -> None:
    frame = market(60, 3)
    last = START + timedelta(days=39)
    stopped = frame.with_columns(
        score=pl.when(pl.col("symbol") == "S0").then(9.0).otherwise(pl.col("score"))
    ).filter((pl.col("symbol") != "S0") | (pl.col("session") <= last))
    result = run_backtest(panel_of(stopped, name="t"), BacktestSettings(top_k=1, extended_metrics=True))
    assert result.by_session is not None
    assert np.isfinite(result.by_session.net_return[20:58]).all()
    assert result.model.account is not None
    assert result.model.account.periods_in_cash == 1  # decided on its last day, with no open to be filled at
