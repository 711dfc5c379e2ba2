"""Published tables of StockCharts (ChartSchool): RSI, Bollinger bands, Stochastic, ATR."""

import numpy as np
import pytest

from quant_assets.features import compute
from quant_assets_tests.features.panels import one_symbol


def test_rsi_equals_the_published_table_of_stockcharts() -> None:
    close = [
        44.3389,
        44.0902,
        44.1497,
        43.6124,
        44.3278,
        44.8264,
        45.0955,
        45.4245,
        45.8433,
        46.0826,
        45.8931,
    ]
    close += [46.0328, 45.614, 46.282, 46.282, 46.0028, 46.0328, 46.4116, 46.2222, 45.6439, 46.2122, 46.2521]
    close += [
        45.7137,
        46.4515,
        45.7835,
        45.3548,
        44.0288,
        44.1783,
        44.2181,
        44.5672,
        43.4205,
        42.6628,
        43.1314,
    ]
    expected = [70.5328, 66.3186, 66.5498, 69.4063, 66.3552, 57.9749, 62.9296, 63.2571, 56.0593, 62.3771]
    expected += [54.7076, 50.4228, 39.9898, 41.4605, 41.8689, 45.4632, 37.304, 33.0795, 37.773]
    rsi = compute(one_symbol(close), mask=False, precision="float64")["rsi_14"]
    assert rsi[:14].null_count() == 14
    assert rsi[14:].to_list() == pytest.approx(expected, abs=1e-4)


def test_bollinger_position_and_width_follow_the_published_bands_of_stockcharts() -> None:
    close = [86.1557, 89.0867, 88.7829, 90.3228, 89.0671, 91.1453, 89.4397, 89.175, 86.9302, 87.6752, 86.9596]
    close += [
        89.4299,
        89.3221,
        88.7241,
        87.4497,
        87.2634,
        89.4985,
        87.9006,
        89.126,
        90.7043,
        92.9001,
        92.9784,
    ]
    features = compute(one_symbol(close), mask=False, precision="float64")
    bands = [
        (88.70794, 91.291862, 86.124018),
        (89.04516, 91.949268, 86.141052),
        (89.239745, 92.612595, 85.866895),
    ]
    for row, (middle, upper, lower) in enumerate(bands, start=19):
        assert features["bb_width"][row] == pytest.approx((upper - lower) / middle, abs=1e-7)
        assert features["bb_pct"][row] == pytest.approx((close[row] - lower) / (upper - lower), abs=1e-6)


def test_the_stochastic_equals_the_published_table_of_stockcharts() -> None:
    high = [127.009, 127.6159, 126.5911, 127.3472, 128.173, 128.4317, 127.3671, 126.422, 126.8995, 126.8498]
    high += [
        125.646,
        125.7156,
        127.1582,
        127.7154,
        127.6855,
        128.2228,
        128.2725,
        128.0934,
        128.2725,
        127.7353,
    ]
    high += [128.77, 129.2873, 130.0633, 129.1182, 129.2873, 128.4715, 128.0934, 128.6506, 129.1381, 128.6406]
    low = [125.3574, 126.1633, 124.9296, 126.0937, 126.8199, 126.4817, 126.034, 124.8301, 126.3921, 125.7156]
    low += [
        124.5615,
        124.5715,
        125.0689,
        126.8597,
        126.6309,
        126.8001,
        126.7105,
        126.8001,
        126.1335,
        125.9245,
    ]
    low += [126.9891, 127.8148, 128.4715, 128.0641, 127.6059, 127.596, 126.999, 126.8995, 127.4865, 127.397]
    close = [
        *low[:13],
        127.2876,
        127.1781,
        128.0138,
        127.1085,
        127.7253,
        127.0587,
        127.3273,
        128.7103,
        127.8745,
    ]
    close += [128.5809, 128.6008, 127.9342, 128.1133, 127.596, 127.596, 128.6904, 128.2725]
    k = [70.4382, 67.6089, 89.2021, 65.8106, 81.7477, 64.5238, 74.5298, 98.5814, 70.1045, 73.0561, 73.4178]
    k += [61.2313, 60.9563, 40.3861, 40.3861, 66.8285, 56.7314]
    d = [75.7497, 74.2072, 78.9201, 70.694, 73.6004, 79.2117, 81.0719, 80.5807, 72.1928, 69.2351, 65.2018]
    d += [54.1912, 47.2428, 49.2003, 54.6487]
    features = compute(one_symbol(close, high, low), mask=False, precision="float64")
    assert features["stoch_k"][13:].to_list() == pytest.approx(k, abs=1e-4)
    assert features["stoch_d"][15:].to_list() == pytest.approx(d, abs=1e-4)


def test_atr_differs_from_stockcharts_by_its_seed_and_by_nothing_else() -> None:
    high = [
        48.7,
        48.72,
        48.9,
        48.87,
        48.82,
        49.05,
        49.2,
        49.35,
        49.92,
        50.19,
        50.12,
        49.66,
        49.88,
        50.19,
        50.36,
    ]
    high += [
        50.57,
        50.65,
        50.43,
        49.63,
        50.33,
        50.29,
        50.17,
        49.32,
        48.5,
        48.3201,
        46.8,
        47.8,
        48.39,
        48.66,
        48.79,
    ]
    low = [
        47.79,
        48.14,
        48.39,
        48.37,
        48.24,
        48.635,
        48.94,
        48.86,
        49.5,
        49.87,
        49.2,
        48.9,
        49.43,
        49.725,
        49.26,
    ]
    low += [
        50.09,
        50.3,
        49.21,
        48.98,
        49.61,
        49.2,
        49.43,
        48.08,
        47.64,
        41.55,
        44.2833,
        47.31,
        47.2,
        47.9,
        47.7301,
    ]
    close = [48.16, 48.61, 48.75, 48.63, 48.74, 49.03, 49.07, 49.32, 49.91, 50.13, 49.53, 49.5, 49.75, 50.03]
    close += [
        50.31,
        50.52,
        50.41,
        49.34,
        49.37,
        50.23,
        49.2375,
        49.93,
        48.43,
        48.18,
        46.57,
        45.41,
        47.77,
        47.72,
    ]
    close += [48.62, 47.85]
    published = [0.593929, 0.585791, 0.568949, 0.615452, 0.61792, 0.642354, 0.674329, 0.69277, 0.775429]
    published += [0.78147, 1.209229, 1.30262, 1.38029, 1.366698, 1.336219, 1.316482]  # from bar 14
    ours = compute(one_symbol(close, high, low), mask=False, precision="float64")["atr_14"][14:]
    gaps = np.array(published) - ours.to_numpy() * np.array(close[14:])
    # StockCharts takes the first range (high - low of bar 0) into the seed, TA-Lib starts with bar 1
    assert np.abs(gaps).max() == pytest.approx(0.0254, abs=5e-5)
    assert gaps[1:] == pytest.approx(gaps[:-1] * 13 / 14, abs=3e-6)
