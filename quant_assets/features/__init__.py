"""Indicators in declared, versioned packs, proven causal, computed in one pass over the panel."""

from quant_assets.features.causality import CausalityReport, Violation, prove_causal
from quant_assets.features.computation import across_symbols, compute, symbol_inputs
from quant_assets.features.pack import (
    CrossSection,
    Feature,
    Pack,
    find_pack,
    join_packs,
    joined_names,
    packs,
    register,
    require_unmasked,
    selected_packs,
)

__all__ = [
    "CausalityReport",
    "CrossSection",
    "Feature",
    "Pack",
    "Violation",
    "across_symbols",
    "compute",
    "find_pack",
    "join_packs",
    "joined_names",
    "packs",
    "prove_causal",
    "register",
    "require_unmasked",
    "selected_packs",
    "symbol_inputs",
]
