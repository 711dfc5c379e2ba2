"""Return series of known Sharpe ratio, the gates decided for many at once, and the rates that come out."""

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from quant_assets.common.errors import ValidationError
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.evidence import judge_candidate
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import GatesConfig
from quant_assets.ledgers.trials import TrialLedger, trial_of
from quant_assets.studies.calibration.series import (
    DAILY_LAW,
    PERIODS_PER_YEAR,
    SERIES_GATES,
    ReturnLaw,
    autocorrelations,
    calibrate_on_series,
    decide,
    returns_of,
    scatters,
)
from quant_assets.trading.paths import autocorrelation

GATES = GatesConfig()
INDEPENDENT = ReturnLaw(autocorrelation=0.0)


def drawn(law: ReturnLaw, n_series: int, n_periods: int, seed: int = 1) -> NDArray[np.float64]:
    return np.concatenate(list(scatters(law, n_series, n_periods, seed)))


# -------------------------------------------------------------------------------------------------------- the law


def test_the_series_have_the_sharpe_ratio_volatility_tails_and_memory_that_they_claim() -> None:
    law = ReturnLaw(annual_volatility=0.15, tail_degrees_of_freedom=8.0, autocorrelation=0.3)
    scatter = drawn(law, 1200, 2520)
    assert scatter.mean() == pytest.approx(0.0, abs=3e-3)
    assert scatter.var() == pytest.approx(1.0, abs=5e-3)
    assert np.median(autocorrelations(scatter)) == pytest.approx(0.3, abs=5e-3)
    # t(8) has kurtosis 4.5; an AR(1) of it 3 + 1.5 (1 - r^2) / (1 + r^2)
    assert (scatter**4).mean() == pytest.approx(3.0 + 1.5 * (1 - 0.09) / (1 + 0.09), abs=0.15)
    returns = returns_of(scatter, 1.5, law)
    assert returns.std() * math.sqrt(252) == pytest.approx(0.15, rel=5e-3)
    assert returns.mean() / returns.std() * math.sqrt(252) == pytest.approx(1.5, abs=0.04)


def test_the_series_are_stationary_from_their_first_session() -> None:
    scatter = drawn(ReturnLaw(tail_degrees_of_freedom=8.0, autocorrelation=0.6), 6000, 4)
    assert scatter.var(axis=0) == pytest.approx(1.0, abs=0.1)  # .64 and rising if the shocks were all alike


def test_more_series_begin_with_the_same_ones() -> None:
    few, many = drawn(DAILY_LAW, 30, 50), drawn(DAILY_LAW, 1500, 50)
    assert np.array_equal(few, many[:30])
    assert not np.array_equal(many[:500], many[1000:])


@pytest.mark.parametrize(
    "wrong", [{"annual_volatility": 0.0}, {"tail_degrees_of_freedom": 2.0}, {"autocorrelation": 1.0}]
)
def test_a_law_without_variance_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="law of the returns"):
        ReturnLaw(**wrong)


# ------------------------------------------------------------------------------------- the same gates, many at once


def judged(series: NDArray[np.float64], limits: GatesConfig, folder: Path) -> dict[str, str]:
    """Statuses that the product's own gates give one series, as a candidate with one path and one trial."""
    days = np.arange(np.datetime64("2000-01-03"), np.datetime64("2000-01-03") + len(series))
    path = pl.DataFrame(
        {
            "path": pl.Series([0] * len(series), dtype=pl.Int32),
            "session": days,
            "gross_return": series,
            "net_return": series,
            "net_return_at_twice_costs": series,  # what has no costs has none twice
            "turnover": np.full(len(series), 0.3),
            **{cost: np.zeros(len(series)) for cost in ("commission", "spread_cost", "impact_cost")},
        }
    )
    ledger = TrialLedger(folder)
    ledger.append(trial_of("s", "t", series, days, run_id="r", recorded_at="t"), series, days)
    report = judge_candidate("5" * 64, path, ledger.snapshot("s"), limits, PERIODS_PER_YEAR)
    admitted = not closed_reasons(report.subject, report.verdicts, gate_names("validation"))
    return {v.gate: v.status for v in report.verdicts} | {"admitted": "pass" if admitted else "fail"}


@pytest.mark.parametrize("standard", ["2012", "2025"])
@pytest.mark.parametrize("years", [1.0, 2.0, 5.0])
def test_deciding_many_series_at_once_is_deciding_each_as_a_candidate(
    standard: str, years: float, tmp_path: Path
) -> None:
    limits = GatesConfig(psr_standard=standard)  # type: ignore[arg-type]
    law = ReturnLaw(annual_volatility=0.14, tail_degrees_of_freedom=3.0, autocorrelation=0.2)
    scatter = drawn(law, 16, round(years * 252), seed=7)
    sample = np.concatenate([returns_of(scatter, ratio, law) for ratio in (0.0, 1.2, 2.0)])
    sample = np.vstack([sample, np.zeros(sample.shape[1]), np.full(sample.shape[1], 1e-4)])
    decisions = decide(sample, limits, PERIODS_PER_YEAR)
    seen = set()
    for row, series in enumerate(sample):
        statuses = judged(series, limits, tmp_path / str(row))
        for gate in SERIES_GATES:
            status = "pass" if decisions.passed[gate][row] else "fail"
            if gate == "cpcv_sharpe" and decisions.underpowered[row]:
                status = "underpowered"
            assert status == statuses[gate], f"series {row}, {gate}"
            seen.add((gate, status))
        assert ("pass" if decisions.admitted[row] else "fail") == statuses["admitted"]
    assert len(seen) >= 7  # the sample has passes and failures of nearly every gate


def test_autocorrelation_of_many_series_is_that_of_each() -> None:
    sample = np.vstack([drawn(DAILY_LAW, 5, 100), np.zeros(100)])
    assert autocorrelations(sample) == pytest.approx([autocorrelation(row) for row in sample], nan_ok=True)


def test_series_that_are_not_finite_or_not_a_table_are_refused() -> None:
    for wrong in (np.zeros(10), np.array([[0.0, np.nan]])):
        with pytest.raises(ValidationError, match="finite returns of shape"):
            decide(wrong, GATES, PERIODS_PER_YEAR)


# ----------------------------------------------------------------------------------------------- rates of the gates


def test_the_default_gates_hardly_pass_noise_and_nearly_always_a_sharpe_ratio_of_two() -> None:
    noise, skill = calibrate_on_series(GATES, n_series=2000, years=10, true_sharpe_annual=(0.0, 2.0), seed=3)
    assert noise.admitted.interval[1] <= 0.01
    assert skill.admitted.interval[0] >= 0.90
    assert noise.underpowered.passes == skill.underpowered.passes == 0
    assert set(noise.by_gate) == set(SERIES_GATES)


def test_the_stated_alpha_of_the_probabilistic_sharpe_ratio_lies_inside_its_interval() -> None:
    (noise,) = calibrate_on_series(
        GATES, n_series=3000, years=4, true_sharpe_annual=(0.0,), seed=4, law=INDEPENDENT
    )
    assert noise.by_gate["cpcv_probabilistic_sharpe"].contains(0.05)


def test_autocorrelated_noise_passes_too_often_by_the_2012_standard_and_not_by_the_2025_one() -> None:
    law = ReturnLaw(autocorrelation=0.2)
    rates = {}
    for standard in ("2012", "2025"):
        limits = GatesConfig(psr_standard=standard)  # type: ignore[arg-type]
        (noise,) = calibrate_on_series(
            limits, n_series=3000, years=4, true_sharpe_annual=(0.0,), seed=4, law=law
        )
        rates[standard] = noise.by_gate["cpcv_probabilistic_sharpe"]
    assert rates["2012"].interval[0] > 0.05
    assert rates["2025"].contains(0.05)


def test_one_year_passes_nobody_because_it_shows_nothing() -> None:
    noise, skill = calibrate_on_series(GATES, n_series=200, years=1, true_sharpe_annual=(0.0, 3.0), seed=5)
    for rates in (noise, skill):
        assert rates.underpowered.estimate == 1.0
        assert rates.admitted.passes == 0


def test_leverage_changes_no_decision() -> None:
    rates = [
        calibrate_on_series(
            GATES, n_series=500, years=10, true_sharpe_annual=(2.0,), seed=6, law=ReturnLaw(volatility)
        )[0]
        for volatility in (0.05, 0.10, 0.20, 0.30)
    ]
    assert len({str(r.by_gate) for r in rates}) == 1
    assert rates[0].by_gate["cpcv_max_drawdown"].estimate > 0.95
    assert rates[0].admitted.interval[0] >= 0.9


@pytest.mark.parametrize("wrong", [{"n_series": 0}, {"years": 0.001}, {"true_sharpe_annual": ()}])
def test_a_calibration_of_nothing_is_refused(wrong: dict[str, object]) -> None:
    asked = {"n_series": 10, "years": 1.0, "true_sharpe_annual": (0.0,)} | wrong
    with pytest.raises(ValidationError, match="calibration on series"):
        calibrate_on_series(GATES, seed=1, **asked)  # type: ignore[arg-type]


def test_rates_are_plain_data() -> None:
    (noise,) = calibrate_on_series(GATES, n_series=10, years=2, true_sharpe_annual=(0.0,), seed=1)
    data = noise.to_json()
    assert data["law"] == asdict(DAILY_LAW)
    assert data["admitted"]["trials"] == 10
    assert data["by_gate"]["cpcv_sharpe"]["passes"] == noise.by_gate["cpcv_sharpe"].passes
