"""A desk's own cost: on top of ours, doubled where costs are, and never below nothing."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import CostConfig, PortfolioConfig
from quant_assets.testing.small_market import scores_on, small_market
from quant_assets.trading.portfolio import simulate


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], CostConfig]]:
    """Write a desk's cost model ``mine``; give costs with it."""
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(source: str) -> CostConfig:
        sys.modules.pop("own_costs", None)
        (tmp_path / "own_costs.py").write_text(f"import numpy as np\n{source}")
        return CostConfig.model_validate({"model": {"use": "own_costs:mine", "options": {"bps": 10.0}}})

    yield write
    sys.modules.pop("own_costs", None)


PER_TRADE = "def mine(traded, known, *, bps):\n    return np.abs(traded) * bps * 1e-4\n"


def test_it_is_a_column_of_its_own_and_doubled_with_the_others(desk: Callable[[str], CostConfig]) -> None:
    bars = small_market()
    scores = scores_on(bars, paths=2)
    ours = simulate(scores, bars, PortfolioConfig(), CostConfig())
    with_it = simulate(scores, bars, PortfolioConfig(), desk(PER_TRADE))
    # Ten basis points of what is traded are what a commission of ten more would be.
    dearer = simulate(scores, bars, PortfolioConfig(), CostConfig(commission_bps=10.5))
    assert "further_cost" not in ours.columns
    assert with_it["further_cost"].to_numpy() == pytest.approx(with_it["turnover"].to_numpy() * 1e-3)
    for column in ("net_return", "net_return_at_twice_costs"):
        assert with_it[column].to_numpy() == pytest.approx(dearer[column].to_numpy(), abs=1e-12)
    assert with_it.filter(pl.col("commission") < 0.0).is_empty()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def mine(traded, known, *, bps):\n    return -np.abs(traded)\n", "of which"),
        ("def mine(traded, known, *, bps):\n    return np.full(len(traded), np.nan)\n", "nan for S000"),
        ("def mine(traded, known, *, bps):\n    return 0.001\n", r"shape \(\)"),
        ("def mine(traded, known, *, bps):\n    raise OSError('no rates')\n", "OSError: no rates"),
        ("def mine(traded, known, *, bps):\n    traded *= 0\n    return traded\n", "read-only"),
        ("def mine(traded, known):\n    return traded\n", "TypeError"),
    ],
)
def test_what_is_no_cost_is_refused(desk: Callable[[str], CostConfig], source: str, says: str) -> None:
    bars = small_market(4, 60)
    with pytest.raises(ValidationError, match=f"own_costs:mine.*{says}"):
        simulate(scores_on(bars), bars, PortfolioConfig(), desk(source))


def test_it_is_told_the_fill_and_the_size_of_the_account(desk: Callable[[str], CostConfig]) -> None:
    bars = small_market(4, 60)
    costs = desk(
        "def mine(traded, known, *, bps):\n"
        "    assert known.symbols == ('S000', 'S001', 'S002', 'S003') and known.capital == 1e7\n"
        "    assert known.session.year == 2020 and len(known.sigma_daily) == len(known.adv_notional) == 4\n"
        "    return np.abs(traded) * 0\n"
    )
    free = simulate(scores_on(bars), bars, PortfolioConfig(), costs)
    assert free["further_cost"].to_list() == [0.0] * free.height
