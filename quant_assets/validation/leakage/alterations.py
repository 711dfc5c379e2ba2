"""Changes that an experiment makes, and the comparison of what came out before and after."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from quant_assets.features.causality import SCALES

PRICES = ("open", "high", "low", "close")
FUTURE_SEED = 20


def with_altered_future(bars: pl.DataFrame, cut: date) -> pl.DataFrame:
    """Bars after ``cut`` drawn anew around their own: other levels, other candles, other volumes.

    Every price of every bar has a factor of its own. One factor for a whole bar would leave its open over its close
    as it was, and factors that repeat would leave returns over their period as they were.
    """
    rng = np.random.default_rng(FUTURE_SEED)
    draw = {name: pl.Series(rng.lognormal(0.0, 0.3, bars.height)) for name in ("open", "close", "volume")}
    reach = {name: pl.Series(rng.uniform(0.0, 0.1, bars.height)) for name in ("high", "low")}
    opened, closed = pl.col("open") * draw["open"], pl.col("close") * draw["close"]
    other = {
        "open": opened,
        "high": pl.max_horizontal(opened, closed) * (1.0 + reach["high"]),
        "low": pl.min_horizontal(opened, closed) * (1.0 - reach["low"]),
        "close": closed,
        "volume": pl.col("volume") * draw["volume"] + 1.0,
    }
    later = pl.col("session") > cut
    return bars.with_columns(
        pl.when(later).then(altered).otherwise(pl.col(name)).alias(name) for name, altered in other.items()
    )


def rescaled(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars as a later split would leave them: each symbol's prices times a power of two, volumes over it."""
    rank = pl.col("symbol").rank("dense").cast(pl.Int64)
    scale = pl.lit(pl.Series(SCALES)).gather(rank % len(SCALES))
    return bars.with_columns(*(pl.col(p) * scale for p in PRICES), volume=pl.col("volume") / scale)


def spliced(before: pl.DataFrame, after: pl.DataFrame, settled: pl.Expr) -> pl.DataFrame:
    """Rows of ``before`` that are settled, rows of ``after`` that are not: the next stage's clean input."""
    return pl.concat([before.filter(settled), after.filter(~settled)]).sort("session", "symbol")


@dataclass(frozen=True)
class Difference:
    """How two frames differ over the rows that they must share.

    Attributes
    ----------
    checked, violations : int
        Values compared and values that differ; a row that only one frame has differs in all its values.
    columns : tuple of str
        Those with a difference, with their first row.
    """

    checked: int
    violations: int
    columns: tuple[str, ...]


def difference(
    before: pl.DataFrame,
    after: pl.DataFrame,
    columns: Sequence[str],
    keys: Sequence[str] = ("symbol", "session"),
) -> Difference:
    """Compare columns of two frames row by row, bit by bit; null equals null, NaN equals NaN."""
    one, other = before.select(*keys, *columns), after.select(*keys, *columns)
    lonely = pl.Series([], dtype=pl.Boolean)
    if not one.select(keys).equals(other.select(keys)):  # the join costs ten times the comparison
        pairs = one.with_columns(_one=True).join(
            other.with_columns(_other=True), on=list(keys), how="full", suffix="|", coalesce=True
        )
        lonely = pairs["_one"].is_null() | pairs["_other"].is_null()
        one = pairs.select(*keys, *columns)
        other = pairs.select(*keys, *(pl.col(f"{name}|").alias(name) for name in columns))
    found, violations = [], 0
    for name in columns:
        differs = one[name].ne_missing(other[name])
        if len(lonely):
            differs = differs | lonely
        count = int(differs.sum())
        if count:
            first = one.filter(differs).sort(*reversed(keys)).row(0, named=True)
            found.append(f"{name} ({', '.join(str(first[k]) for k in keys)})")
            violations += count
    return Difference(one.height * len(columns), violations, tuple(found))
