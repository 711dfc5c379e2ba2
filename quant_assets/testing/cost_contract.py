"""What the platform relies on of a desk's own cost model, as tests to inherit."""

from typing import Any, ClassVar

import numpy as np

from quant_assets.common.settings import CostConfig
from quant_assets.trading.account import Matrix
from quant_assets.trading.further_costs import Charge, charge_of

SYMBOLS = ("AAA", "BBB", "CCC", "DDD")


class CostContract:
    """Tests of a cost model::

        class TestStampDuty(CostContract):
            plugin = "my_desk.costs:stamp_duty"

    Attributes
    ----------
    plugin : str or mapping
        ``module:object``, or ``{"use": ..., "options": {...}}``.
    """

    plugin: ClassVar[Any]

    def charge(self) -> Charge:
        """What an account of four names pays; the second name's liquidity is not known."""
        sessions = np.array(["2024-01-02", "2024-01-03"], dtype="datetime64[D]")
        sigma = np.array([[0.02, np.nan, 0.01, 0.03]] * 2)
        adv = np.array([[1e8, np.nan, 5e7, 1e6]] * 2)
        made = charge_of(CostConfig.model_validate({"model": self.plugin}), sessions, SYMBOLS, sigma, adv)
        assert made is not None
        return made

    def paid(self, *traded: float) -> float:
        """What is paid for trading these fractions of capital."""
        trades: Matrix = np.array([traded])
        return float(self.charge()(0, trades)[0])

    def test_it_charges_a_finite_cost_of_at_least_nothing(self) -> None:
        """Bought, sold, both, and names of which nothing is known."""
        for traded in (
            (0.1, 0.0, 0.0, 0.0),
            (-0.1, 0.2, 0.0, -0.3),
            (1.0, 1.0, 1.0, 1.0),
            (1e-9, 0, 0, -1e-9),
        ):
            assert np.isfinite(self.paid(*traded))
            assert self.paid(*traded) >= 0.0

    def test_no_trade_costs_nothing(self) -> None:
        """A cost of holding is no cost of trading."""
        assert self.paid(0.0, 0.0, 0.0, 0.0) == 0.0

    def test_the_same_trade_costs_the_same(self) -> None:
        """No randomness, no memory."""
        first = self.paid(0.1, -0.2, 0.3, 0.0)
        self.paid(0.5, 0.5, 0.5, 0.5)
        assert self.paid(0.1, -0.2, 0.3, 0.0) == first

    def test_trading_more_is_never_cheaper(self) -> None:
        """Twice the trade costs at least as much."""
        assert self.paid(0.2, -0.4, 0.2, 0.0) >= self.paid(0.1, -0.2, 0.1, 0.0)
