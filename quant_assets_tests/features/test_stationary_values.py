"""The 14 features of ``stationary_v1`` against pandas, scipy and statsmodels, and their degenerate values."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import statsmodels.api as sm
from scipy import stats

from quant_assets.features import compute, packs
from quant_assets_tests.features.panels import one_symbol, random_walks, real_bars
from quant_assets_tests.features.wide_panels import counted_bars

STATIONARY = packs()["stationary_v1"]
PANELS = {
    "random walks": random_walks(3, 700),
    "real bars": real_bars().filter(pl.col("session").dt.year() > 2010),
    "without volume": counted_bars(2, 400),
    "short": random_walks(4, 30, seed=3),
}


def score(x: pd.Series, window: int) -> pd.Series:
    rolling = x.rolling(window)
    return (x - rolling.mean()) / rolling.std(ddof=0)


def line_end(closes: np.ndarray) -> float:
    design = sm.add_constant(np.arange(closes.size, dtype=float))
    return float(sm.OLS(closes, design).fit().fittedvalues[-1])


def pandas_features(bars: pl.DataFrame) -> dict[str, np.ndarray]:
    o, h, lo, c, v = (
        pd.Series(bars[name].cast(pl.Float64).to_numpy())
        for name in ("open", "high", "low", "close", "volume")
    )
    before = c.shift()
    true_range = pd.concat([h - lo, (h - before).abs(), (lo - before).abs()], axis=1).max(
        axis=1, skipna=False
    )
    atr = true_range.rolling(20).mean()
    log_volume = np.log(v.where(v > 0))
    daily = c.pct_change()
    location = (((c - lo) - (h - c)) / (h - lo)).fillna(0.0)
    features = {
        **{f"ret_{n}_z_{w}": score(c.pct_change(n), w) for n, w in ((1, 60), (5, 250), (20, 250))},
        **{f"detrended_{n}": (c - c.rolling(n).apply(line_end, raw=True)) / atr for n in (20, 60)},
        "band_20": score(c, 20) / 2,
        **{f"vw_momentum_{n}": (daily * v).rolling(n).sum() / v.rolling(n).sum() for n in (20, 60)},
        "volatility_ratio_20_120": daily.rolling(20).std(ddof=0) / daily.rolling(120).std(ddof=0),
        "gap_20": (o - before) / atr,
        "money_flow_20": (location * v).rolling(20).sum() / v.rolling(20).sum(),
        "high_252": c / h.rolling(252).max() - 1,
    }
    for n in (20, 60):
        rolling = log_volume.rolling(n, min_periods=1)
        surprise = ((log_volume - rolling.mean()) / rolling.std(ddof=0)).where(v > 0, 0.0)
        features[f"log_volume_z_{n}"] = surprise.where(np.arange(v.size) >= n - 1)
    return {name: values.to_numpy() for name, values in features.items()}


@pytest.mark.parametrize("panel", PANELS)
def test_every_feature_equals_pandas_and_statsmodels(panel: str) -> None:
    bars = PANELS[panel]
    ours = compute(bars, STATIONARY, precision="float64")
    for (symbol,), history in bars.group_by("symbol", maintain_order=True):
        mine = ours.filter(pl.col("symbol") == symbol)
        theirs = pandas_features(history)
        assert set(theirs) == set(STATIONARY.names)
        for feature in STATIONARY.features:
            expected, values = theirs[feature.name], mine[feature.name].to_numpy()
            defined = ~np.isnan(expected)
            assert (np.isnan(values) == ~defined).all(), (symbol, feature.name)
            assert defined.sum() == max(0, history.height - feature.lookback)
            if defined.any():
                scale = np.maximum(np.abs(expected[defined]), expected[defined].std())
                assert (np.abs(values[defined] - expected[defined]) / scale).max() <= 2e-9, feature.name


def test_the_scores_are_those_of_scipy_over_the_window_that_ends_with_the_bar() -> None:
    bars = random_walks(1, 400)
    row = compute(bars, STATIONARY, precision="float64").row(-1, named=True)
    close, volume = bars["close"].to_numpy(), bars["volume"].to_numpy()
    assert row["log_volume_z_60"] == pytest.approx(stats.zscore(np.log(volume[-60:]))[-1], abs=1e-8)
    assert row["ret_5_z_250"] == pytest.approx(stats.zscore((close[5:] / close[:-5] - 1.0)[-250:])[-1])
    line = stats.linregress(np.arange(60), close[-60:])
    ahead = close[-1] - (line.intercept + 59 * line.slope)
    assert row["detrended_60"] / row["detrended_20"] == pytest.approx(
        ahead / (close[-1] - line_end(close[-20:])), rel=1e-9
    )


def test_moments_keep_their_digits_where_volumes_and_prices_hardly_differ() -> None:
    rng = np.random.default_rng(2)
    volume = 1e9 + rng.integers(0, 50_000_000, 300)
    close = 1e6 + rng.integers(0, 40, 300) / 64
    features = compute(one_symbol(close, volume=volume), STATIONARY, precision="float64")
    for t in range(60, 300, 7):
        part = close[t - 19 : t + 1]
        # one rounding of a mean near 1e6 is 1.2e-10, and the band's half width is 0.36
        assert features["band_20"][t] == pytest.approx(stats.zscore(part - 1e6)[-1] / 2, abs=1e-9)
        # logarithms are rounded to 2^-34 and spread over about 2 %
        logs = np.log1p((volume[t - 59 : t + 1] - 1e9) / 1e9)
        assert features["log_volume_z_60"][t] == pytest.approx(stats.zscore(logs)[-1], abs=3e-8)


@pytest.mark.parametrize("price", [0.1 + 0.2, 987654.321, 1e9 / 3])
def test_a_price_and_volume_that_never_move_give_the_declared_values_exactly(price: float) -> None:
    still = compute(one_symbol([price] * 400, volume=[price] * 400), STATIONARY).row(-1, named=True)
    expected = dict.fromkeys(STATIONARY.names, 0.0) | {"volatility_ratio_20_120": 1.0}
    assert {name: still[name] for name in STATIONARY.names} == expected


def test_a_steady_growth_has_no_spread_and_every_window_length_knows_it() -> None:
    # doubling is exact, so all returns are equal to the bit
    close = [2.0 ** (k - 25) * 3.1 for k in range(60)]
    features = compute(one_symbol(close, volume=[7.0] * 60), STATIONARY, precision="float64", mask=False)
    assert features["vw_momentum_20"][-1] == 1.0
    growing = one_symbol([1.0 + 0.5 * (k % 2) for k in range(400)])
    flat_20 = compute(growing, STATIONARY, precision="float64")["ret_20_z_250"].drop_nulls()
    assert flat_20.unique().to_list() == [0.0]  # every return over 20 bars is 0


def test_a_symbol_that_is_not_traded_has_no_volume_surprise_momentum_or_flow() -> None:
    last = compute(random_walks(1, 300).with_columns(volume=pl.lit(0)), STATIONARY).row(-1, named=True)
    for name in ("log_volume_z_20", "log_volume_z_60", "vw_momentum_20", "vw_momentum_60", "money_flow_20"):
        assert last[name] == 0.0, name


def test_a_bar_without_volume_is_left_out_of_the_volume_moments_and_is_itself_no_surprise() -> None:
    volume = [100.0, 200.0, 400.0, 0.0] * 20
    got = compute(one_symbol([1.0] * 80, volume=volume), STATIONARY, precision="float64")["log_volume_z_20"]
    assert got[79] == 0.0
    assert got[78] == pytest.approx(np.sqrt(1.5))  # logs -1, 0, 1 in equal shares: sd sqrt(2/3)
    assert got[77] == pytest.approx(0.0, abs=1e-12)


def test_the_gap_is_in_mean_true_ranges() -> None:
    close = [10.0] * 30
    bars = one_symbol(close, [10.5] * 30, [9.5] * 30).with_columns(
        open=pl.when(pl.int_range(pl.len()) == 29).then(10.25).otherwise(pl.col("open"))
    )
    assert compute(bars, STATIONARY)["gap_20"][29] == 0.25


def test_the_money_flow_is_plus_one_when_every_bar_closes_at_its_high() -> None:
    assert compute(one_symbol([5.0] * 30, [5.0] * 30, [4.0] * 30), STATIONARY)["money_flow_20"][29] == 1.0
    assert compute(one_symbol([4.0] * 30, [5.0] * 30, [4.0] * 30), STATIONARY)["money_flow_20"][29] == -1.0
