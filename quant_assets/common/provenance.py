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

PLATFORM = "quant_assets"
# Modules whose definitions stand side by side and have nothing to do with each other.
SIDE_BY_SIDE = "quant_assets.lineage."
# Say what happened, or how it was asked for; neither shapes a value. Configuration counts by its values.
PLUMBING = frozenset(f"{PLATFORM}.common.{name}" for name in ("errors", "logging", "provenance", "lazy"))
# Builtins that reach names which no syntax shows, and decorators that do not look at annotations.
BY_NAME = frozenset({"globals", "eval", "exec"})
BLIND_TO_ANNOTATIONS = frozenset(
    {
        "property",
        "cached_property",
        "cache",
        "lru_cache",
        "staticmethod",
        "classmethod",
        "contextmanager",
        "setter",
    }
)
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
# Files beside a module that it names and that are as good as code.
DATA_SUFFIXES = (".j2", ".json", ".css", ".sql", ".html", ".yaml", ".yml", ".toml", ".csv", ".txt")


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
        tree = _parsed(data, path)
        imports = tuple(sorted(set(_imports(tree, name, is_package=file.name == "__init__.py"))))
        named = _named_data(tree)
        try:
            tree = _Shaping().visit(tree)
            # Source text of the tree: its dump has other field names in each Python version.
            digest = _text_digest(ast.unparse(tree))
        except RecursionError:  # an expression of a thousand terms counts by its bytes
            digest = bytes_digest(data)
        bound = sorted({n for s in tree.body if not _imports_only(s) for n in _touched(s)[0]})
        known = [digest, list(imports), named, bound, any(_acts(s) for s in tree.body)]
        _remember(key, known)
    digest, imports, named, bound, acts = known
    beside = _data_beside(file.parent, named)
    return _Source(_text_digest("\x00".join([digest, *beside])), tuple(imports), tuple(bound), acts)


def _is_source(known: Any) -> bool:
    """Whether what was remembered has the form of what is remembered."""
    return (
        isinstance(known, list)
        and [type(part) for part in known] == [str, list, list, list, bool]
        and all(isinstance(name, str) for part in known[1:4] for name in part)
    )


@cache
def _reader() -> str:
    """Who reads: another Python or another version of this module may read the same source differently."""
    own = bytes_digest(Path(__file__).read_bytes())[:16]
    return f"{sys.version_info.major}.{sys.version_info.minor}:{own}"


def _text_digest(text: str) -> str:
    return bytes_digest(text.encode("utf-8", "surrogatepass"))


def _parsed(data: bytes, path: str) -> ast.Module:
    try:
        return ast.parse(data, path)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise ConfigurationError(
            f"code fingerprint of {path}" + (f", line {line}" if line else ""),
            expected="Python source",
            found=str(error.args[0]),
            action="correct the file",
        ) from error


def _named_data(tree: ast.AST) -> list[str]:
    """Constants of a piece of source that may be names of files."""
    constants = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
    texts = {c for c in constants if isinstance(c, str) and c.endswith(DATA_SUFFIXES)}
    return sorted(n for n in texts if len(n) < 200 and not set(n) & {"\n", "\0"})


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
    waiting = [node]
    while waiting:
        found = waiting.pop()
        yield found
        checked = isinstance(found, ast.If) and _for_type_checkers(found)
        waiting += found.orelse if checked and isinstance(found, ast.If) else ast.iter_child_nodes(found)


def _imports(tree: ast.AST, name: str, *, is_package: bool) -> Iterator[str]:
    """``module:attribute`` of each name that is imported; the attribute is empty for ``import module``.

    What a package imports for type checkers counts: it passes those names on when they are asked for.
    """
    for node in ast.walk(tree) if is_package else _walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"{alias.name}:" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node.module or "", node.level, name, is_package=is_package)
            yield from (f"{module}:{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _called(node) in ("import_module", "__import__"):
            # A catalogue: a package that is imported by its literal name is there for all its modules.
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                module, level = named.value.lstrip("."), len(named.value) - len(named.value.lstrip("."))
                yield f"{_absolute(module, level, name, is_package=is_package)}:*"


def _absolute(module: str, level: int, name: str, *, is_package: bool) -> str:
    if not level:
        return module
    parts = name.split(".")
    base = parts if is_package else parts[:-1]
    base = base[: len(base) - level + 1]
    return ".".join([*base, *([module] if module else [])])


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


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


@cache
def source_file(name: str) -> Path | None:
    """The file of a module or package, found without importing anything; None when there is none."""
    top, *rest = name.split(".")
    file: Path | None
    if top == PLATFORM:
        folders = [str(Path(__file__).resolve().parents[1])]
        file = Path(folders[0]) / "__init__.py"
    elif top == "__main__":
        path = getattr(sys.modules[top], "__file__", None)
        return Path(path) if path and not rest else None
    else:
        spec = importlib.util.find_spec(top)
        if spec is None or (spec.origin is None and not spec.submodule_search_locations):
            return None
        file = Path(spec.origin) if spec.has_location and spec.origin else None
        folders = list(spec.submodule_search_locations or ())
    for part in rest:
        file, folders = _inside(folders, part)
        if file is None and not folders:
            return None
    return file


def _inside(folders: Sequence[str], part: str) -> tuple[Path | None, list[str]]:
    """The file of a module of a package, and where its own modules are; a folder without code is a namespace."""
    for folder in folders:
        package = Path(folder) / part
        if (package / "__init__.py").is_file():
            return package / "__init__.py", [str(package)]
        for suffix in importlib.machinery.all_suffixes():
            module = Path(folder) / f"{part}{suffix}"
            if module.is_file():
                return module, []
    spaces = [str(Path(folder) / part) for folder in folders if (Path(folder) / part).is_dir()]
    return None, spaces


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
    bare = _Undecorated(parts.imported)
    body = [bare.visit(copy.deepcopy(statement)) for statement in parts.defined[name]]
    node = ast.Module(body, [])
    text = ast.unparse(node)
    used = _globals(symtable.symtable(text.encode("utf-8", "replace").decode(), module, "exec"))
    found = set(_imports(node, module, is_package=parts.is_package))
    found.update(entry for n in used for entry in parts.imported.get(n, ()))
    if used & BY_NAME:  # whatever is in the module may be asked for
        found.add(f"{module}:")
    if any(n not in parts.defined and n not in parts.imported and not hasattr(builtins, n) for n in used):
        found.update(parts.starred)
    beside = _data_beside(parts.folder, _named_data(node)) if parts.folder else []
    return _Definition(
        _text_digest("\x00".join([text, *beside])),
        tuple(sorted(n for n in used if n in parts.defined and n != name)),
        tuple(sorted(found)),
    )


def _globals(table: symtable.SymbolTable) -> set[str]:
    """Names that a piece of source takes from its module: a parameter called like a function is none of them."""
    top = table.get_type() == "module"
    own = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return own.union(*(_globals(child) for child in table.get_children()))


@cache
def _module_version(module: str, modified: int) -> _Module:
    file = source_file(module)
    if file is None or file.suffix != ".py":
        return _Module({}, {}, (), is_package=False, folder=None)
    is_package = file.name == "__init__.py"
    tree = _Shaping().visit(_parsed(file.read_bytes(), str(file)))
    imported: dict[str, tuple[str, ...]] = {}
    starred: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            for a in node.names:
                alias = a.asname or a.name.partition(".")[0]
                imported[alias] = (*imported.get(alias, ()), f"{a.name}:")
        elif isinstance(node, ast.ImportFrom):
            for a, entry in zip(node.names, _imports(node, module, is_package=is_package), strict=True):
                if a.name == "*":
                    starred.append(entry)
                else:
                    imported[a.asname or a.name] = (*imported.get(a.asname or a.name, ()), entry)
    touching = [(s, *_touched(s)) for s in tree.body if not _imports_only(s)]
    own = {n for _, bound, _ in touching for n in bound}
    # A registry of one's own package may be changed from beside it; that of a library is not.
    own |= {n for n, entries in imported.items() if _registers(entries)}
    # What a statement calls may change whatever that reaches: a decorator, the registry that it writes to.
    reaches = {s.name: _names(s) & own for s in tree.body if isinstance(s, ast.FunctionDef | ast.ClassDef)}
    defined: dict[str, tuple[ast.stmt, ...]] = {}
    for statement, bound, changed in touching:
        for n in bound | _reached(changed & own, reaches):
            defined[n] = (*defined.get(n, ()), statement)
    return _Module(defined, imported, tuple(starred), is_package, file.parent)


def _reached(names: set[str], reaches: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += reaches.get(name, ())
    return found


def _registers(entries: Iterable[str]) -> bool:
    return any(_followed(e.partition(":")[0].partition(".")[0], frozenset()) for e in entries)


def _imports_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def _touched(node: ast.AST) -> tuple[set[str], set[str]]:
    """Names that a top-level statement binds, and those whose values it may change."""
    bound: set[str] = set()
    changed: set[str] = set()
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            bound.add(node.name)
            for decorator in node.decorator_list:  # one that registers what it decorates
                changed |= _names(decorator) if not _declares(decorator, None) else set()
        case ast.Import() | ast.ImportFrom():
            bound |= {a.asname or a.name.partition(".")[0] for a in node.names}
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign():
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                plain = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
                stored = {
                    n.id for n in ast.walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                }
                bound |= stored
                changed |= plain - stored
        case ast.Expr():
            changed |= _names(node) if not isinstance(node.value, ast.Constant) else set()
        case ast.If() if _is_main(node):
            pass
        case ast.stmt():  # a block: what is in it, and what it goes by
            for part in ast.iter_child_nodes(node):
                inner = _touched(part)
                bound |= inner[0]
                changed |= inner[1]
        case ast.ExceptHandler() | ast.match_case() | ast.withitem() | ast.expr():
            bound |= {
                n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.stmt):
                    inner = _touched(part)
                    bound |= inner[0]
                    changed |= inner[1]
    return bound, changed


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _is_main(node: ast.If) -> bool:
    return isinstance(node.test, ast.Compare) and "__name__" in _names(node.test)


def _acts(node: ast.stmt) -> bool:
    """Whether a top-level statement of a package does more than give names their values."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(
            isinstance(n, ast.Attribute | ast.Subscript) for target in targets for n in ast.walk(target)
        )
    if isinstance(node, ast.If | ast.Try):
        if isinstance(node, ast.If) and (_for_type_checkers(node) or _is_main(node)):
            return any(_acts(n) for n in node.orelse)
        handlers = [n for h in node.handlers for n in h.body] if isinstance(node, ast.Try) else []
        after = node.finalbody if isinstance(node, ast.Try) else []
        return any(_acts(n) for n in (*node.body, *handlers, *node.orelse, *after))
    return isinstance(node, ast.For | ast.While | ast.With | ast.Delete | ast.Match)


class _Undecorated(ast.NodeTransformer):
    """Drop what describes a function without shaping what it returns: decorators of declarations, and annotations.

    A decorator may read the annotations of what it decorates; then they stay.
    """

    def __init__(self, imported: Mapping[str, tuple[str, ...]]) -> None:
        self.imported = imported

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        return self._bare(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        return self._bare(node)

    def _bare(self, node: Any) -> Any:
        node.decorator_list = [d for d in node.decorator_list if not _declares(d, self.imported)]
        if {_decorator(d) for d in node.decorator_list} <= BLIND_TO_ANNOTATIONS:
            node.returns = None
            arguments = node.args
            every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            for argument in (*every, arguments.vararg, arguments.kwarg):
                if argument is not None:
                    argument.annotation = None
        self.generic_visit(node)
        return node


def _decorator(node: ast.AST) -> str:
    called = node.func if isinstance(node, ast.Call) else node
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _declares(decorator: ast.AST, imported: Mapping[str, tuple[str, ...]] | None) -> bool:
    """Whether a decorator is the one that declares a stage: the lineage's own, not another of that name."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(called, ast.Name):
        if imported is None:
            return called.id == "stage"
        entries = imported.get(called.id, ())
        return any(e.startswith(f"{PLATFORM}.lineage") and e.endswith(":stage") for e in entries)
    return isinstance(called, ast.Attribute) and called.attr == "stage"


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
