"""How far sources agree: planted defects are found, named and counted; ordinary differences are only counted."""

import polars as pl
import pytest

from quant_assets.common.hashing import frame_digest
from quant_assets.market.parsing import PRICES
from quant_assets.market.reconciliation_report import Disagreements, compare_sources, reconciliation_figure
from quant_assets_tests.market.two_sources import changed, feed, together, universe

A, B = feed(), feed()
TWO = universe("a", "b")


def compared(**sources: pl.DataFrame) -> Disagreements:
    return compare_sources(together(**sources), universe(*sources))


def test_equal_sources_differ_nowhere() -> None:
    found = compared(a=A, b=B)
    assert found.prices["field"].to_list() == ["close", "high", "low", "open"]
    assert found.prices["to_1bp"].to_list() == [A.height] * 4
    assert found.volumes.select("within_tolerance", "to_0.1pct", "median_ratio").row(0) == (
        A.height,
        A.height,
        1.0,
    )
    assert found.factors.is_empty()
    assert found.findings == ()
    coverage = found.coverage.row(0, named=True)
    assert coverage == {
        "symbol": "AAA", "first": "a", "second": "b", "both": A.height, "only_first": 0, "only_second": 0,
        "last_first": A["session"][-1], "last_second": A["session"][-1],
        "returns_compared": A.height - 1, "returns_over_50bp": 0, "shift_sessions": 0,
    }  # fmt: skip


def test_differences_are_counted_by_size_with_the_limit_inside_its_class() -> None:
    closes = [100.0] * 8
    theirs = [100.0, 100.01, 100.02, 100.05, 100.06, 100.5, 105.0, 105.01]
    frame = A.head(8).with_columns(*(pl.Series(name, closes) for name in PRICES))
    found = compared(a=frame, b=frame.with_columns(close=pl.Series(theirs)))
    close = found.prices.filter(field="close").row(0, named=True)
    sizes = {name: close[name] for name in ("to_1bp", "to_5bp", "to_50bp", "to_500bp", "over_500bp")}
    assert sizes == {"to_1bp": 2, "to_5bp": 2, "to_50bp": 2, "to_500bp": 1, "over_500bp": 1}
    assert close["compared"] == 8
    assert close["within_tolerance"] == 6
    assert close["median_ratio"] == pytest.approx((100 / 100.05 + 100 / 100.06) / 2, rel=1e-12)
    # 100 to 100.5 and back to 100, then to 105 and 105.01: 100.06 to 100.5 is 44 bp, the next 448 bp, 1 bp.
    assert found.coverage["returns_over_50bp"].item() == 1


def test_a_volume_counted_twice_is_a_constant_factor() -> None:
    found = compared(a=A.with_columns(pl.col("volume") * 2), b=B)
    assert found.volumes["within_tolerance"].item() == 0
    assert found.volumes["over_50pct"].item() == A.height
    row = found.factors.row(0, named=True)
    assert (row["field"], row["factor"], row["sessions"]) == ("volume", 2.0, A.height)
    assert found.findings == (
        f"AAA: volume of a is 2.0 times that of b on {A.height} sessions from 2022-01-03 to 2022-12-30",
    )
    assert compared(b=B, a=A.with_columns(pl.col("volume") * 2)).factors["factor"].item() == 0.5


def test_a_history_not_rebased_at_a_split_is_a_factor_up_to_that_day() -> None:
    values = {name: pl.col(name) / 7 for name in PRICES}
    rebased = changed(B, slice(0, 120), **values, volume=pl.col("volume") * 7)
    found = compared(a=A, b=rebased)
    spans = found.factors.select("field", "factor", "first_session", "last_session", "sessions").rows()
    first, last = A["session"][0], A["session"][119]
    assert [(field, round(factor, 6), *rest) for field, factor, *rest in spans] == [
        *((field, 7.0, first, last, 120) for field in ("close", "high", "low", "open")),
        ("volume", round(1 / 7, 6), first, last, 120),
    ]
    assert found.coverage["returns_over_50bp"].item() == 1


def test_noisy_volumes_and_a_few_misprints_are_no_factor() -> None:
    noise = pl.Series([0.7, 1.6, 1.1, 0.9] * 63)[: A.height]
    misprinted = changed(B, slice(30, 38), close=pl.col("close") * 10, high=pl.col("high") * 10)
    found = compared(a=A, b=misprinted.with_columns(pl.col("volume") * noise))
    assert found.factors.is_empty()
    assert found.prices.filter(field="close")["over_500bp"].item() == 8
    around_two = pl.Series([1.2, 2.0, 3.1, 2.0] * 63)[: A.height]
    assert compared(a=A.with_columns(pl.col("volume") * around_two), b=B).factors.is_empty()


@pytest.mark.parametrize(("by", "words"), [(1, "1 session later"), (-1, "1 session earlier")])
def test_dates_shifted_by_one_session_are_told_from_wrong_prices(by: int, words: str) -> None:
    shifted = B.with_columns(pl.col("session").shift(-by)).drop_nulls("session")
    found = compared(a=A, b=shifted)
    assert found.coverage["shift_sessions"].item() == by
    assert found.findings == (f"AAA: b is dated {words} than a",)
    assert found.prices.filter(field="close")["within_tolerance"].item() < 0.5 * A.height


def test_a_quiet_price_is_not_taken_for_shifted_dates() -> None:
    quiet = A.with_columns(close=pl.lit(100.0), high=pl.lit(1000.0))
    assert compared(a=quiet, b=quiet).coverage["shift_sessions"].item() == 0
    wild = feed(seed=99)
    assert compared(a=A, b=wild).coverage["shift_sessions"].item() == 0


def test_stale_tails_and_missing_sessions_are_in_the_coverage() -> None:
    holes = B.filter(~pl.int_range(pl.len()).is_between(50, 54)).head(200)
    coverage = compared(a=A, b=holes).coverage.row(0, named=True)
    assert (coverage["both"], coverage["only_first"], coverage["only_second"]) == (200, A.height - 200, 0)
    assert coverage["last_second"] == holes["session"][-1]
    assert coverage["last_first"] == A["session"][-1]


def test_another_vintage_of_the_adjusted_close_is_no_disagreement() -> None:
    found = compared(a=A, b=B.with_columns(pl.col("adj_close") * 0.5))
    assert found.findings == ()
    assert found.prices["to_1bp"].to_list() == [A.height] * 4


def test_zero_volume_against_some_is_the_largest_difference_and_against_zero_none() -> None:
    a, b = changed(A, slice(0, 2), volume=0.0), changed(B, slice(1, 3), volume=0.0)
    volume = compared(a=a, b=b).volumes.row(0, named=True)
    assert (volume["over_50pct"], volume["to_0.1pct"], volume["median_ratio"]) == (2, A.height - 2, 1.0)


def test_three_sources_are_compared_in_pairs_in_order_of_preference() -> None:
    other = feed("BBB", seed=5)
    raw = together(z=pl.concat([A, other]), a=B, m=A)
    found = compare_sources(raw, universe("z", "a", "m"))
    assert found.coverage.select("symbol", "first", "second").rows() == [
        ("AAA", "a", "m"), ("AAA", "z", "a"), ("AAA", "z", "m"),
    ]  # fmt: skip
    again = compare_sources(raw.sample(fraction=1, shuffle=True, seed=8), universe("z", "a", "m"))
    for name in ("prices", "volumes", "coverage", "factors"):
        assert frame_digest(getattr(found, name)) == frame_digest(getattr(again, name)), name


def test_the_figure_is_a_picture_with_the_same_bytes_each_time() -> None:
    raw = together(a=pl.concat([A, feed("B$B", seed=4)]), b=pl.concat([B, feed("B$B", seed=5)]))
    one, other = (reconciliation_figure(compare_sources(raw, TWO)) for _ in range(2))
    assert one == other
    assert one.startswith("data:image/png;base64,iVBOR")
    nothing_shared = compare_sources(together(a=A, b=feed("BBB")), TWO)
    assert nothing_shared.prices.is_empty()
    assert reconciliation_figure(nothing_shared).startswith("data:image/png;base64,")
    assert reconciliation_figure(nothing_shared) != one
    alone = compare_sources(together(a=A), TWO)
    assert alone.findings == ()
    assert alone.coverage.is_empty()
