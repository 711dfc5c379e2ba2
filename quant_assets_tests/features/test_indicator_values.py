"""The 29 features against TA-Lib, exactly rounded arithmetic and their declared degenerate values."""

import math

import numpy as np
import polars as pl
import pytest
import talib

from quant_assets.features import compute
from quant_assets_tests.features.panels import NAMES, irregular_bars, one_symbol, random_walks, real_bars

# Their largest window is 200: FB of the real bars (196) has no nma_200, in TA-Lib neither.
PANELS = {
    "random walks": random_walks(8, 1500),
    "real bars": real_bars(),
    "short": random_walks(6, 36, seed=3),
    "three stretches of bars": random_walks(2, 4200, seed=17),
    "late, early, with holes": irregular_bars().filter(pl.len().over("symbol") > 30),
}


def talib_features(bars: pl.DataFrame) -> dict[str, np.ndarray]:
    high, low, close, volume = (
        bars[name].cast(pl.Float64).to_numpy() for name in ("high", "low", "close", "volume")
    )
    upper, middle, lower = talib.BBANDS(close, 20, 2, 2)
    macd, signal, histogram = talib.MACD(close, 12, 26, 9)
    daily = talib.ROCP(close, 1)
    k, d = talib.STOCHF(high, low, close, 14, 3, 0)
    balance = talib.OBV(close, volume)
    flow = np.full(close.size, np.nan)
    flow[20:] = (balance[20:] - balance[:-20]) / talib.SUM(volume, 20)[20:]

    def after(first: int, values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.full(first, np.nan), values])

    return {
        **{f"nma_{n}": close / talib.SMA(close, n) - 1 for n in (9, 20, 50, 200)},
        "bb_pct": (close - lower) / (upper - lower),
        "bb_width": (upper - lower) / middle,
        **{f"volume_z_{n}": (volume - talib.SMA(volume, n)) / talib.STDDEV(volume, n) for n in (20, 50)},
        **{f"rsi_{n}": talib.RSI(close, n) for n in (14, 21)},
        **{f"roc_{n}": talib.ROC(close, n) for n in (10, 20)},
        "macd": macd / close,
        "macd_signal": signal / close,
        "macd_hist": histogram / close,
        "adx_14": talib.ADX(high, low, close, 14),
        "plus_di_14": talib.PLUS_DI(high, low, close, 14),
        "minus_di_14": talib.MINUS_DI(high, low, close, 14),
        "atr_14": talib.ATR(high, low, close, 14) / close,
        **{f"sigma_{n}": after(1, talib.STDDEV(daily[1:], n)) for n in (20, 50)},
        "stoch_k": k,
        "stoch_d": d,
        "obv": flow,
        "obv_ema": after(20, talib.EMA(flow[20:], 20)),
        **{f"ret_{n}": talib.ROCP(close, n) for n in (1, 5, 10, 20)},
    }


@pytest.mark.parametrize("panel", PANELS)
def test_every_feature_equals_talib_to_one_part_in_a_billion(panel: str) -> None:
    bars = PANELS[panel]
    ours = compute(bars, precision="float64", mask=False)
    for (symbol,), history in bars.group_by("symbol", maintain_order=True):
        mine = ours.filter(pl.col("symbol") == symbol)
        theirs = talib_features(history)
        assert set(theirs) == set(NAMES)
        for name in NAMES:
            expected = theirs[name]
            values = mine[name].to_numpy()
            # TA-Lib prints %K only where %D exists too: two bars after the first range of 14
            defined = ~np.isnan(expected)
            extra = 2 if name == "stoch_k" and expected.size > 13 else 0
            assert np.isnan(values).sum() == max(0, (~defined).sum() - extra), (symbol, name)
            if not defined.any():
                continue
            # A difference of two prices is accurate to its usual size, not to its size when it is near 0
            scale = np.maximum(np.abs(expected[defined]), expected[defined].std())
            error = np.abs(values[defined] - expected[defined]) / scale
            assert error.max() <= 1e-9, (symbol, name, error.max())


def test_moments_keep_their_digits_on_values_near_a_billion_that_hardly_differ() -> None:
    rng = np.random.default_rng(2)
    volume = 1e9 + rng.integers(
        0, 50, 300
    )  # mean / sd = 7e7: a sum of squares keeps no digit of the variance
    close = 1e6 + rng.integers(0, 40, 300) / 64
    features = compute(one_symbol(close, volume=volume), mask=False, precision="float64")
    for t in range(60, 300, 7):
        for name, window in (("volume_z_20", 20), ("volume_z_50", 50)):
            part = volume[t - window + 1 : t + 1]
            mean = math.fsum(part) / window
            sd = math.sqrt(math.fsum((part - mean) ** 2) / window)
            assert features[name][t] == pytest.approx((volume[t] - mean) / sd, abs=1e-7)
        part = close[t - 19 : t + 1]
        mean = math.fsum(part) / 20
        sd = math.sqrt(math.fsum((part - mean) ** 2) / 20)
        assert features["bb_width"][t] == pytest.approx(4 * sd / mean, rel=1e-9)


@pytest.mark.parametrize("price", [0.1 + 0.2, 987654.321, 1e9 / 3])
def test_a_price_that_never_moves_gives_the_declared_value_of_every_feature(price: float) -> None:
    bars = one_symbol([price] * 500, volume=[price] * 500)
    still = compute(bars, precision="float64").row(499, named=True)
    # The mean of equal prices rounds in its last digits, so what is measured against a mean is not quite 0
    averaged = {"nma_9", "nma_20", "nma_50", "nma_200", "macd", "macd_signal", "macd_hist"}
    for name in NAMES:
        if name in averaged:
            assert abs(still[name]) <= 1e-15, name
        else:
            assert still[name] == (0.5 if name == "bb_pct" else 0.0), name


def test_a_symbol_that_is_not_traded_has_no_flow_and_no_volume_surprise() -> None:
    bars = random_walks(1, 500).with_columns(volume=pl.lit(0))
    last = compute(bars).row(-1, named=True)
    assert (last["obv"], last["obv_ema"], last["volume_z_20"], last["volume_z_50"]) == (0, 0, 0, 0)


def test_adx_of_a_symbol_that_did_not_move_at_first_equals_talib() -> None:
    walk = random_walks(1, 200)
    first = walk["close"][0]
    high, low, close = ([first] * 60 + walk[name].to_list() for name in ("high", "low", "close"))
    expected = talib.ADX(np.array(high), np.array(low), np.array(close), 14)
    ours = compute(one_symbol(close, high, low), precision="float64", mask=False)["adx_14"].to_numpy()
    assert (ours[27:60] == 0).all()
    assert ours[61] > 0
    assert ours[27:] == pytest.approx(expected[27:], rel=1e-12)


def test_the_flow_is_plus_one_when_every_close_rises_and_minus_one_when_every_close_falls() -> None:
    rising = compute(one_symbol([1.0 + k for k in range(300)]))
    falling = compute(one_symbol([400.0 - k for k in range(300)]))
    assert rising["obv"].drop_nulls().unique().to_list() == [1.0]
    assert falling["obv_ema"].drop_nulls().unique().to_list() == pytest.approx([-1.0])
    assert rising["rsi_14"].drop_nulls().unique().to_list() == [100.0]
    assert falling["rsi_14"].drop_nulls().unique().to_list() == [0.0]
