"""What the platform relies on of a desk's own portfolio scheme, as tests to inherit."""

from datetime import date
from typing import Any, ClassVar

import numpy as np
import polars as pl

from quant_assets.common.plugins import Plugin
from quant_assets.common.settings import PortfolioConfig
from quant_assets.testing.small_market import scores_on, small_market
from quant_assets.trading.account import Matrix
from quant_assets.trading.decision import Decision, Known
from quant_assets.trading.proof import nothing_later
from quant_assets.trading.sizing import target_weights

CAPITAL = 10_000_000.0


class SizingContract:
    """Tests of a scheme::

        class TestInverseVolatility(SizingContract):
            plugin = "my_desk.sizing:inverse_volatility"

    Attributes
    ----------
    plugin : str or mapping
        ``module:object``, or ``{"use": ..., "options": {...}}``.
    sectors : dict of str to str
        Of the market's names ``S000`` to ``S009``, where the scheme reads them.
    """

    plugin: ClassVar[Any]
    sectors: ClassVar[dict[str, str]] = {f"S{i:03d}": ("odd", "even")[i % 2] for i in range(10)}

    def portfolio(self) -> PortfolioConfig:
        """A portfolio that is weighed by the scheme."""
        return PortfolioConfig.model_validate({"scheme": self.plugin, "sectors": self.sectors})

    def market(self) -> pl.DataFrame:
        """Adjusted bars of ten names over two years, one of which begins late."""
        return small_market()

    def decision(self, at: int = 300) -> Decision:
        """What is known at a session of the market."""
        bars = self.market()
        day: date = bars["session"].unique().sort()[at]
        known = Known.of(bars, sorted(bars["symbol"].unique().to_list()), day, day)
        return known.at(0, self.portfolio(), CAPITAL)

    def scores(self, seed: int = 1) -> Matrix:
        """Scores of the ten names."""
        return np.random.default_rng(seed).normal(size=10)

    def test_it_gives_a_finite_weight_of_each_name_within_the_leverage(self) -> None:
        """Shape, finiteness and gross."""
        weights = target_weights(self.scores(), self.portfolio(), self.decision())
        assert weights.shape == (10,)
        assert np.isfinite(weights).all()
        assert np.abs(weights).sum() <= self.portfolio().gross_leverage + 1e-9

    def test_it_holds_something(self) -> None:
        """A scheme that never holds anything is judged on nothing."""
        assert target_weights(self.scores(), self.portfolio(), self.decision()).any()

    def test_the_same_numbers_give_the_same_weights_to_the_bit(self) -> None:
        """No randomness, no memory."""
        first, _other, again = (
            target_weights(self.scores(seed), self.portfolio(), self.decision()) for seed in (1, 2, 1)
        )
        assert first.tobytes() == again.tobytes()

    def test_a_name_without_a_score_is_not_held_and_breaks_nothing(self) -> None:
        """Names come and go."""
        scores = self.scores()
        scores[[2, 7]] = np.nan
        weights = target_weights(scores, self.portfolio(), self.decision())
        assert np.isfinite(weights).all()
        assert not weights[[2, 7]].any()

    def test_it_lives_through_sessions_of_which_little_is_known(self) -> None:
        """The first sessions have no volatility, and a name may be all there is."""
        early = self.decision(at=3)
        assert np.isfinite(target_weights(self.scores(), self.portfolio(), early)).all()
        alone = np.full(10, np.nan)
        alone[4] = 1.0
        assert np.isfinite(target_weights(alone, self.portfolio(), self.decision())).all()

    def test_it_looks_at_nothing_later_than_its_decision(self) -> None:
        """The experiment that the platform makes too."""
        bars = self.market()
        found = nothing_later(scores_on(bars), bars, self.portfolio(), CAPITAL)
        assert not found.moved, f"{Plugin.model_validate(self.plugin).use}: {'; '.join(found.moved)}"
