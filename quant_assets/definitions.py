"""The code location: configuration in, definitions out. Wiring only."""

import re

import dagster as dg

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.logging import get_logger
from quant_assets.common.provenance import save_memory
from quant_assets.defs.assets import asset_of
from quant_assets.defs.checks import checks_of
from quant_assets.defs.sensors import jobs_of, sensors_of
from quant_assets.defs.storage import ArtifactIOManager, Home
from quant_assets.lineage.configured import Settings, load_settings
from quant_assets.lineage.graph import Lineage

# Production steps fork from a server that has the heavy libraries loaded: 1 to 3 s a step instead of 5 to 7.
HEAVY = ["lightgbm", "numba", "polars", "sklearn", "xgboost"]
EXECUTOR = dg.multiprocess_executor.configured(
    {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": HEAVY}}},
    name="forkserver",
)
_log = get_logger("quant_assets.configuration")


def build_definitions(settings: Settings, home: Home | None = None) -> dg.Definitions:
    """Every asset, check, sensor and job of the lineage that a configuration describes."""
    lineage = Lineage(settings)
    nodes = lineage.nodes.values()
    jobs, raw_jobs = jobs_of(lineage)
    place = home or Home()
    definitions = dg.Definitions(
        assets=[*(asset_of(node, lineage) for node in nodes), *left_out_of(settings)],
        asset_checks=[check for node in nodes for check in checks_of(node, lineage)],
        sensors=sensors_of(lineage, raw_jobs),
        jobs=[*jobs, *raw_jobs],
        resources={"home": place, "artifacts": ArtifactIOManager(home=place)},
        executor=EXECUTOR,
    )
    save_memory()
    return definitions


def left_out_of(settings: Settings) -> list[dg.AssetSpec]:
    """What the configuration describes and cannot be had, for people: a group of its own, each with its error."""
    found = []
    for number, problem in enumerate(settings.left_out):
        name = re.sub(r"[^A-Za-z0-9_]", "_", problem.name)
        key = dg.AssetKey(["left_out", f"{number}_{problem.kind}_{name}"])
        found.append(dg.AssetSpec(key, group_name="left_out", description=str(problem.error)))
        _log.warning("left out", kind=problem.kind, name=problem.name, error=str(problem.error))
    return found


def require_loadable(settings: Settings) -> None:
    """What a configuration describes can be built: names, owners, tags and jobs that Dagster takes.

    Raises
    ------
    ConfigurationError
        With Dagster's own first line.
    """
    try:
        dg.Definitions.validate_loadable(build_definitions(settings))
    except dg.DagsterError as error:
        raise ConfigurationError(
            "configuration",
            expected="a lineage that Dagster loads",
            found=str(error).splitlines()[0],
            action="rename or correct what it names",
        ) from error


defs = build_definitions(load_settings())
