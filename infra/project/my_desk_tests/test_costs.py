from quant_assets.testing import CostContract


class TestStampDuty(CostContract):
    """Never below zero, and nothing for no trade."""

    plugin = "my_desk.costs:stamp_duty"
