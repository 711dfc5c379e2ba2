"""Every number of the report on tables small enough to compute with a pencil."""

import json
import math
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from quant_assets.common.settings import CostConfig
from quant_assets.trading.backtest import BacktestResult, BacktestSettings, panel_of, run_backtest
from quant_assets.trading.backtest.result import BookResult
from quant_assets_tests.trading.backtest.tables import long_table, three_symbols

FREE = CostConfig(commission_bps=0.0, half_spread_bps=0.0, impact_coefficient=0.0)
SETTINGS = BacktestSettings(
    top_k=1, costs=FREE, compare_baselines=True, extended_metrics=True, periods_per_year=252.0
)


def run(frame: pl.DataFrame, **changes: object) -> BacktestResult:
    return run_backtest(
        panel_of(frame, name="table"), SETTINGS.model_validate({**SETTINGS.model_dump(), **changes})
    )


def baseline(result: BacktestResult, name: str) -> BookResult:
    assert result.baselines is not None
    found = {b.name: b.result for b in result.baselines}[name]
    assert found is not None
    return found


def net_returns(result: BacktestResult) -> list[float]:
    assert result.by_session is not None
    return list(result.by_session.net_return)


# --------------------------------------------------------------------------------- one session, one outcome


def test_precision_is_the_share_of_choices_above_the_sessions_median() -> None:
    # medians .02, .00, .02; the choices A .10, B -.05, A .03
    model = run(three_symbols()).model
    assert model.precision_at_k == pytest.approx(2 / 3)
    assert model.positive_share_at_k == pytest.approx(2 / 3)
    assert model.average_return_at_k == pytest.approx((0.10 - 0.05 + 0.03) / 3)


def test_a_return_equal_to_the_median_is_not_above_it() -> None:
    model = run(
        long_table(["A", "B", "C"], score=[[0, 9, 0]] * 2, forward_return=[[0.1, 0.2, 0.3]] * 2)
    ).model
    assert model.precision_at_k == 0.0


def test_the_account_earns_what_it_chose() -> None:
    result = run(three_symbols())
    assert net_returns(result) == pytest.approx([0.10, -0.05, 0.03])
    assert result.model.annual_return_fraction == pytest.approx((1.10 * 0.95 * 1.03) ** 84 - 1)
    record = result.model.account
    assert record is not None
    assert record.sharpe_per_period == pytest.approx((0.08 / 3) / (0.0338 / 6) ** 0.5)
    assert record.sharpe_annual == pytest.approx((0.08 / 3) / (0.0338 / 6) ** 0.5 * 252**0.5)
    assert record.sortino_annual == pytest.approx(0.08 / 3 / (0.0025 / 3) ** 0.5 * 252**0.5)
    assert record.max_drawdown_fraction == pytest.approx(-0.05)
    assert record.calmar == pytest.approx(((1.10 * 0.95 * 1.03) ** 84 - 1) / 0.05)
    assert record.win_rate_fraction == pytest.approx(2 / 3)
    assert record.annual_volatility_fraction == pytest.approx((0.0338 / 6) ** 0.5 * 252**0.5)
    assert record.turnover_per_period == pytest.approx((1 + 2 + 2) / 3)  # buy A, A for B, B for A
    assert (record.n_periods, record.periods_in_cash, record.mean_symbols_held) == (3, 0, 1.0)
    assert record.mean_invested_fraction == 1.0


def test_costs_are_paid_on_the_change_from_the_drifted_position() -> None:
    result = run(
        three_symbols(), costs={**FREE.model_dump(), "commission_bps": 10.0, "half_spread_bps": 20.0}
    )
    first = 0.10 - 0.003
    drifted = 1.10 / (1 + first)  # of the account, after costs were paid from it
    second = -0.05 - 0.003 * (1 + drifted)
    third = 0.03 - 0.003 * (1 + 0.95 / (1 + second))
    assert net_returns(result) == pytest.approx([first, second, third])
    record = result.model.account
    assert record is not None
    total = 0.08 - (first + second + third)
    assert record.annual_commission_fraction == pytest.approx(total / 3 * 252 / 3)
    assert record.annual_spread_fraction == pytest.approx(total * 2 / 3 * 252 / 3)
    assert record.annual_impact_fraction == 0.0
    assert result.model.gross_annual_return_fraction == pytest.approx((1.10 * 0.95 * 1.03) ** 84 - 1)


def test_information_coefficients_by_hand() -> None:
    result = run(three_symbols())
    assert result.by_session is not None
    assert result.by_session.rank_ic == pytest.approx((1.0, -0.5, 0.0))
    # session 1: scores 1, 0, -1 around their mean; returns .10, .02, -.04 less .0266667
    assert result.by_session.ic[0] == pytest.approx(0.14 / (2 * 0.0098666667) ** 0.5)
    assert result.information is not None
    found = result.information.rank_ic
    assert (found.mean, found.n_sessions) == (pytest.approx(1 / 6), 3)
    assert found.sd == pytest.approx((7 / 12) ** 0.5)
    assert math.isnan(found.t_statistic)  # three sessions are too few for a standard error
    assert math.isnan(found.p_value)


# ------------------------------------------------------------------------------------------------ baselines


def test_equal_weight_holds_all_and_pays_to_stay_equal() -> None:
    book = baseline(run(three_symbols()), "equal_weight")
    assert book.average_return_at_k == pytest.approx((0.08 / 3 + 0.0 + 0.02) / 3)
    assert book.precision_at_k == pytest.approx(1 / 3)
    # after session 1: 1.10, 1.02, .96 over 3.08; after session 2: 1, .95, 1.05 over 3
    drift = sum(abs(x / 3.08 - 1 / 3) for x in (1.10, 1.02, 0.96)) + sum(
        abs(x / 3 - 1 / 3) for x in (1, 0.95, 1.05)
    )
    assert book.account is not None
    assert book.account.turnover_per_period == pytest.approx((1 + drift) / 3)


def test_cap_weights_are_shares_of_the_market_cap_known_at_the_decision() -> None:
    frame = three_symbols().with_columns(market_cap=pl.Series([2.0, 1, 1, 1, 1, 2, 1, None, 3]))
    book = baseline(run(frame), "cap_weighted")
    by_session = (
        0.5 * 0.10 + 0.25 * 0.02 - 0.25 * 0.04,
        -0.25 * 0.05 + 0.5 * 0.05,
        0.25 * 0.03 + 0.75 * 0.02,
    )
    assert book.average_return_at_k == pytest.approx(sum(by_session) / 3)


def test_what_the_file_cannot_give_is_said_and_not_guessed() -> None:
    result = run(three_symbols())
    assert result.baselines is not None
    told = {b.name: b.reason for b in result.baselines if not b.available}
    assert told == {
        "cap_weighted": "the file has no column market_cap",
        "momentum": "the file has no column close",
    }
    assert all(b.result is None and b.model_excess_per_period is None for b in result.baselines if b.reason)


def test_the_model_is_compared_period_by_period() -> None:
    result = run(three_symbols())
    assert result.baselines is not None
    equal = next(b for b in result.baselines if b.name == "equal_weight")
    assert equal.model_excess_per_period == pytest.approx((0.10 - 0.08 / 3 - 0.05 + 0.03 - 0.02) / 3)


def test_the_random_book_follows_its_seed_and_holds_k() -> None:
    wide = long_table(
        [f"S{i}" for i in range(30)],
        score=[[float(i) for i in range(30)]] * 20,
        forward_return=[[i / 1000 for i in range(30)]] * 20,
    )
    runs = [run(wide, seed=seed, top_k=4) for seed in (1, 1, 2)]
    assert runs[0].to_json() == runs[1].to_json()
    books = [baseline(result, "random") for result in runs]
    assert books[0].average_return_at_k != books[2].average_return_at_k
    assert books[0].account is not None
    assert books[0].account.mean_symbols_held == 4.0


# ------------------------------------------------------------------------------- what is missing, and flags


def holes() -> pl.DataFrame:
    return long_table(
        ["A", "B", "C"],
        score=[[3, 2, 1], [None, None, 2], [9, float("nan"), 1], [None, None, None], [1, 2, 3]],
        forward_return=[
            [None, 0.1, 0.0],
            [0.0, 0.0, 0.1],
            [0.2, 0.9, 0.0],
            [0.0, 0.0, 0.0],
            [None, None, None],
        ],
    )


def test_fewer_than_k_scores_hold_fewer_symbols_and_are_counted() -> None:
    result = run(holes(), top_k=2)
    assert result.by_session is not None
    assert result.by_session.symbols_selected == (2, 1, 2, 0, 2)
    assert (result.coverage.short_sessions, result.coverage.sessions_without_scores) == (1, 1)
    assert result.coverage.scores_missing == 6


def test_an_unknown_return_is_left_out_of_averages_and_kept_in_cash() -> None:
    result = run(holes(), top_k=2)
    assert result.by_session is not None
    # session 1 chose A (unknown) and B (.1): B alone is judged, and half of the account stays in cash
    assert result.by_session.average_return_at_k[0] == pytest.approx(0.1)
    assert net_returns(result)[0] == pytest.approx(0.05)
    assert result.coverage.selected_without_return == 1
    assert result.coverage.sessions_without_returns == 1  # the last: its future is not known yet
    assert np.isnan(net_returns(result)[-1])


def test_flagged_assets_carry_their_reason_and_where() -> None:
    result = run(holes(), top_k=2)
    flags = [(f.symbol, f.reason, f.sessions, f.selected_sessions) for f in result.flagged]
    assert flags == [
        ("A", "missing return", 1, 1),
        ("A", "missing score", 2, 0),
        ("B", "extreme return", 1, 0),
        ("B", "missing score", 3, 0),
        ("C", "missing score", 1, 0),
    ]
    extreme = result.flagged[2]
    assert (extreme.first_session, extreme.largest_return_fraction) == (date(2024, 1, 3), 0.9)


def test_the_last_selection_is_given_even_though_nothing_is_known_of_it() -> None:
    latest = run(holes(), top_k=2).latest_selection
    assert (latest.session, latest.symbols) == (date(2024, 1, 5), ("C", "B"))


def test_rows_before_the_first_score_are_history_and_not_flagged() -> None:
    frame = long_table(
        ["A", "B"], score=[[None, None], [1, 2], [2, 1]], forward_return=[[0.0, 0.0], [0.1, 0.2], [0.1, 0.2]]
    )
    result = run(frame)
    assert (result.coverage.decision_sessions, result.flagged) == (2, ())


# ------------------------------------------------------------------------------------ prices and horizons


def priced() -> pl.DataFrame:
    return long_table(
        ["A", "B"],
        score=[[2, 1], [1, 2], [2, 1], [2, 1], [2, 1]],
        open=[[10, 20], [11, 20], [11, 22], [22, 11], [22, 22]],
        close=[[10, 20], [12, 21], [10, 24], [20, 12], [24, 20]],
    )


def test_a_decision_at_the_close_is_filled_at_the_next_open() -> None:
    result = run(priced())
    # decided on day 1: A from 11 to 11; day 2: B from 22 to 11; day 3: A from 22 to 22
    assert net_returns(result) == pytest.approx([0.0, -0.5, 0.0, np.nan, np.nan], nan_ok=True)
    assert result.returns_from == "open"
    assert result.model.average_return_at_k == pytest.approx(-0.5 / 3)


def test_without_opens_the_fill_is_the_next_close() -> None:
    result = run(priced().drop("open"))
    # A from 12 to 10, B from 24 to 12, A from 20 to 24
    assert net_returns(result)[:3] == pytest.approx([10 / 12 - 1, -0.5, 0.2])
    assert result.returns_from == "close"


def test_prices_with_a_horizon_of_two_hold_two_tranches_marked_daily() -> None:
    result = run(priced(), horizon_sessions=2)
    # day 1 buys half A; day 2 adds half B (A 11 to 22, B 22 to 11); day 3 renews the half in A (A 22, B 11 to 22)
    assert net_returns(result)[:3] == pytest.approx([0.0, 0.5 * 1.0 - 0.5 * 0.5, 0.5 * 1.0])
    assert result.model.average_return_at_k == pytest.approx(((22 / 11 - 1) + (22 / 22 - 1)) / 2)
    assert (result.period_sessions, result.periods_per_year) == (1, 252.0)


def test_returns_alone_with_a_horizon_of_two_renew_the_account_every_second_session() -> None:
    frame = long_table(
        ["A", "B"],
        score=[[2, 1], [1, 2], [2, 1], [1, 2]],
        forward_return=[[0.1, 0.0], [0.5, 0.4], [-0.1, 0.0], [0.3, 0.2]],
    )
    result = run(frame, horizon_sessions=2)
    assert net_returns(result) == pytest.approx([0.1, np.nan, -0.1, np.nan], nan_ok=True)
    assert (result.period_sessions, result.periods_per_year) == (2, 126.0)
    assert result.model.average_return_at_k == pytest.approx((0.1 + 0.4 - 0.1 + 0.2) / 4)


def test_a_file_with_both_obeys_the_option() -> None:
    both = priced().with_columns(forward_return=pl.lit(0.01))
    assert run(both).returns_from == "forward_return"
    assert run(both, returns_from="prices").returns_from == "open"


def test_adjusted_closes_move_opens_too() -> None:
    split = priced().with_columns(
        adj_close=pl.col("close") * pl.when(pl.col("session") < date(2024, 1, 4)).then(0.5).otherwise(1.0)
    )
    # B decided on day 2: bought at 22 x .5 on day 3, sold at 11 on day 4
    assert net_returns(run(split))[1] == pytest.approx(0.0)


def test_a_symbol_whose_prices_stop_leaves_at_its_last_close_and_is_flagged() -> None:
    stopped = priced().filter((pl.col("symbol") == "A") | (pl.col("session") < date(2024, 1, 4)))
    result = run(stopped)
    assert net_returns(result)[1] == pytest.approx(24 / 22 - 1)  # filled at the open of its last day
    assert [(f.symbol, f.reason) for f in result.flagged if f.symbol == "B"] == [("B", "missing return")]


def test_a_position_in_a_halted_symbol_is_carried_to_its_next_open() -> None:
    # B is chosen on day 2 and bought on day 3; it is halted on days 4 and 5 and opens again, lower, on day 6
    days, up = [date(2024, 1, d) for d in range(1, 10)], [1.0] * 9
    frame = pl.concat(
        pl.DataFrame({"symbol": s, "session": days, "score": score, "open": prices, "close": prices})
        for s, score, prices in (
            ("A", [2.0, 1, 1, 1, 1, 2, 2, 2, 2], [10.0 * u for u in up]),
            ("B", [1.0, 2, 2, 2, 2, 1, 1, 1, 1], [20.0] * 5 + [15.0] * 4),
        )
    )
    halted = (pl.col("symbol") == "B") & pl.col("session").is_in([days[3], days[4]])
    result = run(frame.filter(~halted))
    returns = net_returns(result)
    # nobody gets out at 20: the fall shows in the period that ends with the first open
    assert returns[1:4] == [0.0, 0.0, pytest.approx(15 / 20 - 1)]


def test_sessions_per_year_are_counted_in_the_file() -> None:
    weekly = three_symbols().with_columns(
        session=pl.col("session")
        + pl.duration(days=6) * ((pl.col("session") - date(2024, 1, 1)).dt.total_days())
    )
    assert run(weekly, periods_per_year=None).periods_per_year == pytest.approx(365.25 / 7)


def test_labels_longer_than_the_horizon_says_are_reported() -> None:
    rng = np.random.default_rng(3)
    daily = rng.normal(0, 0.01, (204, 4))
    labels = np.stack([daily[t : t + 5].sum(axis=0) for t in range(200)])
    frame = long_table(
        list("ABCD"), score=rng.normal(size=labels.shape).tolist(), forward_return=labels.tolist()
    )
    assert "if it spans more sessions than --horizon says" in run(frame, horizon_sessions=1).warnings[0]
    assert run(frame, horizon_sessions=5).warnings == ()


def test_what_is_not_bought_costs_nothing() -> None:
    result = run(holes(), top_k=2, costs={**FREE.model_dump(), "commission_bps": 100.0})
    # session 1 buys B with half of the account: A's return is not known
    assert net_returns(result)[0] == pytest.approx(0.5 * 0.1 - 0.01 * 0.5)
    record = result.model.account
    assert record is not None
    # halves in session 1, all in C, all in A and C, nothing
    assert record.mean_invested_fraction == pytest.approx((0.5 + 1 + 1 + 0) / 4)
    assert (record.periods_in_cash, record.mean_symbols_held) == (1, 1.0)


def test_cap_weights_belong_to_their_own_session_and_to_scored_symbols() -> None:
    frame = long_table(
        ["A", "B", "C"],
        score=[[None, None, None], [2, 1, None], [2, 1, None]],
        forward_return=[[0.0, 0.0, 0.0], [0.4, 0.0, 0.9], [0.0, 0.4, 0.9]],
        market_cap=[[1, 9, 9], [3, 1, 9], [1, 3, 9]],
    )
    assert baseline(run(frame), "cap_weighted").average_return_at_k == pytest.approx(0.3)


def test_a_choice_without_known_liquidity_stays_in_cash_and_is_flagged() -> None:
    # B has a stated return in every session, but no volume in the first twelve, and so no liquidity in time
    gap = long_table(
        ["A", "B"],
        score=[[2, 1], [1, 2], [2, 1], [2, 1]],
        forward_return=[[0.1, 0.2], [0.1, 0.2], [0.1, 0.2], [0.1, 0.2]],
        close=[[10, 10], [11, 10], [10, 11], [11, 10]],
    )
    with_volume = pl.concat(
        [
            gap.with_columns(
                session=pl.col("session") + pl.duration(days=4 * block),
                volume=pl.when((pl.col("symbol") == "B") & (block < 3)).then(None).otherwise(1e6),
            )
            for block in range(8)
        ]
    )
    result = run(with_volume, costs=CostConfig().model_dump())
    flag = next(f for f in result.flagged if f.reason == "not tradable")
    # A is known from the 21st session; B has volume from the 13th on, so from the 33rd: never in these 32
    assert (flag.symbol, flag.selected_sessions, flag.first_session) == ("B", 3, date(2024, 1, 22))
    assert [f.symbol for f in result.flagged if f.reason == "not tradable"] == ["B"]
    record = result.model.account
    assert record is not None
    assert (record.n_periods, record.periods_in_cash) == (12, 3)


def test_json_has_one_zero_and_twelve_digits_and_null_for_undefined() -> None:
    result = run(three_symbols())
    written = [
        json.loads(replace(result, periods_per_year=value).to_json(), parse_float=str)["periods_per_year"]
        for value in (-0.0, 1 / 3, float("nan"), float("-inf"))
    ]
    assert written == ["0.0", "0.333333333333", None, None]
