"""The desk's report as Dagster makes it: from the ledgers of the home, each time, and never from damaged ones."""

import json
import re
from html import unescape
from pathlib import Path

import pytest

from quant_assets.common.pages import sentence
from quant_assets.defs.running import executed, failures
from quant_assets.gates.verdicts import GateReport, Verdict
from quant_assets.ledgers.trials import TrialLedger
from quant_assets_tests.e2e.lineage import Lineage, lineage_in
from quant_assets_tests.reports.page_structure import require_fits
from quant_assets_tests.reports.test_desk import count, stream

EDGE, NOISE = "edge_market.forward_return", "noise_market.forward_return"


def materialised(lineage: Lineage) -> list[str]:
    """One run of its own job; what broke."""
    result = executed(lineage.definitions, "desk_report", lineage.instance)
    refused, broken = failures(result.all_events)
    return refused + broken


def test_the_report_follows_the_ledgers_of_the_home_and_stops_at_a_damaged_one(tmp_path: Path) -> None:
    with lineage_in(tmp_path) as lineage:
        assert materialised(lineage) == []
        assert lineage.artifact("platform", "desk_report").text().count(">no candidate<") == 4
        empty = lineage.event("platform", "desk_report")
        assert empty is not None
        assert empty.metadata["strategies"].value.records == []  # type: ignore[union-attr]
        assert "haircuts" not in empty.metadata

        count(tmp_path, EDGE, "edge", stream(1, 500, 3.0))
        (idea,) = lineage.graph.ideas()["noise"]
        count(tmp_path, NOISE, "earlier_name", stream(2, 500), idea=idea)
        assert materialised(lineage) == []
        event = lineage.event("platform", "desk_report")
        assert event is not None
        facts = event.metadata
        page = Path(str(facts["file"].value))
        assert page.read_text(encoding="utf-8") == lineage.artifact("platform", "desk_report").text()
        assert (page.parent, page.name) == (tmp_path / "reports", "index.html")
        assert facts["open"].value == "/reports/index.html"
        beside = tmp_path / str(facts["beside_all_trials"].value).lstrip("/")
        require_fits(page.read_text(encoding="utf-8"), beside={beside.name})
        require_fits(beside.read_text(encoding="utf-8"), beside={page.name})
        assert str(facts["haircuts"].value).startswith("![Sharpe ratios as shown")
        (row,) = facts["strategies"].value.records  # type: ignore[union-attr]
        assert (row.data["strategy"], row.data["desk_trials"], row.data["stepm"]) == ("edge", 2, "yes")
        (absent,) = facts["without_a_row"].value.records  # type: ignore[union-attr]
        assert absent.data["reason"].startswith("its idea was first looked at as earlier_name")

        first = lineage.version("platform", "desk_report")
        assert materialised(lineage) == []
        assert lineage.version("platform", "desk_report") == first

        trial = TrialLedger(tmp_path).trials(EDGE)[0]
        (tmp_path / "trials" / EDGE / f"{trial.fingerprint}.json").unlink()
        (broken,) = materialised(lineage)
        assert broken.startswith("platform__desk_report: ")
        assert f"{EDGE}/{trial.fingerprint}.json" in broken
        assert lineage.version("platform", "desk_report") == first


def test_the_command_shows_what_it_stored(tmp_path: Path) -> None:
    with lineage_in(tmp_path) as lineage:
        count(tmp_path, EDGE, "edge", stream(1, 500, 3.0))
        target = tmp_path / "desk.json"
        code, said = lineage.command("desk", "--json", str(target))
        assert code == 0, said
        assert "The desk: N = 1, counted since 2026-01-02" in said
        assert f"noise: never evaluated: no trial of {NOISE} bears its name" in said
        event = lineage.event("platform", "desk_report")
        assert event is not None
        assert str(event.metadata["open"].value) in said
        (row,) = json.loads(target.read_text())["rows"]
        assert row["sharpe_annual"] == pytest.approx(3.0, rel=0.01)
        assert row["haircut_sharpe_annual"]["holm"] == pytest.approx(row["sharpe_annual"])  # the only test

        trial = TrialLedger(tmp_path).trials(EDGE)[0]
        (tmp_path / "trials" / EDGE / f"{trial.fingerprint}.json").unlink()
        code, said = lineage.command("desk")
        assert code == 1
        assert trial.fingerprint in said
        assert "Traceback" not in said


def test_the_tracks_are_those_that_the_strategies_runs_counted(lineage: Lineage) -> None:
    for name, (idea,) in lineage.graph.ideas().items():
        (trial,) = TrialLedger(lineage.home.path).trials(f"{name}_market.forward_return")
        assert (trial.strategy, trial.idea) == (name, idea)
    assert materialised(lineage) == []
    event = lineage.event("platform", "desk_report")
    assert event is not None
    rows = {r.data["strategy"]: r.data for r in event.metadata["strategies"].value.records}  # type: ignore[union-attr]
    for name, row in rows.items():
        details = lineage.artifact(name, "validation_report").json()["details"]
        median = next(p for p in details["paths"] if p["path"] == details["median_path"])
        assert row["sessions"] == median["n_sessions"]
        assert row["sharpe_annual"] == pytest.approx(median["sharpe_annual"])
        assert row["p_value"] == pytest.approx(1.0 - median["psr"])
    assert rows["edge"]["stepm"] == "yes"
    assert rows["noise"]["stepm"] == "no"
    page = lineage.artifact("platform", "desk_report").text()
    require_fits(page, beside={file.name for file in (lineage.home.path / "reports").iterdir()})
    assert page.count(">in charge<") == 2  # of ``edge``, in the table and over its own part
    for verdict in refused_of(lineage, "noise"):
        assert sentence(verdict.remedy) in unescape(page), verdict.gate
    (data,) = re.findall(r'id="candidates">(.*?)</script>', page)
    edge, noise = json.loads(data)
    assert edge["settings"]["universe.name"] == "edge_market"
    assert len(edge["days"]) == len(noise["growth"]) == 160


def refused_of(lineage: Lineage, strategy: str) -> list[Verdict]:
    """The verdicts that close a gate of a strategy."""
    report = GateReport.from_json(lineage.artifact(strategy, "validation_report").json())
    return [verdict for verdict in report.verdicts if verdict.status not in ("pass", "not_applicable")]
