"""Features of this desk. A strategy names them: `feature_packs: [technical_v1, my_desk.features:momentum_v1]`."""

import polars as pl
from quant_assets.features import expression_pack

# Each expression is over one symbol's bars in the order of sessions. A name that begins with "_" is only an input.
# Ratios, never levels: a later split rescales every earlier price.
_RETURN = pl.col("close").pct_change()

momentum_v1 = expression_pack(
    "momentum_v1",
    {
        "momentum_5": pl.col("close") / pl.col("close").shift(5) - 1,
        "momentum_60": pl.col("close").shift(5) / pl.col("close").shift(60) - 1,
        "volatility_20": _RETURN.rolling_std(20),
        "range_10": ((pl.col("high") - pl.col("low")) / pl.col("close")).rolling_mean(10),
        "turnover_20": pl.col("volume") / pl.col("volume").rolling_mean(20) - 1,
    },
    description="Momentum of a week and of a quarter, volatility, range and turnover.",
)
