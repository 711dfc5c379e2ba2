"""The code location: configuration in, definitions out. Wiring only."""

import dagster as dg

from quant_assets.defs import (
    artifacts,
    automation,
    calibration,
    datasets,
    features,
    importance,
    inference,
    market,
    models,
    monitoring,
    registry,
    tuning,
    validation,
)
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import ArtifactIOManager
from quant_assets.lineage.settings import Settings, load_settings

# Production steps fork from a server that has the heavy libraries loaded: 1 to 3 s a step instead of 5 to 7.
EXECUTOR = dg.multiprocess_executor.configured(
    {"max_concurrent": 2, "start_method": {"forkserver": {"preload_modules": ["quant_assets.defs.preload"]}}},
    name="forkserver",
)


def build_definitions(settings: Settings, home: Home | None = None) -> dg.Definitions:
    """Every asset, check, sensor and job that a configuration describes."""
    universes = {s.universe: settings.universes[s.universe] for s in settings.strategies.values()}
    objects: list[dg.AssetsDefinition | dg.AssetChecksDefinition] = []
    for universe in universes.values():
        objects += market.build(universe)
        objects += features.build(universe, features.packs_used(settings, universe.name))
    for strategy in settings.strategies.values():
        universe = universes[strategy.universe]
        objects += datasets.build(strategy, universe)
        objects += tuning.build(strategy, universe)
        objects += models.build(strategy)
        objects += validation.build(strategy, universe, settings.gates)
        objects += importance.build(strategy)
        objects += artifacts.build(strategy, settings.gates)
        objects += inference.build(strategy, settings.gates)
        objects += registry.build(strategy, universe, settings.gates, settings.monitoring)
        objects += monitoring.build(strategy, universe, settings.monitoring)
    objects += calibration.build(settings.gates)
    sensors, jobs = automation.build(settings)
    home = home or Home()
    return dg.Definitions(
        assets=[o for o in objects if not isinstance(o, dg.AssetChecksDefinition)],
        asset_checks=[o for o in objects if isinstance(o, dg.AssetChecksDefinition)],
        sensors=sensors,
        jobs=jobs,
        resources={"home": home, "artifacts": ArtifactIOManager(home=home)},
        executor=EXECUTOR,
    )


defs = build_definitions(load_settings())
