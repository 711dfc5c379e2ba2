from quant_assets.testing import FeaturePackContract

from my_desk.features import momentum_v1


class TestMomentum(FeaturePackContract):
    """Causal, its warm-up enough, the same whatever splits come later."""

    pack = momentum_v1
