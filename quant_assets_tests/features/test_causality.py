"""No feature sees the future, and the prover finds those that do."""

import json
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import FeatureError
from quant_assets.features import Feature, Pack, compute, packs, prove_causal
from quant_assets_tests.features.panels import (
    TECHNICAL,
    irregular_bars,
    random_walks,
    real_bars,
    same_bits,
)
from quant_assets_tests.features.wide_panels import wide_irregular

WALKS = random_walks(3, 620)
IRREGULAR = irregular_bars()
# Enough symbols for packs that compare them.
WIDE = wide_irregular()
WIDE_WALKS = random_walks(12, 700)
PRICES = ("open", "high", "low", "close")
every_pack = pytest.mark.parametrize("pack", packs())


@every_pack
@settings(max_examples=15, deadline=None)
@given(cut=st.integers(0, 898), seed=st.integers(0, 2**32 - 1), drop=st.booleans())
def test_whatever_happens_after_a_session_changes_no_bit_up_to_it(
    pack: str, cut: int, seed: int, drop: bool
) -> None:
    rng = np.random.default_rng(seed)
    n = WIDE.height
    later = pl.col("session").to_physical() > cut
    changed = WIDE.with_columns(
        pl.when(later)
        .then(pl.col(name) * pl.Series(rng.lognormal(0, 1, n)))
        .otherwise(pl.col(name))
        .alias(name)
        for name in (*PRICES, "volume")
    )
    if drop:  # and some of the later bars never happen
        changed = changed.filter(~later | pl.Series(rng.random(n) < 0.5))
    before = compute(WIDE, pack, mask=False).filter(~later)
    assert same_bits(compute(changed, pack, mask=False).filter(~later), before)


@every_pack
@settings(max_examples=10, deadline=None)
@given(price=st.integers(-9, 9), volume=st.integers(-9, 9), turn=st.integers(0, 9))
def test_a_price_history_or_volume_in_another_unit_changes_no_bit(
    pack: str, price: int, volume: int, turn: int
) -> None:
    # another unit for each symbol; with volume = -price a later split
    own = (pl.col("symbol").rank("dense").cast(pl.Int32) * turn) % 10
    rescaled = WIDE.with_columns(
        pl.col(PRICES) * pl.lit(2.0).pow(price - own), pl.col("volume") * pl.lit(2.0).pow(volume + own)
    )
    assert same_bits(compute(rescaled, pack, mask=False), compute(WIDE, pack, mask=False))


@every_pack
@settings(max_examples=8, deadline=None)
@given(factor=st.floats(0.01, 100))
def test_a_factor_that_is_no_power_of_two_changes_nothing_but_rounding(pack: str, factor: float) -> None:
    rescaled = WIDE_WALKS.with_columns(pl.col(PRICES) * factor, pl.col("volume") / factor)
    one, other = (compute(bars, pack, precision="float64") for bars in (WIDE_WALKS, rescaled))
    for name in packs()[pack].names:
        # Logarithms of volume are rounded to 2^-34: two of them are off by 6e-11 each, over a spread of at
        # least 0.1 and with scores up to 4.4 that is 6e-9 of a score, and more of a score among symbols.
        limit = 1e-8 if "log_volume" in name else 1e-9
        assert ((one[name] - other[name]).abs() / one[name].std()).max() <= limit, name


@every_pack
@settings(max_examples=8, deadline=None)
@given(dropped=st.integers(1, 252))
def test_dropping_up_to_the_first_year_changes_nothing_after_the_warm_up(pack: str, dropped: int) -> None:
    at = pl.col("session").to_physical()
    full = compute(WIDE_WALKS, pack, precision="float64")
    short = compute(WIDE_WALKS.filter(at >= dropped), pack, precision="float64")
    for feature in packs()[pack].features:
        steady = at >= dropped + feature.warm_up
        one, other = (frame.filter(steady)[feature.name] for frame in (full, short))
        assert one.null_count() == other.null_count() == 0
        limit = 0.0 if feature.warm_up == feature.lookback else 1e-6
        assert (one - other).abs().max() <= limit * full[feature.name].std(), feature.name  # type: ignore[operator]


@every_pack
@pytest.mark.parametrize("bars", [WIDE, WIDE_WALKS], ids=["irregular", "random walks"])
def test_every_registered_pack_is_proven_causal(pack: str, bars: pl.DataFrame) -> None:
    report = prove_causal(bars, pack)
    assert (report.violations, report.unproven) == ((), ())
    assert report.passed
    assert report.fingerprint == packs()[pack].fingerprint


@pytest.mark.parametrize(
    "bars", [real_bars(), WALKS, IRREGULAR], ids=["real bars", "random walks", "irregular"]
)
def test_technical_v1_is_proven_causal(bars: pl.DataFrame) -> None:
    report = prove_causal(bars)
    assert report.violations == ()
    assert report.unproven == ()
    assert report.passed
    assert 0 < report.largest_history_error <= 1e-6
    assert report.fingerprint == TECHNICAL.fingerprint
    assert report.rows == bars.height


# ------------------------------------------------------------------------ packs that do what a pack must not


def faulty_kernel(open_, high, low, close, volume, starts, first, last, out) -> None:  # type: ignore[no-untyped-def]
    """Five ways to be wrong, and one way to be right."""
    for s in range(first, last):
        a, b = starts[s], starts[s + 1]
        c, v = close[a:b], volume[a:b]
        change = np.diff(c, prepend=c[0]) / c
        out[0, a:b] = np.append(change[1:], 0.0)  # tomorrow's change
        out[1, a:b] = change / change.std()  # a full-sample spread
        out[2, a:b] = np.log(v + 1.0)  # a unit
        out[3, a:b] = np.cumsum(change)  # the whole history
        with np.errstate(all="ignore"):
            out[4, a:b] = np.where(np.arange(b - a) == b - a - 1, np.nan, change)  # undefined at the end
        out[5, a:b] = change


FAULTS = ("tomorrow", "standardised", "log_volume", "drifting", "undefined", "honest")
FAULTY = Pack(
    name="faulty_v1",
    description="Wrong in five ways.",
    features=tuple(Feature(name, 1, "fraction", "see kernel", "none", 1) for name in FAULTS),
    kernel="quant_assets_tests.features.test_causality:faulty_kernel",
)


def test_the_prover_names_the_features_that_see_the_future() -> None:
    report = prove_causal(WALKS, FAULTY)
    assert not report.passed
    assert report.leaking == ("tomorrow", "standardised", "undefined")


def test_the_prover_names_the_features_that_have_a_unit_a_long_memory_or_no_value() -> None:
    report = prove_causal(WALKS, FAULTY)
    assert report.scale_dependent == ("log_volume",)
    assert "drifting" in report.history_dependent
    assert "honest" not in {v.feature for v in report.violations}
    assert [v.feature for v in report.violations if v.experiment == "defined"] == ["undefined"]


def test_a_violation_says_where_and_by_how_much() -> None:
    cut = date(1970, 1, 1) + timedelta(days=300)
    report = prove_causal(WALKS, FAULTY, [cut])
    first = next(v for v in report.violations if (v.experiment, v.feature) == ("altered_future", "tomorrow"))
    assert (first.symbol, first.session, first.count) == ("S000", cut, 3)
    assert first.original != first.moved


def test_a_warm_up_that_is_too_short_is_found() -> None:
    hasty = [Feature(f.name, f.lookback, f.unit, f.formula, f.source, f.lookback) for f in TECHNICAL.features]
    report = prove_causal(WALKS, Pack("hasty_v1", "unmeasured warm-ups", tuple(hasty), TECHNICAL.kernel))
    assert report.history_dependent == (
        "rsi_14", "rsi_21", "macd", "macd_signal", "macd_hist", "adx_14", "plus_di_14", "minus_di_14",
        "atr_14", "obv_ema",
    )  # fmt: skip
    assert report.leaking == ()


def test_a_panel_shorter_than_the_warm_up_is_no_proof() -> None:
    report = prove_causal(random_walks(3, 300))
    assert report.violations == ()
    assert report.unproven == ("rsi_21", "adx_14")
    assert not report.passed


def test_the_report_is_plain_data() -> None:
    plain = json.loads(json.dumps(prove_causal(WALKS, FAULTY).as_dict()))
    assert plain["pack"] == "faulty_v1"
    assert plain["passed"] is False
    assert plain["violations"][0]["session"].startswith("197")


@pytest.mark.parametrize("cuts", [0, [date(1960, 1, 1)], [date(1971, 9, 12)], []])
def test_a_cut_without_a_past_or_a_future_is_refused(cuts: int | list[date]) -> None:
    with pytest.raises(FeatureError, match="cut where bars follow"):
        prove_causal(WALKS, cut_sessions=cuts)
