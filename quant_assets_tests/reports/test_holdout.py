"""The holdout: how many ideas have seen it, and what its few sessions allow to say."""

import math
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from quant_assets.reports.holdout import (
    HoldoutLook,
    HoldoutPerformance,
    equity_plot,
    holdout_page,
    holdout_performance,
    looks_before,
)

START = date(2024, 1, 1)


def look(idea: str = "a", first: int = 0, days: int = 9, book: str = "desk.forward_return") -> HoldoutLook:
    return HoldoutLook(book, idea, START + timedelta(first), START + timedelta(first + days))


def returns(net: np.ndarray, start: date = START, path: int = 0) -> pl.DataFrame:
    days = [start + timedelta(i) for i in range(len(net))]
    return pl.DataFrame(
        {"path": path, "session": days, "net_return": net, "gross_return": net, "turnover": 0.5}
    )


def measured(net: np.ndarray, *earlier: HoldoutLook, promised: float = 0.1) -> HoldoutPerformance:
    rng = np.random.default_rng(5)
    scatter = rng.normal(size=500)
    scatter = (scatter - scatter.mean()) / scatter.std(ddof=1)
    before = returns(0.01 * (scatter + promised), START - timedelta(500))
    return holdout_performance(returns(net), before, 252.0, earlier, standard="2012")


ALTERNATING = np.tile([0.012, -0.008], 32)  # mean .002, standard deviation .01 sqrt(64/63)


def test_figures_are_those_of_the_formulas() -> None:
    found = measured(ALTERNATING)
    ratio = 0.2 / math.sqrt(64 / 63)
    assert found.n_sessions == 64
    assert found.sharpe_annual == pytest.approx(ratio * math.sqrt(252))
    # Two values: skewness 0 and kurtosis 1, so the ratio has no further variance (Mertens 2002).
    assert found.low == pytest.approx((ratio - 1.959963984540054 / math.sqrt(63)) * math.sqrt(252))
    assert found.high - found.sharpe_annual == pytest.approx(found.sharpe_annual - found.low)
    assert found.p_value == pytest.approx(norm.cdf((ratio - 0.1) * math.sqrt(63)))
    assert found.return_fraction == pytest.approx((1.012 * 0.992) ** 32 - 1)
    assert found.promised_sharpe_annual == pytest.approx(0.1 * math.sqrt(252))
    assert (found.first, found.last) == (START, START + timedelta(63))


def test_the_first_look_sees_untouched_sessions_and_has_nothing_to_be_chosen_from() -> None:
    found = measured(ALTERNATING)
    assert (found.look, found.untouched_sessions, found.best_of_noise_sharpe_annual) == (1, 64, 0.0)
    assert found.sentence.endswith("First look at these sessions.")


def test_later_looks_say_how_many_ideas_were_seen_and_what_the_best_of_so_many_shows_by_luck() -> None:
    found = measured(ALTERNATING, look("b", -5, 9), look("c", 10, 9), look("c", 15, 9))
    assert found.look == 3
    assert found.untouched_sessions == 64 - 5 - 15  # days 0 to 4, and 10 to 24
    # Bailey and Lopez de Prado (2014): (1 - g) z(1 - 1/3) + g z(1 - 1/(3 e)), g of Euler, times 1/sqrt(64)
    g = 0.5772156649015329
    most = (1 - g) * norm.ppf(1 - 1 / 3) + g * norm.ppf(1 - 1 / (3 * math.e))
    assert found.best_of_noise_sharpe_annual == pytest.approx(most / 8 * math.sqrt(252))
    assert "Look 3: 44 of the 64 sessions had not been seen" in found.sentence


def test_an_idea_retrained_on_newer_bars_is_no_further_look() -> None:
    assert looks_before(look("a", 5), [look("a", 0)], ()) == []


def test_looks_of_the_same_market_under_another_name_count() -> None:
    other = look("b", 3, book="copy.forward_return")
    assert looks_before(look(), [other], ["copy.forward_return"]) == [other]
    assert looks_before(look(), [other], ()) == []


@given(first=st.integers(-30, 30), days=st.integers(0, 20))
def test_an_earlier_look_counts_exactly_when_it_shares_a_session(first: int, days: int) -> None:
    mine, other = look(), look("b", first, days)
    shared = {first + i for i in range(days + 1)} & set(range(10))
    assert bool(looks_before(mine, [other], ())) == bool(shared)
    assert mine.overlaps(other) == other.overlaps(mine)


def test_returns_that_do_not_vary_have_no_ratio_and_the_page_says_so() -> None:
    found = measured(np.zeros(40))
    assert found.to_json()["sharpe_annual"] is None
    page = holdout_page(found, strategy="cash", subject="a" * 64, entry=3, plot="data:,")
    assert "has no Sharpe ratio" in page
    assert "nan" not in page.lower()


def test_the_page_has_the_figures_and_nothing_from_elsewhere() -> None:
    found = measured(ALTERNATING, look("b"))
    track, before = returns(ALTERNATING), returns(ALTERNATING, START - timedelta(80))
    page = holdout_page(found, strategy="<edge>", subject="a" * 64, entry=7, plot=equity_plot(track, before))
    assert "LOOK 2" in page
    assert "&lt;edge&gt;" in page
    assert "entry 7 of the" in " ".join(page.split())
    assert "http://" not in page
    assert "https://" not in page
    assert page == holdout_page(
        replace(found), strategy="<edge>", subject="a" * 64, entry=7, plot=equity_plot(track, before)
    )
