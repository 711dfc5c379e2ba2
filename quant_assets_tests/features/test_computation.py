"""`compute`: keys, order, masks, types, and bits that depend on nothing but a symbol's own bars."""

import subprocess
import sys

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import FeatureError
from quant_assets.common.hashing import frame_digest
from quant_assets.features import compute
from quant_assets_tests.features.panels import NAMES, TECHNICAL, irregular_bars, random_walks, same_bits

IRREGULAR = irregular_bars()


def test_the_columns_are_the_keys_and_the_29_names_in_order_as_float32() -> None:
    features = compute(random_walks(2, 300))
    assert features.columns == ["symbol", "session", *NAMES]
    assert features.schema["session"] == pl.Date
    assert {features.schema[name] for name in NAMES} == {pl.Float32}
    assert features.height == 600


def test_one_row_per_bar_sorted_by_symbol_and_session_whatever_the_order_of_the_bars() -> None:
    shuffled = IRREGULAR.sample(fraction=1.0, shuffle=True, seed=3)
    by_session = IRREGULAR.sort("session", "symbol", descending=[False, True])
    expected = compute(IRREGULAR)
    assert expected.select("symbol", "session").equals(
        IRREGULAR.sort("symbol", "session").select("symbol", "session")
    )
    assert same_bits(compute(shuffled), expected)
    assert same_bits(compute(by_session), expected)


def test_a_symbol_gives_the_same_bits_alone_and_among_others() -> None:
    whole = compute(IRREGULAR)
    for symbol in IRREGULAR["symbol"].unique():
        alone = compute(IRREGULAR.filter(pl.col("symbol") == symbol))
        assert same_bits(alone, whole.filter(pl.col("symbol") == symbol)), symbol


def test_a_hole_is_not_filled_the_next_bar_is_the_next_row() -> None:
    bars = random_walks(1, 400)
    holed = bars.filter(pl.int_range(pl.len()) % 7 != 3)
    closed_up = holed.with_columns(session=bars["session"][: holed.height])
    assert same_bits(compute(holed).drop("session").insert_column(1, bars["session"][: holed.height]),
                     compute(closed_up))  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_changes_no_bit(threads: int) -> None:
    bars = random_walks(40, 700)  # 28,000 rows: enough for five workers and twenty blocks
    assert same_bits(compute(bars, threads=threads), compute(bars, threads=1))


def test_two_processes_give_the_same_bits() -> None:
    script = (
        "from quant_assets_tests.features.panels import random_walks\n"
        "from quant_assets.common.hashing import frame_digest\n"
        "from quant_assets.features import compute\n"
        "print(frame_digest(compute(random_walks(6, 900), threads=2)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == frame_digest(compute(random_walks(6, 900), threads=1))


def test_importing_the_package_loads_neither_numba_nor_pyarrow() -> None:
    script = (
        "import sys, quant_assets.features as f; f.packs()['technical_v1'].fingerprint\n"
        "print(sorted({'numba', 'pyarrow', 'talib', 'pandas'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_exactly_the_declared_warm_up_of_each_symbol_is_null_and_nothing_else() -> None:
    features = compute(IRREGULAR)
    bar = features.with_columns(bar=pl.int_range(pl.len()).over("symbol"))
    for feature in TECHNICAL.features:
        expected = bar["bar"] < feature.warm_up
        assert features[feature.name].is_null().equals(expected.alias(feature.name)), feature.name
        assert features[feature.name].drop_nulls().is_finite().all(), feature.name


def test_without_mask_only_the_bars_without_a_value_are_null() -> None:
    features = compute(IRREGULAR, mask=False)
    bar = features.with_columns(bar=pl.int_range(pl.len()).over("symbol"))
    for feature in TECHNICAL.features:
        assert features[feature.name].is_null().equals((bar["bar"] < feature.lookback).alias(feature.name))


def test_float32_is_the_rounded_float64() -> None:
    exact, rounded = (compute(IRREGULAR, precision=p) for p in ("float64", "float32"))
    assert same_bits(exact.with_columns(pl.col(NAMES).cast(pl.Float32)), rounded)


def test_integer_volumes_and_categorical_symbols_are_the_same_bars() -> None:
    other = IRREGULAR.with_columns(pl.col("symbol").cast(pl.Categorical), pl.col("volume").cast(pl.Int64))
    assert same_bits(compute(other), compute(IRREGULAR))


def test_other_columns_are_ignored() -> None:
    bars = IRREGULAR.with_columns(adj_close=None, note=pl.lit("x"))
    assert same_bits(compute(bars), compute(IRREGULAR))


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(FeatureError, match=r"'float16'.*'float32' or 'float64'"):
        compute(IRREGULAR, precision="float16")  # type: ignore[arg-type]


@settings(max_examples=30, deadline=None)
@given(
    prices=st.lists(st.floats(1e-9, 1e12), min_size=1, max_size=420),
    volumes=st.lists(st.one_of(st.just(0.0), st.floats(0, 1e18)), min_size=1, max_size=50),
)
def test_whatever_the_bars_no_value_after_the_lookback_is_nan_or_infinite(
    prices: list[float], volumes: list[float]
) -> None:
    n = len(prices)
    close = pl.Series(prices)
    bars = pl.DataFrame(
        {
            "symbol": ["A"] * n,
            "session": pl.int_range(n, eager=True, dtype=pl.Int32).cast(pl.Date),
            "open": close,
            "high": close.reverse(),  # not even a consistent bar may give a NaN
            "low": close,
            "close": close,
            "volume": [volumes[k % len(volumes)] for k in range(n)],
        }
    )
    features = compute(bars, mask=False)
    for feature in TECHNICAL.features:
        values = features[feature.name]
        assert values.null_count() == min(n, feature.lookback)
        assert values.drop_nulls().is_finite().all(), feature.name
