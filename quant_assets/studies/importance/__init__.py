"""Importance and diversity: which features and which members of the ensemble earn their place, out of sample."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.studies.importance import importance_page
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "importance_page",
]
