"""Purged splitters: `quant_assets.splits` under the name that notebooks import."""

from quant_assets.splits.cpcv import CombinatorialPurgedCV, PurgedKFold, PurgedWalkForward

__all__ = ["CombinatorialPurgedCV", "PurgedKFold", "PurgedWalkForward"]
