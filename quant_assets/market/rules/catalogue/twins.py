"""Rules about names that are the same instrument: its bars count twice in every cross-section."""

import polars as pl

from quant_assets.market.parsing import PRICES
from quant_assets.market.rules.bar_rule import BarRule, Judged, Limit, register

TWIN_SESSIONS = Limit(
    "twin_sessions", 60, "bars in which two names have every price in common", at_least=20, whole=True
)


def _identical_symbols(judged: Judged) -> tuple[pl.DataFrame, int]:
    """Later names of pairs whose bars are the same on every session of either, and the ``twin`` of each."""
    limit = int(judged.limit(TWIN_SESSIONS))
    values = [pl.col(name) for name in (*PRICES, "volume")]
    # A name is known by the sum of the hashes of its bars: of 20,000 names two differ and agree once in 1e11 panels.
    told = judged.bars.select("symbol", "session", bar=pl.struct("session", *values).hash(seed=7))
    names = (
        told.group_by("symbol")
        .agg(
            session=pl.col("session").min(),
            observed=pl.len().cast(pl.Int64),
            same=pl.col("bar").sort().hash(seed=11).sum(),
        )
        .sort("symbol")
    )
    first = pl.col("symbol").first().over("same", "observed")
    twins = names.with_columns(twin=first, limit=pl.lit(limit)).filter(
        (pl.col("symbol") != pl.col("twin")) & (pl.col("observed") >= limit)
    )
    return twins.select("symbol", "session", "observed", "limit", "twin"), names.height


register(
    BarRule(
        name="identical_symbols",
        judged_on="panel",
        rank=94,
        severity="WARN",
        description="A name has the bars of another one throughout: one instrument under two names (observed: bars).",
        measure=_identical_symbols,
        evidence="all of its {observed} bars are those of {twin}: leave one out under `exclude:`",
        limits=(TWIN_SESSIONS,),
        may_be=("WARN", "ERROR"),
        acceptable=True,
    )
)
