"""Indicators in declared, versioned packs, proven causal, computed in one pass over the panel."""

from quant_assets.features.causality import CausalityReport, Violation, prove_causal
from quant_assets.features.computation import compute
from quant_assets.features.cross_section import across_symbols, symbol_inputs
from quant_assets.features.declaration import CrossSection, Feature
from quant_assets.features.masks import require_unmasked
from quant_assets.features.pack import Pack, find_pack, packs, register

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
