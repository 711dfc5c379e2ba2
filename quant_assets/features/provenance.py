"""Which sources shape a pack's values: the module of its kernel and all that it imports from this package."""

import ast
import importlib.util
from functools import cache
from pathlib import Path

# Beyond this package is plumbing (hashing, errors), which shapes no value.
PACKAGE = "quant_assets.features"


@cache
def modules_behind(*modules: str) -> tuple[str, ...]:
    """The modules, and below `quant_assets.features` what they import, directly or not; sorted, none imported.

    So a new kernel beside the others leaves the fingerprints of the packs alone that do not use it.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
            waiting += [part for part in _imports(tree) if part.startswith(f"{PACKAGE}.")]
    return tuple(sorted(found))


def _imports(tree: ast.AST) -> set[str]:
    """Modules that the source imports; of ``from package import module`` the module."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            modules = {name for name in inner if _is_module(name)}
            names |= modules or {node.module}
    return names


def _is_module(name: str) -> bool:
    """Whether a name below `PACKAGE` is a module and not something inside one. Looked up as a file:
    `find_spec` imports the parent, and with a kernel module numba."""
    parent, _, stem = name.rpartition(".")
    if not parent.startswith(PACKAGE):
        return False
    spec = importlib.util.find_spec(parent)
    folders = spec.submodule_search_locations if spec is not None else None
    return any((Path(folder) / f"{stem}.py").is_file() for folder in folders or ())
