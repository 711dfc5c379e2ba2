"""Runtimes: what can score a model, how fast each is, and whether each decides as the model does."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.artifacts.runtimes.tournament import (
        Plan,
        contestant_table,
        latency_plot,
        latency_table,
        pair_table,
        run_tournament,
        summary,
        winners,
    )
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "Plan",
    "contestant_table",
    "latency_plot",
    "latency_table",
    "pair_table",
    "run_tournament",
    "summary",
    "winners",
]
