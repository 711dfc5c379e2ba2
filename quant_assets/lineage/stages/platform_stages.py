"""The platform itself: how often the gates pass noise and skill, and what all strategies together are evidence of."""

from collections.abc import Mapping
from datetime import date
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel

from quant_assets.common.home import Home
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import GateReport
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import (
    Check,
    CheckResult,
    File,
    Link,
    LongTable,
    Picture,
    Product,
    registered,
    single,
    stage,
    through,
)
from quant_assets.lineage.scope import DeskStrategy, History, Made, Progress, Scope

if TYPE_CHECKING:
    from quant_assets.reports.desk_page import Judged, Told


class CalibrationRun(BaseModel):
    """How much is measured: ``full`` is thousands of series and hundreds of markets, about an hour."""

    full: bool = False


def calibrated_scope(_: Scope) -> Scope:
    """What is judged on synthetic markets: the strategy and the kind of universe that calibration uses."""
    from quant_assets.lineage.pipeline import settings_of
    from quant_assets.studies.calibration.markets import STRATEGY, MarketSize, market_of

    size = MarketSize(2, date(2020, 1, 2), date(2020, 12, 31))
    settings = settings_of(market_of(0, 0.0, size), STRATEGY)
    (strategy,) = settings.strategies.values()
    return Scope(settings, settings.universe_of(strategy), strategy)


def promises_kept(gate_calibration: Artifact) -> CheckResult:
    """Whether the newest calibration found what the gates promise."""
    broken = [p["name"] for p in gate_calibration.json()["promises"] if not p["kept"]]
    described = f"broken: {', '.join(broken)}" if broken else "every promise was kept"
    return CheckResult("promises_kept", not broken, described)


@stage(
    group="validation",
    owner="platform",
    team="team:research",
    kinds=frozenset({"numpy"}),
    options=CalibrationRun,
    roots=through("validation_report", scope=calibrated_scope),
    checks=(
        Check(
            "promises_kept",
            single("promises_kept", "The gates pass noise and skill as often as they say.", blocking=False),
            promises_kept,
        ),
    ),
)
def gate_calibration(*, gates: GatesConfig, options: CalibrationRun, progress: Progress) -> Product:
    """False-pass rate and power of the gates, on seeded series and on whole synthetic markets."""
    from quant_assets.lineage.pipeline import judge_with_and_without_costs
    from quant_assets.studies.calibration.calibrating import calibrate_gates, power_plot

    mode: Literal["full", "quick"] = "full" if options.full else "quick"
    report = calibrate_gates(
        gates,
        mode,
        judge=judge_with_and_without_costs,
        progress=lambda what, done, total: progress(what)(done, total),
    )
    value = report.to_json()
    facts = {
        "mode": mode,
        "promises": value["promises"],
        "power": Picture(power_plot(report), "power against the true Sharpe ratio"),
    }
    return Product(value, facts)


# It reads the ledgers and the event log: another strategy may have been looked at since.
@stage(group="validation", owner="platform", team="team:research", kinds=frozenset({"html"}), always=True)
def desk_report(
    *,
    desk: tuple[DeskStrategy, ...],
    gates: GatesConfig,
    ideas: Mapping[str, frozenset[str]],
    home: Home,
    history: History,
) -> Product:
    """The front page of the home: where every strategy stands and why, and what that is worth beside all trials."""
    from quant_assets.common.pages import publish_front, publish_page
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.market.calendar import periods_per_year
    from quant_assets.reports import desk as statistics
    from quant_assets.reports.desk_page import render_desk_page

    entries = PromotionLedger(home.promotion_ledger).entries()
    report = statistics.desk_statistics(
        home.path,
        [statistics.Listed(s.name, s.book, periods_per_year(*s.sessions), ideas[s.name]) for s in desk],
        standard=gates.psr_standard,
        decided=entries,
    )
    beside = publish_page(home.path, "desk", statistics.render_desk(report))
    tolds = [told_of(s, home, history) for s in desk]
    html = render_desk_page(tolds, report, entries, statistics=beside.name, ui=home.ui_address)
    file = publish_front(home.path, html)
    rows, absent = statistics.strategy_table(report), statistics.absent_table(report)
    facts = {
        "file": File(file),
        "open": Link(home.page_address(file)),
        "beside_all_trials": Link(home.page_address(beside)),
        "strategies": LongTable(rows, max(rows.height, 1)),
        "without_a_row": LongTable(absent, max(absent.height, 1)),
        "figures": report.to_json(),
    }
    if report.rows:
        facts["haircuts"] = Picture(
            statistics.haircut_plot(report.rows), "Sharpe ratios as shown, and after the haircut"
        )
    return Product(html, facts)


# Beside reports, and what judges and decides: where a person looks for the reason.
SHOWN = {"tear_sheet", "champion", "quarantined_bars", "reconciled_bars", "inference_benchmark"}
# How many versions of a report the trends of a strategy go back.
MOST_VERSIONS = 30


def told_of(strategy: DeskStrategy, home: Home, history: History) -> "Told":
    """What the event log, the store and the ledgers know of one strategy."""
    from quant_assets.reports.desk_page import Reference, Told

    own = [s for s in registered().values() if s.owner == "strategy" and s.members is None]
    shared = [s for s in registered().values() if s.owner == "universe" and s.members is None]
    keys = [*((strategy.name, s.name) for s in own), *((strategy.universe, s.name) for s in shared)]
    newest = {key: found for key in keys if (found := next(history.versions(key), None)) is not None}
    mine = [found for key, found in newest.items() if key[0] == strategy.name]
    last = max(mine, key=lambda found: found.at, default=None)
    wanted = {s.name for s in (*own, *shared) if s.gates or s.decides or "report" in s.name} | SHOWN
    shown = [
        Reference(key[1].replace("_", " "), f"/assets/{'/'.join(key)}", _page_name(found, home))
        for key, found in newest.items()
        if key[1] in wanted
    ]
    judged, lost = _judged(strategy, home, history)
    further = [
        GateReport.from_json(found.artifact.json())
        for key, found in newest.items()
        if (stage := registered()[key[1]]).gates not in (None, "validation")
        and home.store.intact(found.artifact.sha256)
        and stage.owner == "strategy"
    ]
    return Told(
        name=strategy.name,
        universe=strategy.universe,
        book=strategy.book,
        description=strategy.description,
        settings=strategy.settings,
        configuration=strategy.configuration,
        judged=judged,
        lost_versions=lost,
        further=tuple(further),
        last_at=last.at if last else None,
        last_run=last.run_id if last else "",
        shown=tuple(sorted(shown, key=lambda reference: not reference.page)),
    )


def _judged(strategy: DeskStrategy, home: Home, history: History) -> "tuple[tuple[Judged, ...], int]":
    """Every version of a validation report that can be read, with its track, oldest first; how many are lost."""
    import numpy as np

    from quant_assets.ledgers.trials import TrialLedger
    from quant_assets.reports.desk_page import Judged

    ledger, found, lost = TrialLedger(home.path), list[Judged](), 0
    trials = {t.sharpe_per_period: t for t in ledger.records(strategy.book) if t.strategy == strategy.name}
    for made in islice(history.versions((strategy.name, "validation_report")), MOST_VERSIONS):
        if not home.store.intact(made.artifact.sha256):
            lost += 1
            continue
        report = GateReport.from_json(made.artifact.json())
        median = report.details["median_path"]
        ratio = next(row["sharpe_per_period"] for row in report.details["paths"] if row["path"] == median)
        # As the gates find it; a stream without variance is recorded with a Sharpe ratio of 0.
        track = next((t for r, t in trials.items() if abs(r - (ratio or 0.0)) <= 1e-12), None)
        returns, days = ledger.stream(track) if track else (np.empty(0), np.empty(0, dtype=np.int64))
        growth = np.cumprod(1.0 + returns, dtype=np.float64) - 1.0
        found.append(Judged(made.at, report, days, growth))
    return tuple(reversed(found)), lost


def _page_name(made: Made, home: Home) -> str:
    """The file of a published page; empty for what is no page, and for one that is gone."""
    name = Path(str(made.facts.get("file", ""))).name if "open" in made.facts else ""
    return name if name and (home.path / "reports" / name).exists() else ""
