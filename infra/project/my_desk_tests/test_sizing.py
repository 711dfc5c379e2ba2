from quant_assets.testing import SizingContract


class TestInverseVolatility(SizingContract):
    """Finite weights, nothing held of what has no score, the inputs left as they were."""

    plugin = "my_desk.sizing:inverse_volatility"
