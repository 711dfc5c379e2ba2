"""Temporary."""

from dataclasses import dataclass

from quant_assets.gates.verdicts import CPCV_GATES, DRIFT_GATES, PARITY_GATES


@dataclass(frozen=True)
class Gate:
    name: str
    description: str


def gates_of(kind: str) -> list[Gate]:
    """Temporary."""
    return [
        Gate(g, g) for g in {"validation": CPCV_GATES, "parity": PARITY_GATES, "drift": DRIFT_GATES}[kind]
    ]
