"""The code of a desk's own that universes and strategies name, held against its calls when they are read."""

from collections.abc import Iterator, Mapping
from typing import Any

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.plugin_calls import require_call
from quant_assets.common.plugins import Plugin
from quant_assets.common.settings import PluginSource, StrategyConfig, UniverseConfig

# What functions that trade and judge are called with by place. The last two run in a process of their own alone.
_CALLED_WITH: Mapping[str, tuple[str, ...]] = {
    "portfolio.scheme": ("scores", "known"),
    "costs.model": ("traded", "known"),
    "further_gates": ("seen",),
    "further_checks": ("value",),
}
_IN_PROCESS = ("portfolio.scheme", "costs.model")
_Call = tuple[str, Plugin, tuple[str, ...], Mapping[str, Any]]


def require_plugins(strategy: StrategyConfig, file: str) -> None:
    """Refuse a plug-in of a strategy whose source is not there, or does not take its call. No module is run for it.

    Raises
    ------
    ConfigurationError
        Naming the file and the key.
    """
    for where, plugin in strategy.plugins.items():
        _require(f"{file}, key {where!r}", plugin, _CALLED_WITH[where.partition("[")[0]], {})
    for where, plugin, positional, named in _of_fits(strategy):
        _require(f"{file}, key {where!r}", plugin, positional, named)


def require_sources(universe: UniverseConfig, file: str) -> None:
    """The same of the sources of a universe."""
    for label, source in universe.sources.items():
        if isinstance(source, PluginSource):
            _require(f"{file}, source {label!r}", source.plugin, ("symbols", "start", "end"), {})


def import_problems(strategy: StrategyConfig) -> list[ConfigurationError]:
    """What is wrong with modules that fit and trade, when they are run. Those that judge are never run here."""
    traded = {where: plugin for where, plugin in strategy.plugins.items() if where in _IN_PROCESS}
    named = traded | {where: plugin for where, plugin, _, _ in _of_fits(strategy)}
    problems = []
    for where, plugin in named.items():
        try:
            plugin.load(where)
        except ConfigurationError as error:
            what = f"strategy {strategy.name}, key {where!r}: {error.what}"
            problems.append(
                ConfigurationError(what, expected=error.expected, found=error.found, action=error.action)
            )
    return problems


def _of_fits(strategy: StrategyConfig) -> Iterator[_Call]:
    for name, learner in strategy.models.custom.items():
        yield f"models.custom.{name}", learner, (), {}
    if strategy.models.weights.custom is not None:
        yield "models.weights.custom", strategy.models.weights.custom, ("rows",), {}
    if strategy.label.plugin is not None:
        named = {"horizon_sessions": strategy.label.horizon_sessions}
        yield "label", strategy.label.plugin, ("bars", "sessions"), named


def _require(where: str, plugin: Plugin, positional: tuple[str, ...], named: Mapping[str, Any]) -> None:
    try:
        plugin.require_source()
        require_call(plugin, positional, named)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{where}: {error.what}", expected=error.expected, found=error.found, action=error.action
        ) from error
