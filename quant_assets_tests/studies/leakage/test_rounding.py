"""What a desk's function rounds in another place is no leak; what moves is one."""

from datetime import date

import polars as pl

from quant_assets.studies.leakage.future import difference, label_values
from quant_assets.studies.leakage.rounding import without_rounding

BEFORE = pl.DataFrame(
    {
        "symbol": ["A", "B", "C"],
        "session": [date(2024, 1, 2)] * 3,
        "x": [1.0, 2.0, None],
        "y": [1.0, 2.0, 3.0],
    }
)


def test_a_difference_of_a_millionth_of_a_deviation_is_rounding_in_the_named_columns_only():
    after = BEFORE.with_columns(pl.col("x", "y") * (1.0 + 1e-8))
    kept = without_rounding(BEFORE, after, ["x"])
    assert difference(BEFORE, kept, ["x"]).violations == 0
    assert difference(BEFORE, kept, ["y"]).violations == 3


def test_a_real_move_or_a_value_that_appears_stays():
    moved = BEFORE.with_columns(x=pl.Series([1.0, 2.0001, 3.0]))
    assert difference(BEFORE, without_rounding(BEFORE, moved, ["x"]), ["x"]).violations == 2


def test_labels_without_a_target_of_their_own_are_compared_without_one():
    assert label_values(pl.DataFrame(schema=["t0", "t1", "known_at", "forward_return"])) == [
        "t0",
        "t1",
        "known_at",
        "forward_return",
    ]
    assert label_values(pl.DataFrame(schema=["t0", "target"])) == ["t0", "target"]
