"""Content hashing: one function per kind of thing, all SHA-256, none of them over file formats.

Parquet bytes change with the writer's version, so a frame is hashed by its *logical* content: column names,
dtypes, validity and values. A code fingerprint hashes the syntax tree without docstrings, so that a comment
changes nothing and a changed constant changes everything.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from quant_assets.common.errors import ConfigurationError


def bytes_digest(data: bytes) -> str:
    """SHA-256 of raw bytes as 64 hexadecimal characters."""
    return hashlib.sha256(data).hexdigest()


def canonical_json(value: Any) -> bytes:
    """Encode plain data as canonical JSON: sorted keys, no spaces, no NaN, UTF-8.

    Raises
    ------
    ValueError
        When ``value`` holds NaN or infinity, which JSON cannot carry.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def json_digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of plain data."""
    return bytes_digest(canonical_json(value))


def frame_digest(frame: pl.DataFrame, metadata: Mapping[str, str] | None = None) -> str:
    """SHA-256 of a frame's logical content: names, dtypes, validity, values, in row order.

    Parameters
    ----------
    frame : polars.DataFrame
        Any frame of flat columns (numbers, strings, booleans, dates, datetimes).
    metadata : mapping of str to str, optional
        Facts that travel with the frame and are part of its identity.

    Notes
    -----
    NaN payloads and the sign of zero are kept: two frames are equal only when their bits are. Values under a
    null are not read.
    """
    digest = hashlib.sha256()
    digest.update(json_digest(dict(metadata or {})).encode())
    digest.update(str(frame.height).encode())
    for series in frame.get_columns():
        digest.update(f"\x00{series.name}\x00{series.dtype}\x00".encode())
        validity = series.is_not_null()
        digest.update(b"\x01" if validity.all() else validity.cast(pl.UInt8).to_numpy().tobytes())
        if series.dtype == pl.String:
            text = series.fill_null("")
            digest.update(text.str.len_bytes().to_numpy().tobytes())
            digest.update("".join(text.to_list()).encode())
        else:
            values = series.to_physical()
            if values.dtype == pl.Boolean:
                values = values.cast(pl.UInt8)
            digest.update(values.fill_null(0).to_numpy().tobytes())
    return digest.hexdigest()


class _WithoutDocstrings(ast.NodeTransformer):
    """Drop docstrings, so that editing one leaves the fingerprint alone."""

    def _strip(self, node: Any) -> Any:
        self.generic_visit(node)
        body = node.body
        if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            node.body = body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip  # noqa: N815 (ast)


def _module_files(name: str) -> list[tuple[str, Path]]:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"code fingerprint of {name!r}",
            expected="an importable module or package",
            found="none of that name",
            action="correct the module list of the asset",
        )
    origin = Path(spec.origin)
    if not spec.submodule_search_locations:
        return [(name, origin)]
    root = origin.parent
    return [
        (f"{name}/{file.relative_to(root).as_posix()}", file)
        for file in sorted(root.rglob("*"))
        if file.suffix in (".py", ".j2")
    ]


@cache
def code_fingerprint(modules: tuple[str, ...], libraries: tuple[str, ...] = ()) -> str:
    """Fingerprint of the code that shapes a result: 16 hexadecimal characters.

    Parameters
    ----------
    modules : tuple of str
        Modules or packages, by dotted name. Packages count with everything below them. None is imported.
    libraries : tuple of str
        Distributions whose version shapes the result, as in ``("numba", "numpy")``.
    """
    digest = hashlib.sha256()
    for name in modules:
        for label, file in _module_files(name):
            text = file.read_text(encoding="utf-8")
            if file.suffix == ".py":
                # Source text of the tree: its dump has other field names in each Python version.
                text = ast.unparse(_WithoutDocstrings().visit(ast.parse(text)))
            digest.update(f"{label}\x00{text}\x00".encode())
    for library in libraries:
        digest.update(f"{library}=={importlib.metadata.version(library)}\x00".encode())
    return digest.hexdigest()[:16]


def combined_fingerprint(parts: Iterable[str]) -> str:
    """Fingerprint of several fingerprints in a fixed order: 40 hexadecimal characters.

    40 characters, because a Dagster tag value ends at 63 and a full digest has 64.
    """
    return bytes_digest("\x00".join(parts).encode())[:40]
