"""Everything that ``configs/`` says, read and held against what exists, and what runs by itself in an environment."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, ValidationInfo, field_validator

from quant_assets.common.config_model import Config
from quant_assets.common.configuration import ConfigT, parse, read_yaml
from quant_assets.common.errors import (
    CalendarError,
    ConfigurationError,
    FeatureError,
    QuantAssetsError,
    closest,
)
from quant_assets.common.places import config_dir, home_dir
from quant_assets.common.settings import RetrainingConfig, StrategyConfig, UniverseConfig
from quant_assets.datasets.custom_labels import label_function
from quant_assets.features.pack import pack_name, selected_packs
from quant_assets.gates.limits import DriftConfig, GatesConfig, GatesFile, MinimaConfig, Shortfall
from quant_assets.lineage.desk_code import require_plugins, require_sources
from quant_assets.market.calendar import sessions
from quant_assets.market.rules import with_limits

# Asset keys and jobs that the platform has itself.
_RESERVED = re.compile(r"^(gates|gate_calibration|desk_report|platform|left_out)$|_raw_bars$")


def is_reserved(name: str) -> bool:
    """Whether a universe or strategy may not have this name, because the platform has it itself."""
    return bool(_RESERVED.search(name))


class MonitoringConfig(Config):
    """What monitoring does about what it finds. The limits that it judges by are in ``gates.yaml``."""

    retraining: RetrainingConfig = RetrainingConfig()


class LeftOut(Config):
    """A universe or strategy whose file is no use, and why: nothing that uses it is there, everything else is."""

    kind: str
    name: str
    what: str
    expected: str
    found: str
    action: str

    @property
    def error(self) -> ConfigurationError:
        """What a command that asks for it ends with."""
        return ConfigurationError(self.what, expected=self.expected, found=self.found, action=self.action)


class Settings(Config):
    """Everything that ``configs/`` says.

    ``left_out`` are the universes and strategies whose files say something that cannot be: they are in neither of the
    two mappings.
    """

    universes: dict[str, UniverseConfig]
    strategies: dict[str, StrategyConfig]
    gates: GatesConfig
    drift: DriftConfig
    monitoring: MonitoringConfig
    minima: MinimaConfig = Field(default_factory=MinimaConfig)
    left_out: tuple[LeftOut, ...] = ()

    @field_validator("strategies")
    @classmethod
    def _sectors_of_the_universe(
        cls, strategies: dict[str, StrategyConfig], info: ValidationInfo
    ) -> dict[str, StrategyConfig]:
        """Whoever is weighed by sectors has those of his universe, unless he says others."""
        universes = info.data.get("universes", {})
        for name, strategy in strategies.items():
            held, universe = strategy.portfolio, universes.get(strategy.universe)
            if universe is not None and held.reads_sectors and not held.sectors and universe.sectors:
                portfolio = held.model_copy(update={"sectors": dict(sorted(universe.sectors.items()))})
                strategies[name] = strategy.model_copy(update={"portfolio": portfolio})
        return strategies

    def require(self, name: str) -> None:
        """Refuse the name of a universe or strategy that was left out.

        Raises
        ------
        ConfigurationError
            Its own, which names its file and what to do.
        """
        taken = {*self.universes, *self.strategies}
        for problem in self.left_out:
            if problem.name == name and name not in taken:
                raise problem.error

    def universe_of(self, strategy: StrategyConfig) -> UniverseConfig:
        """The universe that a strategy trades."""
        return self.universes[strategy.universe]

    def with_strategy(self, strategy: StrategyConfig) -> "Settings":
        """The same with one strategy in another form, with the sectors of its universe as if its file said so.

        Raises
        ------
        ConfigurationError
            For a universe that is not configured, or a scheme that needs sectors which nobody says.
        """
        where = f"strategy {strategy.name}"
        if strategy.universe not in self.universes:
            raise ConfigurationError(
                f"{where}, key 'universe'",
                expected=f"one of {', '.join(self.universes) or 'the universes (none is configured)'}",
                found=repr(strategy.universe),
                action=closest(strategy.universe, self.universes) or "add the universe's file",
            )
        _require_sectors(strategy, self.universe_of(strategy), where)
        strategies = {**self.strategies, strategy.name: strategy}
        return Settings.model_validate({**dict(self), "strategies": strategies})


def _left_out(kind: str, name: str, error: QuantAssetsError) -> LeftOut:
    return LeftOut(
        kind=kind, name=name, what=error.what, expected=error.expected, found=error.found, action=error.action
    )


class _Read:
    """Files that were read: what they say by name, where each stands, and what is left out."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = roots
        self.files: dict[tuple[str, str], Path] = {}
        self.left_out: list[LeftOut] = []

    def folder(self, kind: str, plural: str, model: type[ConfigT]) -> dict[str, ConfigT]:
        """Every file of one kind in all roots; of two with one name the first root's."""
        found: dict[str, ConfigT] = {}
        for file in (f for root in self.roots for f in sorted((root / plural).glob("*.yaml"))):
            first = self.files.get((kind, file.stem))
            try:
                if first is not None:
                    raise ConfigurationError(
                        str(file),
                        expected="one file per name",
                        found=f"{file.stem!r} is defined in another configuration folder too ({first})",
                        action="rename or delete one of the two",
                    )
                self.files[kind, file.stem] = file
                found[file.stem] = _parsed(file, model)
            except QuantAssetsError as error:
                self.left_out.append(_left_out(kind, file.stem, error))
        return found

    def root_of(self, kind: str, name: str) -> int:
        """Number of the root in which its file lies."""
        file = self.files[kind, name]
        return next(n for n, root in enumerate(self.roots) if root in file.parents)

    def drop(self, kind: str, entries: dict[str, ConfigT], name: str, error: QuantAssetsError) -> None:
        """Leave out what was read."""
        del entries[name]
        self.left_out.append(_left_out(kind, name, error))


def _parsed(file: Path, model: type[ConfigT]) -> ConfigT:
    content = {"name": file.stem, **read_yaml(file)}
    if content["name"] != file.stem or is_reserved(file.stem):
        raise ConfigurationError(
            f"{file}, key 'name'",
            expected="the name of the file, and none of the platform's own (gates, platform, ..._raw_bars)",
            found=repr(file.stem) if content["name"] == file.stem else "another name",
            action="leave the key out, and name the file as the thing is called",
        )
    return parse(model, content, file)


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


def _require_strict(file: Path | str, found: Sequence[Shortfall], expected: str, action: str) -> None:
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

    A file of a universe or strategy that says something impossible, or less than it must, leaves out what it
    describes and what uses that: `Settings.left_out` says why. `require_whole` refuses such a configuration.

    Parameters
    ----------
    folder : Path, optional
        The configuration folder; `config_dir` when not given.
    home : Path, optional
        Its ``configs/`` adds universes and strategies that ``quant-assets run --universe-file`` wrote.

    Raises
    ------
    ConfigurationError
        For ``gates.yaml`` and ``monitoring.yaml``, which are everyone's: one message that names file, key, value and
        what to do.
    """
    folder = config_dir() if folder is None else folder
    home = home_dir() if home is None else home
    read = _Read([folder, home / "configs"])
    # The limits never depend on the environment: a ${...} there stays text and is refused as not a number.
    limits = parse(GatesFile, read_yaml(folder / "gates.yaml", environment=False), folder / "gates.yaml")
    _require_strict(
        folder / "gates.yaml", limits.loosened(), "a limit no looser than any file may set", REVIEW
    )
    gates, drift = limits.without_drift(), limits.drift
    monitoring = _read_monitoring(folder / "monitoring.yaml")
    universes = read.folder("universe", "universes", UniverseConfig)
    strategies = read.folder("strategy", "strategies", StrategyConfig)
    for name in [name for name in strategies if name in universes]:
        error = ConfigurationError(
            str(read.files["strategy", name]),
            expected="a name that no universe has: both are the first part of asset keys",
            found=repr(name),
            action="rename one of the two",
        )
        if read.root_of("universe", name) > read.root_of("strategy", name):
            read.drop("universe", universes, name, error)  # what was added later gives way
        else:
            read.drop("strategy", strategies, name, error)
    for name, universe in list(universes.items()):
        file = read.files["universe", name]
        try:
            universes[name] = with_limits(universe, where=str(file))
            _require_strict(file, limits.minima.of_universe(universe), MINIMUM, RAISE)
            require_sources(universe, str(file))
        except QuantAssetsError as error:
            read.drop("universe", universes, name, error)
    broken = {problem.name: problem for problem in read.left_out if problem.kind == "universe"}
    for name, strategy in list(strategies.items()):
        file = read.files["strategy", name]
        try:
            _check_strategy(strategy, str(file), universes, broken, limits)
            _require_one_pack_of_a_name(strategy, file, strategies)
        except QuantAssetsError as error:
            read.drop("strategy", strategies, name, error)
    return Settings(
        universes=universes,
        strategies=strategies,
        gates=gates,
        drift=drift,
        monitoring=monitoring,
        minima=limits.minima,
        left_out=tuple(read.left_out),
    )


def require_usable(settings: Settings, strategy: StrategyConfig, where: str) -> None:
    """Hold a strategy that no file says against everything that a file of this configuration is held against.

    Raises
    ------
    ConfigurationError
        As `load_settings` says of a file, named ``where``.
    """
    broken = {problem.name: problem for problem in settings.left_out if problem.kind == "universe"}
    limits = GatesFile(**dict(settings.gates), drift=settings.drift, minima=settings.minima)
    _check_strategy(strategy, where, settings.universes, broken, limits)


def _check_strategy(
    strategy: StrategyConfig,
    file: str,
    universes: Mapping[str, UniverseConfig],
    broken: Mapping[str, LeftOut],
    limits: GatesFile,
) -> None:
    """Refuse a strategy that cannot be run, or that says something looser than the minima."""
    if strategy.universe not in universes:
        if strategy.universe in broken:
            raise ConfigurationError(
                f"{file}, key 'universe'",
                expected="a universe whose file can be used",
                found=f"{strategy.universe!r}, left out for: {str(broken[strategy.universe].error).rstrip('.?')}",
                action="correct the universe's file",
            )
        raise ConfigurationError(
            f"{file}, key 'universe'",
            expected=f"one of {', '.join(universes) or 'the universes (none is configured)'}",
            found=repr(strategy.universe),
            action=closest(strategy.universe, universes) or "add the universe's file",
        )
    _require_strict(file, limits.minima.of_strategy(strategy, universes[strategy.universe]), MINIMUM, RAISE)
    window = limits.drift.window_sessions
    if strategy.holdout_sessions < window:
        raise ConfigurationError(
            f"{file}, key 'holdout_sessions'",
            expected=f"at least the {window} of drift.window_sessions: drift is judged on the holdout",
            found=str(strategy.holdout_sessions),
            action="hold out more sessions, or shorten the drift window",
        )
    _require_sectors(strategy, universes[strategy.universe], file)
    require_plugins(strategy, file)
    try:
        selected_packs(strategy.feature_packs)
    except (FeatureError, ConfigurationError) as error:
        raise ConfigurationError(
            f"{file}, key 'feature_packs'",
            expected=f"{error.expected} ({error.what}: {error.found}; {error.action})",
            found=repr(list(strategy.feature_packs)),
            action="correct the value",
        ) from error
    try:
        if strategy.label.plugin is not None:
            label_function(strategy.label)
    except QuantAssetsError as error:
        raise ConfigurationError(
            f"{file}, key 'label' ({error.what})",
            expected=error.expected,
            found=error.found,
            action=error.action,
        ) from error
    try:
        limits.without_drift().for_strategy(strategy.gates)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{file}, {error.what}", expected=error.expected, found=error.found, action=error.action
        ) from error


def _require_sectors(strategy: StrategyConfig, universe: UniverseConfig, where: str) -> None:
    if strategy.portfolio.needs_sectors and not (strategy.portfolio.sectors or universe.sectors):
        raise ConfigurationError(
            f"{where}, key 'portfolio'",
            expected="sectors: in the universe's file (sectors: {AAPL: technology, ...}), or in the portfolio",
            found=f"none, and {strategy.portfolio.scheme} with these constraints needs them",
            action="say which sector each name is in",
        )


def _require_one_pack_of_a_name(
    strategy: StrategyConfig, file: Path, strategies: Mapping[str, StrategyConfig]
) -> None:
    """Refuse a pack whose asset another strategy of the universe makes of something else."""
    own = {pack_name(pack): pack for pack in strategy.feature_packs}
    for other in strategies.values():
        if other.universe != strategy.universe or other.name >= strategy.name:
            continue
        for pack in other.feature_packs:
            if own.get(pack_name(pack), pack) != pack:
                raise ConfigurationError(
                    f"{file}, key 'feature_packs'",
                    expected="one pack of a name in a universe: its asset is shared",
                    found=f"{own[pack_name(pack)]!r} here and {pack!r} in strategy {other.name}, both named "
                    f"{pack_name(pack)!r}",
                    action="give one of them another name, or the next version; options belong into the name",
                )


def require_whole(settings: Settings) -> Settings:
    """The settings, when every file of the configuration is in them.

    Raises
    ------
    ConfigurationError
        That of the first universe or strategy that was left out.
    """
    for problem in settings.left_out:
        raise problem.error
    return settings


def calendar_problems(settings: Settings) -> list[ConfigurationError]:
    """What is wrong with the calendars of universes: unknown ones, and those without a session between the dates.

    Apart from `load_settings` because the calendars take a second to import.
    """
    problems = []
    for name, universe in settings.universes.items():
        try:
            n_sessions = sessions(universe.calendar, universe.start, universe.end).len()
        except CalendarError as error:
            what = f"universe {name}, {error.what}"
            problems.append(
                ConfigurationError(what, expected=error.expected, found=error.found, action=error.action)
            )
            continue
        if not n_sessions:
            problems.append(
                ConfigurationError(
                    f"universe {name}, keys 'start' and 'end'",
                    expected=f"sessions of {universe.calendar} between them",
                    found="none",
                    action="correct the dates",
                )
            )
    return problems


def require_calendars(settings: Settings) -> None:
    """Every universe's calendar is one that exists, and has sessions between its dates.

    Raises
    ------
    ConfigurationError
        The first of `calendar_problems`.
    """
    for problem in calendar_problems(settings):
        raise problem


# ------------------------------------------------------------------------------------- what an environment runs

# Which sensors of `quant_assets.defs.sensors` run by themselves, by QUANT_ASSETS_ENV. An environment that is not
# named runs none.
RUNNING: Mapping[str, frozenset[str]] = {
    "development": frozenset(),
    "staging": frozenset({"new_bars", "reconcile", "automation", "champion_agreement", "run_outcomes"}),
    "production": frozenset(
        {"new_bars", "reconcile", "automation", "champion_agreement", "drift_retraining", "run_outcomes"}
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
