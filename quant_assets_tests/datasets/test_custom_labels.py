"""Labels by a desk's own function: the contract, planted leaks that are named, and what a good one becomes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from quant_assets.common.errors import ConfigurationError, DatasetError
from quant_assets.common.settings import LabelConfig
from quant_assets.datasets import forward_return_labels, make_labels, prove_labels
from quant_assets.datasets.custom_labels import label_function, raw_labels
from quant_assets.datasets.label_proof import MEANING
from quant_assets.testing.random_market import random_market, times

DAYS = times(300)
BARS = random_market(6, 300)
COLUMNS = ("symbol", "session", "t0", "t1", "known_at")


def base(bars: pl.DataFrame, sessions: pl.DataFrame, horizon: int) -> pl.DataFrame:
    return forward_return_labels(bars, sessions, horizon_sessions=horizon).rename(
        {"forward_return": "target"}
    )


# --------------------------------------------------------------------------------------------- labels on trial


def capped(
    bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int, cap: float = 0.1
) -> pl.DataFrame:
    return base(bars, sessions, horizon_sessions).with_columns(pl.col("target").clip(-cap, cap))


def up(bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int) -> Any:
    made = base(bars, sessions, horizon_sessions)
    return made.with_columns(target=(pl.col("target") > 0).cast(pl.Int64)).to_pandas()


def longer_than_it_says(bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int) -> pl.DataFrame:
    """The planted leak: the return of ten sessions under the times of five."""
    long = base(bars, sessions, 2 * horizon_sessions).select("symbol", "session", "target")
    return base(bars, sessions, horizon_sessions).drop("target").join(long, on=["symbol", "session"])


def scaled_by_the_sample(
    bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int
) -> pl.DataFrame:
    made = base(bars, sessions, horizon_sessions)
    return made.with_columns(pl.col("target") / pl.col("target").std())


def close_of_the_last_bar(
    bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int
) -> pl.DataFrame:
    """Leaves at the close of the session at whose open it says that it ends."""
    made = base(bars, sessions, horizon_sessions).join(sessions.select(t1="open_at", end="session"), on="t1")
    closes = bars.select("symbol", end="session", last="close")
    first = bars.select("symbol", "session", first="close")
    return (
        made.join(closes, on=["symbol", "end"])
        .join(first, on=["symbol", "session"])
        .with_columns(target=pl.col("last") / pl.col("first") - 1)
    )


def known_too_early(bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int) -> pl.DataFrame:
    """Ends, and is known, one session after the decision; the return is that of the horizon all the same."""
    after = sessions.sort("session").select(
        "session", t1=pl.col("open_at").shift(-1), known_at=pl.col("close_at").shift(-1)
    )
    return base(bars, sessions, horizon_sessions).drop("t1", "known_at").join(after, on="session")


def of_the_past(bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int) -> pl.DataFrame:
    past = bars.sort("symbol", "session").select(
        "symbol", "session", target=pl.col("close").pct_change(5).over("symbol")
    )
    return (
        base(bars, sessions, horizon_sessions)
        .drop("target")
        .join(past.drop_nulls(), on=["symbol", "session"])
    )


COUNT = iter(range(1_000_000))


def different_each_time(bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int) -> pl.DataFrame:
    return base(bars, sessions, horizon_sessions).with_columns(target=pl.col("target") + 0.01 * next(COUNT))


# The ways to break the contract, each a change of good labels.
def changed(change: Callable[[pl.DataFrame], Any]) -> Callable[..., Any]:
    def broken(bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int) -> Any:
        return change(base(bars, sessions, horizon_sessions))

    return broken


def fails(bars: pl.DataFrame, sessions: pl.DataFrame, *, horizon_sessions: int) -> pl.DataFrame:
    raise KeyError("no such column of mine")


twice = changed(lambda f: pl.concat([f, f.head(1)]))
no_target = changed(lambda f: f.drop("target"))
decided_earlier = changed(lambda f: f.with_columns(pl.col("t0") - timedelta(days=1)))
ends_before = changed(lambda f: f.with_columns(t1="t0"))
unpublished = changed(lambda f: f.with_columns(known_at="t1"))
not_finite = changed(lambda f: f.with_columns(target=pl.lit(float("nan"))))
foreign = changed(lambda f: f.with_columns(symbol=pl.lit("ZZZ")))
without_zone = changed(lambda f: f.with_columns(pl.col("t1").dt.replace_time_zone(None)))
no_frame = changed(lambda f: [1, 2, 3])
beyond = changed(
    lambda f: f.with_columns(
        t1=pl.col("t1") + timedelta(days=30), known_at=pl.col("known_at") + timedelta(days=40)
    )
)


def config(name: str, **more: Any) -> LabelConfig:
    return LabelConfig(kind=f"{__name__}:{name}", **more)


# ------------------------------------------------------------------------------------------------------- tests


def test_a_good_label_becomes_a_target_beside_the_forward_return():
    made = make_labels(BARS, DAYS, config("capped", options={"cap": 0.02}))
    plain = make_labels(BARS, DAYS, LabelConfig())
    assert made.drop("target").equals(plain)
    assert made["target"].to_list() == plain["forward_return"].clip(-0.02, 0.02).to_list()


def test_a_pandas_frame_of_classes_becomes_a_class():
    made = make_labels(BARS, DAYS, config("up", target="class"))
    assert made.schema["target"] == pl.Int8
    assert made["target"].to_list() == (made["forward_return"] > 0).cast(pl.Int8).to_list()


@pytest.mark.parametrize(
    ("name", "experiment"),
    [
        ("longer_than_it_says", "bars_after_t1"),
        ("scaled_by_the_sample", "bars_after_t1"),
        ("close_of_the_last_bar", "bar_of_t1_after_its_open"),
        ("known_too_early", "bars_after_known_at"),
        ("of_the_past", "no_outcome"),
        ("different_each_time", "repeated"),
    ],
)
def test_a_planted_leak_is_named(name: str, experiment: str):
    label = config(name)
    report = prove_labels(lambda bars: raw_labels(bars, DAYS, label), BARS, DAYS)
    assert experiment in [violation.experiment for violation in report.violations]
    assert not report.passed
    assert any(MEANING[experiment] in str(violation) for violation in report.violations)  # type: ignore[index]


def test_a_label_without_a_leak_passes_with_thousands_of_comparisons():
    label = config("capped")
    report = prove_labels(lambda bars: raw_labels(bars, DAYS, label), BARS, DAYS)
    assert report.violations == ()
    assert report.passed
    assert report.compared > 5 * BARS.height


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fails", "KeyError: 'no such column of mine'"),
        ("twice", "one row for each symbol and session"),
        ("no_target", "no target among"),
        ("decided_earlier", "t0 at the close of the row's own session"),
        ("ends_before", "t1 after t0"),
        ("unpublished", "its bar does not exist earlier"),
        ("not_finite", "the target finite"),
        ("foreign", "rows of bars; found target"),
        ("without_zone", "times with a zone"),
        ("no_frame", "found list"),
        ("beyond", "purging and embargo count on it"),
    ],
)
def test_a_broken_contract_is_one_error_that_says_which_rule_and_which_row(name: str, said: str):
    with pytest.raises(DatasetError) as refused:
        make_labels(BARS.filter(pl.col("session") < DAYS["session"][240]), DAYS, config(name))
    assert said in str(refused.value)


def test_numbers_are_no_classes():
    with pytest.raises(DatasetError, match="targets of 0 and 1, for target: class"):
        make_labels(BARS, DAYS, config("capped", target="class"))


def test_options_that_the_function_does_not_take_are_refused_before_anything_runs():
    with pytest.raises(DatasetError, match="unexpected keyword argument 'cup'"):
        label_function(config("capped", options={"cup": 0.02}))
    with pytest.raises(ConfigurationError, match="did you mean 'capped'"):
        label_function(config("caped"))
