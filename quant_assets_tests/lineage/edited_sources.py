"""Edits every module of a copy of the package, one expression at a time, and reports whose code version changed.

Run in a process of its own, with the copy first on the path. Prints JSON: for each edited place the assets whose code
version changed, and those whose closure holds the place.
"""

import ast
import importlib.util
import json
import sys
from pathlib import Path

import quant_assets
from quant_assets.common import provenance, syntax
from quant_assets.lineage.configured import load_settings
from quant_assets.lineage.graph import Lineage, Node

PACKAGE = Path(quant_assets.__file__).parent
# What was read of a file is kept by the state of the file.
CACHES = (provenance.closure_of, provenance.closure_of_modules)


class Edit(ast.NodeTransformer):
    """Replaces the last literal of a tree that has an effect at run time."""

    def __init__(self, tree: ast.AST) -> None:
        skipped = set[int]()
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                skipped.add(id(body[0].value))  # a docstring
            if isinstance(node, ast.If) and syntax.for_type_checkers(node):
                skipped |= {id(n) for n in ast.walk(node)}
            for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
                skipped |= {id(n) for n in ast.walk(part)} if part is not None else set()
            if isinstance(node, ast.JoinedStr):
                skipped |= {id(n) for n in ast.walk(node)}
            for decorator in getattr(node, "decorator_list", []):  # what a declaration says is in no version
                skipped |= {id(n) for n in ast.walk(decorator)}
        literals = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in skipped]
        self.chosen = literals[-1] if literals else None

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("edited") if node is self.chosen else node


def edited(source: str, definition: str | None) -> str | None:
    """The source with one expression of it (of one definition of it) changed; None when it has none."""
    tree = ast.parse(source)
    target: ast.AST = tree
    if definition is not None:
        target = next(n for n in tree.body if getattr(n, "name", None) == definition)
    edit = Edit(target)
    if edit.chosen is None:
        return None
    return ast.unparse(ast.fix_missing_locations(edit.visit(tree)))


def versions(nodes: list[Node]) -> dict[str, str]:
    """The code version of each asset, from the sources as they are now."""
    for cache in CACHES:
        cache.cache_clear()
    for node in nodes:
        for name in ("closure", "code_version"):
            node.__dict__.pop(name, None)
    return {"/".join(node.key): node.code_version for node in nodes}


def places() -> list[tuple[str, Path, str | None]]:
    """Every module; of those whose definitions count on their own, every function and class."""
    found: list[tuple[str, Path, str | None]] = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if module.startswith(provenance.SIDE_BY_SIDE):
            names = [
                n.name
                for n in ast.parse(file.read_text()).body
                if isinstance(n, ast.FunctionDef | ast.ClassDef)
            ]
            found += [(module, file, name) for name in names]
        else:
            found.append((module, file, None))
    return found


def main() -> None:
    nodes = list(Lineage(load_settings(Path(sys.argv[1]), Path("none"))).nodes.values())
    before = versions(nodes)
    report = {}
    for module, file, definition in places():
        source = file.read_text()
        changed_source = edited(source, definition)
        if changed_source is None:
            continue
        place = module if definition is None else f"{module}:{definition}"
        holding = [
            "/".join(n.key)
            for n in nodes
            if place in (n.closure.modules if definition is None else n.closure.definitions)
        ]
        file.write_text(changed_source)
        importlib.invalidate_caches()
        after = versions(nodes)
        file.write_text(source)
        report[place] = {"holding": holding, "changed": [k for k in before if after[k] != before[k]]}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main()
