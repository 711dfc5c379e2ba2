"""Leaks planted in either stage of a pack across symbols, and how the prover names them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from quant_assets.features import CausalityReport, CrossSection, Feature, Pack, packs, prove_causal
from quant_assets_tests.features.panels import random_walks
from quant_assets_tests.features.wide_panels import wide_irregular

HERE = "quant_assets_tests.features.test_causality_across_symbols"
WALKS = random_walks(12, 620)


def input_kernel(open_, high, low, close, volume, starts, first, last, out) -> None:  # type: ignore[no-untyped-def]
    """Today's return, tomorrow's return, the price itself, the sum of all returns so far."""
    for s in range(first, last):
        a, b = starts[s], starts[s + 1]
        change = np.diff(close[a:b], prepend=close[a]) / close[a:b]
        out[0, a:b] = change
        out[1, a:b] = np.append(change[1:], 0.0)
        out[2, a:b] = close[a:b]
        out[3, a:b] = np.cumsum(change)


def faulty_step(values: Any, starts: Any, first: int, last: int, minimum: int, out: Any) -> None:
    """A rank of every input, and of today's return three wrong ways."""
    everything = np.nanmean(values[0])
    for s in range(first, last):
        a, b = starts[s], starts[s + 1]
        for j in range(4):
            taken = values[j, a:b][~np.isnan(values[j, a:b])]
            out[j, a:b] = np.searchsorted(np.sort(taken), values[j, a:b])
        end = starts[min(s + 2, len(starts) - 1)]
        following = values[0, b:end] if end > b else values[0, a:b]
        out[4, a:b] = np.searchsorted(np.sort(following), values[0, a:b])  # against the next session
        out[5, a:b] = values[0, a:b] - everything  # less the mean of the whole sample
        out[6, a:b] = np.where(np.arange(b - a) == 3, np.nan, values[0, a:b])  # no value for one symbol


INPUTS = tuple(
    Feature(name, 1, "fraction", "see kernel", "none", 1) for name in ("today", "tomorrow", "price", "sum")
)
READS = ("today", "tomorrow", "price", "sum", "today", "today", "today")
NAMES = ("honest", "early", "priced", "drifting", "next_session", "whole_sample", "undefined")
FAULTY = Pack(
    name="faulty_across_v1",
    description="Wrong in six ways.",
    features=tuple(Feature(name, 1, "centred_rank", "see step", "none", 1) for name in NAMES),
    kernel=f"{HERE}:input_kernel",
    cross_section=CrossSection(f"{HERE}:faulty_step", INPUTS, tuple((name,) for name in READS), 2),
)


@pytest.fixture(scope="module")
def report() -> CausalityReport:
    return prove_causal(WALKS, FAULTY)


def test_a_rank_against_the_next_session_and_an_input_of_tomorrow_are_leaks(report: CausalityReport) -> None:
    assert not report.passed
    assert report.leaking == ("early", "next_session", "whole_sample")
    for name in ("early", "next_session", "whole_sample"):
        kinds = {v.experiment for v in report.violations if v.feature == name}
        assert {"altered_future", "removed_future"} <= kinds, name


def test_a_leak_of_one_session_is_seen_at_the_cut(report: CausalityReport) -> None:
    at = {v.feature: v.session for v in report.violations if v.experiment == "altered_future"}
    assert at["early"] == at["next_session"] == report.cut_sessions[0]
    assert at["whole_sample"] < report.cut_sessions[0]


def test_a_rank_of_prices_depends_on_the_unit_of_each_symbol(report: CausalityReport) -> None:
    assert report.scale_dependent == ("priced",)


def test_a_rank_of_a_long_memory_and_a_value_that_is_not_there_are_named(report: CausalityReport) -> None:
    assert "drifting" in report.history_dependent
    assert [v.feature for v in report.violations if v.experiment == "defined"] == ["undefined"]
    assert "honest" not in {v.feature for v in report.violations}


def test_a_leak_is_found_where_symbols_come_and_go() -> None:
    assert {"early", "next_session"} <= set(prove_causal(wide_irregular(), FAULTY).leaking)


def test_with_too_few_symbols_nothing_is_proven() -> None:
    cross = packs()["cross_sectional_v1"]
    report = prove_causal(random_walks(4, 620), cross)
    assert report.violations == ()
    assert report.unproven == cross.names
    assert not report.passed


def turnover_kernel(open_, high, low, close, volume, starts, first, last, out) -> None:  # type: ignore[no-untyped-def]
    """Price times volume: a later split leaves it alone, another currency does not."""
    out[0, starts[first] : starts[last]] = (close * volume)[starts[first] : starts[last]]


def per_share_kernel(open_, high, low, close, volume, starts, first, last, out) -> None:  # type: ignore[no-untyped-def]
    """Price over volume: the same factor on both leaves it alone, a split does not."""
    out[0, starts[first] : starts[last]] = (close / volume)[starts[first] : starts[last]]


@pytest.mark.parametrize("kernel", ["turnover_kernel", "per_share_kernel"])
@pytest.mark.parametrize("symbols", [1, 3])
def test_prices_and_volumes_are_scaled_alone_and_against_each_other(kernel: str, symbols: int) -> None:
    unit = Feature("value", 0, "fraction", "see kernel", "none", 0)
    pack = replace(FAULTY, features=(unit,), kernel=f"{HERE}:{kernel}", cross_section=None)
    assert prove_causal(random_walks(symbols, 60), pack).scale_dependent == ("value",)


def test_a_leak_in_the_ratio_of_tomorrows_open_and_close_is_found() -> None:
    pack = replace(
        FAULTY,
        features=(Feature("candle", 0, "fraction", "see kernel", "none", 0),),
        kernel=f"{HERE}:candle_kernel",
        cross_section=None,
    )
    kinds = {v.experiment for v in prove_causal(random_walks(2, 60), pack).violations}
    assert kinds == {"altered_future", "removed_future"}


def candle_kernel(open_, high, low, close, volume, starts, first, last, out) -> None:  # type: ignore[no-untyped-def]
    """Tomorrow's close over its open: one factor for a whole bar would leave it as it was."""
    for s in range(first, last):
        a, b = starts[s], starts[s + 1]
        out[0, a:b] = np.append((close[a:b] / open_[a:b])[1:], 1.0)
