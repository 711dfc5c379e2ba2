"""Which code shapes a result: the transitive closure of a function's imports, and one fingerprint of it.

Nothing is imported to find out. A module is read as syntax; what it imports from its own package or from this one is
followed, at any depth of nesting; what comes from elsewhere counts by the version of its distribution. So a changed
line anywhere behind a function changes the function's fingerprint, and nobody keeps a list.

The function itself counts with those definitions of its module that it reaches, so that functions that stand side by
side in one module have fingerprints of their own. The same holds for whatever it takes from `quant_assets.lineage`,
where the stages stand side by side. Every other module behind it counts whole.
"""

import ast
import builtins
import copy
import importlib.machinery
import importlib.metadata
import importlib.util
import json
import os
import pkgutil
import re
import symtable
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.files import write_whole
from quant_assets.common.hashing import bytes_digest, combined_fingerprint
from quant_assets.common.syntax import (
    Shaping,
    Undecorated,
    globals_of,
    has_effects,
    imports_of,
    imports_only,
    named_data,
    names_in,
    parsed,
    reached_by,
    source_file,
    text_digest,
    touched,
)

PLATFORM = "quant_assets"
# Modules whose definitions stand side by side and have nothing to do with each other.
SIDE_BY_SIDE = "quant_assets.lineage."
# Say what happened, or how it was asked for; neither shapes a value. Configuration counts by its values.
PLUMBING = frozenset(
    f"{PLATFORM}.common.{name}" for name in ("errors", "logging", "provenance", "syntax", "lazy")
)
# Builtins that reach names which no syntax shows.
BY_NAME = frozenset({"globals", "eval", "exec"})
PLUMBING_LIBRARIES = frozenset({"filelock", "psutil", "pydantic", "pydantic_core", "structlog", "upath"})
# Import names that are not those of their distributions. Others are asked for.
DISTRIBUTIONS = {
    "adbc_driver_postgresql": "adbc-driver-postgresql",
    "bokeh_sampledata": "bokeh-sampledata",
    "cyclonedx": "cyclonedx-python-lib",
    "dagster_mlflow": "dagster-mlflow",
    "exchange_calendars": "exchange-calendars",
    "google": "protobuf",
    "packageurl": "packageurl-python",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
MOST_REMEMBERED = 5000
# The version of what no distribution holds, or one that is edited in place.
UNVERSIONED = "unversioned"


@dataclass(frozen=True)
class Closure:
    """What a function is made of.

    Attributes
    ----------
    modules : tuple of str
        Modules of this package and of the function's own that count whole, sorted.
    definitions : tuple of str
        ``module:name`` of what counts on its own: the function, and what it reaches beside it.
    libraries : tuple of str
        ``distribution==version``, sorted; ``absent`` for an optional one that is not installed.
    digest : str
        40 hexadecimal characters.
    """

    modules: tuple[str, ...]
    definitions: tuple[str, ...]
    libraries: tuple[str, ...]
    digest: str


@cache
def closure_of(function: Callable[..., Any], roots: tuple[str, ...] = ()) -> Closure:
    """Closure of a function, with further code that it reaches by name at run time.

    Parameters
    ----------
    function : callable
        A function or class at the top level of an importable module.
    roots : tuple of str
        ``module`` or ``module:function`` of what no import statement shows.

    Raises
    ------
    ConfigurationError
        For a function that is not at the top level of a module, or a module whose source is not there.
    """
    module, name = function.__module__, function.__qualname__
    return _closed([f"{module}:{name}", *(r if ":" in r else f"{r}:" for r in roots)], module)


@cache
def closure_of_modules(*modules: str) -> Closure:
    """Closure of whole modules."""
    return _closed([f"{module}:" for module in modules], modules[0])


@cache
def closure_of_references(*references: str) -> Closure:
    """Closure of objects that are named as ``module:object``: of each, its definition and what that reaches."""
    return _closed(references, references[0])


def forget_closures() -> None:
    """Read sources, and the files that they name, again, in a process in which they may have changed or moved."""
    for known in (
        closure_of, closure_of_modules, closure_of_references, source_file, _followed, _read_version,
        _definition_version, _module_version,
    ):  # fmt: skip
        known.cache_clear()


def reference(function: Callable[..., Any]) -> str:
    """The name of a function as a root of a closure."""
    return f"{function.__module__}:{function.__qualname__}"


def _closed(start: Sequence[str], home: str) -> Closure:
    # A plug-in is named as a root: its package is code of ours as much as the function's own.
    packages = frozenset({PLATFORM, *(entry.partition(":")[0].partition(".")[0] for entry in (home, *start))})
    modules: dict[str, str] = {}
    definitions: dict[str, str] = {}
    libraries: set[str] = set()
    seen: set[str] = set()
    # Roots that name a function are read by definition wherever they stand; of what they import only the lineage is.
    waiting = [(entry, bool(entry.partition(":")[2])) for entry in start]
    while waiting:
        entry, alone = waiting.pop()
        module, _, name = entry.partition(":")
        top = module.partition(".")[0]
        if not _followed(top, packages):
            if top and top not in sys.stdlib_module_names and top not in PLUMBING_LIBRARIES:
                libraries.add(top)
            continue
        alone = name not in ("", "*") and (alone or module.startswith(SIDE_BY_SIDE))
        node = entry if alone else module
        if node in seen or module in PLUMBING:
            continue
        seen.add(node)
        # Importing a module runs the packages around it. Those that only pass names on have no part in it.
        waiting += [(f"{around}:", False) for around in _around(module) if _package_acts(around)]
        if alone:
            definition = _definition(module, name)
            definitions[entry] = definition.digest
            waiting += [(f"{module}:{beside}", True) for beside in definition.beside]
            found = definition.imports
        else:
            if source_file(module) is None and entry not in start:
                modules[module] = "absent"  # an optional one, or a folder without code of its own
                continue
            source = _read(module)
            modules[module] = source.digest
            found = source.imports
        waiting += [(target, False) for target in _resolved(found, packages)]
    versions = tuple(sorted(f"{name}=={_version(name)}" for name in libraries))
    parts = [f"{name}\x00{digest}" for name, digest in sorted({**modules, **definitions}.items())]
    digest = combined_fingerprint([*parts, *versions])
    return Closure(tuple(sorted(modules)), tuple(sorted(definitions)), versions, digest)


def _around(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[:n]) for n in range(1, len(parts)))


def _package_acts(package: str) -> bool:
    file = source_file(package)
    return file is not None and file.suffix == ".py" and _read(package).acts


@cache
def _followed(top: str, packages: frozenset[str]) -> bool:
    """Whether code counts by its source: its own packages, and what changes without a new version."""
    if top in packages:
        return True
    if not top or top in sys.stdlib_module_names or top in PLUMBING_LIBRARIES:
        return False
    return _version(top) == UNVERSIONED and source_file(top) is not None


# ---------------------------------------------------------------------------------------- one module's source


@dataclass(frozen=True)
class _Source:
    """A module as read: the digest of its syntax and of the files it names, and ``module:name`` of each import.

    ``bound`` are the top-level names that it gives values of its own. ``acts``: importing it does more than that.
    """

    digest: str
    imports: tuple[str, ...]
    bound: tuple[str, ...] = ()
    acts: bool = False


def _read(name: str) -> _Source:
    file = source_file(name)
    if file is None:
        raise ConfigurationError(
            f"code fingerprint of {name!r}",
            expected="a module whose source can be read",
            found="none of that name",
            action="correct the import, or install the package with its sources",
        )
    status = file.stat()
    return _read_version(name, str(file), status.st_mtime_ns, status.st_size)


@cache
def _read_version(name: str, path: str, modified: int, size: int) -> _Source:
    """Parsed once for each state of the file. ``modified`` and ``size`` are what the cache tells states apart by."""
    file = Path(path)
    data = file.read_bytes()
    if file.suffix != ".py":  # compiled: nothing but its bytes is known of it
        return _Source(bytes_digest(data), (), (), acts=False)
    # What is read of the same bytes depends on where they stand (relative imports) and on who reads them.
    key = f"{_reader()}:{name}:{file.name}:{bytes_digest(data)}"
    known = _memory().get(key)
    if known is None or not _is_source(known):
        tree = parsed(data, path)
        imports = tuple(sorted(set(imports_of(tree, name, is_package=file.name == "__init__.py"))))
        named = named_data(tree)
        try:
            tree = Shaping().visit(tree)
            # Source text of the tree: its dump has other field names in each Python version.
            digest = text_digest(ast.unparse(tree))
        except RecursionError:  # an expression of a thousand terms counts by its bytes
            digest = bytes_digest(data)
        bound = sorted({n for s in tree.body if not imports_only(s) for n in touched(s)[0]})
        known = [digest, list(imports), named, bound, any(has_effects(s) for s in tree.body)]
        _remember(key, known)
    digest, imports, named, bound, acts = known
    beside = _data_beside(file.parent, named)
    return _Source(text_digest("\x00".join([digest, *beside])), tuple(imports), tuple(bound), acts)


def _is_source(known: Any) -> bool:
    """Whether what was remembered has the form of what is remembered."""
    return (
        isinstance(known, list)
        and [type(part) for part in known] == [str, list, list, list, bool]
        and all(isinstance(name, str) for part in known[1:4] for name in part)
    )


def _registers(entries: Iterable[str]) -> bool:
    return any(_followed(e.partition(":")[0].partition(".")[0], frozenset()) for e in entries)


@cache
def _reader() -> str:
    """Who reads: another Python or another version of this module may read the same source differently."""
    files = (Path(__file__), Path(__file__).with_name("syntax.py"))
    own = text_digest("".join(file.read_text(encoding="utf-8") for file in files))[:16]
    return f"{sys.version_info.major}.{sys.version_info.minor}:{own}"


def _data_beside(folder: Path, names: Sequence[str]) -> list[str]:
    """Name and digest of the files of these names in a folder or one below it, with the templates they include."""
    found: dict[str, str] = {}
    waiting = list(names)
    below = [part for part in folder.iterdir() if part.is_dir()] if names else []
    while waiting:
        name = waiting.pop()
        for file in (place / name for place in sorted([folder, *below])):
            label = str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)
            if label in found or not file.is_file():
                continue
            data = file.read_bytes()
            found[label] = bytes_digest(data)
            if file.suffix == ".j2":
                waiting += re.findall(
                    r"['\"]([^'\"\n]{1,199}\.(?:j2|css|html))['\"]", data.decode(errors="replace")
                )
    return [f"{label}\x00{digest}" for label, digest in sorted(found.items())]


def _resolved(imports: Iterable[str], packages: frozenset[str]) -> list[str]:
    """``module:name`` of where imported names are defined; without a name for whole modules."""
    found = []
    for entry in imports:
        module, _, name = entry.partition(":")
        if _followed(module.partition(".")[0], packages):
            found += _defined_in(module, name, packages)
        else:
            found.append(f"{module}:")
    return found


def _defined_in(module: str, name: str, packages: frozenset[str]) -> list[str]:
    """Where a name of a package is defined. A package that only passes it on is no part of what it passes on."""
    if not name or source_file(f"{module}.{name}") is not None:
        return [f"{module}.{name}:" if name else f"{module}:"]
    file = source_file(module)
    if file is None or file.name != "__init__.py":
        return [f"{module}:{name}"]
    if name == "*":
        inside = (part.name for part in pkgutil.iter_modules([str(file.parent)]))
        return [f"{module}:", *(f"{module}.{part}:" for part in inside)]
    if name in _read(module).bound:
        return [f"{module}:{name}"]
    passed_on = [e for e in _read(module).imports if e.endswith(f":{name}") and e != f"{module}:{name}"]
    return _resolved(passed_on, packages) or [f"{module}:{name}"]


# ---------------------------------------------------------------------------------------- the function itself


@dataclass(frozen=True)
class _Definition:
    """A top-level definition: its digest, what it uses beside it in its module, and what it imports."""

    digest: str
    beside: tuple[str, ...]
    imports: tuple[str, ...]


@dataclass(frozen=True)
class _Module:
    """A module by its top-level names: the statements that bind or change them, and the imports that bind them."""

    defined: Mapping[str, tuple[ast.stmt, ...]]
    imported: Mapping[str, tuple[str, ...]]
    starred: tuple[str, ...]
    is_package: bool
    folder: Path | None


def _definition(module: str, name: str) -> _Definition:
    file = source_file(module)
    status = file.stat() if file is not None else None
    return _definition_version(module, name, status.st_mtime_ns if status else 0)


@cache
def _definition_version(module: str, name: str, modified: int) -> _Definition:
    parts = _module_version(module, modified)
    if name in parts.imported and name not in parts.defined:  # passed on by a module that is no package
        return _Definition("", (), parts.imported[name])
    if name not in parts.defined:
        raise ConfigurationError(
            f"function {module}.{name}",
            expected="a function at the top level of a module: its code version is that of its source",
            found="one that is defined elsewhere (a lambda, a closure, a session of a notebook)",
            action="move it into a module",
        )
    bare = Undecorated(parts.imported)
    body = [bare.visit(copy.deepcopy(statement)) for statement in parts.defined[name]]
    node = ast.Module(body, [])
    text = ast.unparse(node)
    used = globals_of(symtable.symtable(text.encode("utf-8", "replace").decode(), module, "exec"))
    found = set(imports_of(node, module, is_package=parts.is_package))
    found.update(entry for n in used for entry in parts.imported.get(n, ()))
    if used & BY_NAME:  # whatever is in the module may be asked for
        found.add(f"{module}:")
    if any(n not in parts.defined and n not in parts.imported and not hasattr(builtins, n) for n in used):
        found.update(parts.starred)
    beside = _data_beside(parts.folder, named_data(node)) if parts.folder else []
    return _Definition(
        text_digest("\x00".join([text, *beside])),
        tuple(sorted(n for n in used if n in parts.defined and n != name)),
        tuple(sorted(found)),
    )


@cache
def _module_version(module: str, modified: int) -> _Module:
    file = source_file(module)
    if file is None or file.suffix != ".py":
        return _Module({}, {}, (), is_package=False, folder=None)
    is_package = file.name == "__init__.py"
    tree = Shaping().visit(parsed(file.read_bytes(), str(file)))
    imported: dict[str, tuple[str, ...]] = {}
    starred: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            for a in node.names:
                alias = a.asname or a.name.partition(".")[0]
                imported[alias] = (*imported.get(alias, ()), f"{a.name}:")
        elif isinstance(node, ast.ImportFrom):
            for a, entry in zip(node.names, imports_of(node, module, is_package=is_package), strict=True):
                if a.name == "*":
                    starred.append(entry)
                else:
                    imported[a.asname or a.name] = (*imported.get(a.asname or a.name, ()), entry)
    touching = [(s, *touched(s)) for s in tree.body if not imports_only(s)]
    own = {n for _, bound, _ in touching for n in bound}
    # A registry of one's own package may be changed from beside it; that of a library is not.
    own |= {n for n, entries in imported.items() if _registers(entries)}
    # What a statement calls may change whatever that reaches: a decorator, the registry that it writes to.
    reaches = {s.name: names_in(s) & own for s in tree.body if isinstance(s, ast.FunctionDef | ast.ClassDef)}
    defined: dict[str, tuple[ast.stmt, ...]] = {}
    for statement, bound, changed in touching:
        for n in bound | reached_by(changed & own, reaches):
            defined[n] = (*defined.get(n, ()), statement)
    return _Module(defined, imported, tuple(starred), is_package, file.parent)


# ---------------------------------------------------------------------------------------- libraries, memory


@cache
def _version(library: str) -> str:
    for name in (DISTRIBUTIONS.get(library, library), library.replace("_", "-")):
        try:
            return _version_of(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if importlib.util.find_spec(library) is None:  # an optional one
        return "absent"
    held = importlib.metadata.packages_distributions().get(library, [])
    return ",".join(_version_of(name) for name in sorted(set(held))) or UNVERSIONED


def _version_of(distribution: str) -> str:
    found = importlib.metadata.distribution(distribution)
    try:
        editable = (
            json.loads(found.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable", False)
        )
    except ValueError:
        editable = False
    return UNVERSIONED if editable else found.version


def _memory_file() -> Path:
    """Where parsed sources are remembered: beside the compiled ones, or in the user's own cache."""
    beside = Path(__file__).parent / "__pycache__"
    if os.access(beside if beside.exists() else beside.parent, os.W_OK):
        return beside / "sources.json"
    return Path.home() / ".cache" / "quant-assets" / "sources.json"


_known: dict[str, Any] = {}
_new: dict[str, Any] = {}


@cache
def _memory() -> dict[str, Any]:
    """Digests of sources by the hash of their bytes: parsing the package takes a second, reading this 10 ms."""
    file = _memory_file()
    try:
        _known.update(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):  # none yet, or a damaged one: sources are parsed again
        return _known
    return _known


def _remember(key: str, value: Sequence[Any]) -> None:
    _known[key] = _new[key] = list(value)


def save_memory() -> None:
    """Keep what was parsed by this process for the next one. Losing it costs a second, so no error is raised."""
    if not _new:
        return
    file = _memory_file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(_new if len(_known) > MOST_REMEMBERED else _known).encode())
    except OSError:  # a read-only installation works without it
        return
    _new.clear()
