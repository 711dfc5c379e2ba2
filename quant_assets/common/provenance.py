"""Which code shapes a result: the transitive closure of a function's imports, and one fingerprint of it.

Nothing is imported to find out. A module is read as syntax; what it imports from its own package or from this one is
followed, at any depth of nesting; what comes from elsewhere counts by the version of its distribution. So a changed
line anywhere behind a function changes the function's fingerprint, and nobody keeps a list.

The function itself counts with those definitions of its module that it reaches, so that functions that stand side by
side in one module have fingerprints of their own. The same holds for whatever it takes from `quant_assets.lineage`,
where the stages stand side by side. Every other module behind it counts whole.
"""

import ast
import copy
import importlib.metadata
import importlib.util
import json
import os
import pkgutil
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

PLATFORM = "quant_assets"
# Modules whose definitions stand side by side and have nothing to do with each other.
SIDE_BY_SIDE = "quant_assets.lineage."
# Say what happened, or how it was asked for; neither shapes a value. Configuration counts by its values.
PLUMBING = frozenset(f"{PLATFORM}.common.{name}" for name in ("errors", "logging", "provenance", "lazy"))
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
# Files beside a module that it names and that are as good as code.
DATA_SUFFIXES = (".j2", ".json", ".css", ".sql")


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


def reference(function: Callable[..., Any]) -> str:
    """The name of a function as a root of a closure."""
    return f"{function.__module__}:{function.__qualname__}"


def _closed(start: Sequence[str], home: str) -> Closure:
    packages = frozenset({PLATFORM, home.partition(".")[0]})
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
        if top not in packages:
            if top not in sys.stdlib_module_names and top not in PLUMBING_LIBRARIES:
                libraries.add(top)
            continue
        alone = bool(name) and (alone or module.startswith(SIDE_BY_SIDE))
        node = entry if alone else module
        if node in seen or module in PLUMBING:
            continue
        seen.add(node)
        if alone:
            definition = _definition(module, name)
            definitions[entry] = definition.digest
            waiting += [(f"{module}:{beside}", True) for beside in definition.beside]
            found = definition.imports
        else:
            source = _read(module)
            modules[module] = source.digest
            found = source.imports
        waiting += [(target, False) for target in _resolved(found, packages)]
    versions = tuple(sorted(f"{name}=={_version(name)}" for name in libraries))
    parts = [f"{name}\x00{digest}" for name, digest in sorted({**modules, **definitions}.items())]
    digest = combined_fingerprint([*parts, *versions])
    return Closure(tuple(sorted(modules)), tuple(sorted(definitions)), versions, digest)


# ---------------------------------------------------------------------------------------- one module's source


@dataclass(frozen=True)
class _Source:
    """A module as read: the digest of its syntax and of the files it names, and ``module:name`` of each import."""

    digest: str
    imports: tuple[str, ...]


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
    key = f"{sys.version_info.major}.{sys.version_info.minor}:{bytes_digest(data)}"
    known = _memory().get(key)
    if known is None:
        tree = ast.parse(data)
        imports = tuple(sorted(set(_imports(tree, name, is_package=file.name == "__init__.py"))))
        named = sorted(
            {
                n.value
                for n in ast.walk(tree)
                if isinstance(n, ast.Constant)
                and isinstance(n.value, str)
                and n.value.endswith(DATA_SUFFIXES)
            }
        )
        # Source text of the tree: its dump has other field names in each Python version.
        known = [bytes_digest(ast.unparse(_Shaping().visit(tree)).encode()), list(imports), named]
        _remember(key, known)
    digest, imports, named = known
    beside = [f"{n}\x00{bytes_digest(f.read_bytes())}" for n in named if (f := file.parent / n).is_file()]
    return _Source(bytes_digest("\x00".join([digest, *beside]).encode()), tuple(imports))


class _Shaping(ast.NodeTransformer):
    """Drop what shapes no value: docstrings, and imports for type checkers."""

    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        body = node.body
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip  # noqa: N815 (ast)

    def visit_If(self, node: ast.If) -> Any:
        if _for_type_checkers(node):
            return [self.visit(n) for n in node.orelse] or ast.Pass()
        return self.generic_visit(node)


def _for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and (
        (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
        or (isinstance(node.test, ast.Attribute) and node.test.attr == "TYPE_CHECKING")
    )


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that has an effect at run time."""
    yield node
    if isinstance(node, ast.If) and _for_type_checkers(node):
        for child in node.orelse:
            yield from _walk(child)
        return
    for part in ast.iter_child_nodes(node):
        yield from _walk(part)


def _imports(tree: ast.AST, name: str, *, is_package: bool) -> Iterator[str]:
    """``module:attribute`` of each name that is imported; the attribute is empty for ``import module``.

    What a package imports for type checkers counts: it passes those names on when they are asked for.
    """
    for node in ast.walk(tree) if is_package else _walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"{alias.name}:" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                parts = name.split(".")
                base = parts if is_package else parts[:-1]
                base = base[: len(base) - node.level + 1]
                module = ".".join([*base, *([module] if module else [])])
            yield from (f"{module}:{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _called(node) == "import_module":
            # A catalogue: a package that is imported by its literal name is there for all its modules.
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield f"{named.value}:*"


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _resolved(imports: Iterable[str], packages: frozenset[str]) -> list[str]:
    """``module:name`` of where imported names are defined; without a name for whole modules."""
    found = []
    for entry in imports:
        module, _, name = entry.partition(":")
        if module.partition(".")[0] in packages:
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
    passed_on = [e for e in _read(module).imports if e.endswith(f":{name}") and e != f"{module}:{name}"]
    return _resolved(passed_on, packages) or [f"{module}:{name}"]


@cache
def source_file(name: str) -> Path | None:
    """The file of a module or package, found without importing anything; None when there is none."""
    top, *rest = name.split(".")
    if top == PLATFORM:
        folders = [str(Path(__file__).resolve().parents[1])]
        file: Path | None = Path(folders[0]) / "__init__.py"
    else:
        spec = importlib.util.find_spec(top)
        if spec is None or not spec.origin or not spec.origin.endswith(".py"):
            return None
        file, folders = Path(spec.origin), list(spec.submodule_search_locations or ())
    for part in rest:
        for folder in folders:
            package, module = Path(folder) / part / "__init__.py", Path(folder) / f"{part}.py"
            if package.is_file():
                file, folders = package, [str(package.parent)]
                break
            if module.is_file():
                file, folders = module, []
                break
        else:
            return None
    return file


# ---------------------------------------------------------------------------------------- the function itself


@dataclass(frozen=True)
class _Definition:
    """A top-level definition: its digest, what it uses beside it in its module, and what it imports."""

    digest: str
    beside: tuple[str, ...]
    imports: tuple[str, ...]


@dataclass(frozen=True)
class _Module:
    """A module by its top-level names: the statements that define them, and the imports that bind them."""

    defined: Mapping[str, ast.stmt]
    imported: Mapping[str, str]
    is_package: bool


def _definition(module: str, name: str) -> _Definition:
    file = source_file(module)
    status = file.stat() if file is not None else None
    return _definition_version(module, name, status.st_mtime_ns if status else 0)


@cache
def _definition_version(module: str, name: str, modified: int) -> _Definition:
    parts = _module_version(module, modified)
    if name in parts.imported and name not in parts.defined:  # passed on by a module that is no package
        return _Definition("", (), (parts.imported[name],))
    if name not in parts.defined:
        raise ConfigurationError(
            f"function {module}.{name}",
            expected="a function at the top level of a module: its code version is that of its source",
            found="one that is defined elsewhere (a lambda, a closure, a session of a notebook)",
            action="move it into a module",
        )
    node = _Undecorated().visit(_Shaping().visit(copy.deepcopy(parts.defined[name])))
    text = ast.unparse(node)
    used = _globals(symtable.symtable(text, module, "exec"))
    lazy = set(_imports(node, module, is_package=parts.is_package))
    return _Definition(
        bytes_digest(text.encode()),
        tuple(sorted(n for n in used if n in parts.defined and n != name)),
        tuple(sorted(lazy | {parts.imported[n] for n in used if n in parts.imported})),
    )


def _globals(table: symtable.SymbolTable) -> set[str]:
    """Names that a piece of source takes from its module: a parameter called like a function is none of them."""
    top = table.get_type() == "module"
    own = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return own.union(*(_globals(child) for child in table.get_children()))


@cache
def _module_version(module: str, modified: int) -> _Module:
    file = source_file(module)
    tree = ast.parse(file.read_bytes()) if file is not None else ast.Module([], [])
    is_package = file is not None and file.name == "__init__.py"
    defined: dict[str, ast.stmt] = {}
    imported: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign):
            names = (n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name))
            defined |= dict.fromkeys(names, node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined[node.target.id] = node
        elif isinstance(node, ast.Import):
            imported |= {(a.asname or a.name.partition(".")[0]): f"{a.name}:" for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found = _imports(node, module, is_package=is_package)
            imported |= {a.asname or a.name: e for a, e in zip(node.names, found, strict=True)}
    return _Module(defined, imported, is_package)


class _Undecorated(ast.NodeTransformer):
    """Drop what describes a function without shaping what it returns: annotations and decorators of declarations."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        self.generic_visit(node)
        node.returns = None
        node.decorator_list = [d for d in node.decorator_list if not _declares(d)]
        return node

    def visit_arg(self, node: ast.arg) -> Any:
        node.annotation = None
        return node


def _declares(decorator: ast.AST) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Name) and called.id in ("stage", "check")


# ---------------------------------------------------------------------------------------- libraries, memory


@cache
def _version(library: str) -> str:
    for name in (DISTRIBUTIONS.get(library, library), library.replace("_", "-")):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if importlib.util.find_spec(library) is None:  # an optional one
        return "absent"
    held = importlib.metadata.packages_distributions().get(library, [])
    return ",".join(importlib.metadata.version(name) for name in sorted(set(held))) or "unversioned"


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
    except (OSError, ValueError):  # none yet, or a damaged one: sources are parsed again
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
