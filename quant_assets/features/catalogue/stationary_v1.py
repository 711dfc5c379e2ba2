"""``stationary_v1``: 14 daily features of a symbol against its own recent past, scale-free.

Every feature is a function of a window of bars and of nothing older, so each warm-up is the lookback: after it
a history that starts anew gives the same bits. Spreads are population standard deviations, windows end with the
bar itself, ATR20 is the plain mean of the last 20 true ranges (Wilder's average would remember 250 bars).
"""

from quant_assets.features.feature import Feature, Unit
from quant_assets.features.pack import Pack, register

PLAIN = "plain definition"
WILDER = "true range: Wilder (1978), New Concepts in Technical Trading Systems"
BOLLINGER = "Bollinger (2001), Bollinger on Bollinger Bands; population sd"
CHAIKIN = "Chaikin money flow: Achelis (2000), Technical Analysis from A to Z"
GEORGE = "George and Hwang (2004), The 52-week high and momentum investing, Journal of Finance 59"


def _windowed(name: str, lookback: int, unit: Unit, formula: str, source: str = PLAIN) -> Feature:
    return Feature(name, lookback, unit, formula, source, lookback)


def _volume_surprise(n: int) -> Feature:
    return _windowed(
        f"log_volume_z_{n}",
        n - 1,
        "standard_deviations",
        f"(log2 volume - mean) / sd over the bars with volume among the last {n}; "
        "0 in a bar without volume and when they are all equal; logarithms rounded to 2^-34",
    )


def _demeaned_return(n: int, window: int) -> Feature:
    return _windowed(
        f"ret_{n}_z_{window}",
        n + window - 1,
        "standard_deviations",
        f"(ret_{n} - mean) / sd of the last {window} ret_{n} = (close - close[-{n}]) / close[-{n}]; "
        "0 when they are all equal",
    )


def _detrended(n: int) -> Feature:
    return _windowed(
        f"detrended_{n}",
        max(n - 1, 20),
        "average_true_ranges",
        f"(close - end of the least-squares line through the last {n} closes) / ATR20; 0 without any range",
        f"least squares on bar number; {WILDER}",
    )


def _weighted_momentum(n: int) -> Feature:
    return _windowed(
        f"vw_momentum_{n}",
        n,
        "fraction",
        f"sum of ret_1 volume / sum of volume over the last {n} bars; 0 without volume",
    )


register(
    Pack(
        name="stationary_v1",
        description="14 daily features of returns, price, range and volume against a symbol's own recent past.",
        kernel="quant_assets.features.kernels.stationary:stationary_v1",
        features=(
            _volume_surprise(20),
            _volume_surprise(60),
            _demeaned_return(1, 60),
            _demeaned_return(5, 250),
            _demeaned_return(20, 250),
            _detrended(20),
            _detrended(60),
            _windowed(
                "band_20",
                19,
                "band_half_widths",
                "(close - SMA(close, 20)) / (2 sd of 20 closes); 0 when they are all equal",
                BOLLINGER,
            ),
            _weighted_momentum(20),
            _weighted_momentum(60),
            _windowed(
                "volatility_ratio_20_120",
                120,
                "ratio",
                "sd of the last 20 ret_1 / sd of the last 120; 1 when the 120 are all equal",
            ),
            _windowed(
                "gap_20",
                20,
                "average_true_ranges",
                "(open - close[-1]) / ATR20; 0 without any range",
                WILDER,
            ),
            _windowed(
                "money_flow_20",
                19,
                "share_-1_1",
                "sum of location volume / sum of volume over the last 20 bars, location = ((close - low) - "
                "(high - close)) / (high - low) limited to -1..1, 0 without a range; 0 without volume",
                CHAIKIN,
            ),
            _windowed("high_252", 251, "fraction", "close / highest high of the last 252 bars - 1", GEORGE),
        ),
    )
)
