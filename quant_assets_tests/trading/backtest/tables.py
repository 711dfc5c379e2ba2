"""Small tables of scores and outcomes, and a reader of the part of JSON Schema that our schema uses."""

import re
from datetime import date, timedelta
from typing import Any

import numpy as np
import polars as pl

START = date(2024, 1, 1)


def long_table(symbols: list[str], **columns: list[list[float | None]]) -> pl.DataFrame:
    """One row per session and symbol; each column is a list of sessions, each a list of symbols."""
    sessions = len(next(iter(columns.values())))
    return pl.DataFrame(
        {
            "symbol": symbols * sessions,
            "session": [START + timedelta(days=t) for t in range(sessions) for _ in symbols],
            **{
                name: pl.Series([v for row in rows for v in row], dtype=pl.Float64)
                for name, rows in columns.items()
            },
        }
    )


def three_symbols() -> pl.DataFrame:
    """Three symbols, three sessions; the model's first choices are A, B and (by the alphabet, tied with B) A."""
    return long_table(
        ["A", "B", "C"],
        score=[[3, 2, 1], [1, 3, 2], [1, 1, 0]],
        forward_return=[[0.10, 0.02, -0.04], [0.00, -0.05, 0.05], [0.03, 0.01, 0.02]],
    )


def market(sessions: int = 90, symbols: int = 6, seed: int = 1) -> pl.DataFrame:
    """Scores and prices of a random market, with volumes and sizes."""
    rng = np.random.default_rng(seed)
    close = 80.0 * np.exp(np.cumsum(rng.normal(0, 0.02, (sessions, symbols)), axis=0))
    opens = close * np.exp(rng.normal(0, 0.01, close.shape))
    return long_table(
        [f"S{i}" for i in range(symbols)],
        score=rng.normal(size=close.shape).tolist(),
        open=opens.tolist(),
        close=close.tolist(),
        volume=rng.uniform(1e5, 9e5, close.shape).tolist(),
        market_cap=(close * 1e6).tolist(),
    )


_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
    "integer": (int,), "number": (int, float),
}  # fmt: skip


def schema_violations(value: Any, schema: dict[str, Any], root: dict[str, Any], at: str = "$") -> list[str]:
    """What of ``value`` breaks ``schema`` (type, enum, const, bounds, pattern, required, items, anyOf, $ref)."""
    if "$ref" in schema:
        return schema_violations(value, root["$defs"][schema["$ref"].rsplit("/", 1)[1]], root, at)
    if "anyOf" in schema:
        tried = [schema_violations(value, option, root, at) for option in schema["anyOf"]]
        return [] if [] in tried else tried[0]
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    found = []
    if types and not any(
        isinstance(value, _TYPES[t]) and (t == "boolean" or not isinstance(value, bool)) for t in types
    ):
        return [f"{at}: {value!r} is not {types}"]
    if "const" in schema and value != schema["const"]:
        found.append(f"{at}: {value!r} is not {schema['const']!r}")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} is not in {schema['enum']}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        for word, broken in (
            ("minimum", value < schema.get("minimum", value)),
            ("maximum", value > schema.get("maximum", value)),
            ("exclusiveMinimum", "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]),
        ):
            if broken:
                found.append(f"{at}: {value} breaks {word} {schema[word]}")
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{at}: {value!r} does not match {schema['pattern']}")
    if isinstance(value, list):
        for i, item in enumerate(value):
            found += schema_violations(item, schema["items"], root, f"{at}[{i}]")
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        found += [f"{at}: no {name}" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            inner = properties.get(name, others)
            if inner is False:
                found.append(f"{at}: {name} is not in the schema")
            else:
                found += schema_violations(item, inner, root, f"{at}.{name}")
    return found
