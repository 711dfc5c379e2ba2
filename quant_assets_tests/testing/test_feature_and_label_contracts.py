"""The base classes of a desk's tests: what is sound passes them, each planted fault fails the one that says so."""

import inspect
from typing import Any, ClassVar

import pandas as pd
import polars as pl
import pytest

from quant_assets.common.errors import QuantAssetsError
from quant_assets.datasets import forward_return_labels
from quant_assets.features import expression_pack, function_pack
from quant_assets.testing import FeaturePackContract, LabelContract

CLOSE = pl.col("close")
CALLS = iter(range(1_000_000))


def drifting(bars: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"x": bars["close"].pct_change() + 1e-3 * next(CALLS)})


def capped(
    bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int, cap: float = 0.1
) -> pl.DataFrame:
    made = forward_return_labels(bars, sessions, horizon_sessions=horizon_sessions)
    return made.with_columns(target=pl.col("forward_return").clip(-cap, cap))


def late(bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int) -> pl.DataFrame:
    made = forward_return_labels(bars, sessions, horizon_sessions=horizon_sessions)
    long = forward_return_labels(bars, sessions, horizon_sessions=2 * horizon_sessions)
    return made.join(long.select("symbol", "session", target="forward_return"), on=["symbol", "session"])


def always(bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int) -> pl.DataFrame:
    made = forward_return_labels(bars, sessions, horizon_sessions=horizon_sessions)
    return made.with_columns(target=(pl.col("forward_return") > -1).cast(pl.Int64))


class TestSoundExpressions(FeaturePackContract):
    pack = expression_pack(
        "a_v1", {"x": CLOSE.pct_change(20)}, across={"rank": pl.col("x").rank() / pl.col("x").count()}
    )


class TestSoundLabel(LabelContract):
    label = capped
    options: ClassVar[dict[str, Any]] = {"cap": 0.05}


class TestTripleBarrier(LabelContract):
    label = "triple_barrier"
    target = "class"


def failing(contract: type, **attributes: Any) -> set[str]:
    """Names of the inherited tests that fail."""
    trial = type("Trial", (contract,), attributes)
    found = set()
    for name, test in inspect.getmembers(trial(), inspect.ismethod):
        if name.startswith("test_"):
            try:
                test()
            except (AssertionError, QuantAssetsError):
                found.add(name)
    return found


@pytest.mark.parametrize(
    ("pack", "expected"),
    [
        (
            expression_pack("a_v1", {"x": CLOSE.shift(-1) / CLOSE - 1}),
            "test_no_value_changes_when_later_bars_change",
        ),
        (
            expression_pack("a_v1", {"x": CLOSE.rolling_mean(3)}),
            "test_no_value_changes_when_prices_or_volumes_are_rescaled",
        ),
        (
            function_pack("a_v1", drifting, features=["x"], warm_up=2000),
            "test_two_computations_have_the_same_bits",
        ),
    ],
)
def test_each_fault_of_a_pack_fails_the_test_that_says_so(pack: Any, expected: str):
    assert expected in failing(FeaturePackContract, pack=pack, n_symbols=4)


@pytest.mark.parametrize(
    ("label", "target", "expected"),
    [
        (late, None, "test_no_target_uses_bars_after_its_own_t1"),
        (always, "class", "test_it_fits_into_a_training_set"),
        (always, "class", "test_it_depends_on_what_happens_after_the_decision"),
        (capped, "class", "test_its_rows_keep_the_contract"),
    ],
)
def test_each_fault_of_a_label_fails_the_test_that_says_so(label: Any, target: str | None, expected: str):
    assert expected in failing(LabelContract, label=staticmethod(label), target=target, n_sessions=200)
