"""Adopting a file of bars: the universe and strategy files that make it part of the lineage."""

import re
from pathlib import Path

import yaml

from quant_assets.common.settings import StrategyConfig
from quant_assets.market.sources.sources import describe_file


def adopt_file(file: Path, folder: Path, *, like: StrategyConfig) -> str:
    """Write a universe of everything in a bar file, and a strategy on it with another strategy's settings.

    Parameters
    ----------
    file : Path
        Parquet or CSV file of daily bars; its columns may have the usual names.
    folder : Path
        Where ``universes/NAME.yaml`` and ``strategies/NAME_daily.yaml`` go. Files already there for the same
        data are written again with the same content.
    like : StrategyConfig
        Whose settings the new strategy takes.

    Returns
    -------
    str
        Name of the strategy.

    Raises
    ------
    SourceError, BarContractError
        When the file cannot be read or breaks the row contract; nothing is written then.
    """
    file = file.resolve()
    summary = describe_file(file)
    universe = re.sub(r"[^a-z0-9]+", "_", file.name.split(".")[0].lower()).strip("_")[:50]
    universe = universe if universe[:1].isalpha() else f"u_{universe}"
    strategy = f"{universe}_daily" if not universe.endswith("_daily") else f"{universe}_strategy"
    universe_settings = {
        "description": f"{len(summary.symbols)} symbols of {file.name}, adopted from the file.",
        "source": {"kind": "parquet" if file.suffix == ".parquet" else "csv", "path": str(file)},
        "calendar": "XNYS",
        "start": summary.start,
        "end": summary.end,
    }
    strategy_settings = like.model_dump(mode="json", exclude={"name", "universe", "description"})
    strategy_settings = {
        "description": f"The settings of {like.name} on {file.name}.",
        "universe": universe,
        **strategy_settings,
    }
    for kind, name, settings in (
        ("universes", universe, universe_settings),
        ("strategies", strategy, strategy_settings),
    ):
        target = folder / kind / f"{name}.yaml"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    return strategy
