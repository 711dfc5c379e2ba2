"""Raw bars made ready for the row rules: adjusted, in order, with their neighbours and what is usual for them."""

import polars as pl

from quant_assets.market.actions import with_factors

PRICES = ("open", "high", "low", "close")
USUAL_SESSIONS = 21  # one month: what "usual" means for moves, ranges and volumes
FEWEST_FOR_USUAL = 10

FOUND: dict[str, pl.DataType | type[pl.DataType]] = {
    "row": pl.Int64,
    "observed": pl.Float64,
    "limit": pl.Float64,
    "evidence": pl.String,
}


def prepared(bars: pl.DataFrame, actions: pl.DataFrame) -> pl.DataFrame:
    """Bars by symbol and session with ``row``, ``written.*`` (as in the source) and adjusted prices and volume.

    ``before`` and ``after`` are the neighbouring closes, ``usual_move`` the median absolute logarithmic move of
    the month before. What is not finite is null here: other rules judge it.
    """
    values = (*PRICES, "volume")
    numbers = (pl.col(name).cast(pl.Float64) for name in values)
    typed = bars.select(
        pl.int_range(pl.len()).cast(pl.Int64).alias("row"),
        "symbol",
        "session",
        *(pl.when(number.is_finite()).then(number) for number in numbers),
    )
    close = pl.col("close")
    move = (close / close.shift()).log().abs()
    return (
        with_factors(typed, actions)
        .with_columns(pl.col(name).alias(f"written.{name}") for name in values)
        .with_columns(*(pl.col(name) * pl.col("price_factor") for name in PRICES))
        .with_columns(pl.col("volume") * pl.col("volume_factor"))
        .sort("symbol", "session", "row")
        .with_columns(
            before=close.shift().over("symbol"),
            after=close.shift(-1).over("symbol"),
            usual_move=move.rolling_median(USUAL_SESSIONS, min_samples=FEWEST_FOR_USUAL)
            .shift()
            .over("symbol"),
        )
    )


def found(rows: pl.DataFrame, observed: pl.Expr, limit: pl.Expr | float, evidence: pl.Expr) -> pl.DataFrame:
    """What a measure returns: the rows' positions with what was observed, the limit and the sentence."""
    if rows.is_empty():
        return pl.DataFrame(schema=FOUND)
    bound = limit if isinstance(limit, pl.Expr) else pl.lit(limit)
    return rows.select(
        "row",
        observed=observed.cast(pl.Float64),
        limit=bound.cast(pl.Float64),
        evidence=evidence,
    )
