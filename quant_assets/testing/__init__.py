"""What a desk's own tests inherit: a base class for each kind of plug-in, with what the platform relies on."""

from typing import TYPE_CHECKING

from quant_assets.common.lazy import lazy_exports

if TYPE_CHECKING:
    from quant_assets.testing.cost_contract import CostContract
    from quant_assets.testing.feature_contract import FeaturePackContract
    from quant_assets.testing.gate_contract import CheckContract, GateContract
    from quant_assets.testing.label_contract import LabelContract
    from quant_assets.testing.learner_contract import LearnerContract, WeightsContract
    from quant_assets.testing.sizing_contract import SizingContract
    from quant_assets.testing.source_contract import SourceContract
else:
    __getattr__, __dir__ = lazy_exports(__name__)

__all__ = [
    "CheckContract",
    "CostContract",
    "FeaturePackContract",
    "GateContract",
    "LabelContract",
    "LearnerContract",
    "SizingContract",
    "SourceContract",
    "WeightsContract",
]
