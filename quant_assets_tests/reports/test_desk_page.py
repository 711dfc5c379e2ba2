"""The front page: what stands where, why it is refused in full, trends, and two candidates side by side."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.ledgers.promotions import LedgerEntry
from quant_assets.reports.desk import DeskReport, desk_statistics
from quant_assets.reports.desk_page import (
    Judged,
    Reference,
    Told,
    bullet,
    candidates,
    render_desk_page,
    sparkline,
    standing,
)
from quant_assets_tests.reports.page_structure import require_fits
from quant_assets_tests.reports.test_desk import count, listed, stream
from quant_assets_tests.reports.test_tear_sheet import SUBJECT, Page, example

AT = datetime(2026, 3, 2, 17, 5, tzinfo=UTC)
DRIFT = Verdict(
    "feature_drift", SUBJECT, "fail", 0.31, 0.25, "<=", "PSI of ret_1 is 0.31", "retrain on the newest window"
)


@cache
def report_of(sharpe_annual: float = 0.5) -> GateReport:
    return example(sharpe_annual).report


def judged(sharpe_annual: float = 0.5, subject: str = SUBJECT, day: int = 2, **basis: Any) -> Judged:
    report = report_of(sharpe_annual)
    verdicts = tuple(replace(v, subject=subject) for v in report.verdicts)
    days = np.arange(18000, 18700)
    return Judged(
        AT.replace(day=day),
        replace(report, subject=subject, verdicts=verdicts, basis=basis),
        days,
        np.linspace(0.0, 0.4, 700),
    )


def told(name: str = "momentum", *versions: Judged, **changes: Any) -> Told:
    made = Told(
        name=name,
        universe="us",
        book="us.forward",
        description="",
        settings={"seed": 7, "models": {"lightgbm": {"depth": 4}}},
        configuration="c" * 64,
        judged=versions,
        lost_versions=0,
        further=(),
        last_at=AT if versions else None,
        last_run="0a1b-2c" if versions else "",
        shown=(),
    )
    return replace(made, **changes)


def entry(action: str, strategy: str = "momentum", subject: str = SUBJECT, *reasons: str) -> LedgerEntry:
    at = "2026-03-02T18:00:00+00:00"
    return LedgerEntry(0, "", action, strategy, subject, "7", None, reasons, {}, "x", at, "run", "h")  # type: ignore[arg-type]


@pytest.fixture
def desk(tmp_path: Path) -> DeskReport:
    count(tmp_path, "us.forward", "momentum", stream(1, 300, 0.5))
    return desk_statistics(tmp_path, listed("momentum", "value"), standard="2025")


def row(desk: DeskReport, one: Told, *entries: LedgerEntry) -> dict[str, Any]:
    return standing(one, entries, desk)


# ------------------------------------------------------------------------------------------------- where it stands


def test_what_was_never_judged_is_no_candidate(desk: DeskReport) -> None:
    found = row(desk, told())
    assert (found["state"], found["closed"], found["sharpe"], found["trends"]) == (
        "no candidate",
        (),
        None,
        [],
    )
    assert (found["last"], found["champion"], found["drift"]["words"]) == ("", None, "not measured")


def test_a_refused_candidate_shows_every_closed_gate_with_reason_and_remedy_in_full(desk: DeskReport) -> None:
    gates = {v.gate: v for v in report_of().verdicts}
    sharpe = gates["cpcv_sharpe"]
    said = (
        f"cpcv_sharpe: {sharpe.status}: {sharpe.reason}",
        "no_leakage on momentum/leakage_report: did not pass",
    )
    found = row(desk, told("momentum", judged()), entry("refused", "momentum", SUBJECT, *said))
    assert found["state"] == "refused"
    first, second = found["closed"]
    assert (first.title, first.status, first.reason, first.remedy) == (
        "Net Sharpe ratio", sharpe.status, sharpe.reason, sharpe.remedy,
    )  # fmt: skip
    assert (second.title, second.reason) == ("no_leakage on momentum/leakage_report", "did not pass")
    page = Page(
        render_desk_page(
            [told("momentum", judged())],
            desk,
            [entry("refused", "momentum", SUBJECT, *said)],
            statistics="desk-1.html",
            ui="",
        )
    ).text
    assert sharpe.remedy.rstrip(".")[1:].replace("-", "−") in page.replace("-", "−")
    assert "2 reasons keep it from serving" in page


def test_a_candidate_that_nobody_decided_on_shows_the_gates_that_its_verdicts_close(desk: DeskReport) -> None:
    found = row(desk, told("momentum", judged()))
    assert found["state"] == "gates closed"
    closed = {c.title for c in found["closed"]}
    assert {"Net Sharpe ratio", "Walk-forward"} & closed
    # Gates without a verdict are closed as well.
    assert {c.status for c in found["closed"]} >= {"missing"}


def test_a_decision_about_an_earlier_candidate_says_nothing_of_the_newest(desk: DeskReport) -> None:
    earlier = "a" * 64
    found = row(desk, told("momentum", judged()), entry("promoted", "momentum", earlier))
    assert found["state"] == "gates closed"
    assert (found["champion"].subject, found["champion_since"]) == (earlier, "2026-03-02")
    assert row(desk, told("momentum", judged()), entry("promoted"))["state"] == "in charge"
    # It was in charge, and another one is now.
    moved = (entry("promoted"), entry("rolled_back", "momentum", earlier))
    assert row(desk, told("momentum", judged()), *moved)["state"] == "promoted"
    # A look at its holdout is no decision, and one of another strategy is nobody else's.
    assert row(desk, told("momentum", judged()), entry("shown"))["state"] == "gates closed"
    assert row(desk, told("momentum", judged()), entry("promoted", "value"))["champion"] is None


def test_drift_is_what_the_newest_report_says_and_of_which_candidate(desk: DeskReport) -> None:
    drifted = GateReport("drift", SUBJECT, {}, (DRIFT,))
    found = row(desk, told("momentum", judged(), further=(drifted,)))["drift"]
    assert (found["words"], found["status"]) == ("drifted", "fail")
    assert found["why"].endswith("PSI of ret_1 is 0.31")
    quiet = replace(drifted, subject="a" * 64, verdicts=(replace(DRIFT, subject="a" * 64, status="pass"),))
    found = row(desk, told("momentum", judged(), further=(quiet,)))["drift"]
    assert (found["words"], found["status"]) == ("none (an earlier candidate)", "pass")


# ------------------------------------------------------------------------------------------------- small pictures


def test_the_bar_runs_from_nothing_to_what_was_observed_and_marks_what_is_required() -> None:
    verdict = Verdict("g", SUBJECT, "fail", -0.5, 1.5, ">=", "", "")
    found = bullet(verdict, [-0.5, 0.5])
    # From -0.5 to 1.5 on 4 to 196: a unit is 96.
    assert found is not None
    assert (found["start"], found["width"], found["zero"], found["required"]) == (4.0, 48.0, 52.0, 196.0)
    assert (found["paths"], found["met"]) == ([4.0, 100.0], False)
    assert bullet(replace(verdict, observed=None), []) is None


def test_a_trend_goes_over_versions_and_leaves_out_those_without_a_value() -> None:
    found = sparkline([0.0, None, 1.0])
    assert found is not None
    assert found["points"] == "4.0,22.0 116.0,4.0"  # two ends of 112 by 18, y downwards
    assert (found["first"], found["latest"], found["versions"]) == (0.0, 1.0, 3)
    alone = sparkline([0.7])
    assert alone is not None
    assert alone["points"] == "4.0,13.0"
    assert sparkline([None]) is None
    assert sparkline([]) is None


def test_the_trends_are_of_every_version_that_was_judged(desk: DeskReport) -> None:
    versions = (judged(0.5, "a" * 64, 1), judged(1.5, SUBJECT, 2))
    sharpe, deflated = row(desk, told("momentum", *versions))["trends"]
    assert (sharpe["words"], sharpe["first"], sharpe["latest"], sharpe["versions"]) == (
        "median Sharpe", pytest.approx(0.5), pytest.approx(1.5), 2,
    )  # fmt: skip
    assert deflated["words"] == "DSR"
    assert 0.0 <= deflated["first"] < deflated["latest"] <= 1.0


# ------------------------------------------------------------------------------------------------- side by side


def test_candidates_are_each_models_newest_judgement_those_of_today_first() -> None:
    earlier, again = judged(0.5, "a" * 64, 1), judged(1.5, "b" * 64, 2)
    more_trials = judged(1.5, "b" * 64, 3)
    other = judged(0.5, "d" * 64, 1)
    found = candidates([told("momentum", earlier, again, more_trials), told("value", other)], [])
    assert [(c["strategy"], c["subject"][0], c["at"][8:10]) for c in found] == [
        ("momentum", "b", "03"),
        ("value", "d", "01"),
        ("momentum", "a", "01"),
    ]
    newest = found[0]
    assert newest["label"] == "momentum, newest, 2026-03-03 17:05"
    assert newest["sharpe"] == pytest.approx(1.5)
    assert sorted(newest["paths"]) == pytest.approx([1.3, 1.5, 1.7])
    assert (newest["days"][0], newest["days"][-1], newest["growth"][-1]) == (18000, 18699, 0.4)
    assert len(newest["days"]) == len(newest["growth"]) == 160
    assert newest["gates"]["cpcv_max_drawdown"]["required"] == "≥ −20.0%"


def test_settings_are_told_in_full_where_they_are_those_of_today_and_as_recorded_otherwise() -> None:
    today = judged(0.5, "a" * 64, 1, configuration="c" * 64, costs={"spread_bps": 3})
    earlier = judged(
        0.5, "b" * 64, 1, configuration="e" * 64, costs={"spread_bps": 5}, label={"kinds": ["x", "y"]}
    )
    unknown = judged(0.5, "d" * 64, 1)
    found = candidates([told("momentum", today), told("value", earlier), told("carry", unknown)], [])
    settings = {c["strategy"]: c["settings"] for c in found}
    assert settings["momentum"] == {
        "seed": "7", "models.lightgbm.depth": "4", "digest of all settings": "c" * 12, "strategy": "momentum",
    }  # fmt: skip
    assert settings["value"] == {
        "costs.spread_bps": "5", "label.kinds": "x, y", "digest of all settings": "e" * 12, "strategy": "value",
    }  # fmt: skip
    assert settings["carry"]["digest of all settings"] == "not recorded"


# -------------------------------------------------------------------------------------------------------- the page


def rendered(desk: DeskReport, *tolds: Told, entries: tuple[LedgerEntry, ...] = ()) -> str:
    return render_desk_page(tolds, desk, entries, statistics="desk-1.html", ui="http://127.0.0.1:3000")


def test_the_page_fits_a_telephone_stands_alone_and_links_what_there_is(desk: DeskReport) -> None:
    shown = (
        Reference("tear sheet", "/assets/momentum/tear_sheet", "momentum-1.html"),
        Reference("leakage report", "/assets/momentum/leakage_report"),
    )
    one = told("momentum", judged(), shown=shown, further=(GateReport("drift", SUBJECT, {}, (DRIFT,)),))
    html = rendered(desk, one, told("value", judged(1.5, "b" * 64)), told("new"), entries=(entry("refused"),))
    require_fits(html, beside={"desk-1.html", "momentum-1.html"})
    assert '<a class="ui small" href="/assets/momentum/leakage_report">' in html
    assert '<a class="ui" href="/runs/0a1b-2c">' in html
    assert rendered(desk, one) == rendered(desk, one)
    with pytest.raises(AssertionError):
        require_fits(html, beside={"desk-1.html"})


def test_the_highest_sharpe_ratio_comes_first_and_what_was_never_run_last(desk: DeskReport) -> None:
    html = rendered(desk, told("new"), told("value", judged(0.5)), told("momentum", judged(1.5)))
    assert re.findall(r'<section class="long strategy" id="(\w+)">', html) == ["momentum", "value", "new"]


def test_a_desk_of_nothing_and_one_of_a_single_candidate_have_nothing_to_compare(desk: DeskReport) -> None:
    require_fits(rendered(desk), beside={"desk-1.html"})
    html = rendered(desk, told("momentum", judged()))
    assert 'id="compare"' not in html
    require_fits(html, beside={"desk-1.html"})


def test_names_and_settings_cannot_put_anything_into_the_page(desk: DeskReport) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    versions = judged(0.5, SUBJECT, 1, costs={hostile: hostile})
    one = told(
        "momentum", versions, description=hostile, shown=(Reference(hostile, "/assets/a/b", "p.html"),)
    )
    html = rendered(
        desk,
        one,
        told("value", judged(0.5, "b" * 64)),
        entries=(entry("refused", "momentum", SUBJECT, hostile),),
    )
    assert "<img src=x" not in html
    assert html.count("</script>") == 2  # its own two
    data = re.search(r'<script type="application/json" id="candidates">(.*?)</script>', html, re.DOTALL)
    assert data is not None
    assert json.loads(data[1])[0]["settings"][f"costs.{hostile}"] == hostile
