"""The feature report finds what was planted, depends on no unit, and gives the same bytes for the same features."""

import re
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, spearmanr
from statsmodels.stats.multitest import multipletests

from quant_assets.common.errors import FeatureError
from quant_assets.features import feature_plots
from quant_assets.features.column_statistics import (
    DEAD_MODAL_SHARE,
    combined_p_value,
    distributions,
    even_rows,
    feature_columns,
    rank_correlation,
    stationarity,
    thinned,
)
from quant_assets.features.feature_report import (
    FeatureReport,
    advice_of,
    feature_report,
    redundant_pairs,
    render_html,
    report_plots,
)
from quant_assets_tests.reports.page_structure import reading, require_fits

SYMBOLS, SESSIONS = 6, 300
RNG = np.random.default_rng(3)


def panel(
    columns: dict[str, np.ndarray],
    symbols: int = SYMBOLS,
    sessions: int = SESSIONS,
    dtype: pl.DataType | None = None,
) -> pl.DataFrame:
    """Columns of shape (symbols, sessions) as a frame of features; NaN becomes null."""
    days = [date(2015, 1, 1) + timedelta(days=i) for i in range(sessions)]
    keys = {"symbol": np.repeat([f"S{k:02d}" for k in range(symbols)], sessions), "session": days * symbols}
    values = {
        name: pl.Series(v.reshape(-1), dtype=dtype or pl.Float32()).fill_nan(None)
        for name, v in columns.items()
    }
    return pl.DataFrame(keys | values)


def noise() -> np.ndarray:
    return RNG.normal(size=(SYMBOLS, SESSIONS))


def autoregression(phi: float, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    steps = rng.normal(size=shape)
    values = np.zeros(shape)
    for i in range(1, shape[1]):
        values[:, i] = phi * values[:, i - 1] + steps[:, i]
    return values


def masked(values: np.ndarray, warm_up: int) -> np.ndarray:
    held = values.copy()
    held[:, :warm_up] = np.nan
    return held


def planted() -> pl.DataFrame:
    base = noise()
    wander = np.cumsum(noise(), axis=1)
    mostly = np.where(np.arange(SESSIONS) % 25 == 0, 1.0, 0.0) * np.ones((SYMBOLS, 1))
    stuck = noise()
    stuck[2] = 0.5
    return panel(
        {
            "base": base,
            "late_twin": masked(np.exp(base), 20),  # same ranks, fewer rows
            "mirror": -3.0 * base + 0.01 * noise(),
            "tiny": 1e-12 * noise(),
            "constant": np.full((SYMBOLS, SESSIONS), 7.0),
            "mostly_zero": mostly,
            "rounding": 1000.0 + 1e-4 * noise(),
            "stuck": stuck,
            "wander": wander,
            "costly": masked(noise(), 60),
        }
    )


PLANTED = planted()
REPORT = feature_report({"planted_v1": PLANTED}, universe="tests")


def found(report: FeatureReport, finding: str) -> list[str]:
    return report.recommendations.filter(pl.col("finding") == finding)["feature"].to_list()


def test_planted_dead_features_are_found_and_small_ones_are_not() -> None:
    assert found(REPORT, "dead") == ["constant", "mostly_zero", "rounding"]
    share = REPORT.summary.filter(pl.col("feature") == "mostly_zero")["modal_share"].item()
    assert share == 0.96 > DEAD_MODAL_SHARE


def test_a_feature_that_is_dead_in_one_symbol_is_named_with_the_number_of_symbols() -> None:
    assert found(REPORT, "dead in some symbols") == ["stuck"]
    (evidence,) = REPORT.recommendations.filter(pl.col("feature") == "stuck")["evidence"]
    assert evidence == "it never changes in 1 of 6 symbols"


def test_planted_twins_are_found_and_the_one_with_more_rows_is_kept() -> None:
    rows = {frozenset(r[:2]): r[2:] for r in REPORT.redundant.rows()}
    assert set(rows) == {
        frozenset(p) for p in (("base", "late_twin"), ("base", "mirror"), ("late_twin", "mirror"))
    }
    assert rows[frozenset(("base", "late_twin"))] == (1.0, "base")
    assert rows[frozenset(("base", "mirror"))][0] < -0.99
    assert rows[frozenset(("late_twin", "mirror"))][1] is None  # both have a better twin
    assert sorted(found(REPORT, "redundant")) == ["late_twin", "mirror"]


def test_no_feature_is_dropped_in_favour_of_a_dropped_one() -> None:
    # a - b and b - c are twins, a - c are not
    correlation = np.array([[1.0, 0.96, 0.90], [0.96, 1.0, 0.97], [0.90, 0.97, 1.0]])
    pairs, replaced = redundant_pairs(correlation, ["a", "b", "c"], [10, 10, 10])
    assert replaced == {"b": "a"}
    assert pairs.rows() == [("b", "c", 0.97, "c"), ("a", "b", 0.96, "a")]
    _, by_rows = redundant_pairs(correlation, ["a", "b", "c"], [10, 11, 10])
    assert by_rows == {"a": "b", "c": "b"}


def test_twins_share_a_cluster_and_noise_is_alone() -> None:
    cluster = dict(REPORT.clusters.select("feature", "cluster").iter_rows())
    assert cluster["base"] == cluster["late_twin"] == cluster["mirror"]
    assert [n for n in cluster if cluster[n] == cluster["tiny"]] == ["tiny"]
    assert "constant" not in cluster
    assert REPORT.correlation["feature"].to_list() == REPORT.correlation.columns[1:]


def test_rank_correlations_are_those_of_scipy() -> None:
    names = ["base", "late_twin", "mirror", "mostly_zero", "wander", "costly"]
    correlation, rows = rank_correlation(PLANTED, names)
    complete = PLANTED.select(names).drop_nulls()
    assert rows == complete.height == SYMBOLS * (SESSIONS - 60)
    np.testing.assert_allclose(correlation, spearmanr(complete.to_numpy()).statistic, atol=1e-9)


def test_coverage_counts_rows_symbols_and_what_a_feature_alone_costs() -> None:
    a, b = np.ones((2, 10)), np.ones((2, 10))
    a[0, :4] = np.nan
    b[0, :3] = np.nan
    b[1, :] = np.nan
    report = feature_report({"p_v1": panel({"a": a, "b": b}, 2, 10)}, universe="u")
    assert report.coverage.rows() == [
        ("p_v1", "a", 16, 0.8, date(2015, 1, 1), 0, 0.05),
        ("p_v1", "b", 7, 0.35, date(2015, 1, 4), 1, 0.5),
    ]
    assert report.session_coverage.row(0) == (date(2015, 1, 1), 2, 0.0, 0.5, 0.0)
    assert report.session_coverage.row(9) == (date(2015, 1, 10), 2, 0.5, 1.0, 0.5)
    assert found(report, "costs rows") == ["b"]


def test_a_feature_without_a_value_is_reported_and_breaks_nothing() -> None:
    frame = panel({"a": noise(), "never": np.full((SYMBOLS, SESSIONS), np.nan)})
    report = feature_report({"p_v1": frame}, universe="u")
    assert found(report, "never has a value") == ["never"]
    assert "never" in render_html(report)


def test_a_random_walk_is_not_called_stationary_and_its_tests_reject_as_often_as_they_say() -> None:
    rng = np.random.default_rng(17)
    walks = {f"walk_{k}": np.cumsum(rng.normal(size=(20, 400)), axis=1) for k in range(20)}
    result = stationarity(panel(walks, 20, 400), list(walks))
    n, rejecting = int(result["symbols"].sum()), int(result["rejecting"].sum())
    assert n == 400
    # 99.9 % of counts of a test whose size is 5 %
    assert binom.ppf(0.0005, n, 0.05) <= rejecting <= binom.ppf(0.9995, n, 0.05)
    assert not result["stationary"].any()


def test_a_stationary_autoregression_is_called_stationary() -> None:
    values = autoregression(0.9, (12, 1500), np.random.default_rng(5))
    result = stationarity(panel({"ar": values}, 12, 1500), ["ar"]).row(0, named=True)
    assert result["stationary"] is True
    assert result["share_rejecting"] == 1.0
    assert result["share_by_chance"] == 0.05
    assert result["most_by_chance"] == binom.ppf(0.95, 12, 0.05) / 12


def test_nothing_is_tested_where_there_is_too_little_or_nothing_moves() -> None:
    frame = panel({"constant": np.ones((2, 300)), "short": masked(np.ones((2, 300)).cumsum(1), 250)}, 2, 300)
    result = stationarity(frame, ["constant", "short"])
    assert result["symbols"].to_list() == [0, 0]
    assert result["stationary"].to_list() == [None, None]


def test_the_combined_p_value_is_ruegers() -> None:
    assert combined_p_value([0.03]) == 0.03
    assert combined_p_value([0.04, 0.01, 0.03, 0.02]) == 0.04  # 4/2 times the second
    assert combined_p_value([0.9, 0.8, 0.01]) == 1.0  # 3/2 times the second, at most 1


def test_p_values_are_adjusted_for_the_number_of_features_as_statsmodels_does() -> None:
    columns = {f"ar_{phi}": autoregression(phi, (5, 900), RNG) for phi in (0.5, 0.8, 0.95, 0.99, 1.0)}
    result = stationarity(panel(columns, 5, 900), list(columns))
    oracle = multipletests(result["combined_p"].to_numpy(), 0.05, method="fdr_bh")
    np.testing.assert_allclose(result["adjusted_p"].to_numpy(), oracle[1], atol=1e-12)
    assert result["stationary"].to_list() == oracle[0].tolist()
    assert (result["stationary"][0], result["stationary"][-1]) == (True, False)


@given(st.integers(1, 40_000), st.integers(1, 3000))
def test_rows_are_chosen_in_order_and_none_is_far_from_its_even_place(n_rows: int, most: int) -> None:
    rows = even_rows(n_rows, most)
    assert rows.size == min(n_rows, most)
    assert (np.diff(rows) >= 0).all()
    assert 0 <= rows[0] <= rows[-1] < n_rows
    assert (np.diff(rows) > 0).all() or n_rows < 2 * most
    if n_rows > most:
        assert np.abs(rows - (np.arange(most) + 0.5) * n_rows / most).max() <= 0.5 * n_rows / most + 1.0


def test_chosen_rows_follow_no_calendar() -> None:
    """A fixed step of 10 over weeks of 5 sessions would only ever see one weekday."""
    weekdays = np.bincount(even_rows(500_000, 50_000) % 5, minlength=5)
    assert weekdays.min() > 0.19 * 50_000


@given(st.integers(1, 20_000))
def test_thinned_sessions_are_evenly_spaced_and_end_with_the_newest(n: int) -> None:
    rows = thinned(n)
    assert rows.size <= 1000
    assert rows[-1] == n - 1
    assert rows.size == 1 or np.ptp(np.diff(rows)) == 0
    assert n < 1000 or rows.size >= 500


SCALED = ("base", "late_twin", "mostly_zero", "rounding", "stuck", "wander", "costly", "tiny")


@settings(max_examples=12, deadline=None)
@given(st.lists(st.integers(-30, 30), min_size=len(SCALED), max_size=len(SCALED)))
def test_rescaling_features_changes_no_finding_and_no_measure_that_one_rests_on(powers: list[int]) -> None:
    frame = PLANTED.select("symbol", "session", *SCALED)
    other = frame.with_columns(
        (pl.col(n) * float(2.0**k)).cast(pl.Float32) for n, k in zip(SCALED, powers, strict=True)
    )
    one, two = (feature_report({"p_v1": f}, universe="u") for f in (frame, other))
    assert one.recommendations.equals(two.recommendations)
    free = ("modal_share", "steps", "constant_symbols", "dead")
    assert one.summary.select(free).equals(two.summary.select(free))
    assert one.histograms["counts"].equals(two.histograms["counts"])
    for name in ("coverage", "correlation", "clusters", "redundant", "stationarity"):
        assert getattr(one, name).equals(getattr(two, name)), name


@settings(max_examples=25, deadline=None)
@given(
    st.floats(1e-20, 1e20), st.sampled_from(["base", "mostly_zero", "rounding", "stuck", "tiny", "constant"])
)
def test_whether_a_feature_is_dead_does_not_depend_on_its_unit(factor: float, name: str) -> None:
    # the unit is changed before the model's float32, as a pack would
    column = PLANTED.select("symbol", "session", pl.col(name).cast(pl.Float64))
    dead = [
        distributions(f, [name])[0]["dead"].item()
        for f in (column, column.with_columns(pl.col(name) * factor))
    ]
    assert dead[0] == dead[1]


def test_the_same_features_give_the_same_bytes_in_any_row_order() -> None:
    shuffled = PLANTED.sample(fraction=1.0, shuffle=True, seed=4)
    again = feature_report({"planted_v1": shuffled}, universe="tests")
    plots = report_plots(REPORT)
    assert set(plots) == {"coverage", "distributions", "correlation", "stationarity"}
    assert report_plots(again) == plots
    assert render_html(again) == render_html(REPORT, plots)


def test_no_label_of_a_picture_is_cut_too_small_or_over_its_neighbour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(feature_plots, "figure_png", reading(feature_plots.figure_png))
    long = "a_feature_whose_name_is_as_long_as_they_come_60"
    frame = panel({long: noise(), **{f"volume_z_{k}": noise() for k in range(28)}})
    assert len(report_plots(feature_report({"p_v1": frame}, universe="u"))) == 4


def test_findings_with_one_recommendation_are_one_line_and_most_features_come_first() -> None:
    rows = [
        ("a", "redundant", "x", "keep b"),
        ("c", "dead", "y", "leave it out"),
        ("d", "dead", "z", "leave it out"),
    ]
    findings = pl.DataFrame(rows, schema=["feature", "finding", "evidence", "recommendation"], orient="row")
    assert advice_of(findings) == [
        {"finding": "dead", "recommendation": "leave it out", "features": ["c", "d"]},
        {"finding": "redundant", "recommendation": "keep b", "features": ["a"]},
    ]


def test_the_page_stands_alone_and_escapes_what_is_not_ours() -> None:
    frame = panel({"<script>x</script>": noise(), "$a_b$": noise()})
    html = render_html(feature_report({"p_v1": frame}, universe="<b>u</b>"))
    assert "<script" not in html
    assert "<b>u</b>" not in html
    require_fits(html)
    assert "nan" not in re.sub(r'src="[^"]*"', "", html).lower()


def test_a_column_that_two_packs_hold_is_shown_with_its_pack() -> None:
    frame = PLANTED.select("symbol", "session", "base", "tiny")
    report = feature_report(
        {"one_v1": frame, "two_v1": frame.select("symbol", "session", "base")}, universe="u"
    )
    assert report.coverage["feature"].to_list() == ["one_v1:base", "tiny", "two_v1:base"]
    assert report.coverage["pack"].to_list() == ["one_v1", "one_v1", "two_v1"]
    assert found(report, "redundant") == ["two_v1:base"]


def test_what_is_not_a_masked_feature_is_refused() -> None:
    frame = panel({"a": noise()})
    with pytest.raises(FeatureError, match=r"feature 'a'.*1800 NaN or infinite"):
        feature_columns(frame.with_columns(a=pl.lit(float("inf"))))
    with pytest.raises(FeatureError, match=r"feature 'a'.*NaN"):
        feature_columns(frame.with_columns(a=pl.lit(float("nan"))))
    with pytest.raises(FeatureError, match="column b of String"):
        feature_columns(frame.with_columns(b=pl.lit("x")))
