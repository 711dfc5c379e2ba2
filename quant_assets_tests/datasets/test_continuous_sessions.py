"""Labels of markets whose close is the next session's open: times, uniqueness, purging."""

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from quant_assets.datasets.labels import average_uniqueness, bar_ranges, forward_return_labels
from quant_assets.market.calendar import session_times
from quant_assets.splits.cpcv import CombinatorialPurgedCV

CALENDARS = ("24/7", "24/5", "CMES", "XLON", "XBOM", "XTKS", "XNYS")


def labels_of(calendar: str, horizon: int, n: int = 30) -> pl.DataFrame:
    """Labels of one name over the first sessions of 2024, its opens 1, 2, 3, ..."""
    times = session_times(calendar, date(2024, 1, 1), date(2024, 5, 31)).head(n)
    price = pl.int_range(1, n + 1).cast(pl.Float64)
    bars = times.select("session", symbol=pl.lit("A"), open=price, close=price)
    return forward_return_labels(bars, times, horizon_sessions=horizon)


def test_a_label_of_a_market_without_a_pause_runs_from_midnight_to_midnight() -> None:
    first = labels_of("24/7", 1).row(0, named=True)
    assert first["t0"] == datetime(2024, 1, 2, tzinfo=UTC)  # close of the 1st, and open of the 2nd: the fill
    assert first["t1"] == datetime(2024, 1, 3, tzinfo=UTC)  # open of the 3rd
    assert first["known_at"] == datetime(2024, 1, 4, tzinfo=UTC)  # when that bar is published
    assert first["forward_return"] == 3.0 / 2.0 - 1.0


@pytest.mark.parametrize("calendar", CALENDARS)
@pytest.mark.parametrize("horizon", [1, 3])
def test_label_times_are_in_order_and_a_label_lives_in_horizon_plus_one_bars(
    calendar: str, horizon: int
) -> None:
    labels = labels_of(calendar, horizon)
    assert labels.select(
        (pl.col("t0") < pl.col("t1")).all() & (pl.col("t1") < pl.col("known_at")).all()
    ).item()
    first, last = bar_ranges(labels["t0"].to_numpy(), labels["t1"].to_numpy())
    assert first.tolist() == list(range(labels.height))
    assert (last - first).tolist() == [horizon] * labels.height  # also behind the last decision


@pytest.mark.parametrize("horizon", [1, 3])
def test_uniqueness_does_not_depend_on_whether_the_market_pauses(horizon: int) -> None:
    weights = [
        average_uniqueness(
            np.zeros(len(t), dtype=np.int64), *bar_ranges(t["t0"].to_numpy(), t["t1"].to_numpy())
        )
        for t in (labels_of(calendar, horizon) for calendar in CALENDARS)
    ]
    assert all(np.array_equal(weights[0], other) for other in weights[1:])


@pytest.mark.parametrize("calendar", CALENDARS)
def test_no_training_label_touches_a_tested_one_even_at_one_instant(calendar: str) -> None:
    labels = labels_of(calendar, 2, n=60)
    t0, t1 = labels["t0"].to_numpy(), labels["t1"].to_numpy()
    for trained, tested in CombinatorialPurgedCV(n_groups=4, n_test_groups=1, embargo=0).split(t0, t1):
        start, end = t0[tested].min(), t1[tested].max()
        assert ((t1[trained] < start) | (t0[trained] > end)).all()
        assert len(trained) > 30
