"""From scores to net returns, against an account kept in shares and dollars."""

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import CostConfig, PortfolioConfig
from quant_assets.trading.account import trailing_liquidity
from quant_assets.trading.paths import (
    information_coefficients,
    median_path,
    path_returns,
    path_statistics,
    rank_ic_by_session,
)
from quant_assets.trading.portfolio import simulate, tranche_average
from quant_assets.trading.sizing import target_weights

FREE = CostConfig(commission_bps=0.0, half_spread_bps=0.0, impact_coefficient=0.0, borrow_fee_bps=0.0)
COSTS = CostConfig()
DAILY = PortfolioConfig(holding_sessions=1)
START = date(2020, 1, 1)


def market(n: int = 90, symbols: int = 5, seed: int = 1) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    close = 80.0 * np.exp(np.cumsum(rng.normal(0, 0.02, (n, symbols)), axis=0))
    opens = close * np.exp(rng.normal(0, 0.01, (n, symbols)))
    return pl.DataFrame(
        {
            "symbol": np.tile([f"S{i}" for i in range(symbols)], n),
            "session": [START + timedelta(days=t) for t in range(n) for _ in range(symbols)],
            "open": opens.ravel(),
            "close": close.ravel(),
            "volume": rng.uniform(1e5, 9e5, n * symbols),
        }
    )


def scores(
    bars: pl.DataFrame, first: int = 30, last: int = 80, paths: int = 2, seed: int = 2
) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    inside = pl.col("session").is_between(START + timedelta(days=first), START + timedelta(days=last))
    frame = bars.filter(inside).select("symbol", "session")
    return frame.with_columns(pl.Series(f"path_{i}", rng.normal(size=frame.height)) for i in range(paths))


# ------------------------------------------------------------------------------------------------- targets


def test_long_short_weights_are_centred_ranks_that_sum_to_the_leverage() -> None:
    weights = target_weights(np.array([0.3, -1.0, 0.1, 9.0]), PortfolioConfig(gross_leverage=2.0))
    # ranks 3, 1, 2, 4 less 2.5, over 4, times 2
    assert weights.tolist() == pytest.approx([0.25, -0.75, -0.25, 0.75])


def test_long_only_holds_what_ranks_above_the_median() -> None:
    weights = target_weights(np.array([5.0, 1.0, 2.0, 3.0, 4.0]), PortfolioConfig(scheme="long_only"))
    assert weights.tolist() == pytest.approx([2 / 3, 0.0, 0.0, 0.0, 1 / 3])


def test_tied_scores_share_their_rank() -> None:
    weights = target_weights(np.array([1.0, 1.0, 0.0, 2.0]), PortfolioConfig())
    assert weights.tolist() == pytest.approx([0.0, 0.0, -0.5, 0.5])


@pytest.mark.parametrize("scheme", ["long_short", "long_only"])
@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0, 2.0], [np.nan, 4.0], [np.nan, np.nan]], ids=str)
def test_scores_that_order_nothing_hold_cash(values: list[float], scheme: Any) -> None:
    assert not target_weights(np.array(values), PortfolioConfig(scheme=scheme)).any()


def test_a_symbol_without_a_score_gets_nothing_and_moves_no_other() -> None:
    with_hole = target_weights(np.array([1.0, np.nan, 2.0, 3.0]), PortfolioConfig())
    assert with_hole[1] == 0.0
    assert (
        with_hole[[0, 2, 3]].tolist() == target_weights(np.array([1.0, 2.0, 3.0]), PortfolioConfig()).tolist()
    )


def test_an_infinite_score_is_refused() -> None:
    with pytest.raises(ValidationError, match="infinity"):
        target_weights(np.array([1.0, np.inf]), PortfolioConfig())


@given(
    st.lists(st.one_of(st.integers(-3, 3).map(float), st.just(np.nan)), min_size=1, max_size=12),
    st.sampled_from(["long_short", "long_only"]),
    st.floats(0.1, 5.0),
)
@settings(max_examples=50, deadline=None)
def test_weights_are_neutral_ordered_and_fully_used(
    values: list[float], scheme: Any, leverage: float
) -> None:
    numbers = np.array(values)
    weights = target_weights(numbers, PortfolioConfig(scheme=scheme, gross_leverage=leverage))
    gross = np.abs(weights).sum()
    assert gross == pytest.approx(leverage) or gross == 0.0
    if scheme == "long_short":
        assert weights.sum() == pytest.approx(0.0, abs=1e-12)
    else:
        assert (weights >= 0.0).all()
    known = ~np.isnan(numbers)
    order = np.argsort(numbers[known], kind="stable")
    assert (np.diff(weights[known][order]) >= -1e-12).all()
    shuffled = np.random.default_rng(0).permutation(len(numbers))
    again = target_weights(numbers[shuffled], PortfolioConfig(scheme=scheme, gross_leverage=leverage))
    assert again == pytest.approx(weights[shuffled])


def test_targets_are_averaged_over_the_last_tranches_and_build_up() -> None:
    targets = np.array([[3.0], [6.0], [0.0], [0.0], [0.0]])
    assert tranche_average(targets, 3).ravel().tolist() == [1.0, 3.0, 3.0, 2.0, 0.0]
    assert tranche_average(targets, 1).tolist() == targets.tolist()
    assert tranche_average(targets, 50).ravel().tolist() == pytest.approx([0.06, 0.18, 0.18, 0.18, 0.18])


# --------------------------------------------------------------------------------------------- an account


def account(
    bars: pl.DataFrame, predictions: pl.DataFrame, name: str, portfolio: PortfolioConfig, costs: CostConfig
) -> NDArray[np.float64]:
    """Net returns of an account kept in shares and dollars, one symbol and one session at a time."""
    days = sorted(bars["session"].unique())
    prices = {(r["symbol"], r["session"]): r for r in bars.iter_rows(named=True)}
    liquidity = {(r["symbol"], r["session"]): r for r in trailing_liquidity(bars).iter_rows(named=True)}
    wanted: dict[date, dict[str, float]] = {}
    for (day,), rows in predictions.group_by("session"):
        names = rows["symbol"].to_list()
        weights = target_weights(rows[name].to_numpy(), portfolio)
        wanted[day] = dict(zip(names, weights.tolist(), strict=True))
    first, last = days.index(min(wanted)), days.index(max(wanted))
    cash, shares, equity, returns = 1.0, {}, 1.0, []
    last_day = {s: max(d for other, d in prices if other == s) for s, _ in prices}
    ended = {s for s, d in last_day.items() if days.index(d) + 5 <= len(days) - 1}
    last_liquid: dict[str, dict[str, Any]] = {}
    for t in range(first, min(last, len(days) - 3) + 1):
        fill, after = days[t + 1], days[t + 2]
        for symbol in sorted(bars["symbol"].unique()):
            row = liquidity.get((symbol, days[t]))
            if row and row["sigma_daily"] is not None:
                last_liquid[symbol] = row
        recent = [
            wanted.get(days[u], {}) for u in range(max(first, t - portfolio.holding_sessions + 1), t + 1)
        ]
        target = {
            s: sum(w.get(s, 0.0) for w in recent) / portfolio.holding_sessions
            for s in {s for w in recent for s in w}
            if (s, fill) in prices and s in last_liquid
        }
        before, paid = equity, 0.0
        for symbol in sorted(set(shares) | set(target)):
            if abs(shares.get(symbol, 0.0)) < 1e-15 and symbol not in target:
                continue
            if (symbol, fill) not in prices and not (symbol in ended and fill > last_day[symbol]):
                continue  # halted
            bar = prices.get((symbol, fill)) or prices[(symbol, days[t])]
            price = bar["open"] if (symbol, fill) in prices else bar["close"]
            dollars = target.get(symbol, 0.0) * before - shares.get(symbol, 0.0) * price
            fraction = abs(dollars) / before
            known = last_liquid[symbol]
            impact = (
                costs.impact_coefficient
                * known["sigma_daily"]
                * np.sqrt(fraction * costs.capital / known["adv_notional"])
            )
            paid += abs(dollars) * (costs.commission_bps / 1e4 + costs.half_spread_bps / 1e4 + impact)
            cash -= dollars
            shares[symbol] = shares.get(symbol, 0.0) + dollars / price
        short = sum(
            -c * prices[(s, fill)]["open"] for s, c in shares.items() if c < 0 and (s, fill) in prices
        )
        # what is halted is short at its last mark, the last close
        for symbol, count in shares.items():
            if count < -1e-15 and (symbol, fill) not in prices:
                known = max(d for other, d in prices if other == symbol and d <= fill)
                short += -count * prices[(symbol, known)]["close"]
        paid += short * costs.borrow_fee_bps / 1e4 * (after - fill).days / 365
        cash -= paid
        equity = cash
        for symbol, count in shares.items():
            if abs(count) > 1e-15:
                here = (symbol, after) in prices
                known = max(d for other, d in prices if other == symbol and d <= fill)
                equity += count * (
                    prices[(symbol, after)]["open"] if here else prices[(symbol, known)]["close"]
                )
        invested = (
            sum(
                c
                * (
                    prices[(s, fill)]["open"]
                    if (s, fill) in prices
                    else prices[(s, max(d for o, d in prices if o == s and d <= fill))]["close"]
                )
                for s, c in shares.items()
            )
            / before
        )
        returns.append(
            equity / before - 1.0 - invested * portfolio.financing_rate * (after - fill).days / 365
        )
    return np.array(returns)


@pytest.mark.parametrize("holding", [1, 5])
@pytest.mark.parametrize("scheme", ["long_short", "long_only"])
def test_net_returns_are_those_of_an_account_kept_in_shares_and_dollars(scheme: Any, holding: int) -> None:
    bars = market()
    predictions = scores(bars)
    portfolio = PortfolioConfig(scheme=scheme, holding_sessions=holding, gross_leverage=1.5)
    result = simulate(predictions, bars, portfolio, COSTS)
    for path in (0, 1):
        expected = account(bars, predictions, f"path_{path}", portfolio, COSTS)
        got = result.filter(pl.col("path") == path)["net_return"].to_numpy()
        assert len(expected) == 51
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-14)


def test_the_account_agrees_when_bars_are_missing_and_a_symbol_vanishes() -> None:
    bars = market()
    day = START + timedelta(days=50)
    gone = (pl.col("symbol") == "S1") & (pl.col("session") > day)
    hole = (pl.col("symbol") == "S3") & pl.col("session").is_between(
        day + timedelta(days=5), day + timedelta(days=6)
    )
    bars = bars.filter(~gone & ~hole)
    predictions = scores(bars)
    portfolio = PortfolioConfig(holding_sessions=3)
    expected = account(bars, predictions, "path_0", portfolio, COSTS)
    got = simulate(predictions, bars, portfolio, COSTS).filter(pl.col("path") == 0)
    np.testing.assert_allclose(got["net_return"].to_numpy(), expected, rtol=0, atol=1e-14)


def test_a_vanished_symbol_leaves_at_its_last_close_and_pays_for_leaving() -> None:
    bars = market(symbols=2)
    day = START + timedelta(days=60)
    stopped = bars.filter((pl.col("symbol") != "S1") | (pl.col("session") <= day))
    predictions = scores(stopped, 30, 70, paths=1).with_columns(
        path_0=pl.col("symbol").str.slice(1).cast(pl.Float64)
    )
    got = simulate(predictions, stopped, DAILY, FREE).filter(pl.col("session") == day)
    rows = {r["symbol"]: r for r in bars.filter(pl.col("session") == day).iter_rows(named=True)}
    after = {
        r["symbol"]: r
        for r in bars.filter(pl.col("session") == day + timedelta(days=1)).iter_rows(named=True)
    }
    decided = predictions.filter(pl.col("session") == day - timedelta(days=1)).sort("symbol")
    weights = target_weights(decided["path_0"].to_numpy(), DAILY)
    expected = weights[0] * (after["S0"]["open"] / rows["S0"]["open"] - 1.0) + weights[1] * (
        rows["S1"]["close"] / rows["S1"]["open"] - 1.0
    )
    assert got["gross_return"][0] == pytest.approx(expected, abs=1e-15)
    next_day = simulate(predictions, stopped, DAILY, COSTS).filter(
        pl.col("session") == day + timedelta(days=1)
    )
    # S0 stays at minus one half; the other half, as it has drifted, is sold
    assert next_day["turnover"][0] == pytest.approx(0.5, abs=0.03)
    assert next_day["commission"][0] == pytest.approx(next_day["turnover"][0] * 0.5e-4)
    opens = bars.filter(pl.col("symbol") == "S0").sort("session")["open"]
    assert next_day["gross_return"][0] == pytest.approx(-0.5 * (opens[62] / opens[61] - 1.0))


# ------------------------------------------------------------------------------------------ time and money


def test_a_position_earns_from_the_open_after_the_decision_to_the_open_after_that() -> None:
    bars = market(symbols=2)
    predictions = scores(bars, 40, 40, paths=1)
    row = simulate(predictions, bars, DAILY, FREE)
    assert row["session"].to_list() == [START + timedelta(days=41)]
    opens = bars.pivot("symbol", index="session", values="open")
    weights = target_weights(predictions["path_0"].to_numpy(), DAILY)
    expected = sum(
        w * (opens[s][42] / opens[s][41] - 1.0) for w, s in zip(weights, ("S0", "S1"), strict=True)
    )
    assert row["gross_return"][0] == pytest.approx(expected, abs=1e-15)


@given(st.integers(31, 79))
@settings(max_examples=15, deadline=None)
def test_a_score_moves_nothing_before_its_own_fill(at: int) -> None:
    bars = market()
    predictions = scores(bars)
    session = START + timedelta(days=at)
    altered = predictions.with_columns(
        pl.when(pl.col("session") == session)
        .then(-pl.col("path_0"))
        .otherwise(pl.col("path_0"))
        .alias("path_0")
    )
    portfolio = PortfolioConfig(holding_sessions=3)
    original, changed = (simulate(p, bars, portfolio, COSTS) for p in (predictions, altered))
    past = pl.col("session") <= session
    assert original.filter(past).equals(changed.filter(past))
    assert not original.filter(~past).equals(changed.filter(~past))


@given(st.integers(35, 79))
@settings(max_examples=15, deadline=None)
def test_bars_move_nothing_that_was_over_before_them(at: int) -> None:
    bars = market()
    predictions = scores(bars)
    session = START + timedelta(days=at)
    later = pl.col("session") >= session
    rng = np.random.default_rng(at)
    altered = bars.with_columns(
        pl.when(later).then(pl.col(name) * rng.uniform(0.5, 2.0)).otherwise(pl.col(name)).alias(name)
        for name in ("open", "close", "volume")
    )
    original, changed = (simulate(predictions, b, PortfolioConfig(), COSTS) for b in (bars, altered))
    over = pl.col("session") < session - timedelta(days=1)
    assert original.filter(over).equals(changed.filter(over))


def test_net_is_gross_less_the_four_costs() -> None:
    bars = market()
    result = simulate(scores(bars), bars, PortfolioConfig(), COSTS)
    paid = result["commission"] + result["spread_cost"] + result["impact_cost"] + result["borrow_cost"]
    difference = (result["gross_return"] - paid - result["net_return"]).abs().max()
    assert difference < 1e-17
    for name in ("commission", "spread_cost", "impact_cost"):
        assert (result[name] > 0.0).all()
    assert (result["borrow_cost"] > 0.0).mean() > 0.9  # tranches may cancel to a book of nothing
    assert (result["risk_free"] == 0.0).all()  # a long-short book is its own finance
    assert result["commission"].to_numpy() == pytest.approx(result["turnover"].to_numpy() * 0.5e-4)


def test_turnover_is_what_is_traded_and_not_what_drifts() -> None:
    bars = market(symbols=3)
    predictions = scores(bars, paths=1).with_columns(
        path_0=pl.col("symbol").str.slice(1).cast(pl.Float64)  # the same order every session
    )
    turnover = simulate(predictions, bars, DAILY, FREE)["turnover"].to_numpy()
    assert turnover[0] == pytest.approx(1.0)
    # targets never change, so each later trade only undoes what prices did: about 2 % of each half
    assert 0.0 < turnover[1:].max() < 0.2
    flat = bars.with_columns(pl.lit(10.0).alias("open"))
    assert simulate(predictions, flat, DAILY, FREE)["turnover"].to_numpy()[1:].max() == 0.0


def test_a_reversed_book_trades_twice_its_size() -> None:
    bars = market(symbols=2).with_columns(pl.lit(10.0).alias("open"))
    predictions = scores(bars, paths=1).with_columns(
        path_0=pl.col("symbol").str.slice(1).cast(pl.Float64)
        * pl.when(pl.col("session").dt.ordinal_day() % 2 == 0).then(1.0).otherwise(-1.0)
    )
    assert simulate(predictions, bars, DAILY, FREE)["turnover"].to_list()[1:] == pytest.approx([2.0] * 50)


def test_better_scores_earn_more_and_reversed_scores_lose_gross() -> None:
    bars = market(n=200, symbols=8)
    opens = pl.col("open").shift(-2).over("symbol") / pl.col("open").shift(-1).over("symbol") - 1.0
    oracle = bars.with_columns(opens.alias("path_0")).drop_nulls().with_columns(path_1=-pl.col("path_0"))
    predictions = oracle.filter(pl.col("session") > START + timedelta(days=30)).select(
        "symbol", "session", "path_0", "path_1"
    )
    result = simulate(predictions, bars, DAILY, FREE)
    best, worst = (result.filter(pl.col("path") == p)["gross_return"] for p in (0, 1))
    assert (best > 0.0).all()
    assert best.to_numpy() == pytest.approx(-worst.to_numpy())


def test_a_session_without_any_score_renews_its_tranche_with_cash() -> None:
    bars = market()
    predictions = scores(bars, paths=1)
    silent = START + timedelta(days=50)
    result = simulate(predictions.filter(pl.col("session") != silent), bars, DAILY, FREE)
    row = result.filter(pl.col("session") == silent + timedelta(days=1))
    assert row["gross_return"][0] == 0.0
    assert row["turnover"][0] == pytest.approx(1.0, abs=0.1)


def test_a_path_that_loses_everything_stops_there() -> None:
    bars = market(symbols=2)
    crash = pl.col("session") >= START + timedelta(days=52)
    bars = bars.with_columns(
        pl.when(crash & (pl.col("symbol") == "S1"))
        .then(pl.col("open") * 30.0)
        .otherwise(pl.col("open"))
        .alias("open")
    )
    predictions = scores(bars, paths=1).with_columns(path_0=-pl.col("symbol").str.slice(1).cast(pl.Float64))
    result = simulate(predictions, bars, DAILY, FREE)
    ruined = result.filter(pl.col("session") == START + timedelta(days=51))
    assert ruined["net_return"][0] == -1.0
    assert not result.filter(pl.col("session") > START + timedelta(days=51))["net_return"].to_numpy().any()
    assert path_statistics(result, 252.0)[0].drawdown_fraction == -1.0


def test_the_last_row_is_the_last_fill_that_has_a_next_session() -> None:
    bars = market(n=60)
    result = simulate(scores(bars, 30, 59, paths=1), bars, DAILY, COSTS)
    assert result["session"].max() == START + timedelta(days=58)
    assert result.height == 28


def test_symbols_are_not_traded_before_their_liquidity_is_known() -> None:
    bars = market()
    early = scores(bars, 0, 40, paths=1)
    charged, free = (simulate(early, bars, DAILY, c).sort("session") for c in (COSTS, FREE))
    assert charged["turnover"].to_list()[:20] == [0.0] * 20
    assert charged["turnover"][20] == pytest.approx(1.0)
    assert free["turnover"][0] == pytest.approx(1.0)


def test_a_market_without_volume_is_refused_when_impact_is_charged() -> None:
    bars = market().with_columns(pl.lit(0.0).alias("volume"))
    with pytest.raises(ValidationError, match="20 sessions of volume"):
        simulate(scores(bars), bars, DAILY, COSTS)
    assert simulate(scores(bars), bars, DAILY, FREE).height == 102


def test_the_order_of_rows_changes_nothing() -> None:
    bars = market()
    predictions = scores(bars)
    expected = simulate(predictions, bars, PortfolioConfig(), COSTS)
    shuffled = simulate(
        predictions.sample(fraction=1.0, shuffle=True, seed=1),
        bars.sample(fraction=1.0, shuffle=True, seed=2),
        PortfolioConfig(),
        COSTS,
    )
    assert shuffled.equals(expected)
    assert expected.columns == [
        "path", "session", "gross_return", "commission", "spread_cost", "impact_cost", "borrow_cost", "risk_free",
        "net_return", "net_return_at_twice_costs", "turnover",
    ]  # fmt: skip
    assert expected.schema["path"] == pl.Int32


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.drop("path_0"), "without a gap"),
        (lambda p: p.drop("path_0", "path_1"), "without a gap"),
        (lambda p: p.with_columns(pl.lit(None, dtype=pl.Float64).alias("path_1")), "finite score"),
        (lambda p: p.with_columns(pl.lit(float("nan")).alias("path_1")), "finite score"),
        (lambda p: pl.concat([p, p.head(1)]), "one row per"),
        (lambda p: p.with_columns(pl.lit("ZZZ").alias("symbol")).unique("session"), "a bar for each"),
    ],
    ids=["gap in the numbers", "no path", "null", "NaN", "twice", "unknown symbol"],
)
def test_predictions_that_break_their_contract_are_refused(spoil: Any, words: str) -> None:
    bars = market()
    with pytest.raises(ValidationError, match=words):
        path_returns(spoil(scores(bars)), bars, PortfolioConfig(), COSTS)


def test_bars_that_end_with_the_predictions_are_refused() -> None:
    bars = market(n=40)
    with pytest.raises(ValidationError, match="two sessions after"):
        simulate(scores(bars, 38, 39), bars, DAILY, COSTS)


# --------------------------------------------------------------------------------------- paths in numbers


def returns_frame(*series: list[float]) -> pl.DataFrame:
    frames = [
        pl.DataFrame(
            {
                "path": pl.Series([path] * len(values), dtype=pl.Int32),
                "session": [START + timedelta(days=t) for t in range(len(values))],
                "gross_return": [v + 0.001 for v in values],
                "net_return": values,
                "turnover": [0.25] * len(values),
            }
        )
        for path, values in enumerate(series)
    ]
    return pl.concat(frames)


def test_the_statistics_of_a_path_are_those_worked_by_hand() -> None:
    (path,) = path_statistics(returns_frame([0.02, -0.01, 0.03, -0.04]), 250.0)
    values = np.array([0.02, -0.01, 0.03, -0.04])
    assert path.sharpe_per_period == pytest.approx(0.0)
    assert path.n_sessions == 4
    assert path.win_rate_fraction == 0.5
    assert path.turnover_per_session == 0.25
    assert path.drawdown_fraction == pytest.approx(-0.04)
    assert path.annual_volatility_fraction == pytest.approx(values.std(ddof=1) * np.sqrt(250))
    assert path.annual_return_fraction == pytest.approx(np.prod(1 + values) ** (250 / 4) - 1)
    assert path.gross_sharpe_annual == pytest.approx(0.001 / values.std(ddof=1) * np.sqrt(250))
    assert path.psr == pytest.approx(0.5)
    assert path.autocorrelation == pytest.approx((-0.0002 - 0.0003 - 0.0012) / 0.003)


def test_the_median_path_is_the_lower_of_two_and_the_first_of_equals() -> None:
    up, flat, down = [0.02, 0.01, 0.02], [0.01, -0.01, 0.01], [-0.02, -0.01, -0.02]
    assert median_path(path_statistics(returns_frame(up, down, flat), 252.0)).path == 2
    assert median_path(path_statistics(returns_frame(up, down), 252.0)).path == 1
    assert median_path(path_statistics(returns_frame(up, flat, flat, flat), 252.0)).path == 2
    assert median_path(path_statistics(returns_frame(flat, flat), 252.0)).path == 0


def test_a_path_that_never_trades_counts_as_the_worst() -> None:
    idle = [0.0, 0.0, 0.0]
    statistics = path_statistics(returns_frame(idle, [-0.02, -0.01, -0.02], [0.01, 0.02, 0.01]), 252.0)
    assert np.isnan(statistics[0].sharpe_annual)
    assert median_path(statistics).path == 1


@pytest.mark.parametrize(
    "broken",
    [
        returns_frame([0.01, float("nan"), 0.01]),
        returns_frame([0.01, 0.02, 0.03], [0.01, 0.02]),
        returns_frame([0.01, 0.02]).clear(),
        pl.concat([returns_frame([0.01, 0.02])] * 2),
    ],
    ids=["NaN", "lengths", "empty", "twice"],
)
def test_path_returns_that_are_no_paths_are_refused(broken: pl.DataFrame) -> None:
    with pytest.raises(ValidationError):
        path_statistics(broken, 252.0)


def test_rank_ic_is_spearmans_over_each_session() -> None:
    from scipy.stats import spearmanr

    bars = market()
    predictions = scores(bars).with_columns(path_1=pl.col("path_1").round(0))  # with ties
    rng = np.random.default_rng(5)
    labels = predictions.select("symbol", "session").with_columns(
        pl.Series("forward_return", rng.normal(size=predictions.height))
    )
    result = rank_ic_by_session(predictions, labels)
    for path in (0, 1):
        for row in result.filter(pl.col("path") == path).head(10).iter_rows(named=True):
            day = pl.col("session") == row["session"]
            a = predictions.filter(day).sort("symbol")[f"path_{path}"]
            b = labels.filter(day).sort("symbol")["forward_return"]
            assert row["rank_ic"] == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
            assert row["n_symbols"] == 5


def test_a_session_with_one_symbol_has_no_rank_ic() -> None:
    bars = market(symbols=1)
    predictions = scores(bars, paths=1)
    labels = predictions.select("symbol", "session", forward_return="path_0")
    assert rank_ic_by_session(predictions, labels).is_empty()
    assert information_coefficients(predictions, labels, horizon_sessions=5).is_empty()


def test_the_t_statistic_of_the_ic_allows_for_overlapping_labels() -> None:
    from scipy.fft import dct
    from scipy.stats import t

    bars = market(n=200, symbols=6)
    predictions = scores(bars, 30, 190)
    horizon = 5
    ahead = pl.col("open").shift(-1 - horizon).over("symbol") / pl.col("open").shift(-1).over("symbol") - 1.0
    labels = bars.with_columns(ahead.alias("forward_return")).drop_nulls()
    result = information_coefficients(predictions, labels, horizon_sessions=horizon)
    assert result["path"].to_list() == [0, 1]
    series = rank_ic_by_session(predictions, labels).filter(pl.col("path") == 1)["rank_ic"].to_numpy()
    cosines = round(0.41 * len(series) ** (2 / 3))
    transforms = dct(series, norm="ortho")[1 : cosines + 1]
    statistic = series.mean() / math.sqrt(np.mean(transforms**2) / len(series))
    assert result["mean_rank_ic"][1] == pytest.approx(series.mean())
    assert result["t_statistic"][1] == pytest.approx(statistic, rel=1e-9)
    assert result["p_value"][1] == pytest.approx(2 * t.sf(abs(statistic), cosines), rel=1e-9)
    assert result["n_sessions"][1] == len(series)
