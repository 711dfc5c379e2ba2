from quant_assets.testing import LabelContract


class TestCappedReturn(LabelContract):
    """No target sees a bar after the end of its own label."""

    label = "my_desk.labels:capped_return"
    horizon_sessions = 5
    options = {"cap": 0.2}
    target = "number"
