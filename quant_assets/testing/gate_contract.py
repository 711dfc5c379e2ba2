"""What the platform relies on of a desk's own gate or check, as tests to inherit."""

import math
from typing import Any, ClassVar

import polars as pl

from quant_assets.common.plugins import Plugin
from quant_assets.gates.apart import asked_apart
from quant_assets.gates.desk_gates import Finding
from quant_assets.gates.details import plain_json
from quant_assets.testing.small_market import scores_on, small_market


def _found(plugin: Any, kind: str, **shown: Any) -> Finding:
    found = asked_apart(Plugin.model_validate(plugin), kind, **shown)
    assert isinstance(found, Finding), found
    return found


class GateContract:
    """Tests of a gate, which is asked as the platform asks it: in a process of its own::

        class TestMaxTurnover(GateContract):
            plugin = "my_desk.gates:max_turnover"

    Attributes
    ----------
    plugin : str or mapping
        ``module:object``, or ``{"use": ..., "options": {...}}``.
    """

    plugin: ClassVar[Any]

    def shown(self) -> dict[str, Any]:
        """A track record of two paths over two years, of scores without meaning."""
        from dataclasses import asdict

        from quant_assets.common.settings import CostConfig, PortfolioConfig
        from quant_assets.trading.paths import median_path, path_returns, path_statistics

        bars = small_market()
        paths = path_returns(scores_on(bars, paths=2), bars, PortfolioConfig(), CostConfig())
        statistics = path_statistics(paths, 252.0)
        told = {
            "strategy": "contract",
            "periods_per_year": 252.0,
            "paths": [plain_json(asdict(path)) for path in statistics],
            "median_path": median_path(statistics).path,
            "n_trials": 3,
            "verdicts": {"cpcv_sharpe": "fail"},
        }
        return {"frame": paths, "told": told}

    def test_it_finds_a_number_and_its_limit(self) -> None:
        """A finding with finite numbers and words for people."""
        found = _found(self.plugin, "a gate", **self.shown())
        assert math.isfinite(found.observed)
        assert math.isfinite(found.limit)
        assert found.quantity

    def test_the_same_record_gives_the_same_finding(self) -> None:
        """Promotion asks again, and what differs is refused."""
        shown = self.shown()
        assert _found(self.plugin, "a gate", **shown) == _found(self.plugin, "a gate", **shown)


class CheckContract:
    """Tests of a check, asked in a process of its own::

        class TestEnoughRows(CheckContract):
            plugin = "my_desk.checks:enough_rows"
            asset = "training_set"

    Attributes
    ----------
    plugin : str or mapping
    asset : str
        Of what it is a check. Override `value` to give what it is shown.
    """

    plugin: ClassVar[Any]
    asset: ClassVar[str]

    def value(self) -> Any:
        """What the check is shown: a frame, or plain data. By default bars of a small market with scores."""
        bars = small_market()
        return bars.join(scores_on(bars), on=["symbol", "session"])

    def test_it_finds_a_number_and_its_limit(self) -> None:
        """A finding with finite numbers, the same when it is asked again."""
        value = self.value()
        shown = {"frame": value} if isinstance(value, pl.DataFrame) else {"value": value}
        first, again = (_found(self.plugin, "a check", **shown) for _ in range(2))
        assert first == again
        assert math.isfinite(first.observed)
        assert math.isfinite(first.limit)
