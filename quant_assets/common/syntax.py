"""A module read as syntax: what it imports, what its statements bind and change, and what of it shapes a value.

Nothing here follows an import: that is `quant_assets.common.provenance`.
"""

import ast
import importlib.machinery
import importlib.util
import symtable
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from quant_assets.common.errors import ConfigurationError
from quant_assets.common.hashing import bytes_digest

PLATFORM = "quant_assets"
# Decorators that do not look at annotations.
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
# Files beside a module that it names and that are as good as code.
DATA_SUFFIXES = (".j2", ".json", ".css", ".sql", ".html", ".yaml", ".yml", ".toml", ".csv", ".txt")


def text_digest(text: str) -> str:
    """SHA-256 of a text, whatever characters it holds."""
    return bytes_digest(text.encode("utf-8", "surrogatepass"))


def parsed(data: bytes, path: str) -> ast.Module:
    """The tree of a source."""
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


def named_data(tree: ast.AST) -> list[str]:
    """Constants of a piece of source that may be names of files."""
    constants = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
    texts = {c for c in constants if isinstance(c, str) and c.endswith(DATA_SUFFIXES)}
    return sorted(n for n in texts if len(n) < 200 and not set(n) & {"\n", "\0"})


class Shaping(ast.NodeTransformer):
    """Drop what shapes no value: docstrings, and imports for type checkers."""

    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        body = node.body
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip  # noqa: N815 (ast)

    def visit_If(self, node: ast.If) -> Any:
        """As the class says."""
        if for_type_checkers(node):
            return [self.visit(n) for n in node.orelse] or ast.Pass()
        return self.generic_visit(node)


def for_type_checkers(node: ast.AST) -> bool:
    """Whether a statement is for type checkers only."""
    return isinstance(node, ast.If) and (
        (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING")
        or (isinstance(node.test, ast.Attribute) and node.test.attr == "TYPE_CHECKING")
    )


def walked(node: ast.AST) -> Iterator[ast.AST]:
    """Every node that has an effect at run time."""
    waiting = [node]
    while waiting:
        found = waiting.pop()
        yield found
        checked = isinstance(found, ast.If) and for_type_checkers(found)
        waiting += found.orelse if checked and isinstance(found, ast.If) else ast.iter_child_nodes(found)


def imports_of(tree: ast.AST, name: str, *, is_package: bool) -> Iterator[str]:
    """``module:attribute`` of each name that is imported; the attribute is empty for ``import module``.

    What a package imports for type checkers counts: it passes those names on when they are asked for.
    """
    for node in ast.walk(tree) if is_package else walked(tree):
        if isinstance(node, ast.Import):
            yield from (f"{alias.name}:" for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = absolute(node.module or "", node.level, name, is_package=is_package)
            yield from (f"{module}:{alias.name}" for alias in node.names)
        elif (
            isinstance(node, ast.Call) and node.args and called_name(node) in ("import_module", "__import__")
        ):
            # A catalogue: a package that is imported by its literal name is there for all its modules.
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                module, level = named.value.lstrip("."), len(named.value) - len(named.value.lstrip("."))
                yield f"{absolute(module, level, name, is_package=is_package)}:*"


def absolute(module: str, level: int, name: str, *, is_package: bool) -> str:
    """The full name of a module that is imported relatively."""
    if not level:
        return module
    parts = name.split(".")
    base = parts if is_package else parts[:-1]
    base = base[: len(base) - level + 1]
    return ".".join([*base, *([module] if module else [])])


def called_name(node: ast.Call) -> str:
    """The last part of the name that is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def globals_of(table: symtable.SymbolTable) -> set[str]:
    """Names that a piece of source takes from its module: a parameter called like a function is none of them."""
    top = table.get_type() == "module"
    own = {s.get_name() for s in table.get_symbols() if s.is_referenced() and (top or s.is_global())}
    return own.union(*(globals_of(child) for child in table.get_children()))


def reached_by(names: set[str], reaches: Mapping[str, set[str]]) -> set[str]:
    """Names that are reached from these, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += reaches.get(name, ())
    return found


def imports_only(node: ast.stmt) -> bool:
    """Whether a statement is an import."""
    return isinstance(node, ast.Import | ast.ImportFrom)


def touched(node: ast.AST) -> tuple[set[str], set[str]]:
    """Names that a top-level statement binds, and those whose values it may change."""
    bound: set[str] = set()
    changed: set[str] = set()
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            bound.add(node.name)
            for decorator in node.decorator_list:  # one that registers what it decorates
                changed |= names_in(decorator) if not declares(decorator, None) else set()
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
            changed |= names_in(node) if not isinstance(node.value, ast.Constant) else set()
        case ast.If() if is_main(node):
            pass
        case ast.stmt():  # a block: what is in it, and what it goes by
            for part in ast.iter_child_nodes(node):
                inner = touched(part)
                bound |= inner[0]
                changed |= inner[1]
        case ast.ExceptHandler() | ast.match_case() | ast.withitem() | ast.expr():
            bound |= {
                n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
            for part in ast.iter_child_nodes(node):
                if isinstance(part, ast.stmt):
                    inner = touched(part)
                    bound |= inner[0]
                    changed |= inner[1]
    return bound, changed


def names_in(node: ast.AST) -> set[str]:
    """Every name in a tree."""
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def is_main(node: ast.If) -> bool:
    """Whether a statement only runs when the module is the program."""
    return isinstance(node.test, ast.Compare) and "__name__" in names_in(node.test)


def has_effects(node: ast.stmt) -> bool:
    """Whether a top-level statement of a package does more than give names their values."""
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(
            isinstance(n, ast.Attribute | ast.Subscript) for target in targets for n in ast.walk(target)
        )
    if isinstance(node, ast.If | ast.Try):
        if isinstance(node, ast.If) and (for_type_checkers(node) or is_main(node)):
            return any(has_effects(n) for n in node.orelse)
        handlers = [n for h in node.handlers for n in h.body] if isinstance(node, ast.Try) else []
        after = node.finalbody if isinstance(node, ast.Try) else []
        return any(has_effects(n) for n in (*node.body, *handlers, *node.orelse, *after))
    return isinstance(node, ast.For | ast.While | ast.With | ast.Delete | ast.Match)


class Undecorated(ast.NodeTransformer):
    """Drop what describes a function without shaping what it returns: decorators of declarations, and annotations.

    A decorator may read the annotations of what it decorates; then they stay.
    """

    def __init__(self, imported: Mapping[str, tuple[str, ...]]) -> None:
        self.imported = imported

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """As the class says."""
        return self._bare(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        """As the class says."""
        return self._bare(node)

    def _bare(self, node: Any) -> Any:
        node.decorator_list = [d for d in node.decorator_list if not declares(d, self.imported)]
        if {decorator_name(d) for d in node.decorator_list} <= BLIND_TO_ANNOTATIONS:
            node.returns = None
            arguments = node.args
            every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            for argument in (*every, arguments.vararg, arguments.kwarg):
                if argument is not None:
                    argument.annotation = None
        self.generic_visit(node)
        return node


def decorator_name(node: ast.AST) -> str:
    """The last part of a decorator's name."""
    called = node.func if isinstance(node, ast.Call) else node
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def declares(decorator: ast.AST, imported: Mapping[str, tuple[str, ...]] | None) -> bool:
    """Whether a decorator is the one that declares a stage: the lineage's own, not another of that name."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(called, ast.Name):
        if imported is None:
            return called.id == "stage"
        entries = imported.get(called.id, ())
        return any(e.startswith(f"{PLATFORM}.lineage") and e.endswith(":stage") for e in entries)
    return isinstance(called, ast.Attribute) and called.attr == "stage"


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
