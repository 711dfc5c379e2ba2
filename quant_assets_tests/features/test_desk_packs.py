"""Packs of expressions and plain functions: values, measured warm-ups, alignment, planted leaks that are named."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from quant_assets.common.errors import ConfigurationError, FeatureError
from quant_assets.features import (
    compute,
    expression_pack,
    find_pack,
    function_pack,
    prove_causal,
    selected_packs,
)
from quant_assets.features.warm_up import random_bars
from quant_assets.testing.random_market import random_market

CLOSE = pl.col("close")
BARS = random_market(6, 400)
LAST = BARS.filter(pl.col("symbol") == "S0")["close"].to_list()


# ---------------------------------------------------------------------------------------------- what it computes


def test_an_expression_sees_one_symbol_in_order_of_session_whatever_the_order_of_the_bars():
    pack = expression_pack("step_v1", {"step": CLOSE / CLOSE.shift(1) - 1})
    made = compute(BARS.sample(fraction=1.0, shuffle=True, seed=3), pack)
    assert made.select("symbol", "session").equals(BARS.select("symbol", "session"))
    first = made.filter(pl.col("symbol") == "S0")["step"]
    assert first[0] is None
    assert first[1] == pytest.approx(LAST[1] / LAST[0] - 1, rel=1e-6)
    assert made.schema["step"] == pl.Float32
    assert made.group_by("symbol").agg(pl.col("step").first())["step"].null_count() == 6


def test_expressions_across_a_session_see_the_first_ones_and_an_input_is_no_feature():
    pack = expression_pack(
        "rank_v1",
        {"_step": CLOSE / CLOSE.shift(1) - 1},
        across={"rank": pl.col("_step").rank() / pl.col("_step").count()},
    )
    made = compute(BARS, pack)
    assert made.columns == ["symbol", "session", "rank"]
    day = BARS["session"].unique().sort()[200]
    steps = {
        s: float(BARS.filter((pl.col("symbol") == s) & (pl.col("session") <= day))["close"].pct_change()[-1])
        for s in BARS.filter(pl.col("session") == day)["symbol"]
    }
    order = sorted(steps, key=steps.__getitem__)
    found = dict(made.filter(pl.col("session") == day).select("symbol", "rank").iter_rows())
    assert found == {s: pytest.approx((order.index(s) + 1) / len(order)) for s in steps}


def gap(bars: Any) -> Any:
    return bars["close"] / bars["close"].rolling(20).mean() - 1


def gap_of_arrays(bars: dict[str, Any]) -> dict[str, Any]:
    close = bars["close"]
    mean = np.full(len(close), np.nan)
    for n in range(19, len(close)):
        mean[n] = close[n - 19 : n + 1].mean()
    return {"gap_20": close / mean - 1}


def gap_of_polars(bars: pl.DataFrame) -> pl.DataFrame:
    return bars.select(gap_20=pl.col("close") / pl.col("close").rolling_mean(20) - 1)


def above_the_median(session: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"excess": session["step"] - session["step"].median()})


PACKS = {
    "pandas": function_pack("gap_v1", gap, features=["gap_20"]),
    "numpy": function_pack("gap_v1", gap_of_arrays, features=["gap_20"], takes="numpy"),
    "polars": function_pack("gap_v1", gap_of_polars, features=["gap_20"], takes="polars"),
    "expression": expression_pack("gap_v1", {"gap_20": CLOSE / CLOSE.rolling_mean(20) - 1}),
}


@pytest.mark.parametrize("kind", list(PACKS))
def test_the_same_feature_is_the_same_in_every_form(kind: str):
    made, expected = compute(BARS, PACKS[kind])["gap_20"], compute(BARS, PACKS["expression"])["gap_20"]
    assert made.null_count() == expected.null_count() == 6 * 19
    assert (made - expected).abs().max() < 1e-6
    assert PACKS[kind].features[0].warm_up == 19


def test_a_function_of_a_session_reads_its_inputs_and_gives_one_value_for_each_symbol():
    pack = function_pack(
        "excess_v1", above_the_median, features=["excess"], per="session", inputs={"step": CLOSE.pct_change()}
    )
    same = expression_pack(
        "same_v1",
        {"_step": CLOSE.pct_change()},
        across={"excess": pl.col("_step") - pl.col("_step").median()},
    )
    one, other = compute(BARS, pack), compute(BARS, same)
    assert one["excess"].null_count() == other["excess"].null_count()
    assert (one["excess"] - other["excess"]).abs().max() < 1e-7
    assert prove_causal(BARS, pack).passed


def test_sessions_with_too_few_values_have_none():
    across = {"rank": pl.col("_step").rank()}
    enough = compute(
        BARS, expression_pack("a_v1", {"_step": CLOSE.pct_change()}, across=across, min_symbols=6)
    )
    counts = enough.drop_nulls().group_by("session").len()["len"].unique().to_list()
    assert counts == [6]


# ---------------------------------------------------------------------------------------------- warm-ups, measured


@pytest.mark.parametrize(
    ("expression", "lookback", "warm_up"),
    [
        (CLOSE.pct_change(), 1, 1),
        (CLOSE / CLOSE.shift(60) - 1, 60, 60),
        (CLOSE / CLOSE.rolling_mean(200) - 1, 199, 199),
        # (9/11)^n falls below 1e-7 after 80 bars, and below 1e-7 of a deviation of 2 to 3 % after 98.
        (CLOSE / CLOSE.ewm_mean(span=10) - 1, 0, 100),
    ],
)
def test_a_warm_up_is_measured_where_nobody_declares_it(expression: pl.Expr, lookback: int, warm_up: int):
    feature = expression_pack("a_v1", {"x": expression}).features[0]
    assert (feature.lookback, feature.warm_up) == (
        lookback,
        pytest.approx(warm_up, abs=10 if warm_up == 100 else 0),
    )


def test_a_declared_warm_up_that_is_too_short_is_refused_with_the_measured_one_and_a_longer_one_is_kept():
    with pytest.raises(FeatureError, match="warm_up of 60 bars or more") as refused:
        _ = expression_pack("a_v1", {"x": CLOSE / CLOSE.shift(60) - 1}, warm_up=59).features
    assert "found warm_up 59" in str(refused.value)
    kept = expression_pack("a_v1", {"x": CLOSE / CLOSE.shift(60) - 1}, warm_up={"x": 100})
    assert kept.features[0].warm_up == 100
    assert compute(BARS, kept)["x"].null_count() == 6 * 100


def test_what_never_forgets_is_refused():
    with pytest.raises(FeatureError, match="still changes when the first bars of a long history are cut off"):
        _ = expression_pack("a_v1", {"x": CLOSE / CLOSE.cum_max() - CLOSE.pct_change().cum_sum()}).features


def test_the_warm_up_of_a_rank_is_that_of_what_is_ranked():
    pack = expression_pack("a_v1", {"_x": CLOSE.pct_change(90)}, across={"rank": pl.col("_x").rank()})
    assert [f.warm_up for f in pack.features] == [90]


# ---------------------------------------------------------------------------------------------- planted leaks

STATE: dict[Any, float] = {}


def remembers_other_symbols(bars: pd.DataFrame) -> pd.DataFrame:
    """A leak that only shows across symbols: tomorrow's close of the name that was computed before this one."""
    own = bars["close"].pct_change()
    other = pd.Series([STATE.get(day, np.nan) for day in bars.index], index=bars.index).shift(-1)
    STATE.update(own.to_dict())
    return pd.DataFrame({"leak": own + other.fillna(0.0)})


def centred_by_the_sample(bars: pd.DataFrame) -> pd.DataFrame:
    step = bars["close"].pct_change()
    return pd.DataFrame({"leak": step - step.mean(), "clean": step})


LEAKS = {
    "tomorrow": expression_pack("a_v1", {"leak": CLOSE.shift(-1) / CLOSE - 1, "clean": CLOSE.pct_change()}),
    "a centred window": expression_pack("a_v1", {"leak": CLOSE / CLOSE.rolling_mean(5, center=True) - 1}),
    "the mean of the sample": function_pack("a_v1", centred_by_the_sample, features=["leak", "clean"]),
    "a rank in time": expression_pack("a_v1", {"leak": CLOSE.rank() / CLOSE.count()}),
    "the mean of the sample, ranked": expression_pack(
        "a_v1", {"_x": CLOSE.pct_change() - CLOSE.pct_change().mean()}, across={"leak": pl.col("_x").rank()}
    ),
    "another symbol's tomorrow": function_pack("a_v1", remembers_other_symbols, features=["leak"]),
}


@pytest.mark.parametrize("leak", list(LEAKS))
def test_a_planted_leak_is_named_by_its_feature(leak: str):
    report = prove_causal(BARS, LEAKS[leak])
    assert not report.passed
    assert report.leaking == ("leak",)


def test_a_level_is_named_because_later_splits_rescale_it():
    report = prove_causal(
        BARS, expression_pack("a_v1", {"level": CLOSE.rolling_mean(5), "ratio": CLOSE.pct_change()})
    )
    assert report.scale_dependent == ("level",)


def test_logarithms_and_windows_without_a_leak_pass():
    pack = expression_pack(
        "a_v1",
        {
            "log_step": CLOSE.log().diff(),
            "vol": CLOSE.pct_change().rolling_std(20),
            "trend": CLOSE / CLOSE.ewm_mean(span=20),
        },
    )
    assert prove_causal(BARS, pack).passed


# ---------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda b: b[["close"]].rename(columns={"close": "x"}).iloc[1:], "1 rows missing, the first"),
        (lambda b: b[["close"]].rename(columns={"close": "x"}).iloc[::-1], "the same rows in another order"),
        (
            lambda b: pd.concat([b, b.tail(1)])[["close"]].rename(columns={"close": "x"}),
            "some more than once",
        ),
        (lambda b: b["close"].to_numpy()[1:], "one for each row of the input"),
        (lambda b: {"x": ["a"] * len(b)}, "expected numbers"),
        (lambda b: b[["close"]], "the columns x; found close"),
        (lambda b: None, "found NoneType"),
        (lambda b: b["no_such"], "KeyError: 'no_such'"),
        (lambda b: b["close"] * np.inf, "for symbol 'S0'"),
    ],
)
def test_a_function_whose_result_does_not_belong_to_the_bars_is_refused(
    broken: Callable[..., Any], said: str
):
    with pytest.raises(FeatureError) as refused:
        compute(BARS, function_pack("a_v1", broken, features=["x"]))
    assert said in str(refused.value)


def test_a_value_that_is_missing_is_masked_and_counts_as_no_value():
    made = compute(
        BARS,
        function_pack("a_v1", lambda b: b["close"].pct_change().where(b["volume"] > 9000), features=["x"]),
    )
    few = BARS.filter(pl.col("volume") <= 9000).height
    assert made["x"].null_count() >= few > 100
    assert made["x"].is_nan().sum() == 0


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"Close": CLOSE}, "names in lower case"),
        ({"volume": CLOSE}, "none of a column of bars"),
        ({"_only": CLOSE}, "found none"),
        ({"x": 3.0}, "a polars expression"),
    ],
)
def test_names_are_checked(names: dict[str, Any], said: str):
    with pytest.raises(FeatureError, match=said):
        expression_pack("a_v1", names)


def test_an_expression_that_cannot_be_computed_is_named():
    with pytest.raises(FeatureError, match="feature 'bad'") as refused:
        compute(BARS, expression_pack("a_v1", {"good": CLOSE.pct_change(), "bad": pl.col("closing")}))
    assert "closing" in str(refused.value)


# ----------------------------------------------------------------------------------------------------- pandas


def test_pandas_bars_are_bars_with_their_keys_in_columns_or_in_the_index():
    frame, pack = BARS.to_pandas(), PACKS["expression"]
    expected = compute(BARS, pack)
    for bars in (frame, frame.set_index(["symbol", "session"]), frame.set_index("session")):
        made = compute(bars, pack)
        assert made.drop("session").equals(expected.drop("session"))
        assert made["session"].cast(pl.Date).equals(expected["session"])


@pytest.mark.parametrize("wrong", [[1, 2], {"close": [1.0]}, np.zeros(3), BARS["close"]])
def test_what_is_no_frame_is_one_clear_error(wrong: Any):
    with pytest.raises(FeatureError, match="a polars or pandas frame with the columns symbol, session"):
        compute(wrong)


def test_a_wide_pandas_table_is_one_clear_error():
    wide = pd.DataFrame(
        1.0, index=pd.RangeIndex(3), columns=pd.MultiIndex.from_product([["Close"], ["A", "B"]])
    )
    with pytest.raises(FeatureError, match="stack it first"):
        compute(wide)


# ------------------------------------------------------------------------------------------------ named by a desk


MODULE = """
import polars as pl
from quant_assets.features import expression_pack

DAYS = {days}
momentum_v1 = expression_pack("momentum_v1", {{"mom": pl.col("close").pct_change(DAYS)}})

def reversal(days=5):
    return expression_pack(f"reversal_{{days}}_v1", {{f"reversal_{{days}}": -pl.col("close").pct_change(days)}})

technical = expression_pack("technical_v1", {{"mine": pl.col("close").pct_change()}})
number = 3
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a module of its own beside its configuration folder."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "desk_of_tests").mkdir()
    (tmp_path / "desk_of_tests" / "__init__.py").touch()
    (tmp_path / "desk_of_tests" / "features.py").write_text(MODULE.format(days=20))
    monkeypatch.setenv("QUANT_ASSETS_CONFIGS", str(tmp_path / "configs"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path  # type: ignore[misc]
    for name in [name for name in sys.modules if name.partition(".")[0] == "desk_of_tests"]:
        del sys.modules[name]


@pytest.mark.usefixtures("desk")
def test_a_pack_is_found_by_reference_and_a_function_makes_one_of_its_options():
    found = find_pack("desk_of_tests.features:momentum_v1")
    assert (found.name, found.names, found.warm_up) == ("momentum_v1", ("mom",), 20)
    made = find_pack('desk_of_tests.features:reversal {"days": 10}')
    assert made.names == ("reversal_10",)
    assert find_pack("desk_of_tests.features:reversal").names == ("reversal_5",)
    assert made.fingerprint != find_pack("desk_of_tests.features:reversal").fingerprint


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize(
    ("named", "kind", "said"),
    [
        ("desk_of_tests.features:momentum_v2", ConfigurationError, "did you mean 'momentum_v1'"),
        ("desk_of_tests.featurs:momentum_v1", ConfigurationError, "no module named"),
        ("desk_of_tests.features:number", FeatureError, "make a pack of it"),
        ("desk_of_tests.features:technical", FeatureError, "that no pack of the platform holds"),
        (
            'desk_of_tests.features:momentum_v1 {"days": 3}',
            FeatureError,
            "name the function that makes the pack",
        ),
        ('desk_of_tests.features:reversal {"dais": 3}', FeatureError, "unexpected keyword argument 'dais'"),
    ],
)
def test_a_reference_that_names_no_pack_is_refused(named: str, kind: type[Exception], said: str):
    with pytest.raises(kind) as refused:
        find_pack(named)
    assert said in str(refused.value)


@pytest.mark.usefixtures("desk")
def test_two_packs_with_a_column_of_one_name_are_refused():
    with pytest.raises(FeatureError, match="reversal_5 in both"):
        selected_packs(["desk_of_tests.features:reversal", 'desk_of_tests.features:reversal {"days": 5}'])


def test_a_name_is_known_without_computing_anything():
    pack = function_pack("a_v1", lambda bars: 1 / 0, features=["x"])
    assert pack.names == ("x",)
    assert random_bars().height == 12_000
