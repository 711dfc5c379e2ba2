"""The baseline and the report: calibrated without drift, awake with it, closed on anything unusable."""

import json
import math
from datetime import date, datetime, timedelta, timezone

import numpy as np
import polars as pl
import pytest
from scipy.signal import lfilter
from scipy.stats import beta, binom, ks_2samp, t

from quant_assets.common.errors import DriftError
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.gate import gate_names
from quant_assets.gates.limits import DriftConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.monitoring.baseline import DriftBaseline, fit_baseline
from quant_assets.monitoring.drift_report import compare_predictions, judge_drift
from quant_assets.monitoring.window_null import AlarmRehearsal, distances_to_rest, fit_null, p_value

N_FEATURES, N_SYMBOLS, N_BASELINE, WINDOW = 8, 10, 2400, 63
NAMES = tuple(f"f{i}" for i in range(N_FEATURES))
SUBJECT = "c" * 64
CONFIG = DriftConfig()
FIRST = date(2010, 1, 4)


def panel(seed: int, phi: float, n_sessions: int = N_BASELINE + WINDOW) -> np.ndarray:
    """AR(1) features (n_features, n_sessions, n_symbols), unit variance, half of it common to all symbols."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((N_FEATURES, n_sessions + 300, N_SYMBOLS + 1))
    mixed = math.sqrt(0.5) * noise[:, :, :1] + math.sqrt(0.5) * noise[:, :, 1:]
    return lfilter([1.0], [1.0, -phi], mixed, axis=1)[:, 300:] * math.sqrt(1 - phi**2)


def frame(values: np.ndarray, first_session: int) -> pl.DataFrame:
    """Features (n_features, n_sessions, n_symbols) as rows; sessions are the days of the week from FIRST."""
    n_sessions, n_symbols = values.shape[1:]
    numbers = range(first_session, first_session + n_sessions)
    sessions = [FIRST + timedelta(days=7 * (i // 5) + i % 5) for i in numbers]
    return pl.DataFrame(
        {
            "symbol": [f"S{i}" for i in range(n_symbols)] * n_sessions,
            "session": [s for s in sessions for _ in range(n_symbols)],
            **{name: values[i].ravel() for i, name in enumerate(NAMES)},
        }
    )


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return panel(1, phi=0.5)


@pytest.fixture(scope="module")
def baseline(values: np.ndarray) -> DriftBaseline:
    return fit_baseline(frame(values[:, :N_BASELINE], 0), NAMES, CONFIG, training_set_version="d" * 64)


@pytest.fixture(scope="module")
def window(values: np.ndarray) -> pl.DataFrame:
    return frame(values[:, N_BASELINE:], N_BASELINE)


def test_a_window_of_the_same_process_passes(baseline: DriftBaseline, window: pl.DataFrame) -> None:
    report = judge_drift(baseline, window, subject=SUBJECT)
    (verdict,) = report.verdicts
    assert (verdict.gate, verdict.status, verdict.observed, verdict.required) == (
        "feature_drift", "pass", 0.0, 2.0,
    )  # fmt: skip
    assert closed_reasons(SUBJECT, report.verdicts, gate_names("drift")) == ()
    assert report.limits == CONFIG.model_dump(mode="json")
    assert GateReport.from_json(json.loads(json.dumps(report.to_json(), allow_nan=False))) == report


@pytest.mark.parametrize("change", ["mean + 1 sd", "spread x 2"])
def test_a_shift_or_a_doubled_spread_of_every_feature_closes_the_gate(
    values: np.ndarray, baseline: DriftBaseline, change: str
) -> None:
    newest = values[:, N_BASELINE:]
    changed = newest + 1.0 if change == "mean + 1 sd" else newest * 2.0
    report = judge_drift(baseline, frame(changed, N_BASELINE), subject=SUBJECT)
    assert report.verdicts[0].status == "fail"
    assert report.verdicts[0].observed == N_FEATURES
    assert all(row["drifted"] for row in report.details["features"])


def test_fewer_drifted_features_than_an_alarm_needs_leave_the_gate_open(
    values: np.ndarray, baseline: DriftBaseline
) -> None:
    for n_shifted, status in ((2, "pass"), (3, "fail")):
        changed = values[:, N_BASELINE:].copy()
        changed[:n_shifted] += 3.0
        report = judge_drift(baseline, frame(changed, N_BASELINE), subject=SUBJECT)
        drifted = [row["feature"] for row in report.details["features"] if row["drifted"]]
        assert drifted == list(NAMES[:n_shifted])
        assert (report.verdicts[0].status, report.verdicts[0].observed) == (status, n_shifted)


@pytest.mark.parametrize("phi", [0.0, 0.9, 0.98])
def test_without_drift_the_alarm_rings_no_more_often_than_stated(phi: float) -> None:
    n_panels, windows_each = 6, 7
    alarms = textbook = 0
    for seed in range(n_panels):
        values = panel(1000 + seed, phi, N_BASELINE + windows_each * WINDOW)
        fitted = fit_baseline(frame(values[:, :N_BASELINE], 0), NAMES, CONFIG, training_set_version="d" * 64)
        for end in range(N_BASELINE + WINDOW, values.shape[1] + 1, WINDOW):
            report = judge_drift(fitted, frame(values[:, N_BASELINE:end], N_BASELINE), subject=SUBJECT)
            alarms += report.verdicts[0].status == "fail"
            textbook += sum(row["textbook_ks_p_value"] < 0.05 for row in report.details["features"]) >= 3
    n_windows = n_panels * windows_each
    # At the stated rate, more than this many alarms have a chance below 1e-4.
    assert alarms <= binom.isf(1e-4, n_windows, CONFIG.alpha)
    # The control: by the same rule the textbook test does not keep the 5 % that it states.
    assert textbook > binom.isf(1e-4, n_windows, 0.05)


def test_numbers_of_a_feature_agree_with_independent_ones(
    values: np.ndarray, baseline: DriftBaseline, window: pl.DataFrame
) -> None:
    report = judge_drift(baseline, window, subject=SUBJECT)
    row = report.details["features"][3]
    base, newest = values[3, :N_BASELINE].ravel(), values[3, N_BASELINE:].ravel()
    deciles = np.quantile(base, np.arange(1, 10) / 10, method="inverted_cdf")
    p = np.full(10, 0.1)
    q = np.histogram(newest, np.concatenate([[-np.inf], deciles, [np.inf]]))[0] / newest.size
    middle = (p + q) / 2
    bits = math.sqrt((np.sum(p * np.log2(p / middle)) + np.sum(q * np.log2(q / middle))) / 2)
    assert row["js_distance_bits"] == pytest.approx(bits, rel=1e-9)
    assert row["psi"] == pytest.approx(np.sum((q - p) * np.log(q / p)), rel=1e-9)
    exact = ks_2samp(base, newest, method="asymp")
    assert row["ks_statistic"] == pytest.approx(exact.statistic, abs=1 / 1024)
    assert row["textbook_psi_band"] == "stable"


def test_the_critical_distance_is_the_one_whose_p_value_is_alpha(baseline: DriftBaseline) -> None:
    for feature in baseline.features:
        null = feature.null
        at_critical = np.array([null.critical_js_distance_bits])
        chance = p_value(at_critical, null.mean_logit, null.spread_logit, null.effective_windows)
        assert chance[0] == pytest.approx(CONFIG.alpha, rel=1e-9)


def test_the_p_value_of_independent_windows_is_the_predictive_student_t() -> None:
    # Alternating logits have neighbours (3 windows on) that differ: no correlation is taken off.
    odds = np.tile([-2.0, -1.0], 30)
    null = fit_null(1 / (1 + np.exp(-odds)), n_disjoint=20, alpha=0.01)
    assert (null.mean_logit, null.effective_windows) == (pytest.approx(-1.5), 20.0)
    assert null.spread_logit == pytest.approx(0.5 * math.sqrt(20 / 19))
    new = 1 / (1 + math.exp(0.5))  # logit -0.5
    expected = t.sf((-0.5 + 1.5) / (null.spread_logit * math.sqrt(1 + 1 / 20)), df=19)
    chance = p_value(np.array([new]), null.mean_logit, null.spread_logit, null.effective_windows)
    assert chance[0] == pytest.approx(expected, rel=1e-9)


def test_a_window_is_compared_with_the_baseline_without_itself() -> None:
    # All low values lie in the first window and all high ones in the second: nothing is shared with the rest.
    windows = np.array([[10.0, 0.0], [0.0, 10.0]])
    assert distances_to_rest(windows.sum(axis=0), windows, windows).tolist() == [1.0, 1.0]


def test_slow_features_amount_to_fewer_windows_than_fast_ones(baseline: DriftBaseline) -> None:
    slow = panel(5, phi=0.995)[:, :N_BASELINE]
    fitted = fit_baseline(frame(slow, 0), NAMES, CONFIG, training_set_version="d" * 64)
    fast_windows = np.median([f.null.effective_windows for f in baseline.features])
    slow_windows = np.median([f.null.effective_windows for f in fitted.features])
    assert slow_windows < 0.7 * fast_windows
    # Yet a jump is seen in both: in the distribution of the fast ones, in the step of the slow ones.
    assert min(fitted.rehearsal.power_mean_shift_1sd, baseline.rehearsal.power_mean_shift_1sd) > 0.8


def test_expected_alarms_per_year_carry_the_exact_binomial_interval(
    baseline: DriftBaseline, window: pl.DataFrame
) -> None:
    rehearsal = AlarmRehearsal(38, 2, 1.0, 1.0, windows_per_year=4.0)
    assert rehearsal.alarms_per_year() == pytest.approx(
        (4 * 2 / 38, 4 * beta.ppf(0.025, 2, 37), 4 * beta.ppf(0.975, 3, 36)), rel=1e-9
    )
    assert AlarmRehearsal(38, 0, 1.0, 1.0, 4.0).alarms_per_year()[:2] == (0.0, 0.0)
    assert AlarmRehearsal(38, 38, 1.0, 1.0, 4.0).alarms_per_year()[2] == 4.0

    stated = judge_drift(baseline, window, subject=SUBJECT).details["alarms_per_year_without_drift"]
    assert baseline.rehearsal.n_windows == N_BASELINE // WINDOW - 1  # the first has no sessions before it
    # 5 sessions a week: 260.9 a year.
    assert stated["nominal_upper_bound"] == pytest.approx(0.01 * 260.9 / 63, rel=1e-3)
    low, high = stated["interval_95"]
    assert low <= stated["estimate"] <= high


def test_the_baseline_does_not_depend_on_row_order_and_survives_json(
    values: np.ndarray, baseline: DriftBaseline
) -> None:
    shuffled = frame(values[:, :N_BASELINE], 0).sample(fraction=1.0, shuffle=True, seed=3)
    again = fit_baseline(shuffled, NAMES, CONFIG, training_set_version="d" * 64)
    assert again == baseline
    text = json.dumps(baseline.to_json(), allow_nan=False)
    assert DriftBaseline.from_json(json.loads(text)) == baseline


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("features"),
        lambda d: d.update(extra=1),
        lambda d: d["drift"].update(alpha=2.0),
        lambda d: d["features"][0]["edges"].reverse(),
        lambda d: d["features"][0]["frequencies"].pop(),
        lambda d: d["features"][0]["null"].update(spread_logit="wide"),
        lambda d: d["features"][0]["null"].update(mean_logit=math.nan),
        lambda d: d["features"][0]["null"].update(surplus=1.0),
        lambda d: d.update(n_sessions="2400"),
        lambda d: d.pop("level"),
        lambda d: d["level"].update(threshold=math.nan),
        lambda d: d["level"].update(mean_excess=0.0),
        lambda d: d["level"]["series"].pop(),
        lambda d: d["level"]["series"][1]["coefficients"].pop(),
        lambda d: d["level"]["series"][1]["knots"].reverse(),
        lambda d: d["spread"]["series"][1]["above"].pop(),
        lambda d: d["spread"]["series"][1].update(long_run_scale=0.0),
        lambda d: d["spread"].update(strongest=0),
    ],
)
def test_a_damaged_stored_baseline_is_refused(baseline: DriftBaseline, damage) -> None:
    data = json.loads(json.dumps(baseline.to_json()))
    damage(data)
    with pytest.raises(DriftError):
        DriftBaseline.from_json(data)


def with_value(window: pl.DataFrame, value: float | None) -> pl.DataFrame:
    return window.with_columns(
        pl.when(pl.int_range(pl.len()) == 17).then(pl.lit(value)).otherwise(pl.col("f2")).alias("f2")
    )


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda w: with_value(w, None), "f2.*S7 on"),
        (lambda w: with_value(w, math.nan), "f2.*S7 on"),
        (lambda w: with_value(w, math.inf), "f2.*S7 on"),
        (lambda w: w.drop("f5"), "f5"),
        (lambda w: w.drop("session"), "at least 63 sessions"),
        (lambda w: w.filter(pl.col("session") > w["session"].min()), "found 62"),
        (lambda w: w.clear(), "at least 63 sessions"),
        (lambda w: pl.concat([w, w.tail(1)]), "repeated"),
        (lambda w: w.with_columns(pl.col("session") - pl.duration(days=7)), "undrifted"),
    ],
)
def test_an_unusable_window_is_an_error_and_never_a_pass(
    baseline: DriftBaseline, window: pl.DataFrame, damage, text: str
) -> None:
    with pytest.raises(DriftError, match=text):
        judge_drift(baseline, damage(window), subject=SUBJECT)


def test_of_a_longer_window_the_newest_sessions_are_judged(
    values: np.ndarray, baseline: DriftBaseline
) -> None:
    longer = panel(1, phi=0.5, n_sessions=N_BASELINE + 3 * WINDOW)[:, N_BASELINE:]
    newest = judge_drift(baseline, frame(longer[:, -WINDOW:], N_BASELINE + 2 * WINDOW), subject=SUBJECT)
    report = judge_drift(baseline, frame(longer, N_BASELINE), subject=SUBJECT)
    assert report.details["window"] == newest.details["window"]
    assert report.details["window"]["n_sessions"] == WINDOW
    assert report.verdicts[0].status == "pass"
    for key in ("psi", "ks_statistic", "js_distance_bits", "p_value", "rows_outside_range"):
        assert [r[key] for r in report.details["features"]] == [r[key] for r in newest.details["features"]]


def test_only_the_sessions_before_the_window_show_a_jump_of_slow_features_into_it() -> None:
    every = panel(7, 0.98, N_BASELINE + 30 + WINDOW)
    fitted = fit_baseline(frame(every[:, :N_BASELINE], 0), NAMES, CONFIG, training_set_version="d" * 64)
    later = every[:, N_BASELINE:].copy()
    later[:, 30:] += 1.5
    seen = judge_drift(fitted, frame(later, N_BASELINE), subject=SUBJECT)
    jump = seen.details["jumps"]["level"]
    assert jump["session"] == seen.details["window"]["first_session"]
    assert seen.verdicts[0].observed == N_FEATURES
    assert all("level" in row["drifted_by"] for row in seen.details["features"])
    assert min(row["level_jump_score"] for row in seen.details["features"]) > 4
    # the same rows of the window, without what came before
    alone = judge_drift(fitted, frame(later[:, 30:], N_BASELINE + 30), subject=SUBJECT)
    assert alone.verdicts[0].status == "pass"


def test_sessions_that_do_not_follow_the_baseline_forecast_the_rest_of_the_window(
    values: np.ndarray, baseline: DriftBaseline
) -> None:
    newest = values[:, N_BASELINE:]
    apart = judge_drift(baseline, frame(newest, N_BASELINE + 30), subject=SUBJECT)
    assert apart.details["jumps"]["level"]["sessions_judged"] == WINDOW - 21
    assert apart.verdicts[0].status == "pass"
    short = DriftConfig(window_sessions=20)
    fitted = fit_baseline(frame(values[:, :N_BASELINE], 0), NAMES, short, training_set_version="d" * 64)
    with pytest.raises(DriftError, match="21 more before the window"):
        judge_drift(fitted, frame(newest[:, :20], N_BASELINE + 30), subject=SUBJECT)


@pytest.mark.parametrize(("phi", "least"), [(0.9, 0.7), (0.98, 0.9)])
def test_a_jump_of_slow_features_is_seen_at_the_stated_rate(phi: float, least: float) -> None:
    n_windows, before = 40, 126
    seen = {"level": 0, "spread": 0, "window": 0}
    for seed in range(2):
        every = panel(50 + seed, phi, N_BASELINE + before + n_windows // 2 * WINDOW)
        fitted = fit_baseline(frame(every[:, :N_BASELINE], 0), NAMES, CONFIG, training_set_version="d" * 64)
        for start in range(N_BASELINE + before, every.shape[1], WINDOW):
            shown = every[:, start - before : start + WINDOW].copy()
            shown[[0, 3, 6], before:] += 1.0
            rows = judge_drift(fitted, frame(shown, start - before), subject=SUBJECT).details["features"]
            seen["level"] += sum("level" in row["drifted_by"] for row in rows) >= 3
            seen["window"] += sum("window" in row["drifted_by"] for row in rows) >= 3
            shown = every[:, start - before : start + WINDOW].copy()
            shown[[0, 3, 6], before:] *= 2.0
            rows = judge_drift(fitted, frame(shown, start - before), subject=SUBJECT).details["features"]
            seen["spread"] += sum("spread" in row["drifted_by"] for row in rows) >= 3
    # At the stated power, fewer have a chance below 1e-3.
    assert seen["level"] >= binom.ppf(1e-3, n_windows, least)
    assert seen["spread"] >= binom.ppf(1e-3, n_windows, 0.95)
    assert seen["window"] <= 2  # the control: the distribution of a window does not show it


def test_symbols_outside_the_range_of_the_training_window_are_counted(
    values: np.ndarray, baseline: DriftBaseline
) -> None:
    newest = values[:, N_BASELINE:].copy()
    newest[2, -1, :4] = 50.0  # four of ten symbols on the newest session
    newest[5, 7, 0] = -50.0  # one value of another feature, earlier
    rows = judge_drift(baseline, frame(newest, N_BASELINE), subject=SUBJECT).details["features"]
    assert rows[2]["symbols_outside_range"] == 0.4
    assert rows[2]["rows_outside_range"] >= 4 / newest[2].size
    assert rows[5]["symbols_outside_range"] == 0.0
    assert rows[5]["rows_outside_range"] >= 1 / newest[5].size
    inside = baseline.features[2].sketch
    assert (inside[0], inside[-1]) == (values[2, :N_BASELINE].min(), values[2, :N_BASELINE].max())


def test_a_session_of_one_symbol_has_no_spread_and_the_report_says_so(values: np.ndarray) -> None:
    single = values[:, :, :1]
    fitted = fit_baseline(frame(single[:, :N_BASELINE], 0), NAMES, CONFIG, training_set_version="d" * 64)
    assert fitted.spread is None
    report = judge_drift(fitted, frame(single[:, N_BASELINE:], N_BASELINE), subject=SUBJECT)
    assert report.details["jumps"]["spread"] is None
    assert report.details["jumps"]["level"] is not None
    assert {row["spread_jump_score"] for row in report.details["features"]} == {None}


def test_the_report_says_what_no_test_of_a_window_can_see(
    baseline: DriftBaseline, window: pl.DataFrame
) -> None:
    details = judge_drift(baseline, window, subject=SUBJECT).details
    assert "gradual move of a slow feature" in details["cannot_be_seen"]


def scores(values: np.ndarray, first_session: int) -> pl.DataFrame:
    """The first feature in the role of the scores."""
    return frame(values, first_session).select("symbol", "session", score="f0")


def test_predictions_are_compared_with_those_out_of_sample(values: np.ndarray) -> None:
    before, newest = scores(values[:, :N_BASELINE], 0), scores(values[:, N_BASELINE:], N_BASELINE)
    alike = compare_predictions(before, newest, CONFIG)
    wider = compare_predictions(before, newest.with_columns(pl.col("score") * 2), CONFIG)
    assert alike["p_value"] > 0.05 > 0.002 > wider["p_value"]
    assert wider["sd"] == pytest.approx(2 * alike["sd"], rel=1e-12)
    assert wider["rows_outside_range"] > alike["rows_outside_range"] == pytest.approx(0.0, abs=0.01)
    assert alike["out_of_sample_sd"] == pytest.approx(values[0, :N_BASELINE].std(), rel=1e-12)
    with pytest.raises(DriftError, match="scores of the newest window"):
        compare_predictions(before, newest.with_columns(score=pl.lit(math.nan)), CONFIG)


def test_what_the_scores_do_decides_nothing(baseline: DriftBaseline, window: pl.DataFrame) -> None:
    told = judge_drift(baseline, window, subject=SUBJECT, predictions={"p_value": 0.0})
    assert told.details["predictions"] == {"p_value": 0.0}
    assert told.verdicts == judge_drift(baseline, window, subject=SUBJECT).verdicts


def test_sessions_of_the_future_are_refused(baseline: DriftBaseline, window: pl.DataFrame) -> None:
    last = window["session"].max()
    evening = datetime(last.year, last.month, last.day, 22, tzinfo=timezone.utc)  # noqa: UP017
    assert judge_drift(baseline, window, subject=SUBJECT, now=evening).verdicts[0].status == "pass"
    with pytest.raises(DriftError, match="clock"):
        judge_drift(baseline, window, subject=SUBJECT, now=evening - timedelta(days=1))


def test_a_baseline_of_four_windows_is_too_short(values: np.ndarray) -> None:
    rows = frame(values[:, : 4 * WINDOW], 0)
    with pytest.raises(DriftError, match="315 sessions"):
        fit_baseline(rows, NAMES, CONFIG, training_set_version="d" * 64)


def test_an_alarm_that_could_never_ring_is_refused(values: np.ndarray) -> None:
    rows = frame(values[:, :N_BASELINE], 0)
    with pytest.raises(DriftError, match="never close"):
        fit_baseline(rows, NAMES[:2], CONFIG, training_set_version="d" * 64)


@pytest.mark.parametrize(
    ("names", "change"),
    [
        ((*NAMES, "f1"), pl.col("f0")),
        (NAMES, pl.col("f1").cast(pl.String)),
        (NAMES, pl.col("session").cast(pl.Datetime)),
    ],
)
def test_columns_of_the_wrong_kind_are_refused(
    values: np.ndarray, names: tuple[str, ...], change: pl.Expr
) -> None:
    rows = frame(values[:, :N_BASELINE], 0).with_columns(change)
    with pytest.raises(DriftError, match="each named once"):
        fit_baseline(rows, names, CONFIG, training_set_version="d" * 64)


@pytest.mark.parametrize("value", [0.5, -0.5])
def test_a_feature_that_never_moved_drifts_when_it_moves(values: np.ndarray, value: float) -> None:
    constant = values.copy()
    constant[0] = 0.0
    fitted = fit_baseline(frame(constant[:, :N_BASELINE], 0), NAMES, CONFIG, training_set_version="d" * 64)
    newest = constant[:, N_BASELINE:]
    quiet = judge_drift(fitted, frame(newest, N_BASELINE), subject=SUBJECT).details["features"][0]
    newest[0] = value
    moved = judge_drift(fitted, frame(newest, N_BASELINE), subject=SUBJECT).details["features"][0]
    assert (quiet["drifted"], moved["drifted"], moved["js_distance_bits"]) == (False, True, 1.0)
