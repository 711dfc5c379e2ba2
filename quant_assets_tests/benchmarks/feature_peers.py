"""The 29 features by other means: TA-Lib, polars expressions, and the pandas package `ta`.

Long polars frame in, ordered by symbol and session; long frame of 29 float32 columns out.
"""

import importlib.metadata
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import polars as pl
import talib

from quant_assets.features import packs

NAMES = packs()["technical_v1"].names
PRICES = ("high", "low", "close")


def talib_loop(bars: pl.DataFrame) -> pl.DataFrame:
    """One call per symbol and indicator on array slices; no Python work per bar."""
    starts = np.flatnonzero(np.append(True, (bars["symbol"][1:] != bars["symbol"][:-1]).to_numpy()))
    high, low, close, volume = (bars[name].to_numpy() for name in (*PRICES, "volume"))
    out = np.full((29, bars.height), np.nan, dtype=np.float32)
    for a, b in zip(starts, [*starts[1:], bars.height], strict=True):
        h, lo, c, v = high[a:b], low[a:b], close[a:b], volume[a:b]
        rows = out[:, a:b]
        for k, n in enumerate((9, 20, 50, 200)):
            rows[k] = c / talib.SMA(c, n) - 1
        upper, middle, lower = talib.BBANDS(c, 20, 2, 2)
        rows[4], rows[5] = (c - lower) / (upper - lower), (upper - lower) / middle
        for k, n in ((6, 20), (7, 50)):
            rows[k] = (v - talib.SMA(v, n)) / talib.STDDEV(v, n)
        rows[8], rows[9] = talib.RSI(c, 14), talib.RSI(c, 21)
        rows[10], rows[11] = talib.ROC(c, 10), talib.ROC(c, 20)
        for k, line in enumerate(talib.MACD(c, 12, 26, 9), start=12):
            rows[k] = line / c
        rows[15] = talib.ADX(h, lo, c, 14)
        rows[16], rows[17] = talib.PLUS_DI(h, lo, c, 14), talib.MINUS_DI(h, lo, c, 14)
        rows[18] = talib.ATR(h, lo, c, 14) / c
        daily = talib.ROCP(c, 1)
        rows[19, 1:], rows[20, 1:] = talib.STDDEV(daily[1:], 20), talib.STDDEV(daily[1:], 50)
        rows[21], rows[22] = talib.STOCHF(h, lo, c, 14, 3, 0)
        balance = talib.OBV(c, v)
        flow = (balance[20:] - balance[:-20]) / talib.SUM(v, 20)[20:]
        rows[23, 20:], rows[24, 20:] = flow, talib.EMA(flow, 20)
        rows[25] = daily
        for k, n in ((26, 5), (27, 10), (28, 20)):
            rows[k] = talib.ROCP(c, n)
    columns = [pl.Series(name, values) for name, values in zip(NAMES, out, strict=True)]
    return bars.select("symbol", "session").hstack(columns)


def polars_expressions(bars: pl.DataFrame) -> pl.DataFrame:
    """The same features as expressions over each symbol; averages start at the first value, not TA-Lib's seed."""
    high, low, close, volume = (pl.col(name) for name in (*PRICES, "volume"))

    def per(expression: pl.Expr) -> pl.Expr:
        return expression.over("symbol")

    def wilder(expression: pl.Expr, n: int) -> pl.Expr:
        return per(expression.ewm_mean(alpha=1 / n, adjust=False))

    def average(expression: pl.Expr, n: int) -> pl.Expr:
        return per(expression.ewm_mean(span=n, adjust=False))

    def returns(n: int) -> pl.Expr:
        return per(close.pct_change(n))

    change = pl.col("change")
    steps = bars.with_columns(
        change=per(close.diff()),
        daily=returns(1),
        true_range=pl.max_horizontal(
            high - low, (high - per(close.shift())).abs(), (low - per(close.shift())).abs()
        ),
        above=per(high.diff()),
        below=-per(low.diff()),
        sd=per(close.rolling_std(20, ddof=0)),
        mean=per(close.rolling_mean(20)),
        macd_raw=average(close, 12) - average(close, 26),
        k=100 * (close - per(low.rolling_min(14))) / (per(high.rolling_max(14)) - per(low.rolling_min(14))),
    ).with_columns(
        rise=pl.when((pl.col("above") > pl.col("below")) & (pl.col("above") > 0))
        .then(pl.col("above"))
        .otherwise(0.0),
        fall=pl.when((pl.col("below") > pl.col("above")) & (pl.col("below") > 0))
        .then(pl.col("below"))
        .otherwise(0.0),
        signal=average(pl.col("macd_raw"), 9),
        flow=per((change.sign() * volume).rolling_sum(20)) / per(volume.rolling_sum(20)),
        atr=wilder(pl.col("true_range"), 14),
    )
    steps = steps.with_columns(
        plus=100 * wilder(pl.col("rise"), 14) / pl.col("atr"),
        minus=100 * wilder(pl.col("fall"), 14) / pl.col("atr"),
    )
    band = 4 * pl.col("sd")
    features = {
        **{f"nma_{n}": close / per(close.rolling_mean(n)) - 1 for n in (9, 20, 50, 200)},
        "bb_pct": (close - pl.col("mean")) / band + 0.5,
        "bb_width": band / pl.col("mean"),
        **{
            f"volume_z_{n}": (volume - per(volume.rolling_mean(n))) / per(volume.rolling_std(n, ddof=0))
            for n in (20, 50)
        },
        **{f"rsi_{n}": 100 * wilder(change.clip(0.0), n) / wilder(change.abs(), n) for n in (14, 21)},
        **{f"roc_{n}": 100 * returns(n) for n in (10, 20)},
        "macd": pl.col("macd_raw") / close,
        "macd_signal": pl.col("signal") / close,
        "macd_hist": (pl.col("macd_raw") - pl.col("signal")) / close,
        "adx_14": wilder(
            100 * (pl.col("plus") - pl.col("minus")).abs() / (pl.col("plus") + pl.col("minus")), 14
        ),
        "plus_di_14": pl.col("plus"),
        "minus_di_14": pl.col("minus"),
        "atr_14": pl.col("atr") / close,
        **{f"sigma_{n}": per(pl.col("daily").rolling_std(n, ddof=0)) for n in (20, 50)},
        "stoch_k": pl.col("k"),
        "stoch_d": per(pl.col("k").rolling_mean(3)),
        "obv": pl.col("flow"),
        "obv_ema": average(pl.col("flow"), 20),
        "ret_1": pl.col("daily"),
        **{f"ret_{n}": returns(n) for n in (5, 10, 20)},
    }
    return steps.select("symbol", "session", *(features[name].cast(pl.Float32).alias(name) for name in NAMES))


def ta_pandas(bars: pl.DataFrame) -> pl.DataFrame:
    """The package `ta`, symbol by symbol, pandas for what it lacks; conversions of the frame included."""
    from ta import momentum, trend, volatility, volume

    parts = []
    frame = bars.to_pandas()
    for _, one in frame.groupby("symbol", sort=False):
        h, lo, c, v = (one[name] for name in (*PRICES, "volume"))
        band = volatility.BollingerBands(c, 20, 2)
        line = trend.MACD(c, 26, 12, 9)
        direction = trend.ADXIndicator(h, lo, c, 14)
        stochastic = momentum.StochasticOscillator(h, lo, c, 14, 3)
        roc_10, roc_20 = momentum.ROCIndicator(c, 10).roc(), momentum.ROCIndicator(c, 20).roc()
        daily = c.pct_change()
        balance = volume.OnBalanceVolumeIndicator(c, v).on_balance_volume()
        flow = balance.diff(20) / v.rolling(20).sum()
        columns = [
            *(c / trend.SMAIndicator(c, n).sma_indicator() - 1 for n in (9, 20, 50, 200)),
            band.bollinger_pband(),
            band.bollinger_wband() / 100,
            *((v - v.rolling(n).mean()) / v.rolling(n).std(ddof=0) for n in (20, 50)),
            *(momentum.RSIIndicator(c, n).rsi() for n in (14, 21)),
            roc_10,
            roc_20,
            *(part / c for part in (line.macd(), line.macd_signal(), line.macd_diff())),
            direction.adx(),
            direction.adx_pos(),
            direction.adx_neg(),
            volatility.AverageTrueRange(h, lo, c, 14).average_true_range() / c,
            *(daily.rolling(n).std(ddof=0) for n in (20, 50)),
            stochastic.stoch(),
            stochastic.stoch_signal(),
            flow,
            trend.EMAIndicator(flow, 20).ema_indicator(),
            daily,
            c.pct_change(5),
            roc_10 / 100,
            roc_20 / 100,
        ]
        parts.append(np.array(columns, dtype=np.float32))
    out = np.concatenate(parts, axis=1)
    columns = [pl.Series(name, values) for name, values in zip(NAMES, out, strict=True)]
    return bars.select("symbol", "session").hstack(columns)


@contextmanager
def installed(package: str) -> Iterator[str]:
    """Put a package into a throw-away folder on the import path; yields its version. The project is untouched."""
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        target = f"{folder}/packages"
        venv.create(f"{folder}/env", with_pip=True)
        install = [
            f"{folder}/env/bin/python",
            "-m",
            "pip",
            "install",
            "-q",
            "--no-deps",
            "--target",
            target,
            package,
        ]
        subprocess.run(install, check=True)
        sys.path.append(target)
        try:
            yield importlib.metadata.version(package)
        finally:
            sys.path.remove(target)
