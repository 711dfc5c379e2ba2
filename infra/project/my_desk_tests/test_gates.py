from quant_assets.testing import GateContract


class TestMaxTurnover(GateContract):
    """One finding about each track record, the same each time."""

    plugin = "my_desk.gates:max_turnover"
