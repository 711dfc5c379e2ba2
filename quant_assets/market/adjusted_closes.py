"""The adjusted close of a reconciled panel: one source's vintage per symbol, on the closes that won."""

from collections.abc import Sequence

import polars as pl

# A vendor writes at most this many decimals; see `quant_assets.market.actions`, which reads steps of the ratio
# adj_close / close against the rounding that these decimals imply.
MAX_DECIMALS = 8
# A source whose close was overruled for longer than a week is on another share basis, not misprinted: its own
# adj_close then stands.
CARRIED_SESSIONS = 5

AS_GIVEN = "one vintage"
CARRIED = "one vintage: factor of the session before, on the winning close"


def attach_adj_close(wide: pl.DataFrame, order: Sequence[str], *, tolerance: float) -> pl.DataFrame:
    """Append ``adj_close``, ``adj_close>winner`` and ``adj_close>reason``.

    Parameters
    ----------
    wide : polars.DataFrame
        Sorted by symbol and session, with ``close``, ``close|label`` and ``adj_close|label``.
    order : sequence of str
        Labels in order of preference for this field.
    tolerance : float
        Fraction within which a source's close agrees with the winning one.

    Notes
    -----
    For each symbol the first source that has an adjusted close from the first to the last session is taken, else
    the first that has any. Its value stands as given, except where its close is missing, or was overruled for at
    most `CARRIED_SESSIONS` sessions: there the factor adj_close / close of the nearest earlier agreeing session
    (the nearest later one before the first) multiplies the winning close, rounded as the source rounds. Without
    that, each such session would look like a distribution and its reversal.
    """
    chosen = _chosen_source(wide, order)
    wide = wide.join(chosen, on="symbol", how="left", maintain_order="left")

    def of_source(field: str) -> pl.Expr:
        return pl.coalesce(
            pl.when(pl.col("adj_close>winner") == label).then(f"{field}|{label}") for label in order
        )

    wide = wide.with_columns(own=of_source("adj_close"), own_close=of_source("close"))
    agrees = ((pl.col("own_close") - pl.col("close")).abs() <= tolerance * pl.col("close")) & pl.col(
        "own"
    ).is_not_null()
    wide = wide.with_columns(
        agrees=agrees.fill_null(value=False),
        factor=pl.when(agrees).then(pl.col("own") / pl.col("own_close")),
        places=_decimals(pl.col("own")).over("symbol"),
    )
    near_factor = pl.col("factor").forward_fill(limit=CARRIED_SESSIONS).over("symbol")
    any_factor = pl.coalesce(
        pl.col("factor").forward_fill().over("symbol"), pl.col("factor").backward_fill().over("symbol")
    )
    missing = pl.col("own").is_null()
    exact = ~missing & (pl.col("own_close") == pl.col("close"))
    factor = pl.when(missing).then(any_factor).when(pl.col("agrees")).then("factor").otherwise(near_factor)
    wide = wide.with_columns(scale=pl.when(~exact).then(factor))
    scaled = pl.coalesce(
        pl.when(pl.col("places") == n).then((pl.col("close") * pl.col("scale")).round(n))
        for n in range(MAX_DECIMALS + 1)
    )
    wide = wide.with_columns(
        pl.coalesce(scaled, "own").alias("adj_close"),
        pl.col("scale").is_null().alias("as_given"),
    )
    winner = pl.when(pl.col("adj_close").is_not_null()).then("adj_close>winner")
    reason = pl.when("as_given").then(pl.lit(AS_GIVEN)).otherwise(pl.lit(CARRIED))
    return wide.with_columns(
        winner.alias("adj_close>winner"),
        pl.when(winner.is_not_null()).then(reason).alias("adj_close>reason"),
    ).drop("own", "own_close", "agrees", "factor", "places", "scale", "as_given")


def _chosen_source(wide: pl.DataFrame, order: Sequence[str]) -> pl.DataFrame:
    """``symbol`` and ``adj_close>winner`` (null where no source has an adjusted close)."""
    has = {label: pl.col(f"adj_close|{label}").is_not_null() for label in order}
    by_symbol = wide.group_by("symbol").agg(
        *(held.any().alias(f"any|{label}") for label, held in has.items()),
        *((held.first() & held.last()).alias(f"all|{label}") for label, held in has.items()),
    )
    chosen = pl.coalesce(
        *(pl.when(f"all|{label}").then(pl.lit(label)) for label in order),
        *(pl.when(f"any|{label}").then(pl.lit(label)) for label in order),
    )
    return by_symbol.select("symbol", chosen.alias("adj_close>winner"))


def _decimals(values: pl.Expr) -> pl.Expr:
    """The fewest decimals that write every value."""
    exact = [((values.round(n) - values).abs() <= 1e-9 * values).all() for n in range(MAX_DECIMALS)]
    return pl.coalesce(*(pl.when(fits).then(pl.lit(n)) for n, fits in enumerate(exact)), pl.lit(MAX_DECIMALS))
