"""Everything that ``configs/`` says, read and held against what exists, and what runs by itself in an environment."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from quant_assets.common.config_model import Config
from quant_assets.common.configuration import ConfigT, config_dir, home_dir, parse, read_yaml
from quant_assets.common.errors import CalendarError, ConfigurationError, FeatureError, closest
from quant_assets.common.settings import RetrainingConfig, StrategyConfig, UniverseConfig
from quant_assets.features.pack import selected_packs
from quant_assets.gates.limits import DriftConfig, GatesConfig, GatesFile, MinimaConfig, Shortfall
from quant_assets.market.calendar import sessions
from quant_assets.market.rules import with_limits

# Asset keys and jobs that the platform has itself.
_RESERVED = re.compile(r"^(gates|gate_calibration|desk_report|platform)$|_raw_bars$")


class MonitoringConfig(Config):
    """What monitoring does about what it finds. The limits that it judges by are in ``gates.yaml``."""

    retraining: RetrainingConfig = RetrainingConfig()


class Settings(Config):
    """Everything that ``configs/`` says."""

    universes: dict[str, UniverseConfig]
    strategies: dict[str, StrategyConfig]
    gates: GatesConfig
    drift: DriftConfig
    monitoring: MonitoringConfig
    minima: MinimaConfig = Field(default_factory=MinimaConfig)

    def universe_of(self, strategy: StrategyConfig) -> UniverseConfig:
        """The universe that a strategy trades."""
        return self.universes[strategy.universe]


def _read_folder(folders: list[Path], model: type[ConfigT]) -> dict[str, ConfigT]:
    found: dict[str, ConfigT] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.yaml")):
            if file.stem in found:
                raise ConfigurationError(
                    str(file),
                    expected="one file per name",
                    found=f"{file.stem!r} is defined in another configuration folder too",
                    action="rename or delete one of the two",
                )
            content = {"name": file.stem, **read_yaml(file)}
            if content["name"] != file.stem or _RESERVED.search(file.stem):
                raise ConfigurationError(
                    f"{file}, key 'name'",
                    expected="the name of the file, and none of the platform's own (gates, platform, ..._raw_bars)",
                    found=repr(file.stem) if content["name"] == file.stem else "another name",
                    action="leave the key out, and name the file as the thing is called",
                )
            found[file.stem] = parse(model, content, file)
    return found


def _read_monitoring(file: Path) -> MonitoringConfig:
    said = read_yaml(file)
    if "drift" in said:
        raise ConfigurationError(
            f"{file}, key 'drift'",
            expected="the limits of drift in gates.yaml, where no environment variable can change a limit",
            found="such a section",
            action=f"move the section 'drift' as it is to {file.with_name('gates.yaml')}",
        )
    return parse(MonitoringConfig, said, file)


MINIMUM = "what the minima of gates.yaml ask for"
RAISE = "correct it: no verdict could ever stand on it; a minimum changes for everyone, in a reviewed commit"
REVIEW = "tighten it: this bound is the platform's own"


def _require_strict(file: Path, found: Sequence[Shortfall], expected: str, action: str) -> None:
    """Refuse a file that says something looser than it may.

    Raises
    ------
    ConfigurationError
        Naming the first key.
    """
    if found:
        first, more = found[0], f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ConfigurationError(
            f"{file}, key {first.key!r}",
            expected=f"{expected}, {first.expected}",
            found=f"{first.found}{more}",
            action=action,
        )


def load_settings(folder: Path | None = None, home: Path | None = None) -> Settings:
    """Read every configuration file.

    Parameters
    ----------
    folder : Path, optional
        The configuration folder; `config_dir` when not given.
    home : Path, optional
        Its ``configs/`` adds universes and strategies that ``quant-assets run --universe-file`` wrote.

    Raises
    ------
    ConfigurationError
        With one message that names file, key, value and what to do.
    """
    folder = config_dir() if folder is None else folder
    home = home_dir() if home is None else home
    roots = [folder, home / "configs"]
    universes = _read_folder([r / "universes" for r in roots], UniverseConfig)
    for name, universe in universes.items():
        file = next(f for r in roots if (f := r / "universes" / f"{name}.yaml").exists())
        universes[name] = with_limits(universe, where=str(file))
    strategies = _read_folder([r / "strategies" for r in roots], StrategyConfig)
    # The limits never depend on the environment: a ${...} there stays text and is refused as not a number.
    limits = parse(GatesFile, read_yaml(folder / "gates.yaml", environment=False), folder / "gates.yaml")
    _require_strict(
        folder / "gates.yaml", limits.loosened(), "a limit no looser than any file may set", REVIEW
    )
    gates, drift = limits.without_drift(), limits.drift
    for name, universe in universes.items():
        file = next(f for r in roots if (f := r / "universes" / f"{name}.yaml").exists())
        _require_strict(file, limits.minima.of_universe(universe), MINIMUM, RAISE)
    monitoring = _read_monitoring(folder / "monitoring.yaml")
    for strategy in strategies.values():
        file = next(f for r in roots if (f := r / "strategies" / f"{strategy.name}.yaml").exists())
        if strategy.universe not in universes:
            raise ConfigurationError(
                f"{file}, key 'universe'",
                expected=f"one of {', '.join(universes) or 'the universes (none is configured)'}",
                found=repr(strategy.universe),
                action=closest(strategy.universe, universes) or "add the universe's file",
            )
        if strategy.name in universes:
            raise ConfigurationError(
                str(file),
                expected="a name that no universe has: both are the first part of asset keys",
                found=repr(strategy.name),
                action="rename one of the two",
            )
        _require_strict(
            file, limits.minima.of_strategy(strategy, universes[strategy.universe]), MINIMUM, RAISE
        )
        window = drift.window_sessions
        if strategy.holdout_sessions < window:
            raise ConfigurationError(
                f"{file}, key 'holdout_sessions'",
                expected=f"at least the {window} of drift.window_sessions: drift is judged on the holdout",
                found=str(strategy.holdout_sessions),
                action="hold out more sessions, or shorten the drift window",
            )
        try:
            selected_packs(strategy.feature_packs)
        except FeatureError as error:
            raise ConfigurationError(
                f"{file}, key 'feature_packs'",
                expected=f"{error.expected} ({error.what}: {error.found}; {error.action})",
                found=repr(list(strategy.feature_packs)),
                action="correct the value",
            ) from error
        try:
            gates.for_strategy(strategy.gates)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{file}, {error.what}", expected=error.expected, found=error.found, action=error.action
            ) from error
    return Settings(
        universes=universes,
        strategies=strategies,
        gates=gates,
        drift=drift,
        monitoring=monitoring,
        minima=limits.minima,
    )


def require_calendars(settings: Settings) -> None:
    """Every universe's calendar is one that exists, and has sessions between its dates.

    Raises
    ------
    ConfigurationError
        Naming the universe. Apart from `load_settings` because the calendars take a second to import.
    """
    for name, universe in settings.universes.items():
        try:
            n_sessions = sessions(universe.calendar, universe.start, universe.end).len()
        except CalendarError as error:
            raise ConfigurationError(
                f"universe {name}, {error.what}",
                expected=error.expected,
                found=error.found,
                action=error.action,
            ) from error
        if not n_sessions:
            raise ConfigurationError(
                f"universe {name}, keys 'start' and 'end'",
                expected=f"sessions of {universe.calendar} between them",
                found="none",
                action="correct the dates",
            )


# ------------------------------------------------------------------------------------- what an environment runs

# Which sensors of `quant_assets.defs.sensors` run by themselves, by QUANT_ASSETS_ENV. An environment that is not
# named runs none.
RUNNING: Mapping[str, frozenset[str]] = {
    "development": frozenset(),
    "staging": frozenset({"new_bars", "reconcile", "automation", "champion_agreement"}),
    "production": frozenset(
        {"new_bars", "reconcile", "automation", "champion_agreement", "drift_retraining"}
    ),
}


def running_sensors() -> frozenset[str]:
    """Names of the sensors that start running in the declared environment.

    Raises
    ------
    ConfigurationError
        When ``$QUANT_ASSETS_ENV`` names an environment that the table does not know.
    """
    environment = os.environ.get("QUANT_ASSETS_ENV", "development")
    if environment not in RUNNING:
        near = closest(environment, RUNNING)
        raise ConfigurationError(
            "environment variable QUANT_ASSETS_ENV",
            expected=f"one of {', '.join(RUNNING)}",
            found=repr(environment),
            action=f"{near or 'correct it.'} Otherwise declare it in quant_assets/lineage/configured.py",
        )
    return RUNNING[environment]
