"""The base classes that a desk's tests inherit: what is right passes, and what is planted wrong is found."""

import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import pytest

from quant_assets.common.errors import QuantAssetsError
from quant_assets.testing import CheckContract, CostContract, GateContract, SizingContract, SourceContract

DESK = """
import numpy as np
import polars as pl
from quant_assets.gates import Finding, TrackRecord, at_least, at_most
from quant_assets.trading import Decision, TradeContext

def inverse_volatility(scores: np.ndarray, known: Decision, *, floor: float = 0.005) -> np.ndarray:
    if np.isnan(scores).all():
        return np.zeros_like(scores)
    weights = np.where(np.isnan(scores), 0.0, scores - np.nanmean(scores))
    weights = weights / np.maximum(np.nan_to_num(known.sigma_daily, nan=np.inf), floor)
    gross = np.abs(weights).sum()
    return weights / gross if gross > 0 else weights

MEMORY = {}
def forgetful_of_nothing(scores, known):
    MEMORY.setdefault(known.session, len(MEMORY))
    return np.where(np.isnan(scores), 0.0, 0.05 + 0.001 * len(MEMORY) + 1e-4 * scores.sum())

CALLS = []
def counting(scores, known):
    CALLS.append(1)
    return np.where(np.isnan(scores), 0.0, 0.05 + 0.001 * len(CALLS))

def stamp_duty(traded: np.ndarray, known: TradeContext, *, bps: float = 50.0) -> np.ndarray:
    return np.maximum(traded, 0.0) * bps * 1e-4

def rebate(traded, known):
    return -0.0001 * np.abs(traded)

def a_fee_a_day(traded, known):
    return np.full(len(traded), 1e-5)

def max_turnover(seen: TrackRecord, *, most: float = 0.5) -> Finding:
    return at_most(seen.median.turnover_per_session, most, "turnover of the median path, a session")

def by_the_clock(seen):
    import time
    return at_most(time.time_ns(), 1e30, "nanoseconds")

def enough_rows(value: pl.DataFrame, *, least: int = 1000) -> Finding:
    return at_least(value.height, least, "rows")

def prices(symbols, start, end, *, holes=False):
    from quant_assets.testing.small_market import small_market
    bars = small_market(3, 200).filter(pl.col("session").is_between(start, end))
    if symbols is not None:
        bars = bars.filter(pl.col("symbol").is_in(list(symbols)))
    if holes:
        bars = bars.with_columns(close=pl.when(pl.col("symbol") == "S001").then(-1.0).otherwise("close"))
    return bars

def as_pandas(symbols, start, end):
    return prices(symbols, start, end).to_pandas().set_index(["symbol", "session"])
"""


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A project with a desk's module."""
    (tmp_path / "configs").mkdir()
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "the_desk.py").write_text(DESK)
    yield
    sys.modules.pop("the_desk", None)


class TestInverseVolatility(SizingContract):
    plugin: ClassVar[Any] = {"use": "the_desk:inverse_volatility", "options": {"floor": 0.002}}


class TestBuiltIn(SizingContract):
    plugin: ClassVar[Any] = "sector_neutral"


class TestStampDuty(CostContract):
    plugin: ClassVar[Any] = {"use": "the_desk:stamp_duty", "options": {"bps": 10.0}}

    def test_only_what_is_bought_is_taxed(self) -> None:
        assert self.paid(0.1, -0.2, 0.0, 0.0) == pytest.approx(1e-4)


class TestMaxTurnover(GateContract):
    plugin: ClassVar[Any] = "the_desk:max_turnover"


class TestEnoughRows(CheckContract):
    plugin: ClassVar[Any] = "the_desk:enough_rows"
    asset = "training_set"


class TestPrices(SourceContract):
    plugin: ClassVar[Any] = "the_desk:prices"
    symbols = ("S000", "S002")
    start, end = date(2020, 2, 3), date(2020, 6, 30)


class TestPandasPrices(TestPrices):
    plugin: ClassVar[Any] = "the_desk:as_pandas"


class _Memory(SizingContract):
    plugin: ClassVar[Any] = "the_desk:forgetful_of_nothing"


class _Counting(SizingContract):
    plugin: ClassVar[Any] = "the_desk:counting"


class _Rebate(CostContract):
    plugin: ClassVar[Any] = "the_desk:rebate"


class _Fee(CostContract):
    plugin: ClassVar[Any] = "the_desk:a_fee_a_day"


class _Clock(GateContract):
    plugin: ClassVar[Any] = "the_desk:by_the_clock"


class _Holes(TestPrices):
    plugin: ClassVar[Any] = {"use": "the_desk:prices", "options": {"holes": True}}
    symbols = ("S000", "S001")


PLANTED: dict[str, Callable[[], None]] = {
    "memory": lambda: _Memory().test_it_looks_at_nothing_later_than_its_decision(),
    "a scheme that is no function": lambda: (
        _Counting().test_the_same_numbers_give_the_same_weights_to_the_bit()
    ),
    "a negative cost": lambda: _Rebate().test_it_charges_a_finite_cost_of_at_least_nothing(),
    "a cost without a trade": lambda: _Fee().test_no_trade_costs_nothing(),
    "a gate that asks the clock": lambda: _Clock().test_the_same_record_gives_the_same_finding(),
    "rows that are no bars": lambda: _Holes().test_its_rows_are_bars(),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_planted_wrong_is_found(planted: str) -> None:
    with pytest.raises((AssertionError, QuantAssetsError)):
        PLANTED[planted]()
