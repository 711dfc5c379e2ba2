"""Names that a package passes on from its modules, each loaded when it is first asked for."""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any


def lazy_exports(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package that says once, under TYPE_CHECKING, where its names are from.

    Type checkers and editors follow those imports as they stand; at run time they are read as syntax the first time
    that a name is asked for. So importing the package costs nothing, whatever its modules import.

    Parameters
    ----------
    package : str
        Its ``__name__``. Its ``__all__`` lists the names.

    Examples
    --------
    ::

        if TYPE_CHECKING:
            from quant_assets.splits.cpcv import CombinatorialPurgedCV
        else:
            __getattr__, __dir__ = lazy_exports(__name__)
        __all__ = ["CombinatorialPurgedCV"]
    """
    origins: dict[str, str] = {}

    def load(name: str) -> Any:
        if not origins and not name.startswith("__"):
            origins.update(_origins(package))
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        origin = origins[name]
        if origin == package:  # one of its own modules
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(origin), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        module = sys.modules[package]
        return sorted({*vars(module), *module.__all__})

    return load, listed


@cache
def every_module_of(package: str) -> tuple[ModuleType, ...]:
    """Import every module of a catalogue, so that each registers what it declares.

    Callers put the name together (``f"{__package__}.catalogue"``): a package that is imported by its literal name is
    part of whatever imports it, and a pack, gate or rule is made of its own module only.
    """
    folders = importlib.import_module(package).__path__
    return tuple(importlib.import_module(f"{package}.{m.name}") for m in pkgutil.iter_modules(folders))


def _origins(package: str) -> Iterator[tuple[str, str]]:
    """Each name that the package imports for type checkers, and the module that it is from."""
    import ast
    import inspect

    for node in ast.parse(inspect.getsource(sys.modules[package])).body:
        if isinstance(node, ast.If):
            for statement in node.body:
                if isinstance(statement, ast.ImportFrom):
                    yield from ((alias.name, str(statement.module)) for alias in statement.names)
