"""What must hold for every table."""

import json
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.trading.backtest import (
    BacktestResult,
    BacktestSettings,
    panel_of,
    result_schema,
    run_backtest,
)
from quant_assets_tests.trading.backtest.tables import long_table, schema_violations

SETTINGS = BacktestSettings(top_k=3, compare_baselines=True, extended_metrics=True)


@st.composite
def tables(draw: st.DrawFn, holes: bool = True) -> pl.DataFrame:
    """Integer scores (so there are ties and sums are exact) and returns, some of both missing."""
    n_symbols, n_sessions = draw(st.integers(1, 6)), draw(st.integers(2, 8))
    score: st.SearchStrategy[float | None] = st.integers(-3, 3).map(float)
    outcome: st.SearchStrategy[float | None] = st.integers(-40, 60).map(lambda i: i / 100)
    if holes:
        score, outcome = st.none() | score, st.none() | outcome

    def rows(cell: st.SearchStrategy[float | None]) -> list[list[float | None]]:
        row = st.lists(cell, min_size=n_symbols, max_size=n_symbols)
        return draw(st.lists(row, min_size=n_sessions, max_size=n_sessions))

    scores, outcomes = rows(score), rows(outcome)
    for t in (0, 1):  # two periods can always be judged
        scores[t][0], outcomes[t][0] = 1.0, 0.01
    return long_table([f"S{i}" for i in range(n_symbols)], score=scores, forward_return=outcomes)


def run(frame: pl.DataFrame, **changes: Any) -> BacktestResult:
    return run_backtest(panel_of(frame, name="t"), SETTINGS.model_copy(update=changes))


def content(result: BacktestResult) -> dict[str, Any]:
    """The report without the digest of its input."""
    report: dict[str, Any] = json.loads(result.to_json())
    report["data"].pop("sha256")
    return report


@given(tables(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_rows_and_columns_changes_nothing(frame: pl.DataFrame, random: Any) -> None:
    order, names = list(range(frame.height)), list(frame.columns)
    random.shuffle(order)
    random.shuffle(names)
    assert content(run(frame[order].select(names))) == content(run(frame))


@given(tables(holes=False))
@settings(max_examples=30, deadline=None)
def test_choosing_everything_is_equal_weight(frame: pl.DataFrame) -> None:
    report = content(run(frame, top_k=frame["symbol"].n_unique()))
    equal = next(b for b in report["baselines"] if b["name"] == "equal_weight")
    for result in (report["model"], equal["result"]):
        del result["name"], result["definition"]
    assert report["model"] == equal["result"]
    assert equal["model_excess_per_period"] == 0.0


def leaves(value: Any, at: str = "") -> dict[str, Any]:
    """Every leaf of plain data by its place."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in leaves(item, f"{at}.{key}").items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in leaves(item, f"{at}[{i}]").items()}
    return {at: value}


def numbers(value: Any) -> dict[str, float]:
    return {k: v for k, v in leaves(value).items() if isinstance(v, float)}


def texts(value: Any) -> dict[str, Any]:
    return {k: v for k, v in leaves(value).items() if not isinstance(v, float)}


@given(tables(), st.lists(st.integers(-50, 50), min_size=8, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_constant_added_to_all_scores_of_a_session_changes_nothing(
    frame: pl.DataFrame, constants: list[int]
) -> None:
    shift = pl.Series([float(constants[i]) for i in (frame["session"].rank("dense") - 1).to_list()])
    moved = frame.with_columns(score=pl.col("score") + shift)
    # Adding a constant rounds: a correlation may move in its last bits, and a spread of 0 become 1e-16.
    assert numbers(content(run(moved))) == pytest.approx(numbers(content(run(frame))), abs=1e-9)
    assert texts(content(run(moved))) == texts(content(run(frame)))


@given(tables())
@settings(max_examples=40, deadline=None)
def test_every_report_obeys_the_published_schema(frame: pl.DataFrame) -> None:
    schema = result_schema()
    for changes in ({}, {"compare_baselines": False}, {"extended_metrics": False}):
        report = json.loads(run(frame, **changes).to_json())
        assert schema_violations(report, schema, schema) == []


@given(tables())
@settings(max_examples=40, deadline=None)
def test_the_choice_is_the_sorted_list_cut_at_k(frame: pl.DataFrame) -> None:
    result = run(frame)
    scored = frame.filter(pl.col("score").is_not_null())
    last = scored.filter(pl.col("session") == scored["session"].max())
    ranked = sorted(zip(-last["score"], last["symbol"], strict=True))
    assert list(result.latest_selection.symbols) == [symbol for _, symbol in ranked[:3]]


@given(tables())
@settings(max_examples=40, deadline=None)
def test_costs_only_ever_take(frame: pl.DataFrame) -> None:
    report = run(frame)
    books = [report.model, *(b.result for b in report.baselines or () if b.result is not None)]
    for book in books:
        assert book.annual_return_fraction <= book.gross_annual_return_fraction
        assert book.account is not None
        assert book.account.max_drawdown_fraction <= 0.0
        assert 0.0 <= book.account.mean_invested_fraction <= 1.0 + 1e-12


def test_perfect_foresight_has_every_coefficient_one_and_beats_chance() -> None:
    rng = np.random.default_rng(5)
    returns = rng.normal(0, 0.02, (40, 20)).tolist()
    result = run(long_table([f"S{i:02}" for i in range(20)], score=returns, forward_return=returns))
    assert result.information is not None
    assert abs(result.information.rank_ic.mean - 1.0) < 1e-12
    assert result.model.precision_at_k == 1.0
    assert any("look for a leak" in warning for warning in result.warnings)
    random = next(b for b in result.baselines or () if b.name == "random")
    assert random.model_excess_t_statistic is not None
    assert random.model_excess_t_statistic > 10
