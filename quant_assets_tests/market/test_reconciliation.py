"""One panel from several sources: who wins each value, and why."""

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from quant_assets.common.errors import BarContractError
from quant_assets.common.hashing import frame_digest
from quant_assets.market.actions import derive_corporate_actions
from quant_assets.market.parsing import PRICES, RAW_SCHEMA
from quant_assets.market.reconciliation import FIELDS, MIXED_REASON, reconcile
from quant_assets_tests.market.two_sources import changed, feed, together, universe

A, B, C = feed(), feed(), feed()


def reason(found: pl.DataFrame, row: int, field: str, symbol: str = "AAA") -> tuple[str, str]:
    session = feed()["session"][row]
    one = found.filter(symbol=symbol, session=session, field=field)
    winner, why = one.select("winner", "reason").row(0)
    return str(winner), str(why)


def test_sources_that_agree_give_the_preferred_ones_bars_unchanged() -> None:
    slightly = B.with_columns(pl.col("close") * 1.001, pl.col("volume") * 0.97)
    found = reconcile(together(a=A, b=slightly), universe("a", "b"))
    assert found.bars.schema == RAW_SCHEMA
    assert_frame_equal(found.bars, A, check_exact=True)
    assert set(found.provenance.filter(pl.col("field") != "adj_close")["reason"]) == {"agrees"}
    assert found.provenance.columns == [
        "symbol",
        "session",
        "field",
        "winner",
        "reason",
        "value_a",
        "value_b",
    ]
    close = found.provenance.filter(field="close").row(0, named=True)
    assert (close["value_a"], close["value_b"]) == (A["close"][0], slightly["close"][0])
    same = found.provenance.filter(field="open").row(0, named=True)
    assert (same["value_a"], same["value_b"]) == (None, None)
    assert found.left_out.is_empty()


def test_of_two_sources_the_preferred_one_wins_and_of_three_the_majority() -> None:
    wrong = changed(A, 10, close=pl.col("close") * 1.1, high=pl.col("high") * 1.2)
    two = reconcile(together(a=wrong, b=B), universe("a", "b"))
    assert reason(two.provenance, 10, "close") == ("a", "preferred")
    assert two.bars["close"][10] == wrong["close"][10]
    three = reconcile(together(a=wrong, b=B, c=C), universe("a", "b", "c"))
    assert reason(three.provenance, 10, "close") == ("b", "majority of 3")
    assert three.bars["close"][10] == B["close"][10]
    assert reason(three.provenance, 11, "close") == ("a", "agrees")
    outlier = reconcile(together(a=A, b=B, c=changed(C, 10, close=1.5, low=1.0)), universe("a", "b", "c"))
    assert reason(outlier.provenance, 10, "close") == ("a", "majority of 3")


def test_three_sources_without_a_majority_leave_the_preferred_one() -> None:
    found = reconcile(
        together(
            a=A, b=changed(B, 5, volume=pl.col("volume") * 2), c=changed(C, 5, volume=pl.col("volume") * 4)
        ),
        universe("a", "b", "c"),
    )
    assert reason(found.provenance, 5, "volume") == ("a", "preferred")


def test_a_preference_for_one_field_holds_for_that_field_only() -> None:
    double = A.with_columns(pl.col("volume") * 2)
    config = universe("a", "b", reconciliation={"prefer": {"volume": ["b"]}})
    found = reconcile(together(a=double, b=B), config)
    assert_frame_equal(found.bars, B, check_exact=True)
    assert set(found.provenance.filter(field="volume").select("winner", "reason").rows()) == {
        ("b", "preferred")
    }
    assert set(found.provenance.filter(field="close")["winner"]) == {"a"}


def test_a_bar_that_violates_ohlc_gives_way_in_its_prices_but_not_its_volume() -> None:
    broken = changed(A, 7, high=pl.min_horizontal("open", "close") * 0.99, low=pl.col("low") * 0.5)
    found = reconcile(together(a=broken, b=changed(B, 7, volume=1.0)), universe("a", "b"))
    for name in PRICES:
        assert reason(found.provenance, 7, name) == ("b", "preferred source violates ohlc")
    assert reason(found.provenance, 7, "volume") == ("a", "preferred")
    assert found.bars.select(PRICES).row(7) == B.select(PRICES).row(7)
    both = reconcile(together(a=broken, b=broken), universe("a", "b"))
    assert reason(both.provenance, 7, "high") == ("a", "every source violates ohlc")
    other = reconcile(together(a=A, b=broken), universe("a", "b"))
    assert reason(other.provenance, 7, "high") == ("a", "other sources violate ohlc")


def test_winners_that_do_not_make_a_bar_together_come_from_one_source() -> None:
    # The close of b is above the high of a: no bar, although each source's own bar is one.
    higher = changed(B, 4, close=pl.col("high") + 5, high=pl.col("high") + 5)
    config = universe("a", "b", reconciliation={"prefer": {"close": ["b"]}})
    found = reconcile(together(a=A, b=higher), config)
    for name in PRICES:
        assert reason(found.provenance, 4, name) == ("b", MIXED_REASON)
    assert found.bars.select(PRICES).row(4) == higher.select(PRICES).row(4)


def test_a_session_that_one_source_lacks_is_filled_from_the_other() -> None:
    holes = A.filter(~pl.col("session").is_in(A["session"].gather([20, 21]).implode()))
    found = reconcile(together(a=holes, b=B), universe("a", "b"))
    assert found.bars.height == A.height
    assert reason(found.provenance, 20, "close") == ("b", "only source")
    assert_frame_equal(found.bars.drop("adj_close"), A.drop("adj_close"), check_exact=True)


def test_a_stale_tail_is_continued_from_the_other_source() -> None:
    found = reconcile(together(a=A.head(A.height - 3), b=B), universe("a", "b"))
    assert found.bars["session"].max() == A["session"].max()
    assert reason(found.provenance, A.height - 1, "close") == ("b", "only source")


def test_a_history_before_the_preferred_source_began_is_left_out_unless_asked_for() -> None:
    later = A.tail(100)
    found = reconcile(together(a=later, b=B), universe("a", "b"))
    assert found.bars["session"].min() == later["session"][0]
    assert found.left_out.rows() == [
        ("AAA", "b", A.height - 100, B["session"][0], B["session"][A.height - 101])
    ]
    config = universe("a", "b", reconciliation={"extend_history": True})
    extended = reconcile(together(a=later, b=B), config)
    assert extended.bars.height == A.height
    assert extended.left_out.is_empty()


def test_each_symbol_comes_from_whoever_has_it() -> None:
    only_b = feed("BBB", seed=2)
    found = reconcile(together(a=A, b=pl.concat([B, only_b])), universe("a", "b"))
    assert_frame_equal(found.bars, pl.concat([A, only_b]), check_exact=True)
    assert reason(found.provenance, 0, "adj_close", "BBB") == ("b", "one vintage")


def test_the_adjusted_close_has_one_vintage_per_symbol() -> None:
    # A later download: the same history times 0.97 for a dividend paid since.
    later_vintage = B.with_columns((pl.col("adj_close") * 0.97).round(6))
    found = reconcile(together(a=A, b=later_vintage), universe("a", "b"))
    assert found.bars["adj_close"].equals(A["adj_close"])
    preferred = universe("a", "b", reconciliation={"prefer": {"adj_close": ["b"]}})
    assert (
        reconcile(together(a=A, b=later_vintage), preferred)
        .bars["adj_close"]
        .equals(later_vintage["adj_close"])
    )
    without = A.with_columns(adj_close=pl.lit(None, dtype=pl.Float64))
    assert reconcile(together(a=without, b=B), universe("a", "b")).bars["adj_close"].equals(B["adj_close"])
    neither = reconcile(together(a=without, b=without), universe("a", "b"))
    assert neither.bars["adj_close"].null_count() == A.height
    assert neither.provenance.filter(field="adj_close").is_empty()


def test_the_source_whose_adjusted_close_spans_the_history_gives_the_vintage() -> None:
    config = universe("a", "b", reconciliation={"extend_history": True})
    found = reconcile(together(a=A.tail(50), b=B), config)
    assert set(found.provenance.filter(field="adj_close")["winner"]) == {"b"}
    assert found.bars["adj_close"].equals(B["adj_close"])


def test_replaced_closes_and_filled_sessions_make_no_corporate_action() -> None:
    # Row 30 is misprinted by the preferred source, rows 90 to 92 are missing there, row 200 violates OHLC.
    damaged = changed(A, 30, close=pl.col("close") * 1.3, high=pl.col("high") * 1.4)
    damaged = changed(damaged, 200, close=pl.col("high") * 1.05)
    damaged = damaged.filter(~pl.int_range(pl.len()).is_between(90, 92))
    plain = [frame.with_columns(adj_close=pl.lit(None, dtype=pl.Float64)) for frame in (B, C)]
    found = reconcile(together(a=damaged, b=plain[0], c=plain[1]), universe("a", "b", "c"))
    assert_frame_equal(found.bars.drop("adj_close"), A.drop("adj_close"), check_exact=True)
    assert derive_corporate_actions(found.bars).equals(derive_corporate_actions(A))
    assert derive_corporate_actions(A).height == 2
    carried = found.provenance.filter(field="adj_close").filter(pl.col("reason").str.contains("factor"))
    assert carried["session"].to_list() == A["session"].gather([30, 90, 91, 92, 200]).to_list()


def test_labels_that_the_universe_does_not_know_are_refused() -> None:
    with pytest.raises(BarContractError, match=r"source with labels among a, b; found a, z"):
        reconcile(together(a=A, z=B), universe("a", "b"))
    with pytest.raises(BarContractError, match="no such column"):
        reconcile(A, universe("a", "b"))


def test_the_order_of_rows_does_not_change_a_byte() -> None:
    raw = together(a=A, b=changed(B, slice(3, 60), close=pl.col("close") * 1.02), c=C)
    config = universe("a", "b", "c")
    one, other = reconcile(raw, config), reconcile(raw.sample(fraction=1, shuffle=True, seed=3), config)
    for name in ("bars", "provenance", "left_out", "reasons"):
        assert frame_digest(getattr(one, name)) == frame_digest(getattr(other, name)), name


def test_how_often_each_source_won_is_counted_per_field() -> None:
    found = reconcile(together(a=changed(A, 3, volume=1.0), b=B), universe("a", "b"))
    volume = found.reasons.filter(field="volume").rows()
    assert volume == [("volume", "a", "agrees", A.height - 1), ("volume", "a", "preferred", 1)]


@settings(max_examples=40, deadline=None)
@given(
    noise=st.lists(st.floats(0.5, 2.0), min_size=12, max_size=12),
    gone=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_every_value_is_one_sources_own_and_every_bar_is_possible(
    noise: list[float], gone: list[bool]
) -> None:
    days = feed(end=date(2022, 1, 6))
    sources = {}
    for number, label in enumerate(("a", "b", "c")):
        mine = slice(4 * number, 4 * number + 4)
        scaled = days.with_columns(
            pl.Series("close", [c * f for c, f in zip(days["close"], noise[mine], strict=True)]),
        ).with_columns(
            high=pl.max_horizontal("open", "close") + 0.25, low=pl.min_horizontal("open", "close") * 0.99
        )
        sources[label] = scaled.filter(~pl.Series(gone[mine]) | (label == "a"))
    raw = together(**sources)
    found = reconcile(raw, universe("a", "b", "c"))
    won = found.provenance.filter(pl.col("field").is_in(FIELDS)).join(
        raw.unpivot(
            FIELDS, index=["symbol", "session", "source"], variable_name="field", value_name="theirs"
        ),
        left_on=["symbol", "session", "field", "winner"],
        right_on=["symbol", "session", "field", "source"],
        how="left",
    )
    ours = found.bars.unpivot(FIELDS, index=["symbol", "session"], variable_name="field", value_name="ours")
    both = won.join(ours, on=["symbol", "session", "field"], validate="1:1")
    assert both.height == found.bars.height * len(FIELDS)
    assert (both["ours"] == both["theirs"]).all()
    impossible = found.bars.filter(
        (pl.col("high") * 1.0001 < pl.max_horizontal("open", "close"))
        | (pl.col("low") > pl.min_horizontal("open", "close") * 1.0001)
    )
    assert impossible.is_empty()
