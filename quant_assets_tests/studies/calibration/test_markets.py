"""Synthetic markets through the whole pipeline, and the report of both levels."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import polars as pl
import pytest
from rich.console import Console

from quant_assets.cli.calibrate_command import show_calibration
from quant_assets.common.errors import ValidationError
from quant_assets.common.settings import LightGBMConfig, ModelsConfig
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import GatesConfig
from quant_assets.lineage.notebook import run
from quant_assets.lineage.pipeline import judge_market, judge_with_and_without_costs, settings_of
from quant_assets.statistics.rates import Rate
from quant_assets.studies.calibration.best_of_trials import LedgerPlan
from quant_assets.studies.calibration.calibrating import (
    PLANS,
    CalibrationReport,
    Plan,
    calibrate_gates,
    power_plot,
)
from quant_assets.studies.calibration.markets import (
    STRATEGY,
    MarketBatch,
    MarketSize,
    calibrate_on_markets,
    judge_one,
    market_of,
)

GATES = GatesConfig()
SMALL = MarketSize(5, date(2019, 1, 2), date(2023, 12, 29))
QUICK = STRATEGY.model_copy(
    update={"models": ModelsConfig(lightgbm=LightGBMConfig(n_estimators=15), xgboost=None)}
)
PLAN = Plan(
    n_series=150,
    ledgers=(
        LedgerPlan("plateau", 5, 0.8, 60, 30),
        LedgerPlan("mixed", 3, 0.0, 60, 30),
        LedgerPlan("search", 3, 0.8, 60, 30),
    ),
    ledger_years=(3.0, 10.0),
    batches=(MarketBatch(0.0, 2, SMALL), MarketBatch(0.08, 1, SMALL)),
)


@pytest.fixture(scope="module")
def report() -> CalibrationReport:
    return calibrate_gates(GATES, plan=PLAN, n_jobs=1, judge=judge_with_and_without_costs)


def test_a_market_is_judged_by_every_gate_and_always_the_same() -> None:
    universe = market_of(3, 0.08, SMALL)
    once, again = (judge_market(universe, QUICK, GATES, n_jobs=n) for n in (1, 2))
    assert [v.gate for v in once.verdicts] == list(gate_names("validation"))
    assert once.to_json() == again.to_json()
    assert once.details["trials"]["n_trials"] == 1


def test_a_strategys_stricter_limits_are_the_ones_that_judge() -> None:
    strict = QUICK.model_copy(update={"gates": {"sharpe_min": 50.0}})
    verdict = judge_market(market_of(3, 0.08, SMALL), strict, GATES).verdicts[0]
    assert (verdict.status, verdict.required) == ("fail", 50.0)


def test_a_market_with_an_edge_is_the_same_market_plus_the_edge() -> None:
    noise, edge = (
        run(QUICK.name, settings_of(market_of(9, sd, SMALL), QUICK), "bars").table("bars").frame
        for sd in (0.0, 0.02)
    )
    assert noise["session"].equals(edge["session"])
    assert noise["volume"].equals(edge["volume"])
    assert not noise["close"].equals(edge["close"])


def test_noise_is_refused_with_and_without_costs_and_a_large_edge_is_not() -> None:
    noise = judge_one(1, 0.0, SMALL, QUICK, GATES, judge_with_and_without_costs)
    edge = judge_one(1, 0.08, SMALL, QUICK, GATES, judge_with_and_without_costs)
    assert noise.net["cpcv_sharpe"] == noise.before_costs["cpcv_sharpe"] == "fail"
    assert set(edge.net.values()) == {"pass"}
    for market in (noise, edge):
        assert market.sharpe_annual is not None
        assert market.sharpe_annual_before_costs is not None
        assert market.sharpe_annual < market.sharpe_annual_before_costs


def test_processes_change_nothing_and_more_markets_add_to_the_same_ones() -> None:
    size = replace(SMALL, n_symbols=4)
    asked: Mapping[str, object] = {"seed": 5, "strategy": QUICK, "judge": judge_with_and_without_costs}
    one = calibrate_on_markets(GATES, batches=[MarketBatch(0.0, 1, size)], n_jobs=1, **asked)  # type: ignore[arg-type]
    both = calibrate_on_markets(
        GATES,
        batches=[MarketBatch(0.0, 1, size), MarketBatch(0.0, 2, size)],
        n_jobs=2,
        **asked,  # type: ignore[arg-type]
    )
    assert one[0] == both[0]
    assert both[1].admitted.trials == 2


def test_a_batch_without_markets_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least one market"):
        MarketBatch(0.0, 0, SMALL)
    with pytest.raises(ValidationError, match="at least one batch"):
        calibrate_on_markets(GATES, batches=[], seed=1, judge=judge_with_and_without_costs)


# ------------------------------------------------------------------------------------------------------ the report


def test_the_report_states_each_promise_with_its_interval(report: CalibrationReport) -> None:
    names = [p.name for p in report.promises]
    assert len(names) == len(set(names)) == 8
    for promise in report.promises:
        low, high = promise.rate.interval
        assert low <= promise.rate.estimate <= high
    markets = report.promises[1]
    assert (markets.kept, markets.certain) == (True, False)  # two markets bound nothing


def test_a_broken_promise_makes_the_report_fail(report: CalibrationReport) -> None:
    leaky = replace(report.power_curve[0], admitted=Rate(5, 150))
    broken = replace(report, power_curve=(leaky, *report.power_curve[1:]))
    assert not broken.promises[0].kept
    assert not broken.passed


def test_noise_that_passes_after_a_search_breaks_the_promise_as_any_other(
    report: CalibrationReport,
) -> None:
    plan = LedgerPlan("search", 40, 0.8, 100, 50)
    row = next(r for r in report.ledgers if r.true_sharpe_annual == 0.0 and r.years == 10.0)
    leaky = replace(report, ledgers=(*report.ledgers, replace(row, plan=plan, admitted=Rate(37, 100))))
    promise = next(p for p in leaky.promises if "ledgers of noise" in p.name)
    assert "40 trials, search in steps of correlation 0.8, 10 years" in promise.name
    assert not promise.kept
    assert not leaky.passed


def test_a_probabilistic_gate_off_its_alpha_breaks_its_promise(report: CalibrationReport) -> None:
    off = replace(report.stated_alpha[2], by_gate={"cpcv_probabilistic_sharpe": Rate(60, 150)})
    broken = replace(report, stated_alpha=(*report.stated_alpha[:2], off))
    assert not broken.promises[4].kept


def test_the_alpha_is_read_under_the_assumptions_of_the_standard_in_force(report: CalibrationReport) -> None:
    assert "2025" in report.promises[4].name
    earlier = replace(report, limits=GatesConfig(psr_standard="2012"))
    assert earlier.promises[4].rate == report.stated_alpha[0].by_gate["cpcv_probabilistic_sharpe"]


def test_the_report_is_strict_json_and_the_same_every_time(report: CalibrationReport) -> None:
    text = json.dumps(report.to_json(), allow_nan=False)
    assert json.loads(text)["promises"][0]["rate"]["trials"] == 150
    series_only = replace(PLAN, batches=(MarketBatch(0.0, 1, replace(SMALL, n_symbols=2)),))
    again = calibrate_gates(GATES, plan=series_only, n_jobs=1, judge=judge_with_and_without_costs)
    assert again.power_curve == report.power_curve
    assert again.ledgers == report.ledgers


def test_tables_have_a_row_for_each_measurement(report: CalibrationReport) -> None:
    series, markets = report.series_table(), report.market_table()
    assert series["study"].unique(maintain_order=True).to_list() == [
        "power curve", "volatility", "record length", "stated alpha",
    ]  # fmt: skip
    curve = series.filter(pl.col("study") == "power curve")
    assert curve["true_sharpe_annual"].to_list() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert (curve["admitted_low"] <= curve["admitted"]).all()
    assert markets["transient_sd"].to_list() == [0.0, 0.08]
    assert markets["markets"].to_list() == [2, 1]


def test_the_plot_is_a_picture_and_the_same_every_time(report: CalibrationReport) -> None:
    assert power_plot(report).startswith("data:image/png;base64,iVBOR")
    assert power_plot(report) == power_plot(report)


def test_the_command_shows_every_promise_and_where_the_interval_reaches_beyond(
    report: CalibrationReport,
) -> None:
    text = io.StringIO()
    show_calibration(report, Console(file=text, width=200))
    shown = text.getvalue()
    for promise in report.promises:
        assert promise.name[:40] in shown
    for words in (
        "interval reaches beyond",
        "true Sharpe 2.5",
        "20% volatility",
        "4 years",
        "edge 0.08",
    ):
        assert words in shown


def test_the_full_plan_measures_what_it_promises_to() -> None:
    full = PLANS["full"]
    assert full.n_series >= 1000
    assert sum(batch.n_markets for batch in full.batches) >= 100
    searches = {(p.n_trials, p.correlation) for p in full.ledgers if p.kind == "search"}
    assert searches >= {(n, rho) for n in (5, 10, 40) for rho in (0.5, 0.8, 0.95)}
    noise = full.batches[0]
    assert noise.transient_sd == 0.0
    assert Rate(0, noise.n_markets).interval[1] <= 0.01
