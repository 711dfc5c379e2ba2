"""Differences that are none: what a desk's own function rounds in another place."""

from collections.abc import Sequence

import polars as pl

from quant_assets.features.causality import HISTORY_TOLERANCE


def without_rounding(before: pl.DataFrame, after: pl.DataFrame, columns: Sequence[str]) -> pl.DataFrame:
    """The second frame with the values of the first in these columns, where they differ by rounding alone.

    A desk's own function may take a logarithm, whose last bits depend on the scale of prices. What moves by at most
    `HISTORY_TOLERANCE` of the column's standard deviation is rounding, as in the proof of causality.
    """
    keys = ["symbol", "session"]
    if not columns or not before.select(keys).equals(after.select(keys)):
        return after
    kept = []
    for name in columns:
        one, other = before[name].cast(pl.Float64), after[name].cast(pl.Float64)
        spread = one.std()
        scale = spread if isinstance(spread, float) and spread > 0.0 else 1.0
        rounding = ((one - other).abs() <= HISTORY_TOLERANCE * scale).fill_null(value=False)
        kept.append(before[name].zip_with(rounding, after[name]))
    return after.with_columns(kept)
