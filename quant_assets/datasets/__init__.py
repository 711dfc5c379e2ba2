"""Labels with their times, and the training set with its manifest."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.datasets.label_kinds import make_labels, trailing_volatility
    from quant_assets.datasets.label_proof import prove_labels
    from quant_assets.datasets.labels import direction, forward_return_labels
    from quant_assets.datasets.training_set import assemble_training_set, feature_names_of, training_end
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "assemble_training_set",
    "direction",
    "feature_names_of",
    "forward_return_labels",
    "make_labels",
    "prove_labels",
    "trailing_volatility",
    "training_end",
]
