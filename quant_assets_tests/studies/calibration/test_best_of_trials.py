"""Ledgers of many trials: what is drawn, that they are decided as the gates decide, and the rates that come out."""

import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.evidence import judge_candidate
from quant_assets.gates.limits import GatesConfig
from quant_assets.ledgers.trials import TrialLedger, trial_of
from quant_assets.statistics.overfitting import (
    SEARCH_LEVEL,
    probability_of_backtest_overfitting,
    search_p_value,
)
from quant_assets.studies.calibration import best_of_trials
from quant_assets.studies.calibration.best_of_trials import LedgerPlan, calibrate_on_ledgers
from quant_assets.studies.calibration.series import DAILY_LAW, PERIODS_PER_YEAR, SERIES_GATES, decide

GATES = GatesConfig()


def rates(
    *plans: LedgerPlan, years: tuple[float, ...] = (4.0,), seed: int = 3
) -> tuple[best_of_trials.LedgerRates, ...]:
    return calibrate_on_ledgers(
        GATES, plans=plans, years=years, volatilities=(0.1, 0.3), true_sharpe_annual=2.0, seed=seed, n_jobs=1
    )


def path_of(returns: NDArray[np.float64]) -> pl.DataFrame:
    periods = len(returns)
    days = np.arange(np.datetime64("2000-01-03"), np.datetime64("2000-01-03") + periods)
    return pl.DataFrame(
        {"path": pl.Series([0] * periods, dtype=pl.Int32), "session": days, "gross_return": returns}
        | {"net_return": returns, "turnover": np.full(periods, 0.3)}
        | {cost: np.zeros(periods) for cost in ("commission", "spread_cost", "impact_cost", "borrow_cost")}
    )


def test_a_ledger_decided_with_many_others_is_decided_as_its_candidate_would_be(tmp_path: Path) -> None:
    plan, periods = LedgerPlan("plateau", 4, 0.5, 24, 24), 1000
    own, common = best_of_trials._draws(plan, 0, 24, periods, 5, DAILY_LAW)
    trials = 0.006 * (math.sqrt(0.5) * own + math.sqrt(0.5) * common)
    shift = 0.006 * np.linspace(0.0, 2.4, 24) / math.sqrt(PERIODS_PER_YEAR)
    days = np.arange(np.datetime64("2000-01-03"), np.datetime64("2000-01-03") + periods)
    seen = set()
    for row in range(24):
        streams = trials[row] + shift[row]
        best, variance, sums, squares = best_of_trials._chosen(trials[[row]], np.full(4, shift[row]))
        loss = best_of_trials._loss(sums[0], squares[0], periods)
        assert loss == pytest.approx(probability_of_backtest_overfitting(streams.T).probability_of_loss)
        chosen = streams[best[0]]
        decisions = decide(
            chosen[None], GATES, PERIODS_PER_YEAR, n_trials=4, variance=variance, loss=np.array([loss])
        )
        book = TrialLedger(tmp_path / str(row))
        for number, stream in enumerate(streams):
            trial = trial_of("s", f"t{number}", stream, days, run_id="r", recorded_at="t")
            book.append(trial, stream, days)
        report = judge_candidate(
            "5" * 64, path_of(chosen), book.snapshot("s"), GATES, PERIODS_PER_YEAR, book.returns_matrix("s")
        )
        for gate in SERIES_GATES:
            passes = not closed_reasons(report.subject, report.verdicts, [gate])
            assert bool(decisions.passed[gate][0]) == passes, f"ledger {row}, {gate}"
            seen.add((gate, passes))
    assert len(seen) >= 8  # passes and failures of most gates


def test_a_searched_ledger_is_decided_as_its_candidate_would_be(tmp_path: Path) -> None:
    periods, n_trials, rows = 1500, 12, 12
    plan = LedgerPlan("search", n_trials, 0.8, rows, rows)
    own, _ = best_of_trials._draws(plan, 0, rows, periods, 6, DAILY_LAW)
    shifts = np.linspace(0.0, 3.0, rows) / math.sqrt(PERIODS_PER_YEAR)
    days = np.arange(np.datetime64("2000-01-03"), np.datetime64("2000-01-03") + periods)
    seen = set()
    for row, shift in enumerate(shifts):
        trials = best_of_trials._searched(own[[row]], 0.8, shift)
        order = np.random.default_rng(row).permutation(n_trials) if row % 3 == 0 else np.arange(n_trials)
        streams = 0.006 * (trials[0, order] + shift)
        best, variance, sums, squares = best_of_trials._chosen(trials[:, order], np.full(n_trials, shift))
        searched = search_p_value(streams.T) <= SEARCH_LEVEL
        decisions = decide(
            streams[best[0]][None], GATES, PERIODS_PER_YEAR, n_trials=n_trials, variance=variance,
            loss=np.array([best_of_trials._loss(sums[0], squares[0], periods)]), searched=np.array([searched]),
        )  # fmt: skip
        book = TrialLedger(tmp_path / str(row))
        for number, stream in enumerate(streams):
            # fingerprints in another order than that of arrival
            name = f"t{(number * 5) % n_trials:02d}"
            book.append(trial_of("s", name, stream, days, run_id="r", recorded_at="t"), stream, days)
        report = judge_candidate(
            "5" * 64,
            path_of(streams[best[0]]),
            book.snapshot("s"),
            GATES,
            PERIODS_PER_YEAR,
            book.returns_matrix("s"),
        )
        assert report.details["trials"]["searched"] == searched
        for gate in SERIES_GATES:
            passes = not closed_reasons(report.subject, report.verdicts, [gate])
            assert bool(decisions.passed[gate][0]) == passes, f"ledger {row}, {gate}"
        status = next(v.status for v in report.verdicts if v.gate == "cpcv_sharpe")
        assert bool(decisions.underpowered[0]) == (status == "underpowered")
        seen.add((searched, status))
    assert {(True, "underpowered"), (True, "pass"), (False, "pass")} <= seen


def test_noise_that_was_searched_for_passes_no_more_often_than_other_noise() -> None:
    noise = rates(LedgerPlan("search", 40, 0.8, 60, 1), years=(4.0, 10.0))
    # before the order was looked at, 42 and 37 % of such ledgers passed
    assert [r.admitted.passes for r in noise if r.true_sharpe_annual == 0.0] == [0, 0, 0]
    assert all(r.underpowered.passes >= 20 for r in noise if r.true_sharpe_annual == 0.0)


def test_the_kinds_correlate_as_they_say() -> None:
    plan = LedgerPlan("search", 12, 0.8, 40, 1)
    own, _ = best_of_trials._draws(plan, 0, 40, 1500, 1, DAILY_LAW)
    searched = best_of_trials._searched(own, 0.8, 0.0)
    first, second = searched[:, 0], searched[:, 1]
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(first, second, strict=True)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.01)
    ratios = searched.mean(axis=2) / searched.std(axis=2)
    # The best of twelve independent trials without skill is 1.63 standard errors above 0; what was searched is more.
    assert ratios.max(axis=1).mean() * math.sqrt(1500) > 1.63
    again, _ = best_of_trials._draws(LedgerPlan("mixed", 12, 0.0, 40, 1), 0, 40, 1500, 1, DAILY_LAW)
    assert np.array_equal(own, again)  # equally many trials share their draws


def test_only_one_trial_of_a_mixed_ledger_has_skill() -> None:
    (noise, skilled) = rates(LedgerPlan("mixed", 5, 0.0, 60, 60), years=(8.0,))
    assert noise.admitted.passes <= 2
    assert skilled.admitted.estimate > 0.75
    plateau = rates(LedgerPlan("plateau", 5, 0.0, 60, 60), years=(8.0,))[1]
    assert plateau.admitted.passes >= skilled.admitted.passes


def test_near_copies_neither_let_noise_pass_nor_refuse_skill() -> None:
    noise, skilled = rates(LedgerPlan("copies", 100, 0.999, 20, 20), years=(10.0,))[::2]
    assert noise.admitted.passes == 0
    assert skilled.admitted.passes >= 17
    assert skilled.years == 10.0


def test_volatility_is_measured_at_ten_years_and_changes_nothing() -> None:
    found = rates(LedgerPlan("plateau", 2, 0.8, 30, 20), years=(2.0, 10.0))
    assert [(r.true_sharpe_annual, r.years, r.annual_volatility) for r in found] == [
        (0.0, 2.0, 0.1), (0.0, 10.0, 0.1), (0.0, 10.0, 0.3),
        (2.0, 2.0, 0.1), (2.0, 10.0, 0.1), (2.0, 10.0, 0.3),
    ]  # fmt: skip
    assert found[4].admitted == found[5].admitted
    assert found[4].admitted.trials == 20
    json.dumps([r.to_json() for r in found], allow_nan=False)


def test_the_rates_do_not_depend_on_how_the_work_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = LedgerPlan("mixed", 3, 0.0, 8, 5)
    together = best_of_trials._draws(plan, 0, 8, 300, 9, DAILY_LAW)[0]
    assert np.array_equal(best_of_trials._draws(plan, 0, 3, 300, 9, DAILY_LAW)[0], together[:3])
    one, two = (
        calibrate_on_ledgers(
            GATES, plans=[plan], years=(2.0,), volatilities=(0.1,), true_sharpe_annual=2.0, seed=1, n_jobs=n
        )
        for n in (1, 2)
    )
    assert one == two


@pytest.mark.parametrize(
    "wrong",
    [("plateau", 0, 0.5, 5, 5), ("plateau", 2, 1.5, 5, 5), ("mixed", 2, 0.0, 5, 6), ("mixed", 2, 0.0, 5, 0)],
)
def test_a_plan_of_nothing_is_refused(wrong: tuple[str, int, float, int, int]) -> None:
    with pytest.raises(ValidationError, match="calibration on ledgers"):
        LedgerPlan(*wrong)  # type: ignore[arg-type]
