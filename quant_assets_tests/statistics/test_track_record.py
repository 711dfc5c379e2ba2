"""Drawdown, growth and risk-adjusted measures: hand-computed values, invariants, gates that must stay shut."""

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quant_assets.common.errors import ValidationError
from quant_assets.statistics.track_record import (
    TrackRecord,
    annual_return,
    annual_volatility,
    calmar_ratio,
    max_drawdown,
    sortino_ratio,
    track_record,
    win_rate,
)

MEASURES = [field.name for field in fields(TrackRecord) if field.name not in ("n_obs", "periods_per_year")]


@pytest.mark.parametrize(
    ("returns", "drawdown"),
    [
        ([0.10, -0.50, 0.20, 0.10], -0.5),
        ([-0.25, 0.10], -0.25),  # below the starting equity of 1
        ([0.10, -0.10, -0.10, 0.50], -0.19),
        ([0.01, 0.02], 0.0),
        ([0.0, 0.0], 0.0),
        ([0.5, -1.0, 9.0], -1.0),
        ([0.5, -1.5, 9.0], -1.0),  # more than everything is everything
    ],
)
def test_drawdown_is_the_deepest_fall_below_a_peak_as_a_negative_fraction(returns, drawdown):
    assert max_drawdown(returns) == pytest.approx(drawdown, abs=1e-12)


def test_growth_is_geometric_and_annual():
    assert annual_return([0.21, 0.0], 1) == pytest.approx(0.1, rel=1e-12)
    assert annual_return([0.10] * 4, 4) == pytest.approx(1.1**4 - 1, rel=1e-12)
    assert annual_return([0.5, -0.5], 2) == pytest.approx(-0.25, rel=1e-12)
    assert annual_return([0.5, -1.0, 0.5], 252) == -1.0
    assert annual_return([0.5, -1.2, 0.5], 252) == -1.0


def test_volatility_is_annualised_by_the_square_root_of_time():
    assert annual_volatility([0.01, -0.01, 0.03], 252) == pytest.approx(0.02 * math.sqrt(252), rel=1e-12)


def test_sortino_divides_by_the_shortfall_over_all_periods():
    # shortfalls -0.02 and 0 over 4 periods: downside deviation 0.01; mean 0.0075
    assert sortino_ratio([0.02, -0.02, 0.01, 0.02]) == pytest.approx(0.75, rel=1e-12)
    assert sortino_ratio([0.02, -0.02, 0.01, 0.02], target=0.01) == pytest.approx(
        -0.0025 / math.sqrt(0.0009 / 4), rel=1e-12
    )


def test_calmar_divides_annual_growth_by_the_size_of_the_drawdown():
    assert calmar_ratio([0.5, -0.2], 2) == pytest.approx(0.2 / 0.2, rel=1e-12)
    assert calmar_ratio([-0.5, 0.2], 2) == pytest.approx(-0.4 / 0.5, rel=1e-12)


def test_a_flat_period_is_no_win():
    assert win_rate([0.1, 0.0, -0.1, 0.2]) == 0.5


@pytest.mark.parametrize("returns", [np.full(100, 0.001), np.zeros(100)])
def test_measures_that_divide_by_a_risk_that_was_never_taken_are_nan(returns):
    record = track_record(returns, 252)
    assert math.isnan(record.sharpe_per_period)
    assert math.isnan(record.sortino_per_period)
    assert math.isnan(record.calmar)
    assert record.max_drawdown_fraction == 0.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_every_measure_of_a_broken_series_is_nan_and_of_its_neighbour_is_not(bad):
    record = track_record([[0.01, -0.02, 0.03, 0.01], [0.01, -0.02, bad, 0.01]], 252)
    for name in MEASURES:
        assert np.isnan(getattr(record, name)).tolist() == [False, True], name


def test_tables_worked_on_in_one_pass_give_the_record_of_each_series_alone():
    rng = np.random.default_rng(14)
    returns = rng.standard_t(3, size=(1100, 2000)) * 0.01
    returns[1] = 0.001
    returns[2] = 0.0
    returns[3, 700] = math.nan
    returns[4, 0] = math.inf
    returns[5, 10] = -1.5
    returns[6, 0] = -0.4
    fused = track_record(returns, 252)
    transposed = track_record(np.ascontiguousarray(returns.T), 252, axis=0)  # one column per series
    assert fused.n_obs == transposed.n_obs == 2000
    for name in MEASURES:
        together = getattr(fused, name)
        assert together.tolist() == pytest.approx(getattr(transposed, name).tolist(), rel=1e-13, nan_ok=True)
        for row in range(12):
            alone = getattr(track_record(returns[row], 252), name)
            assert together[row] == pytest.approx(alone, rel=1e-9, abs=1e-12, nan_ok=True), (name, row)
    cube = track_record(returns.reshape(11, 100, 2000), 252)
    assert cube.win_rate.shape == (11, 100)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(2, 40)), elements=st.floats(-0.9, 1)))
def test_drawdown_and_growth_follow_from_the_equity_curve(returns):
    for row, drawdown, growth in zip(
        returns, max_drawdown(returns), annual_return(returns, 252), strict=True
    ):
        equity = [1.0]
        for value in row:
            equity.append(equity[-1] * (1 + value))
        worst = min(late / early - 1 for i, early in enumerate(equity) for late in equity[i:])
        assert drawdown == pytest.approx(worst, abs=1e-9)
        assert -1 <= drawdown <= 0
        assert growth == pytest.approx(equity[-1] ** (252 / len(row)) - 1, rel=1e-6)


def test_many_series_at_once_equal_each_one_alone_along_either_axis():
    returns = np.random.default_rng(3).normal(size=(5, 60)) * 0.01
    together, transposed = track_record(returns, 252), track_record(returns.T, 252, axis=0)
    for row in range(5):
        alone = track_record(returns[row], 252)
        for name in MEASURES:
            value = getattr(alone, name)
            assert type(value) is float
            assert getattr(together, name)[row] == pytest.approx(value, rel=1e-12), name
            assert getattr(transposed, name)[row] == pytest.approx(value, rel=1e-12), name
    assert (together.n_obs, together.periods_per_year) == (60, 252.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: max_drawdown([]),
        lambda: annual_return([], 252),
        lambda: annual_return([0.1], 0),
        lambda: annual_volatility([0.1], 252),
        lambda: sortino_ratio([0.1]),
        lambda: track_record([0.1], 252),
        lambda: win_rate([]),
        lambda: calmar_ratio([0.1, 0.2], -1),
        lambda: max_drawdown(0.1),
    ],
)
def test_records_without_a_defined_measure_are_refused(call):
    with pytest.raises(ValidationError):
        call()
