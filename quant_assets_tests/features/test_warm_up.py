"""The declared warm-up, measured: after it a shortened history gives the same feature."""

import numpy as np
import polars as pl
import pytest

from quant_assets.features import compute
from quant_assets.features.kernels.windows import STRETCH
from quant_assets_tests.features.panels import NAMES, TECHNICAL, random_walks, real_bars, same_bits

WINDOWED = [f.name for f in TECHNICAL.features if f.warm_up == f.lookback]


def truncation_errors(bars: pl.DataFrame, every: int, length: int) -> np.ndarray:
    """Largest error per feature and bar of a history that starts anew at every such session (in sd)."""
    full = compute(bars, precision="float64", mask=False)
    spread = full.select(pl.col(NAMES).std()).to_numpy()[0]
    worst = np.zeros((length, len(NAMES)))
    for (symbol,), history in bars.sort("symbol", "session").group_by("symbol", maintain_order=True):
        starts = range(0, history.height - length, every)
        if not starts:
            continue
        copies = [history.slice(k, length).with_columns(symbol=pl.lit(f"{k:06d}")) for k in starts]
        short = compute(pl.concat(copies), precision="float64", mask=False).select(NAMES).to_numpy()
        whole = full.filter(pl.col("symbol") == symbol).select(NAMES).to_numpy()
        for at, k in enumerate(starts):
            error = np.abs(short[at * length : (at + 1) * length] - whole[k : k + length]) / spread
            worst = np.fmax(worst, error)
    return worst


@pytest.mark.parametrize(
    ("bars", "every"),
    [(real_bars(), 9), (random_walks(12, 2000, seed=23), 40)],
    ids=["real bars", "random walks"],
)
def test_after_the_warm_up_a_dropped_past_moves_no_feature_by_a_millionth_of_its_spread(
    bars: pl.DataFrame, every: int
) -> None:
    errors = truncation_errors(bars, every, 700)
    for feature, column in zip(TECHNICAL.features, errors.T, strict=True):
        assert column[feature.warm_up :].max() <= 1e-6, feature.name
        if feature.warm_up > feature.lookback:  # and the mask does not hide much more than it must
            assert column[: feature.warm_up - 60].max() > 1e-6, feature.name


def test_a_windowed_feature_is_a_function_of_its_window_to_the_bit() -> None:
    bars = random_walks(3, 900)
    full = compute(bars, precision="float64", mask=False)
    for first in (1, 37, 250, 611):
        kept = pl.col("session").to_physical() >= first
        short = compute(bars.filter(kept), precision="float64", mask=False).select(
            "symbol", "session", *WINDOWED
        )
        defined = pl.col("session").to_physical() >= first + 200
        whole = full.select("symbol", "session", *WINDOWED)
        assert same_bits(short.filter(defined), whole.filter(defined))


@pytest.mark.parametrize("first", [1, 2047, 2048, 2049, 3000])
def test_where_a_stretch_of_bars_begins_changes_no_bit_of_a_windowed_feature(first: int) -> None:
    bars = random_walks(1, 2 * STRETCH + 150)
    keys = ("symbol", "session")
    whole = compute(bars, precision="float64", mask=False).select(*keys, *WINDOWED)[first + 200 :]
    short = compute(bars[first:], precision="float64", mask=False).select(*keys, *WINDOWED)[200:]
    assert same_bits(short, whole)


def test_a_longer_future_changes_no_bit_whether_or_not_it_fills_the_stretch() -> None:
    bars = random_walks(1, 2 * STRETCH + 1)
    whole = compute(bars, precision="float64", mask=False)
    for length in (39, 40, 41, STRETCH - 1, STRETCH, STRETCH + 1, 2 * STRETCH):
        assert same_bits(compute(bars[:length], precision="float64", mask=False), whole[:length]), length


def test_the_recursive_features_are_the_ten_that_carry_an_average() -> None:
    recursive = [name for name in NAMES if name not in WINDOWED]
    assert recursive == [
        "rsi_14", "rsi_21", "macd", "macd_signal", "macd_hist", "adx_14", "plus_di_14", "minus_di_14",
        "atr_14", "obv_ema",
    ]  # fmt: skip
