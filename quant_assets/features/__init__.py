"""Indicators in declared, versioned packs, proven causal, computed in one pass over the panel."""

from quant_assets.features.causality import CausalityReport, Violation, prove_causal
from quant_assets.features.computation import across_symbols, compute, symbol_inputs
from quant_assets.features.desk_packs import expression_pack, function_pack
from quant_assets.features.feature import CrossSection, Feature
from quant_assets.features.masks import require_unmasked
from quant_assets.features.pack import (
    Pack,
    find_pack,
    join_packs,
    joined_names,
    packs,
    register,
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
    "expression_pack",
    "find_pack",
    "function_pack",
    "join_packs",
    "joined_names",
    "packs",
    "prove_causal",
    "register",
    "require_unmasked",
    "selected_packs",
    "symbol_inputs",
]
