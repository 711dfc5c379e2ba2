"""The five gates of cross-validation, on return streams whose Sharpe ratios are known exactly."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kurtosis, norm, skew

from quant_assets.common.errors import EvidenceError, ValidationError
from quant_assets.common.hashing import canonical_json
from quant_assets.common.store import Table
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.evidence import judge_candidate, judge_evidence
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport, Verdict, meets
from quant_assets.ledgers.trials import TrialLedger, TrialSnapshot, trial_of
from quant_assets.trading.paths import median_path, path_statistics

SUBJECT = "5" * 64
YEAR = 252.0
GATES = GatesConfig()
EARLIER = GatesConfig(psr_standard="2012")
Series = NDArray[np.float64]


def series(sharpe_annual: float, n: int, seed: int = 0, volatility: float = 0.10) -> Series:
    """Returns with exactly this annual Sharpe ratio and volatility."""
    noise = np.random.default_rng(seed).normal(size=n)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return (volatility / math.sqrt(YEAR)) * (noise + sharpe_annual / math.sqrt(YEAR))


def days(n: int) -> NDArray[np.datetime64]:
    return np.arange(np.datetime64("2000-01-03"), np.datetime64("2000-01-03") + n)


def paths(*streams: Series, cost: float = 0.0001) -> pl.DataFrame:
    return pl.concat(
        pl.DataFrame(
            {
                "path": pl.Series([path] * len(net), dtype=pl.Int32),
                "session": days(len(net)),
                "gross_return": net + cost,
                "commission": np.full(len(net), cost / 4),
                "spread_cost": np.full(len(net), cost / 2),
                "impact_cost": np.full(len(net), cost / 4),
                "net_return": net,
                "net_return_at_twice_costs": net - cost,
                "turnover": np.full(len(net), 0.3),
            }
        )
        for path, net in enumerate(streams)
    )


def five(sharpe_annual: float, n: int, **options: Any) -> pl.DataFrame:
    steps = (-0.2, -0.1, 0.0, 0.1, 0.2)
    return paths(*(series(sharpe_annual + step, n, seed, **options) for seed, step in enumerate(steps)))


Judge = Callable[..., GateReport]


@pytest.fixture
def judge_paths(tmp_path: Path) -> Judge:
    """Judge paths after recording them, and any trials made before them, in a ledger."""
    numbers = iter(range(1000))

    def judge(
        returns: pl.DataFrame, *, before: Sequence[Series] = (), limits: GatesConfig = GATES
    ) -> GateReport:
        ledger = TrialLedger(tmp_path / str(next(numbers)))
        chosen = median_path(path_statistics(returns, YEAR)).path
        own = returns.filter(pl.col("path") == chosen)["net_return"].to_numpy()
        for number, stream in enumerate([*before, own]):
            trial = trial_of("s", f"t{number:04d}", stream, days(len(stream)), run_id="r", recorded_at="t")
            ledger.append(trial, stream, days(len(stream)))
        return judge_candidate(
            SUBJECT, returns, ledger.snapshot("s"), limits, YEAR, ledger.returns_matrix("s")
        )

    return judge


def by_gate(report: GateReport) -> dict[str, Verdict]:
    return {verdict.gate: verdict for verdict in report.verdicts}


# ------------------------------------------------------------------------------------------------- the report


def test_a_report_holds_exactly_one_verdict_of_each_gate_about_its_subject(judge_paths: Judge) -> None:
    report = judge_paths(five(0.3, 700))
    assert [verdict.gate for verdict in report.verdicts] == list(gate_names("validation"))
    assert {verdict.subject for verdict in report.verdicts} == {report.subject} == {SUBJECT}
    assert report.kind == "validation"
    assert report.limits == GATES.model_dump()


def test_a_strategy_with_an_edge_over_ten_years_opens_every_gate(judge_paths: Judge) -> None:
    report = judge_paths(five(2.0, 2520))
    assert closed_reasons(SUBJECT, report.verdicts, gate_names("validation")) == ()
    verdicts = by_gate(report)
    assert verdicts["cpcv_sharpe"].observed == pytest.approx(2.0)
    assert report.details["probability_of_backtest_overfitting"] is None  # of one trial


def test_a_strategy_without_one_closes_them_and_says_what_would_help(judge_paths: Judge) -> None:
    verdicts = by_gate(judge_paths(five(-0.5, 2520)))
    assert {gate: v.status for gate, v in verdicts.items()} == {
        "cpcv_sharpe": "fail",
        "cpcv_probabilistic_sharpe": "fail",
        "cpcv_deflated_sharpe": "fail",
        "cpcv_max_drawdown": "fail",
        "cpcv_loss_probability": "fail",
        "cpcv_cost_margin": "fail",
    }
    assert "before costs" in verdicts["cpcv_sharpe"].remedy
    assert "less trading" in verdicts["cpcv_cost_margin"].remedy
    assert "no record is long enough" in verdicts["cpcv_probabilistic_sharpe"].remedy
    assert "times its positions" in verdicts["cpcv_max_drawdown"].reason


def test_a_report_is_strict_json_and_comes_back_the_same(judge_paths: Judge) -> None:
    for returns in (five(1.5, 1500), paths(np.zeros(1500), np.zeros(1500))):
        report = judge_paths(returns)
        stored = canonical_json(report.to_json())
        assert GateReport.from_json(json.loads(stored)) == report
        assert b"NaN" not in stored


def test_the_details_show_every_path_and_both_numbers_of_trials(judge_paths: Judge) -> None:
    earlier = [series(0.1 * k, 1500, 50 + k) for k in range(4)]
    details = judge_paths(five(1.5, 1500), before=earlier).details
    assert [row["path"] for row in details["paths"]] == [0, 1, 2, 3, 4]
    assert [row["sharpe_annual"] for row in details["paths"]] == pytest.approx([1.3, 1.4, 1.5, 1.6, 1.7])
    assert details["aggregated"]["sharpe_annual"] == pytest.approx(
        {"minimum": 1.3, "median": 1.5, "mean": 1.5, "maximum": 1.7}
    )
    assert details["median_path"] == 2
    assert details["n_sessions"] == 1500
    assert details["standard"] == "2025"
    assert details["trials"]["n_trials"] == 5
    assert 1.0 < details["trials"]["effective_number_of_trials"] <= 5.0


# ---------------------------------------------------------------------------------------------- Sharpe, power


def test_one_year_cannot_show_a_sharpe_ratio_of_one_point_two(judge_paths: Judge) -> None:
    verdict = by_gate(judge_paths(five(3.0, 252)))["cpcv_sharpe"]
    assert verdict.status == "underpowered"
    assert verdict.observed == pytest.approx(3.0)
    # 11.5 % of zero-skill strategies show more than 1.2 after one year
    assert verdict.alpha == pytest.approx(0.1151, abs=5e-5)
    assert verdict.power == 0.5
    assert "that takes 504" in verdict.reason
    assert verdict.remedy == "needs 1.0 more years of record"
    assert closed_reasons(SUBJECT, [verdict], ["cpcv_sharpe"]) != ()


def test_paths_are_not_observations(judge_paths: Judge) -> None:
    one = judge_paths(paths(series(2.0, 300)))
    twenty = judge_paths(paths(*[series(2.0, 300)] * 20))
    for gate in ("cpcv_sharpe", "cpcv_probabilistic_sharpe", "cpcv_deflated_sharpe"):
        few, many = by_gate(one)[gate], by_gate(twenty)[gate]
        assert (few.status, few.observed, few.alpha, few.power) == (
            many.status, many.observed, many.alpha, many.power,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("sharpe_annual", "n_trials", "years"),
    # (2.4573 / SR)^2: the level is .7 % with one trial; with N of them 1 - .993^(1/N) for each (Sidak 1967), so that
    # the best of all passes .7 %: 2.6963, 3.1938 and 3.5743 standard errors
    [
        (1.2, 1, 4.1932),
        (1.5, 1, 2.6837),
        (1.5, 2, 3.2311),
        (1.5, 10, 4.5335),
        (1.5, 40, 5.678),
        (4.0, 40, 2.0),
    ],
)
def test_the_record_has_to_be_so_long_that_the_best_of_all_trials_rarely_shows_as_much_by_chance(
    judge_paths: Judge, sharpe_annual: float, n_trials: int, years: float
) -> None:
    needed = math.ceil(years * YEAR)
    for n, status in ((needed - 10, "underpowered"), (needed + 10, "pass")):
        # alternating signs: neither skewness nor kurtosis nor the moments of a draw lengthen the record
        own = alternating(sharpe_annual + 1e-9, n)
        before = [series(0.0, n, 900 + k) for k in range(n_trials - 1)]
        report = judge_paths(paths(own), before=before, limits=GATES)
        verdict = by_gate(report)["cpcv_sharpe"]
        assert report.details["minimum_track_record_sessions"] == pytest.approx(years * YEAR, rel=1e-3)
        assert verdict.status == status
        if status == "underpowered":
            assert str(needed) in verdict.reason
        else:
            assert verdict.alpha is not None
            assert verdict.alpha <= 0.007


def alternating(sharpe_annual: float, n: int) -> Series:
    """Two values in turn, with a negative autocorrelation: the record that is needed is a normal's."""
    noise = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return 0.006 * (noise + sharpe_annual / math.sqrt(YEAR))


def test_autocorrelation_lengthens_the_record_that_is_needed_and_a_lucky_path_shortens_nothing(
    judge_paths: Judge,
) -> None:
    noise = np.random.default_rng(1).normal(size=1600)
    smooth = noise[1:] + 0.5 * noise[:-1]
    smooth = (smooth - smooth.mean()) / smooth.std(ddof=1)
    report = judge_paths(paths(0.006 * (smooth + 1.3 / math.sqrt(YEAR))))
    rho = report.details["paths"][0]["autocorrelation"]
    normal = (norm.ppf(0.993) / 1.3) ** 2 * YEAR
    assert rho > 0.3
    assert report.details["minimum_track_record_sessions"] == pytest.approx(normal * (1 + rho) / (1 - rho))
    assert judge_paths(paths(alternating(1.3, 1600))).details[
        "minimum_track_record_sessions"
    ] == pytest.approx(normal)


def test_a_record_below_the_floor_is_underpowered_whatever_it_shows(judge_paths: Judge) -> None:
    for n, status in ((503, "underpowered"), (504, "pass")):
        verdict = by_gate(judge_paths(paths(alternating(5.0, n))))["cpcv_sharpe"]
        assert (verdict.status, verdict.observed) == (status, pytest.approx(5.0))


def test_too_little_on_a_record_that_is_long_enough_for_anything_is_a_failure(judge_paths: Judge) -> None:
    for n, status in ((503, "underpowered"), (600, "fail")):
        assert by_gate(judge_paths(paths(series(0.9, n))))["cpcv_sharpe"].status == status


def test_the_gate_reads_the_median_and_not_the_best_path(judge_paths: Judge) -> None:
    verdict = by_gate(judge_paths(paths(*(series(s, 2520, i) for i, s in enumerate((9.0, 1.1, 0.2))))))
    assert verdict["cpcv_sharpe"].observed == pytest.approx(1.1)
    assert verdict["cpcv_sharpe"].status == "fail"


def test_exactly_the_required_sharpe_ratio_passes(judge_paths: Judge) -> None:
    returns = paths(series(1.2000000001, 2520))
    assert by_gate(judge_paths(returns))["cpcv_sharpe"].status == "pass"
    assert by_gate(judge_paths(paths(series(1.1999999999, 2520))))["cpcv_sharpe"].status == "fail"


def test_a_limit_that_asks_for_no_skill_still_asks_for_a_record(judge_paths: Judge) -> None:
    limits = GATES.model_copy(update={"sharpe_min": 0.0})
    report = judge_paths(five(-0.5, 700), limits=limits)
    assert report.details["minimum_track_record_sessions"] == 504
    assert by_gate(report)["cpcv_sharpe"].status == "fail"
    assert by_gate(judge_paths(five(0.5, 700), limits=limits))["cpcv_sharpe"].status == "underpowered"


def test_a_strategy_that_never_trades_fails_every_test(judge_paths: Judge) -> None:
    verdicts = by_gate(judge_paths(paths(*[np.zeros(1500)] * 3)))
    for gate in ("cpcv_sharpe", "cpcv_probabilistic_sharpe", "cpcv_deflated_sharpe"):
        assert verdicts[gate].status == "fail"
        assert verdicts[gate].observed is None
    assert "do not vary" in verdicts["cpcv_probabilistic_sharpe"].remedy


# ------------------------------------------------------------------------------------- PSR, DSR and the ledger


def test_the_probabilistic_sharpe_ratio_is_that_of_the_median_path(judge_paths: Judge) -> None:
    returns = five(0.9, 800)
    net = returns.filter(pl.col("path") == 2)["net_return"].to_numpy()
    ratio = net.mean() / net.std(ddof=1)
    variance = 1 - skew(net) * ratio + (kurtosis(net, fisher=False) - 1) / 4 * ratio**2
    verdict = by_gate(judge_paths(returns, limits=EARLIER))["cpcv_probabilistic_sharpe"]
    assert verdict.observed == pytest.approx(norm.cdf(ratio * math.sqrt(799 / variance)))
    assert verdict.alpha == pytest.approx(0.05)
    assert verdict.power == pytest.approx(norm.cdf(1.2 / math.sqrt(252) * math.sqrt(800) - 1.645), abs=0.01)


def test_a_failed_probabilistic_sharpe_ratio_says_how_long_it_would_take(judge_paths: Judge) -> None:
    verdict = by_gate(judge_paths(paths(series(0.9, 504)), limits=EARLIER))["cpcv_probabilistic_sharpe"]
    assert verdict.status == "fail"
    # (1.645 / 0.9)^2 = 3.34 years, of which 2 are there: 1.34, rounded up
    assert verdict.remedy.startswith("needs 1.4 more years of record")


def best_of(n_trials: int) -> float:
    gamma = 0.5772156649015329
    return float((1 - gamma) * norm.ppf(1 - 1 / n_trials) + gamma * norm.ppf(1 - 1 / (n_trials * math.e)))


def test_the_deflated_sharpe_ratio_takes_number_and_spread_of_the_other_trials_from_the_ledger(
    judge_paths: Judge,
) -> None:
    before = (-0.9, 0.3, 0.8, -0.2, 1.1, 0.6)
    earlier = [series(s, 1500, 90 + i) for i, s in enumerate(before)]
    returns = five(1.6, 1500)
    report = judge_paths(returns, before=earlier, limits=EARLIER)
    verdict = by_gate(report)["cpcv_deflated_sharpe"]
    threshold = np.std(before, ddof=1) / math.sqrt(252) * best_of(7)
    net = returns.filter(pl.col("path") == 2)["net_return"].to_numpy()
    ratio = net.mean() / net.std(ddof=1)
    variance = 1 - skew(net) * ratio + (kurtosis(net, fisher=False) - 1) / 4 * ratio**2
    assert verdict.observed == pytest.approx(norm.cdf((ratio - threshold) * math.sqrt(1499 / variance)))
    assert "7 trials" in verdict.reason
    assert report.details["trials"]["selection_variance"] == pytest.approx(np.var(before, ddof=1) / 252)


def test_the_candidate_does_not_raise_its_own_bar_and_copies_do_not_lower_it(judge_paths: Judge) -> None:
    earlier = [series(0.01 * k, 1500, 90 + k) for k in range(9)]  # which scatter less than noise would
    details = judge_paths(paths(series(4.0, 1500)), before=earlier).details["trials"]
    rho = judge_paths(paths(series(4.0, 1500))).details["paths"][0]["autocorrelation"]
    assert details["selection_variance"] == pytest.approx(max(1.0, (1 + rho) / (1 - rho)) / 1500)
    assert details["trial_variance"] > 5 * details["selection_variance"]
    annual = best_of(10) * math.sqrt(max(1.0, (1 + rho) / (1 - rho)) / 1500 * YEAR)
    assert details["expected_maximum_sharpe_annual"] == pytest.approx(annual)


def test_the_stated_alpha_of_the_deflated_sharpe_ratio_is_the_measured_one(judge_paths: Judge) -> None:
    before = [series(0.0, 1500, k) for k in range(9)]
    returns = paths(series(2.5, 1500, 30))
    strict = GATES.for_strategy({"dsr_min": 0.98})
    for limits, alpha in ((GATES, 0.043114), (EARLIER, 0.004898), (strict, 0.024984)):
        verdict = by_gate(judge_paths(returns, before=before, limits=limits))["cpcv_deflated_sharpe"]
        assert verdict.alpha == pytest.approx(alpha)
    assert by_gate(judge_paths(returns))["cpcv_deflated_sharpe"].alpha == pytest.approx(0.05)


def test_with_one_trial_nothing_is_deflated(judge_paths: Judge) -> None:
    verdicts = by_gate(judge_paths(five(1.0, 900)))
    psr, dsr = verdicts["cpcv_probabilistic_sharpe"], verdicts["cpcv_deflated_sharpe"]
    assert psr.observed == pytest.approx(dsr.observed)
    assert psr.power == pytest.approx(dsr.power)


@pytest.mark.parametrize("seed", [20, 21, 22])
def test_the_best_of_two_hundred_noise_strategies_tried_one_after_another_is_refused(
    tmp_path: Path, judge_paths: Judge, seed: int
) -> None:
    n = 756
    noise = np.random.default_rng(seed).normal(0.0, 0.005, (200, n))
    ledger = TrialLedger(tmp_path / "search")
    best, highest = noise[0], -np.inf
    for number, stream in enumerate(noise):
        trial = trial_of("s", f"attempt-{number}", stream, days(n), run_id="r", recorded_at="t")
        if ledger.append(trial, stream, days(n)).sharpe_per_period > highest:
            best, highest = stream, trial.sharpe_per_period
    snapshot = ledger.snapshot("s")
    assert snapshot.n_trials == snapshot.chain_length == 200
    returns = ledger.returns_matrix("s")
    honest = judge_candidate(SUBJECT, paths(best), snapshot, GATES, YEAR, returns)
    verdicts = by_gate(honest)
    assert verdicts["cpcv_probabilistic_sharpe"].status == "pass"
    # The best of 200 trials without skill shows a ratio of 2.30 or more over three years in .7 % of cases.
    too_short = honest.details["minimum_track_record_sessions"] > n
    assert verdicts["cpcv_sharpe"].status == ("underpowered" if too_short else "pass")
    assert verdicts["cpcv_loss_probability"].status == "fail"
    assert closed_reasons(SUBJECT, honest.verdicts, gate_names("validation")) != ()
    assert honest.details["trials"]["superior_ability"]["n_trials"] == 200
    # The same gates with a ledger that has forgotten the other 199.
    forgetful = judge_paths(paths(best))
    assert closed_reasons(SUBJECT, forgetful.verdicts, gate_names("validation")) == ()
    assert forgetful.details["trials"]["superior_ability"] is None


def searched(n_trials: int, n: int, seed: int) -> list[Series]:
    """Trials without skill, each a change of the best one so far."""
    streams = list(np.random.default_rng(seed).normal(0.0, 0.006, (n_trials, n)))
    for number in range(1, n_trials):
        best = max(streams[:number], key=lambda stream: stream.mean() / stream.std())
        streams[number] = 0.8 * best + 0.6 * streams[number]
    return streams


def recorded(root: Path, streams: Sequence[Series], order: Sequence[int]) -> TrialLedger:
    """A ledger of these trials, recorded in this order."""
    ledger = TrialLedger(root)
    for place in order:
        trial = trial_of(
            "s", f"t{place:04d}", streams[place], days(len(streams[place])), run_id="r", recorded_at="t"
        )
        ledger.append(trial, streams[place], days(len(streams[place])))
    return ledger


def test_a_search_that_keeps_what_looks_better_is_refused_and_told_why(tmp_path: Path) -> None:
    def highest(streams: list[Series]) -> float:
        return max(stream.mean() / stream.std() for stream in streams) * math.sqrt(YEAR)

    # a search that found something: one in three reaches what is required
    streams = next(tried for seed in range(50) if highest(tried := searched(40, 2520, seed)) > 1.3)
    best = max(streams, key=lambda stream: stream.mean() / stream.std())
    found = {}
    for name, order in (("searched", range(40)), ("shuffled", np.random.default_rng(0).permutation(40))):
        ledger = recorded(tmp_path / name, streams, order)
        found[name] = judge_candidate(
            SUBJECT, paths(best), ledger.snapshot("s"), GATES, YEAR, ledger.returns_matrix("s")
        )
    # The same trials in an order that says nothing are judged as ever: noise that looks like skill.
    shuffled, report = found["shuffled"], found["searched"]
    assert closed_reasons(SUBJECT, shuffled.verdicts, gate_names("validation")) == ()
    assert not shuffled.details["trials"]["searched"]
    verdict = by_gate(report)["cpcv_sharpe"]
    assert verdict.status == "underpowered"
    assert report.details["trials"]["searched"]
    assert report.details["trials"]["search_p_value"] == 0.001
    # sqrt(chi2.isf(.007, 40)) = 8.0803 standard errors of that Sharpe ratio
    needed = (8.0803 / verdict.observed) ** 2 * YEAR
    assert report.details["minimum_track_record_sessions"] == pytest.approx(needed, rel=0.1)
    assert report.details["minimum_track_record_sessions"] >= needed - 1
    assert "the ledger shows a search" in verdict.reason
    assert (
        "the best combination of 40 trials without skill shows it in at most 0.007 of cases" in verdict.reason
    )
    assert "changes of the best one before as often in 0.1% of cases" in verdict.reason
    assert "more years of record" in verdict.remedy
    others = set(gate_names("validation")) - {"cpcv_sharpe"}
    assert [by_gate(report)[gate] for gate in others] == [by_gate(shuffled)[gate] for gate in others]


def test_a_searched_strategy_with_skill_passes_and_says_how_it_was_found(tmp_path: Path) -> None:
    streams = [stream + 0.006 * 2.0 / math.sqrt(YEAR) for stream in searched(40, 2520, 4)]
    best = max(streams, key=lambda stream: stream.mean() / stream.std())
    ledger = recorded(tmp_path, streams, range(40))
    report = judge_candidate(
        SUBJECT, paths(best), ledger.snapshot("s"), GATES, YEAR, ledger.returns_matrix("s")
    )
    verdict = by_gate(report)["cpcv_sharpe"]
    assert verdict.status == "pass"
    assert "the ledger shows a search" in verdict.reason
    assert verdict.alpha is not None
    assert verdict.alpha <= 0.007


@pytest.mark.parametrize("arrival", [(), (0, 0), (0, 2), (1,)])
def test_a_snapshot_that_does_not_say_in_which_order_trials_arrived_is_not_judged(
    arrival: tuple[int, ...],
) -> None:
    without = replace(snapshot(2.0, 0.1), arrival=arrival)
    with pytest.raises(EvidenceError, match="the order in which its 2 trials arrived"):
        judge_candidate(SUBJECT, paths(series(2.0, 900)), without, GATES, YEAR, np.zeros((900, 2)))


def test_a_stored_snapshot_of_before_orders_were_kept_is_refused_in_one_sentence(tmp_path: Path) -> None:
    stored = asdict(recorded(tmp_path, [series(2.0, 900)], [0]).snapshot("s"))
    del stored["arrival"]
    table = Table(paths(series(2.0, 900)), {"recipe": "r" * 64})
    with pytest.raises(EvidenceError, match="one of an earlier version") as caught:
        judge_evidence(
            table, stored, {"recipe": "r" * 64}, SUBJECT, home=tmp_path, periods_per_year=YEAR, limits=GATES
        )
    assert caught.value.action == "materialise trial_ledger and everything after it again"


def snapshot(*sharpes_annual: float) -> TrialSnapshot:
    ratios = tuple(s / math.sqrt(YEAR) for s in sharpes_annual)
    order = tuple(range(len(ratios)))
    return TrialSnapshot("s", ratios, order, float(len(ratios)), "d" * 64, len(ratios), "h" * 64)


@pytest.mark.parametrize("others", [(), (0.5,), (1.99, 2.01)], ids=str)
def test_an_evaluation_that_is_not_in_the_ledger_is_not_judged(others: tuple[float, ...]) -> None:
    with pytest.raises(EvidenceError, match="trials without it"):
        judge_candidate(
            SUBJECT, paths(series(2.0, 900)), snapshot(*others), GATES, YEAR, np.zeros((900, len(others)))
        )


@pytest.mark.parametrize("columns", [None, 1, 3])
def test_return_streams_have_to_be_those_of_the_ledger(columns: int | None) -> None:
    streams = None if columns is None else np.zeros((900, columns))
    with pytest.raises(EvidenceError, match="one column for each"):
        judge_candidate(SUBJECT, paths(series(2.0, 900)), snapshot(2.0, 0.1), GATES, YEAR, streams)


def test_the_number_of_trials_is_no_argument() -> None:
    with pytest.raises(TypeError):
        judge_candidate(SUBJECT, paths(series(2.0, 900)), snapshot(2.0), GATES, YEAR, n_trials=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        TrialSnapshot("s", (0.1,), (0,), 1.0, "d", 1, "h", n_trials=1)  # type: ignore[call-arg]


# ------------------------------------------------------------------------------------- drawdown, overfitting


def test_the_drawdown_gate_reads_the_worst_decile_of_paths(judge_paths: Judge) -> None:
    calm = [series(2.0, 2520, seed, volatility=0.05) for seed in range(4)]
    crash = calm[0].copy()
    crash[500] = -0.25
    verdict = by_gate(judge_paths(paths(*calm, crash)))["cpcv_max_drawdown"]
    assert verdict.status == "fail"
    assert verdict.observed < -0.2
    # of 21 paths the worst decile begins at the third: two crashes are within it, three are not
    assert by_gate(judge_paths(paths(*calm * 5, crash)))["cpcv_max_drawdown"].status == "pass"
    assert (
        by_gate(judge_paths(paths(*(calm * 5)[:18], crash, crash, crash)))["cpcv_max_drawdown"].status
        == "fail"
    )


def fallen(fall: float, n: int = 800) -> Series:
    """A track of 10 % annual volatility (to the last bit but one) with one fall of so much in its first session."""
    stream = np.tile([0.001, -0.001], n // 2)
    stream[0] = 0.0
    rest = 0.10**2 / YEAR * (n - 1) - fall**2 * (1 - 1 / n)
    stream[1:] *= math.sqrt(rest / (stream[1:] ** 2).sum())
    stream[0] = fall
    return stream * (0.10 / (stream.std(ddof=1) * math.sqrt(YEAR)))


def test_a_drawdown_is_a_negative_fraction_that_must_not_be_below_its_limit(judge_paths: Judge) -> None:
    for fall, status in ((-0.15, "pass"), (-0.21, "fail")):
        stream = fallen(fall, 1600)
        verdict = by_gate(judge_paths(paths(stream)))["cpcv_max_drawdown"]
        equity = np.cumprod(1 + stream)
        own = (equity / np.maximum(np.maximum.accumulate(equity), 1.0) - 1).min()
        assert verdict.observed == pytest.approx(own)
        assert verdict.status == status
        assert verdict.comparison == ">="


def test_leverage_changes_what_the_account_loses_and_not_what_the_gate_sees(judge_paths: Judge) -> None:
    reports = [judge_paths(paths(leverage * series(2.0, 2520, 3))) for leverage in (0.01, 1.0, 2.0, 3.0)]
    judged = [by_gate(report)["cpcv_max_drawdown"].observed for report in reports]
    assert judged == pytest.approx([judged[0]] * 4)
    own = [report.details["account_drawdown_worst_decile_fraction"] for report in reports]
    assert own == sorted(own, reverse=True)
    assert own[1] == pytest.approx(judged[0])
    within = [report.details["leverage_within_drawdown_limit"] for report in reports]
    assert within[0] / within[3] == pytest.approx(300.0, rel=1e-3)
    net = 2.0 * series(2.0, 2520, 3)
    equity = np.cumprod(1 + within[2] * net)
    assert (equity / np.maximum.accumulate(equity) - 1).min() == pytest.approx(-0.20, abs=1e-4)


def test_a_track_that_does_not_move_has_no_drawdown_to_judge(judge_paths: Judge) -> None:
    report = judge_paths(paths(np.zeros(1500)))
    assert by_gate(report)["cpcv_max_drawdown"].status == "fail"
    assert by_gate(report)["cpcv_max_drawdown"].observed is None
    assert report.details["leverage_within_drawdown_limit"] is None


def test_one_dominating_trial_does_not_lose_and_noise_does(judge_paths: Judge) -> None:
    noise = [series(0.0, 1600, 70 + k) for k in range(9)]
    good = judge_paths(paths(series(5.0, 1600, 1)), before=noise)
    verdict = by_gate(good)["cpcv_loss_probability"]
    assert (verdict.status, verdict.comparison) == ("pass", "<=")
    assert verdict.observed < 0.01
    assert good.details["probability_of_backtest_overfitting"] < 0.01
    alike = by_gate(judge_paths(paths(series(0.01, 1600, 1)), before=noise))["cpcv_loss_probability"]
    assert alike.status == "fail"
    assert alike.observed > 0.2


def test_a_plateau_of_good_trials_is_not_refused_for_being_one(judge_paths: Judge) -> None:
    # Five variants of one strategy, all truly good: which of them is best in one half is a coin flip in the other.
    common = series(2.0, 2520, 40)
    variants = [(common + series(2.0, 2520, 41 + k)) / 2 for k in range(5)]
    report = judge_paths(paths(variants[0]), before=variants[1:])
    assert report.details["probability_of_backtest_overfitting"] > 0.2  # what the gate once was
    assert by_gate(report)["cpcv_loss_probability"].observed == 0.0
    assert closed_reasons(SUBJECT, report.verdicts, gate_names("validation")) == ()


def test_a_single_trial_and_its_copies_have_the_same_probability_of_loss(judge_paths: Judge) -> None:
    stream = series(0.7, 1600, 2)
    alone = by_gate(judge_paths(paths(stream)))["cpcv_loss_probability"]
    copies = by_gate(judge_paths(paths(stream), before=[2 * stream, 0.5 * stream]))["cpcv_loss_probability"]
    assert alone.observed == copies.observed > 0.0
    # about the p-value of that ratio: halves of the record differ from the whole as estimates from the truth
    assert alone.observed == pytest.approx(norm.sf(0.7 * math.sqrt(1600 / YEAR)), abs=0.03)


def test_a_trial_that_shares_hardly_any_session_is_not_compared_and_still_counts(judge_paths: Judge) -> None:
    report = judge_paths(five(2.0, 2520), before=[series(0.5, 20, 8), series(0.5, 2000, 9)])
    verdict = by_gate(report)["cpcv_loss_probability"]
    assert verdict.status == "pass"
    assert "the best of 2 of 3 trials" in verdict.reason
    assert report.details["trials"]["n_trials"] == 3


def test_a_record_that_cannot_be_cut_into_blocks_is_underpowered_and_not_excused(judge_paths: Judge) -> None:
    verdict = by_gate(judge_paths(five(2.0, 31)))["cpcv_loss_probability"]
    assert verdict.status == "underpowered"
    assert closed_reasons(SUBJECT, [verdict], ["cpcv_loss_probability"]) != ()


# ------------------------------------------------------------------------------------------------- invariants


@given(st.floats(-3.0, 4.0), st.integers(40, 900), st.integers(1, 4), st.sampled_from(["2012", "2025"]))
@settings(max_examples=30, deadline=None)
def test_status_and_numbers_never_contradict_each_other(
    sharpe_annual: float, n: int, n_paths: int, standard: Any
) -> None:
    returns = paths(*(series(sharpe_annual + 0.1 * k, n, k) for k in range(n_paths)))
    limits = GATES.model_copy(update={"psr_standard": standard})
    own = median_path(path_statistics(returns, YEAR)).sharpe_annual
    report = judge_candidate(SUBJECT, returns, snapshot(own), limits, YEAR)
    assert [verdict.gate for verdict in report.verdicts] == list(gate_names("validation"))
    for verdict in report.verdicts:
        if verdict.status == "pass":
            assert closed_reasons(SUBJECT, [verdict], [verdict.gate]) == ()
        if verdict.status == "fail":
            assert verdict.observed is None or not meets(
                verdict.observed, verdict.required, verdict.comparison
            )
        assert verdict.reason
        assert verdict.remedy
        for probability in (verdict.alpha, verdict.power):
            assert probability is None or 0.0 <= probability <= 1.0
    canonical_json(report.to_json())


def test_the_standard_is_named_and_changes_the_number(judge_paths: Judge) -> None:
    returns = five(0.9, 500)
    old, new = judge_paths(returns, limits=EARLIER), judge_paths(returns)
    assert (old.details["standard"], new.details["standard"]) == ("2012", "2025")
    assert (
        by_gate(old)["cpcv_probabilistic_sharpe"].observed
        != by_gate(new)["cpcv_probabilistic_sharpe"].observed
    )


def test_a_return_that_is_not_a_number_gives_no_verdict_at_all() -> None:
    broken = series(2.0, 900)
    broken[3] = np.nan
    with pytest.raises(ValidationError):
        judge_candidate(SUBJECT, paths(broken), snapshot(2.0), GATES, YEAR)


# ------------------------------------------------------------------------------------------------ twice the costs


def dear(*streams: Series, cost: float) -> pl.DataFrame:
    """Paths whose gross returns are the streams, which pay a cost each session."""
    return paths(*(stream - cost for stream in streams), cost=cost)


def test_an_edge_that_twice_the_costs_would_eat_is_refused_and_one_that_survives_them_passes(
    judge_paths: Judge,
) -> None:
    gross = [series(4.0, 2520, 70 + k) for k in range(5)]
    drag = float(np.mean([stream.mean() for stream in gross]))
    for share, status in ((0.45, "pass"), (0.55, "fail")):
        verdicts = by_gate(judge_paths(dear(*gross, cost=share * drag)))
        assert verdicts["cpcv_sharpe"].status == "pass"  # at the costs that are assumed it is a good strategy
        assert verdicts["cpcv_cost_margin"].status == status
        assert verdicts["cpcv_cost_margin"].observed == pytest.approx(4.0 * (1.0 - 2.0 * share), abs=0.45)


def test_returns_without_the_track_of_twice_the_costs_do_not_pass(judge_paths: Judge) -> None:
    verdicts = by_gate(judge_paths(five(2.0, 2520).drop("net_return_at_twice_costs")))
    assert verdicts["cpcv_cost_margin"].status == "fail"
    assert verdicts["cpcv_cost_margin"].observed is None
    partly = five(2.0, 2520).with_columns(
        net_return_at_twice_costs=pl.when(pl.col("path") < 3).then(0.0).otherwise("net_return")
    )
    # three of five paths whose dearer track does not vary: the median has no ratio
    assert by_gate(judge_paths(partly))["cpcv_cost_margin"].status == "fail"
