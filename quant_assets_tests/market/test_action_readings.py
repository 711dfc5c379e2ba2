"""What a step of the adjusted to the raw close is read as; each expected ratio and amount is worked out by hand."""

import json
import math
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
import yaml

from quant_assets.common.store import Table
from quant_assets.common.universe_settings import ActionsConfig
from quant_assets.market.actions import (
    DOUBTS_SCHEMA,
    CorporateActions,
    adjust_bars,
    doubts_of,
    metadata_of,
    read_actions,
)

N, AT = 80, 40
DAY = date(2024, 1, 1) + timedelta(days=AT)


def feed(
    ratio: float = 1.0,
    paid: float = 0.0,
    *,
    before: float = 100.0,
    move: float = 0.004,
    volume_ratio: float | None = None,
    busy: float = 1.0,
    decimals: int | None = None,
    cents: int = 4,
    seed: int = 0,
) -> pl.DataFrame:
    """80 days; on the 40th ``ratio`` new shares per old, then ``paid`` per new share, and a day's ``move``."""
    rng = np.random.default_rng(seed)
    path = np.exp(np.cumsum(rng.normal(0, 0.008, N)))
    old = np.round(before * path / path[AT - 1], cents)
    ex = old[AT - 1] / ratio - paid
    new = np.round(ex * (1 + move) * path / path[AT], cents)
    close = np.where(np.arange(N) < AT, old, new)
    factor = np.where(np.arange(N) < AT, ex / old[AT - 1], 1.0)
    adjusted = close * factor
    change = ratio if volume_ratio is None else volume_ratio
    volume = 1e6 * np.exp(rng.normal(0, 0.1, N)) * np.where(np.arange(N) < AT, 1.0, change)
    volume[AT] *= busy
    return pl.DataFrame(
        {
            "symbol": "A",
            "session": [date(2024, 1, 1) + timedelta(days=k) for k in range(N)],
            "open": close,
            "high": close * 1.005,
            "low": close * 0.995,
            "close": close,
            "volume": np.round(volume),
            "adj_close": adjusted if decimals is None else np.round(adjusted, decimals),
        }
    )


def read(frame: pl.DataFrame) -> tuple[list[tuple[str, float | None, float]], list[str]]:
    """Kind, ratio and price factor of each action, and the kinds of doubt."""
    got = read_actions(frame)
    assert got.actions["session"].to_list() == [DAY] * got.actions.height
    return got.actions.select("kind", "ratio", "price_factor").rows(), got.doubts["kind"].to_list()


def near(*rows: tuple[str, float | None, float]) -> list[tuple[str, object, object]]:
    return [
        (kind, ratio and pytest.approx(ratio), pytest.approx(factor, rel=1e-5))
        for kind, ratio, factor in rows
    ]


@pytest.mark.parametrize(
    ("new", "old"),
    [(6, 11), (11, 12), (7, 8), (10, 17), (9, 10), (1, 7), (1, 35), (1, 300), (2, 5),
     (11, 10), (7, 6), (21, 20), (5, 4), (3, 1), (50, 1), (300, 1)],
)  # fmt: skip
def test_a_share_change_of_any_small_ratio_is_a_split_without_a_doubt(new: int, old: int) -> None:
    start = 100.0 if new < 50 else 9000.0
    # 97.13 is divisible by neither 11, 7, 21 nor 5: no cash sum of whole cents would give these ratios.
    start = 97.13 if start == 100.0 else start
    assert read(feed(new / old, before=start)) == (near(("split", new / old, old / new)), [])


@pytest.mark.parametrize("decimals", [2, 4, 6])
@pytest.mark.parametrize(("new", "old"), [(6, 11), (7, 8), (10, 17), (1, 20), (2, 1), (3, 2)])
def test_rounding_of_the_adjusted_close_leaves_the_ratio_of_a_share_change(
    new: int, old: int, decimals: int
) -> None:
    actions, doubts = read(feed(new / old, before=197.13, decimals=decimals))
    assert [(kind, ratio) for kind, ratio, _ in actions] == [("split", pytest.approx(new / old))]
    assert doubts == []


def test_volume_is_adjusted_for_shares_and_not_for_a_distribution() -> None:
    bars = feed(6 / 11, before=97.13)
    actions = read_actions(bars).actions
    adjusted = adjust_bars(bars, actions, "24/7")
    assert adjusted["volume"][0] == pytest.approx(bars["volume"][0] * 6 / 11)
    assert adjusted["close"][0] == pytest.approx(bars["close"][0] * 11 / 6)
    spun = feed(paid=40.0, volume_ratio=1.0)
    adjusted = adjust_bars(spun, read_actions(spun).actions, "24/7")
    assert adjusted["volume"][0] == spun["volume"][0]
    assert adjusted["close"][AT - 1] == pytest.approx(60.0)


@pytest.mark.parametrize(
    ("ratio", "paid", "rows"),
    [
        # 100 a share becomes 200 for each of half as many, of which 1 is paid: 199 / 200.
        (0.5, 1.0, [("split", 0.5, 2.0), ("dividend", None, 0.995)]),
        # 50 for each of twice as many, .25 paid: 49.75 / 50.
        (2.0, 0.25, [("split", 2.0, 0.5), ("dividend", None, 0.995)]),
        (10.0, 0.05, [("split", 10.0, 0.1), ("dividend", None, 0.995)]),
    ],
)
def test_a_whole_split_with_a_dividend_beside_it_is_two_actions(
    ratio: float, paid: float, rows: list[tuple[str, float | None, float]]
) -> None:
    assert read(feed(ratio, paid)) == (near(*rows), [])


@pytest.mark.parametrize(
    ("ratio", "paid", "rows"),
    [
        # 100 x 12 / 11 = 109.09, less .60: .9945; of 10:11 it would be 1.51 of 110, no whole cents.
        (11 / 12, 0.60, [("split", 11 / 12, 12 / 11), ("dividend", None, 0.9945)]),
        # 100 x 11 / 6 = 183.33, less .92: 182.41 / 183.33 = .994982.
        (6 / 11, 0.92, [("split", 6 / 11, 11 / 6), ("dividend", None, 0.9949818)]),
        # 100 x 2 / 3 = 66.67, less .40: .994; the volume went from 1 to 1.5.
        (1.5, 0.40, [("split", 1.5, 2 / 3), ("dividend", None, 0.994)]),
    ],
)
def test_another_ratio_with_a_dividend_beside_it_is_read_with_a_doubt(
    ratio: float, paid: float, rows: list[tuple[str, float | None, float]]
) -> None:
    assert read(feed(ratio, paid, before=100.0, cents=2)) == (near(*rows), ["ambiguous"])


@pytest.mark.parametrize(
    ("paid", "factor"),
    [(12.5, 0.875), (8.0, 0.92), (33.0, 0.67), (42.25, 0.5775)],
)
def test_a_spin_off_or_special_dividend_is_a_price_factor_alone(paid: float, factor: float) -> None:
    actions, _ = read(feed(paid=paid, volume_ratio=1.0, busy=3.0, cents=2))
    assert actions == near(("dividend", None, factor))


@pytest.mark.parametrize(
    ("paid", "move"),
    [(5.0, 0.08), (12.0, 0.15), (14.0, 0.30), (30.0, 0.5)],
)
def test_a_distribution_on_a_day_that_rallies_is_one(paid: float, move: float) -> None:
    # 100 - 30 = 70, x 1.5 = 105: the raw close rises over the ex-date while the ratio steps by 1 / .7.
    actions, doubts = read(feed(paid=paid, move=move, volume_ratio=1.0, busy=6.0, cents=2))
    assert actions == near(("dividend", None, 1 - paid / 100))
    assert "contradiction" not in doubts


def test_what_the_ratio_alone_does_not_decide_adjusts_prices_and_leaves_volume() -> None:
    # 8.00 less 1.00 in cash is 7:8 of the price, exactly as eight shares for seven are.
    cash = read_actions(feed(paid=1.0, before=8.0, volume_ratio=1.0, cents=2))
    assert cash.actions.select("kind", "ratio", "price_factor").rows() == near(("dividend", None, 0.875))
    assert cash.doubts.select("symbol", "session", "kind").rows() == [("A", DAY, "ambiguous")]
    assert cash.doubts["candidates"].item() == "distribution of 1 or split 8:7"
    assert cash.doubts.schema == DOUBTS_SCHEMA


def test_each_line_of_a_doubt_settles_it_as_it_stands() -> None:
    raw = feed(paid=1.0, before=8.0, volume_ratio=1.0, cents=2)
    from quant_assets.market.declared_actions import declared_actions

    lines = yaml.safe_load(read_actions(raw).doubts["accept"].item())
    read_again: list[CorporateActions] = []
    for line in lines:
        config = ActionsConfig.model_validate([line])
        read_again.append(read_actions(raw, declared_actions(config)))
    assert [again.doubts.height for again in read_again] == [0, 0]
    assert read_again[0].actions.select("kind", "price_factor").rows() == [("dividend", pytest.approx(0.875))]
    assert read_again[1].actions.select("kind", "ratio").rows() == [("split", pytest.approx(8 / 7))]


@pytest.mark.parametrize("days", [1, 2, 5])
def test_a_split_undone_within_days_changes_nothing_and_is_a_doubt(days: int) -> None:
    raw = feed(move=0.0)
    slipped = pl.int_range(pl.len()).is_between(AT, AT + days - 1)
    prices = [
        pl.when(slipped).then(pl.col(n) * 10).otherwise(pl.col(n)).alias(n)
        for n in ("open", "high", "low", "close")
    ]
    got = read_actions(raw.with_columns(prices))
    assert got.actions.is_empty()
    assert got.doubts.select("session", "kind").rows() == [(DAY, "undone_split")]
    assert f"back on {DAY + timedelta(days=days)}" in got.doubts["evidence"].item()


def test_a_table_carries_its_doubts_and_one_without_carries_nothing() -> None:
    got = read_actions(feed(paid=1.0, before=8.0, volume_ratio=1.0, cents=2))
    table = Table(got.actions, metadata_of(got.doubts))
    assert list(table.metadata) == ["doubts"]
    assert json.loads(table.metadata["doubts"])[0][:3] == ["A", str(DAY), "ambiguous"]
    assert doubts_of(table).equals(got.doubts)
    clean = Table(got.actions, metadata_of(got.doubts.clear()))
    assert dict(clean.metadata) == {}
    assert doubts_of(clean).equals(got.doubts.clear())


@pytest.mark.parametrize("style", ["cents", "float32 cents", "float32"])
def test_a_rebased_and_rounded_feed_with_dividends_and_splits_is_never_refused(style: str) -> None:
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = 500
        close = 30 * np.exp(rng.normal(0, 0.3)) * np.exp(np.cumsum(rng.normal(0, 0.015, n)))
        factor, split = np.ones(n), np.ones(n)
        for at in range(60, n, 63):
            factor[:at] *= 1 - rng.uniform(0.004, 0.012)
        where = int(rng.integers(100, 400))
        split[:where] = 2.0
        # The vendor's raw close is re-based for the split and rounded; so is the adjusted one.
        raw, adjusted = np.round(close, 2), np.round(close * factor, 2)
        if style != "cents":
            adjusted = close * factor if style == "float32" else adjusted
            raw, adjusted = (values.astype(np.float32).astype(np.float64) for values in (raw, adjusted))
        frame = pl.DataFrame({"close": raw, "adj_close": adjusted, "volume": 1e6}).with_columns(
            symbol=pl.lit("A"), session=pl.date(2020, 1, 1) + pl.duration(days=pl.int_range(n)),
            high=pl.col("close"), low=pl.col("close"), open=pl.col("close"),
        )  # fmt: skip
        got = read_actions(frame)
        assert got.doubts.is_empty(), (seed, got.doubts.rows())
        assert set(got.actions["kind"]) <= {"dividend"}
        found += got.actions.height
    # Seven dividends of .4 to 1.2 % in each of 60 feeds; in cents at 10 the smallest drown in their rounding.
    assert found / (7 * 60) > (0.97 if style == "float32" else 0.9)


@pytest.mark.parametrize("seed", range(8))
def test_true_splits_are_recovered_from_closes_in_cents(seed: int) -> None:
    rng = np.random.default_rng(seed)
    new, old = [(2, 1), (3, 1), (3, 2), (1, 10), (6, 11), (1, 4), (7, 1), (10, 17)][seed]
    raw = feed(new / old, before=float(rng.uniform(60, 400)), cents=2, decimals=2, seed=seed)
    actions, doubts = read(raw)
    assert [(kind, ratio) for kind, ratio, _ in actions] == [("split", pytest.approx(new / old))]
    assert "contradiction" not in doubts


def test_a_feed_that_goes_from_sixteenths_to_cents_keeps_the_precision_of_each() -> None:
    raw = feed(paid=0.3, before=40.0, move=0.0)
    sixteenths = pl.int_range(pl.len()) < 20
    quoted = (pl.col("close") * 16).round() / 16
    adjusted = pl.col("adj_close")
    frame = raw.with_columns(
        # Re-based and rounded in cents later on, exact in sixteenths (up to four decimals) before.
        close=pl.when(sixteenths).then(quoted).otherwise(pl.col("close").round(2)),
        adj_close=pl.when(sixteenths)
        .then((quoted * adjusted / pl.col("close")).round(4))
        .otherwise(adjusted.round(2)),
    )
    got = read_actions(frame)
    assert got.doubts.is_empty()
    assert got.actions.select("session", "kind").rows() == [(DAY, "dividend")]
    assert got.actions["price_factor"].item() == pytest.approx(39.7 / 40, rel=5e-4)


def test_bars_without_volume_are_read_by_price_alone() -> None:
    raw = feed(1.5, 0.4).with_columns(volume=pl.lit(None, dtype=pl.Float64))
    actions, doubts = read(raw)
    # 100 x 2 / 3 - .4 = 66.2667 of 100: without volume nothing says that shares changed.
    assert actions == near(("dividend", None, 0.662667))
    assert doubts == ["ambiguous"]
    assert math.isclose(read_actions(raw).actions["amount"].item(), 33.7333, rel_tol=1e-4)
