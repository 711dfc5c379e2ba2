import dataclasses
import re

import numpy as np
import polars as pl
import pytest

from quant_assets.common.errors import ValidationError
from quant_assets.studies.importance import importance_page as page
from quant_assets.studies.importance.importance_report import (
    FeatureImportance,
    importance_report,
    recommendations,
)
from quant_assets.studies.importance.out_of_sample import diversity, fit_folds, measured_rows, verdict_of
from quant_assets.studies.importance.permutation import GroupImportance, MeanWithError
from quant_assets_tests.models.training_frames import (
    FEATURES,
    SMALL_DIRECTIONS,
    SMALL_MODELS,
    training_frame,
)
from quant_assets_tests.reports.page_structure import reading, require_fits

OPTIONS = {"seed": 7, "embargo_sessions": 2}
NAMES = (*FEATURES, "copy_of_0")


@pytest.fixture(scope="module")
def frame():
    return training_frame(150, 12).with_columns(copy_of_0=pl.col("feature_0"))


@pytest.fixture(scope="module")
def report(frame):
    return importance_report(frame, NAMES, SMALL_MODELS, **OPTIONS)


def test_the_driver_is_found_the_rest_is_dead_and_of_two_copies_one_is_kept(report):
    by_name = {row.feature: row for row in report.features}
    clusters = {frozenset(g.members): g for g in report.clusters}
    twins = clusters[frozenset({"feature_0", "copy_of_0"})]
    assert twins.above_floor
    assert by_name["feature_0"].cluster == by_name["copy_of_0"].cluster == twins
    # Each stands in for the other: alone both lose less than together.
    assert max(by_name[n].single.importance for n in ("feature_0", "copy_of_0")) < 0.8 * twins.importance
    assert not by_name["feature_0"].dead
    assert not by_name["copy_of_0"].dead
    noise = [by_name[f"feature_{n}"] for n in range(2, 8)]
    assert sum(row.dead for row in noise) >= 5
    assert {r.feature for r in report.recommendations if r.finding == "dead"} == {
        row.feature for row in report.features if row.dead
    }
    assert sum(row.shap_share for row in report.features) == pytest.approx(1.0)


def test_no_label_of_a_picture_is_cut_too_small_or_over_its_neighbour(report, monkeypatch):
    monkeypatch.setattr(page, "figure_png", reading(page.figure_png))
    assert len(page.report_plots(report)) == 6


def test_the_page_begins_with_what_to_do_in_a_line_and_ends_with_the_evidence(report):
    html = page.render_html(report, "trial")
    heads = re.findall(r"<h2>(.*?)</h2>", html)
    assert (heads[0], heads[1], heads[-1]) == (
        "What to do",
        "Permutation importance",
        "Evidence of each finding",
    )
    dead = [row.feature for row in report.recommendations if row.finding == "dead"]
    advice = re.search(r"<dl class=\"advice\">(.*?)</dl>", html, re.DOTALL)[1]
    assert advice.count("<dt>") < len(report.recommendations)
    assert ", ".join(dead) in advice


def test_the_same_inputs_give_the_same_page_with_every_figure_and_nothing_from_elsewhere(frame, report):
    html = page.render_html(report, "trial <b>")
    again = importance_report(
        frame.sample(fraction=1.0, shuffle=True, seed=1), NAMES, SMALL_MODELS, **OPTIONS
    )
    assert page.render_html(again, "trial <b>") == html
    assert "trial &lt;b&gt;" in html
    require_fits(html)
    assert "<script" not in html
    for name in (*NAMES, "lightgbm", "xgboost"):
        assert name in html
    for row in report.diversity.members:
        assert row.verdict in html
    tables = (page.feature_table, page.cluster_table, page.recommendation_table, page.member_table)
    assert [t(report).height for t in tables] == [
        len(NAMES), len(report.clusters), len(report.recommendations), 2,
    ]  # fmt: skip


def test_directions_are_measured_by_their_log_odds():
    frame, few = training_frame(150, 8), FEATURES[:3]
    report = importance_report(frame, few, SMALL_DIRECTIONS, **OPTIONS)
    assert report.score_unit == "log-odds"
    assert report.features[0].feature == "feature_0"
    assert report.features[0].single.above_floor


def test_a_member_that_repeats_another_adds_nothing_and_an_only_member_adds_its_own_rank_ic(frame):
    rows = measured_rows(frame, FEATURES, SMALL_MODELS, embargo_sessions=2)
    folds = fit_folds(rows, SMALL_MODELS, seed=7)
    twice = tuple(
        dataclasses.replace(
            fold,
            members=(fold.members[1], dataclasses.replace(fold.members[1], name="xgboost")),
            stacker=dataclasses.replace(fold.stacker, coefficients=(0.5, 0.5), intercept=0.0),
            without={
                "xgboost": dataclasses.replace(
                    fold.stacker, learners=("xgboost",), coefficients=(1.0,), intercept=0.0, spreads=(1.0,)
                )
            },
        )
        for fold in folds
    )
    found = diversity(rows, twice)
    assert [m.gain.mean for m in found.members] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert {m.verdict for m in found.members} == {"not distinguishable from nothing"}
    assert found.pairs[0].rank_correlation == pytest.approx(1.0)
    assert (found.pairs[0].same_sign, found.pairs[0].same_half) == (1.0, 1.0)

    alone = SMALL_MODELS.model_copy(update={"xgboost": None})
    only = diversity(rows, fit_folds(rows, alone, seed=7))
    (member,) = only.members
    assert member.gain == only.rank_ic
    assert member.verdict == "adds"
    assert only.pairs == ()


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.001, 0.01, "adds"), (-0.001, 0.01, "not distinguishable from nothing"), (-0.02, -0.01, "harms")],
)
def test_the_verdict_is_read_from_the_interval(low, high, verdict):
    assert verdict_of(MeanWithError((low + high) / 2, 0.001, low, high)) == verdict


def test_no_test_row_trains_its_own_fold_and_labels_never_overlap(frame):
    rows = measured_rows(frame, FEATURES, SMALL_MODELS, embargo_sessions=2, most_rows=1000)
    assert rows.step == 2
    assert rows.embargo == 1  # of 2 sessions
    for fold in fit_folds(rows, SMALL_MODELS, seed=7):
        first, last = rows.arrays.t0[fold.test].min(), rows.arrays.t1[fold.test].max()
        assert np.all((rows.arrays.t1[fold.train] < first) | (rows.arrays.t0[fold.train] > last))


def test_one_name_is_refused_with_what_to_do():
    frame = training_frame(150, 1)
    with pytest.raises(ValidationError, match=r"at least 2 names.*give the universe more symbols"):
        importance_report(frame, FEATURES, SMALL_MODELS, **OPTIONS)


def group(name, loss, p, *, varies=True, members=None):
    return GroupImportance(name, members or (name,), loss, 0.001, 0.001, 0.01, p, varies)


def feature(name, loss, p, *, cluster=None, shap=1e-4, above=False, varies=True):
    single = group(name, loss, p, varies=varies)
    return FeatureImportance(name, shap, 0.1, single, cluster or single, shap, above)


def test_recommendations_say_dead_redundant_or_not_measurable_with_the_evidence():
    pair = group("cluster 1", 0.05, 0.0025, members=("a", "b"))
    rows = (
        feature("a", 0.004, 0.3, cluster=pair, above=True),
        feature("b", 0.003, 0.4, cluster=pair),
        feature("noise", 0.001, 0.9),
        feature("unused", 0.0, 1.0, shap=0.0),
        feature("market", 0.0, 1.0, varies=False),
        feature("moves scores", 0.001, 0.9, above=True),
    )
    correlation = np.eye(6)
    correlation[0, 1] = correlation[1, 0] = -0.97
    found = {r.feature: r for r in recommendations(rows, correlation, 2e-4)}
    assert {n: r.finding for n, r in found.items()} == {
        "noise": "dead", "unused": "dead", "b": "redundant", "market": "not measurable",
    }  # fmt: skip
    assert found["b"].evidence == (
        "rank correlation -0.970 with a; alone it loses +0.0030 of rank IC, its cluster +0.0500"
    )
    assert found["b"].recommendation == "keep a, leave b out"
    assert found["unused"].evidence == "no tree of any fold splits on it"
    assert "floor 0.0100" in found["noise"].evidence
