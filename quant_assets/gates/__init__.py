"""Gates between a candidate and production: one object each, their limits, their verdicts, and who is admitted."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.gates.admission import admit, closed_reasons, foreign_limits
    from quant_assets.gates.cases import DriftCase, GraphParity, ParityCase, StudentParity, ValidationCase
    from quant_assets.gates.desk_gates import Finding, TrackRecord, at_least, at_most
    from quant_assets.gates.evidence import judge_candidate
    from quant_assets.gates.gate import (
        Gate,
        Limit,
        find_gate,
        gate_modules,
        gate_names,
        gates,
        gates_of,
        gates_table,
        register,
        unregister,
    )
    from quant_assets.gates.limits import DriftConfig, GatesConfig, limits_in_force
    from quant_assets.gates.verdicts import GateReport, Verdict
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "DriftCase",
    "DriftConfig",
    "Finding",
    "Gate",
    "GateReport",
    "GatesConfig",
    "GraphParity",
    "Limit",
    "ParityCase",
    "StudentParity",
    "TrackRecord",
    "ValidationCase",
    "Verdict",
    "admit",
    "at_least",
    "at_most",
    "closed_reasons",
    "find_gate",
    "foreign_limits",
    "gate_modules",
    "gate_names",
    "gates",
    "gates_of",
    "gates_table",
    "judge_candidate",
    "limits_in_force",
    "register",
    "unregister",
]
