"""Indicators in declared, versioned packs, proven causal, computed in one pass over the panel."""

from quant_assets.features.causality import CausalityReport, Violation, prove_causal
from quant_assets.features.computation import across_symbols, compute, symbol_inputs
from quant_assets.features.declaration import CrossSection, Feature
from quant_assets.features.pack import Pack, find_pack, packs, register
from quant_assets.features.selection import require_unmasked

__all__ = [
    "CausalityReport",
    "CrossSection",
    "Feature",
    "Pack",
    "Violation",
    "across_symbols",
    "compute",
    "find_pack",
    "packs",
    "prove_causal",
    "register",
    "require_unmasked",
    "symbol_inputs",
]
