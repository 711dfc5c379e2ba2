"""Indicators in declared, versioned packs, proven causal, computed in one pass over the panel."""

from quant_assets.features.causality import CausalityReport, Violation, prove_causal
from quant_assets.features.computation import compute
from quant_assets.features.pack import Feature, Pack, find_pack, packs, register

__all__ = [
    "CausalityReport",
    "Feature",
    "Pack",
    "Violation",
    "compute",
    "find_pack",
    "packs",
    "prove_causal",
    "register",
]
