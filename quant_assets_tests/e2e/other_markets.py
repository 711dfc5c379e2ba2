"""Small seeded markets of other calendars, and futures as contracts in a file."""

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from quant_assets.common.home import Home
from quant_assets.common.roll_settings import RollsConfig
from quant_assets.common.settings import (
    AssetClass,
    CostConfig,
    LightGBMConfig,
    ModelsConfig,
    ParquetSource,
    StrategyConfig,
    SyntheticSource,
    UniverseConfig,
    ValidationConfig,
)
from quant_assets.lineage.notebook import Run, run
from quant_assets.lineage.pipeline import settings_of
from quant_assets.market.calendar import sessions
from quant_assets.market.synthetic import generate

ROOTS = ("CL", "ES", "GC", "ZN")
QUARTERS = {3: "H", 6: "M", 9: "U", 12: "Z"}
CARRY = 0.02  # each contract lies 2 % above the one before it
SWITCH = 8  # sessions before its last in which a contract is traded less than the next

STRATEGY = StrategyConfig(
    name="small",
    universe="small",
    models=ModelsConfig(lightgbm=LightGBMConfig(n_estimators=10), xgboost=None),
    validation=ValidationConfig(n_groups=4, n_test_groups=2),
    costs=CostConfig(commission_bps=1.0),
)


def spot_market(calendar: str, asset_class: AssetClass, start: date, end: date, n: int = 4) -> UniverseConfig:
    """A synthetic market whose sessions are those of a calendar."""
    return UniverseConfig(
        name="small",
        source=SyntheticSource(kind="synthetic", seed=11, n_symbols=n),
        asset_class=asset_class,
        calendar=calendar,
        start=start,
        end=end,
    )


def contracts(start: date, end: date) -> pl.DataFrame:
    """Bars of quarterly contracts of four roots: one price of each root, times the carry of the contract.

    A contract has bars for 120 sessions up to its last trade, the third Friday or what session comes before it.
    """
    whole = generate(SyntheticSource(kind="synthetic", seed=5, n_symbols=len(ROOTS)), "CMES", start, end)
    days = sessions("CMES", start, end).to_list()
    frames = []
    number = 0
    for year in range(start.year, end.year + 1):
        for month, code in QUARTERS.items():
            first = date(year, month, 1)
            friday = date(year, month, 15 + (4 - first.replace(day=15).weekday()) % 7)
            own = [day for day in days if day <= friday][-120:]
            number += 1
            if not own or friday < start or friday > end:
                continue
            share = np.where(np.arange(len(own)) < len(own) - SWITCH, 1.0, 0.2)
            share = np.where(np.arange(len(own)) < len(own) - SWITCH - 63, 0.1, share)
            life = pl.DataFrame({"session": own, "share": share})
            for root, name in zip(ROOTS, sorted(whole["symbol"].unique()), strict=True):
                bars = whole.filter(pl.col("symbol") == name).join(life, on="session")
                frames.append(
                    bars.with_columns(
                        *(
                            pl.col(price) * (1.0 + CARRY) ** number
                            for price in ("open", "high", "low", "close")
                        ),
                        symbol=pl.lit(f"{root}{code}{year}"),
                        volume=(pl.col("volume") * pl.col("share")).round(),
                    ).select("symbol", "session", "open", "high", "low", "close", "volume")
                )
    return pl.concat(frames).sort("symbol", "session")


def futures_market(folder: Path, start: date, end: date) -> UniverseConfig:
    """The contracts as a file, and the universe that rolls them."""
    contracts(start, end).write_parquet(folder / "contracts.parquet")
    return UniverseConfig(
        name="small",
        source=ParquetSource(kind="parquet", path=str(folder / "contracts.parquet")),
        asset_class="future",
        calendar="CMES",
        start=start,
        end=end,
        rolls=RollsConfig(),
        multipliers={"ES": 50.0},
    )


def judged(universe: UniverseConfig, folder: Path, upto: str = "validation_report") -> Run:
    """The strategy on this universe, checks included."""
    return run(
        "small", settings_of(universe, STRATEGY), upto, home=Home(str(folder / "home")), n_jobs=1, checks=True
    )
