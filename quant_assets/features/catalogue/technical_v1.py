"""``technical_v1``: 29 daily indicators of price and volume, scale-free, one symbol at a time.

Warm-ups of the recursive features are measured, not taken from a rule of thumb. Every third session of 100 US
stocks (2005 to 2024), every fifth of AAPL, GOOG, IBM, MSFT (2000 to 2013, raw and adjusted) and every twentieth
of random walks with t(4) steps served as the start of a shortened history; "needs" below is the number of bars
after which no such start moved the feature by more than 1e-6 of its standard deviation. Declared is that plus
5 % (for starts that were not tried; the error halves in 5 to 15 bars), rounded up to the next ten. Windowed
features need their lookback: after it they are equal to the bit.
"""

from quant_assets.features.feature import Feature, Unit
from quant_assets.features.pack import Pack, register

TA_LIB = "TA-Lib (seeding and degenerate cases)"
WILDER = f"Wilder (1978), New Concepts in Technical Trading Systems; {TA_LIB}"
BOLLINGER = "Bollinger (2001), Bollinger on Bollinger Bands; population sd"
APPEL = f"Appel (2005), Technical Analysis; {TA_LIB}"
LANE = f"Lane (1984), Lane's Stochastics; {TA_LIB} STOCHF(14, 3)"
GRANVILLE = "Granville (1963), New Key to Stock Market Profits; windowed here to be free of scale and origin"
PLAIN = "plain definition"


def _windowed(name: str, lookback: int, unit: Unit, formula: str, source: str = PLAIN) -> Feature:
    return Feature(name, lookback, unit, formula, source, lookback)


def _recursive(name: str, lookback: int, warm_up: int, unit: Unit, formula: str, source: str) -> Feature:
    return Feature(name, warm_up, unit, formula, source, lookback)


def _distance_to_mean(n: int) -> Feature:
    return _windowed(f"nma_{n}", n - 1, "fraction", f"close / SMA(close, {n}) - 1")


def _volume_surprise(n: int) -> Feature:
    return _windowed(
        f"volume_z_{n}",
        n - 1,
        "standard_deviations",
        f"(volume - SMA(volume, {n})) / population sd of {n} volumes; 0 when they are all equal",
    )


def _volatility(n: int) -> Feature:
    return _windowed(f"sigma_{n}", n, "fraction", f"population sd of the last {n} values of ret_1")


def _return(n: int) -> Feature:
    return _windowed(f"ret_{n}", n, "fraction", f"(close - close[-{n}]) / close[-{n}]")


def _rate_of_change(n: int) -> Feature:
    return _windowed(f"roc_{n}", n, "percent", f"100 ret_{n}", "TA-Lib ROC")


def _relative_strength(n: int, warm_up: int) -> Feature:
    formula = f"100 gain / (gain + loss), Wilder averages over {n} of close changes; 0 without any change"
    return _recursive(f"rsi_{n}", n, warm_up, "index_0_100", formula, WILDER)


def _directional(name: str, move: str) -> Feature:
    formula = f"100 W14({move}) / W14(true range), W14 = Wilder sum over 14; 0 without any range"
    return _recursive(name, 14, 270, "index_0_100", formula, WILDER)  # needs 246 and 251


register(
    Pack(
        name="technical_v1",
        description="29 daily indicators of trend, momentum, range, volatility and volume flow, scale-free.",
        kernel="quant_assets.features.kernels.technical:technical_v1",
        features=(
            _distance_to_mean(9),
            _distance_to_mean(20),
            _distance_to_mean(50),
            _distance_to_mean(200),
            _windowed(
                "bb_pct",
                19,
                "band_position",
                "(close - lower) / (upper - lower), bands SMA(close, 20) +- 2 population sd; 0.5 without a band",
                BOLLINGER,
            ),
            _windowed(
                "bb_width", 19, "fraction", "(upper - lower) / SMA(close, 20), bands as bb_pct", BOLLINGER
            ),
            _volume_surprise(20),
            _volume_surprise(50),
            _relative_strength(14, 270),  # needs 252
            _relative_strength(21, 410),  # needs 388
            _rate_of_change(10),
            _rate_of_change(20),
            # The signal's seed rests on the averages' seeds: they need 261, 266, 268.
            _recursive("macd", 33, 290, "fraction", "(EMA12 - EMA26) / close", APPEL),
            _recursive("macd_signal", 33, 290, "fraction", "EMA9(EMA12 - EMA26) / close", APPEL),
            _recursive("macd_hist", 33, 290, "fraction", "macd - macd_signal", APPEL),
            _recursive(
                "adx_14",
                27,
                300,
                "index_0_100",
                "Wilder average over 14 of 100 |+DI - -DI| / (+DI + -DI); unchanged while both are 0",
                WILDER,
            ),  # needs 282: two smoothings in a row
            _directional("plus_di_14", "high - high[-1] where it is positive and the larger move"),
            _directional("minus_di_14", "low[-1] - low where it is positive and the larger move"),
            _recursive(
                "atr_14", 14, 270, "fraction", "Wilder average over 14 of the true range / close", WILDER
            ),  # needs 249
            _volatility(20),
            _volatility(50),
            _windowed(
                "stoch_k",
                13,
                "index_0_100",
                "100 (close - lowest low) / (highest high - lowest low) of 14 bars; 0 without a range",
                LANE,
            ),
            _windowed("stoch_d", 15, "index_0_100", "mean of the last 3 stoch_k", LANE),
            _windowed(
                "obv",
                20,
                "share_-1_1",
                "sum of sign(close - close[-1]) volume over 20 / sum of volume over 20; 0 without volume",
                GRANVILLE,
            ),
            _recursive(
                "obv_ema",
                39,
                190,
                "share_-1_1",
                "EMA20(obv), seeded with the mean of its first 20",
                GRANVILLE,
            ),  # needs 179
            _return(1),
            _return(5),
            _return(10),
            _return(20),
        ),
    )
)
