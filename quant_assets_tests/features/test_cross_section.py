"""Features across the symbols of a session: values, who takes part, and bits that depend on no order."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quant_assets.common.errors import FeatureError
from quant_assets.features import across_symbols, compute, packs, symbol_inputs
from quant_assets_tests.features.panels import random_walks, same_bits
from quant_assets_tests.features.wide_panels import counted_bars, wide_irregular

CROSS = packs()["cross_sectional_v1"]
assert CROSS.cross_section is not None
INPUTS = [feature.name for feature in CROSS.cross_section.inputs]
IRREGULAR = wide_irregular()
WHOLE = compute(IRREGULAR, CROSS)


# ---------------------------------------------------------------------------------------------------- values


def test_ranks_and_scores_equal_scipy() -> None:
    inputs = symbol_inputs(IRREGULAR, CROSS)
    features = compute(IRREGULAR, CROSS, precision="float64")
    together = inputs.join(features, on=["symbol", "session"])
    seen = 0
    some = together.filter(pl.col("session").to_physical() % 6 == 0)
    for _, session in some.group_by("session"):
        for name in INPUTS:
            x, rank, z = (session[c].to_numpy() for c in (name, f"rank_{name}", f"z_{name}"))
            part = ~np.isnan(x)
            if part.sum() < 10:
                assert np.isnan(rank).all()
                assert np.isnan(z).all()
                continue
            seen += 1
            n, given_ = part.sum(), x[part]
            assert (np.isnan(rank) == ~part).all()
            assert rank[part] == pytest.approx((stats.rankdata(given_) - 1) / (n - 1) - 0.5, abs=1e-15)
            spread = stats.median_abs_deviation(given_, scale="normal")
            assert z[part] == pytest.approx(np.clip((given_ - np.median(given_)) / spread, -3, 3), rel=1e-12)
    assert seen > 700


def test_the_inputs_are_the_indicators_of_the_same_name() -> None:
    bars = counted_bars()
    inputs = symbol_inputs(bars, CROSS)
    technical = compute(bars, precision="float64")
    stationary = compute(bars, "stationary_v1", precision="float64")
    for name, source in (("ret_1", technical), ("ret_5", technical), ("ret_20", technical),
                         ("log_volume_z_20", stationary), ("high_252", stationary)):  # fmt: skip
        assert (inputs[name] - source[name]).abs().max() <= 1e-14, name
        assert inputs[name].null_count() == source[name].null_count()
    close = pl.col("close")
    expected = bars.select(
        momentum_12_1=(close.shift(21) / close.shift(252) - 1).over("symbol"),
        nma_60=(close / close.rolling_mean(60) - 1).over("symbol"),
        sigma_60=close.pct_change().rolling_std(60, ddof=0).over("symbol"),
    )
    for name in expected.columns:
        mine, theirs = inputs[name].to_numpy(), expected[name].to_numpy()
        assert mine == pytest.approx(theirs, abs=1e-12, nan_ok=True), name


def ranked(values: list[float | None]) -> pl.DataFrame:
    """One session of symbols whose eight inputs all have these values."""
    names = [f"S{k:02d}" for k in range(len(values))]
    frame = pl.DataFrame({"symbol": names, "session": [0] * len(values)}).with_columns(
        pl.col("session").cast(pl.Int32).cast(pl.Date)
    )
    column = pl.Series(values, dtype=pl.Float64)
    return frame.with_columns(column.alias(name) for name in INPUTS)


def test_tied_values_share_the_mean_of_their_ranks() -> None:
    got = across_symbols(ranked([1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10]), CROSS, precision="float64")
    assert got["rank_ret_1"].to_list() == [-0.5, -0.35, -0.35, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    # the median is 5 and so is none of 4, 3, 3, 2, 1, 0, 1, 2, 3, 4, 5: their median is 3
    assert got["z_ret_1"][0] == pytest.approx(-4 / (1.482602218505602 * 3))


def test_the_extremes_have_half_a_rank_each_way_and_a_limited_score() -> None:
    got = across_symbols(ranked([*range(1, 12), 1e6]), CROSS, precision="float64")
    assert (got["rank_ret_5"].min(), got["rank_ret_5"].max()) == (-0.5, 0.5)
    assert got["z_ret_5"].max() == 3.0


def test_equal_values_have_rank_and_score_zero_also_when_most_are_equal() -> None:
    same = across_symbols(ranked([7.0] * 12), CROSS)
    assert same["rank_ret_1"].unique().to_list() == [0.0]
    mostly = across_symbols(ranked([0.0] * 9 + [1.0, 2.0, -1.0]), CROSS)
    assert mostly["z_ret_1"].unique().to_list() == [0.0]
    assert mostly["rank_ret_1"].n_unique() == 4


# ------------------------------------------------------------------------------------------- who takes part


def test_a_masked_input_takes_no_part_and_gets_no_value() -> None:
    values = [float(k * k) for k in range(12)]
    among = across_symbols(ranked([*values[:5], None, *values[5:]]), CROSS)
    alone = across_symbols(ranked(values), CROSS)
    rest = among.filter(pl.col("symbol") != "S05")
    for name in CROSS.names:
        assert rest[name].to_list() == alone[name].to_list()
        assert among[name][5] is None


def test_with_fewer_symbols_than_declared_the_session_is_null() -> None:
    ten = across_symbols(ranked([float(k) for k in range(10)] + [None]), CROSS)
    nine = across_symbols(ranked([float(k) for k in range(9)] + [None]), CROSS)
    assert ten["rank_ret_1"].null_count() == 1
    assert all(nine[name].null_count() == 10 for name in CROSS.names)


def test_only_symbols_with_a_bar_in_the_session_count() -> None:
    bars = random_walks(12, 300)
    gone = (pl.col("symbol") == "S003") & (pl.col("session").to_physical() == 290)
    with_hole, full = compute(bars.filter(~gone), CROSS), compute(bars, CROSS)
    at = pl.col("session").to_physical() == 290
    others = symbol_inputs(bars, CROSS).filter(at & (pl.col("symbol") != "S003"))
    assert same_bits(with_hole.filter(at), across_symbols(others, CROSS))
    assert full.filter(at).height == with_hole.filter(at).height + 1 == 12


def test_each_symbol_is_null_through_its_warm_up() -> None:
    bar = WHOLE.with_columns(bar=pl.int_range(pl.len()).over("symbol"))
    for feature in CROSS.features:
        early = bar.filter(pl.col("bar") < feature.warm_up)
        assert early[feature.name].null_count() == early.height
        assert WHOLE[feature.name].drop_nulls().is_finite().all()
        assert WHOLE[feature.name].null_count() < WHOLE.height, feature.name


# --------------------------------------------------------------------------------------------------- the bits


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_row_order_and_no_block_of_symbols_or_sessions_changes_a_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shuffled = IRREGULAR.sample(fraction=1.0, shuffle=True, seed=seed)
    assert same_bits(compute(shuffled, CROSS), WHOLE)
    group = {s: int(rng.integers(4)) for s in IRREGULAR["symbol"].unique().sort()}
    parts = [
        symbol_inputs(block, CROSS) for _, block in shuffled.group_by(pl.col("symbol").replace_strict(group))
    ]
    inputs = pl.concat(parts)
    edge = int(rng.integers(1, 899))
    late = pl.col("session").to_physical() >= edge
    blocks = [across_symbols(inputs.filter(part), CROSS) for part in (late, ~late)]
    assert same_bits(pl.concat(blocks).sort("symbol", "session"), WHOLE)


@pytest.mark.parametrize("name", packs())
def test_two_runs_and_one_or_two_threads_give_the_same_bits(name: str) -> None:
    bars = random_walks(40, 400)  # 16,000 rows: enough for two workers
    one = compute(bars, name, threads=1)
    assert same_bits(compute(bars, name, threads=2), one)
    assert same_bits(compute(bars, name, threads=2), one)
    assert same_bits(compute(bars.sample(fraction=1.0, shuffle=True, seed=9), name), one)


def test_which_zero_is_the_median_changes_no_bit() -> None:
    values = [-2.0, -1.5, -1.0, -0.5, -0.25, 0.0, -0.0, 0.25, 0.5, 1.0, 1.5, 2.0]
    one = across_symbols(ranked(values), CROSS)
    values[5], values[6] = values[6], values[5]
    assert same_bits(one, across_symbols(ranked(values), CROSS))


def test_float32_is_the_rounded_float64() -> None:
    exact = compute(IRREGULAR, CROSS, precision="float64")
    assert same_bits(exact.with_columns(pl.col(CROSS.names).cast(pl.Float32)), WHOLE)


# ------------------------------------------------------------------------------------------------- refusals


def test_a_pack_without_a_cross_section_has_no_second_stage() -> None:
    with pytest.raises(FeatureError, match=r"'technical_v1'.*computed per symbol"):
        symbol_inputs(IRREGULAR, "technical_v1")
    with pytest.raises(FeatureError, match=r"'technical_v1'.*computed per symbol"):
        across_symbols(IRREGULAR, "technical_v1")


def test_inputs_that_are_missing_rounded_not_finite_or_doubled_are_refused() -> None:
    good = ranked([float(k) for k in range(12)])
    with pytest.raises(FeatureError, match="no ret_5"):
        across_symbols(good.drop("ret_5"), CROSS)
    with pytest.raises(FeatureError, match=r"'sigma_60'.*dtype Float32"):
        across_symbols(good.with_columns(pl.col("sigma_60").cast(pl.Float32)), CROSS)
    with pytest.raises(FeatureError, match=r"'nma_60'.*NaN or infinity"):
        across_symbols(good.with_columns(nma_60=pl.lit(float("nan"))), CROSS)
    with pytest.raises(FeatureError, match="more for symbol 'S07' in session 1970-01-01"):
        across_symbols(pl.concat([good, good[7:8]]), CROSS)
    with pytest.raises(FeatureError, match="an empty frame"):
        across_symbols(good.clear(), CROSS)


def test_a_cross_section_that_does_not_fit_its_features_is_refused() -> None:
    across = CROSS.cross_section
    assert across is not None
    with pytest.raises(FeatureError, match="15 entries"):
        replace(CROSS, cross_section=replace(across, reads=across.reads[1:]))
    with pytest.raises(FeatureError, match=r"unknown \['ret_2'\]"):
        replace(CROSS, cross_section=replace(across, reads=(("ret_2",), *across.reads[1:])))
    with pytest.raises(FeatureError, match="min_symbols of 2 or more; found 1"):
        replace(CROSS, cross_section=replace(across, min_symbols=1))
    with pytest.raises(FeatureError, match="lookback 5 and warm_up 5, the longest of its inputs"):
        replace(CROSS, cross_section=replace(across, reads=(("ret_1", "ret_5"), *across.reads[1:])))
