"""A row's features are those of the bars as they stood at its close: against a panel cut off at every single one."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from quant_assets.features import compute
from quant_assets.features.as_known import FOUND_WRONG

DAYS = [date(2020, 1, 1) + timedelta(days=t) for t in range(60)]


def close_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 21, tzinfo=UTC)


# Bars, by symbol and session, and when they are found to be wrong: one that leaps, two that are in doubt at once, and
# one whose doubt outlasts the panel.
WRONG = {
    ("A", 30): 31,
    ("B", 35): 45,
    ("B", 40): 41,
    ("C", 57): 99,
}


def panel() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    frames = []
    for symbol in "ABCDE":
        close = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.02, len(DAYS))))
        opened = close * np.exp(rng.normal(0, 0.01, len(DAYS)))
        frames.append(
            pl.DataFrame(
                {
                    "symbol": symbol,
                    "session": DAYS,
                    "open": opened,
                    "high": np.maximum(opened, close) * 1.01,
                    "low": np.minimum(opened, close) * 0.99,
                    "close": close,
                    "volume": rng.uniform(1e5, 9e5, len(DAYS)),
                    "known_at": [close_of(day) for day in DAYS],
                    FOUND_WRONG: [
                        close_of(DAYS[0] + timedelta(days=WRONG[symbol, t])) if (symbol, t) in WRONG else None
                        for t in range(len(DAYS))
                    ],
                }
            )
        )
    bars = pl.concat(frames)
    leap = pl.when(pl.col(FOUND_WRONG).is_not_null()).then(2.0).otherwise(1.0)
    return bars.with_columns(pl.col(name) * leap for name in ("open", "high", "low", "close", "volume"))


@pytest.mark.parametrize("pack", ["stationary_v1", "cross_sectional_v1"])
def test_every_row_is_that_of_the_panel_as_it_was_known_at_its_close(pack: str) -> None:
    bars = panel()
    got = compute(bars, pack=pack)
    assert (
        got.select("symbol", "session").rows()
        == bars.sort("symbol", "session").select("symbol", "session").rows()
    )
    for t in (29, 30, 31, 34, 35, 37, 40, 41, 44, 45, 46, 57, 59):
        at = close_of(DAYS[t])
        known = bars.filter(
            (pl.col("session") <= DAYS[t]) & ((pl.col(FOUND_WRONG) > at) | pl.col(FOUND_WRONG).is_null())
        )
        expected = compute(known.drop(FOUND_WRONG), pack=pack).filter(pl.col("session") == DAYS[t])
        row = got.filter(pl.col("session") == DAYS[t]).join(
            expected.select("symbol"), on="symbol", how="semi", maintain_order="left"
        )
        assert row.equals(expected), (t, DAYS[t])


def test_a_leap_is_news_at_its_own_close_and_in_no_window_once_it_is_known_to_be_none() -> None:
    bars = panel()
    got = compute(bars, pack="technical_v1").filter(pl.col("symbol") == "A")
    never = compute(bars.filter(pl.col(FOUND_WRONG).is_null()).drop(FOUND_WRONG), pack="technical_v1")
    never = never.filter(pl.col("symbol") == "A")
    moved = got.filter(pl.col("session") == DAYS[30])["ret_1"].item()
    assert moved > 0.8
    assert got.filter(pl.col("session") != DAYS[30]).equals(never)


def test_a_column_without_a_wrong_bar_changes_nothing() -> None:
    bars = panel().with_columns(pl.lit(None, dtype=pl.Datetime("us", "UTC")).alias(FOUND_WRONG))
    assert compute(bars, pack="technical_v1").equals(compute(bars.drop(FOUND_WRONG), pack="technical_v1"))
