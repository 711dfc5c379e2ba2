"""Splits: purged and embargoed, over label intervals: combinatorial, k-fold, walk-forward."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.splits.cpcv import CombinatorialPurgedCV, PurgedKFold, PurgedWalkForward
    from quant_assets.splits.purging import BoundSplitter, PurgedSplitter, Spans, read_spans
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "BoundSplitter",
    "CombinatorialPurgedCV",
    "PurgedKFold",
    "PurgedSplitter",
    "PurgedWalkForward",
    "Spans",
    "read_spans",
]
