"""The platform itself: how often the gates pass noise and skill, and what all strategies together are evidence of."""

from collections.abc import Mapping
from datetime import date
from typing import Literal

from pydantic import BaseModel

from quant_assets.common.home import Home
from quant_assets.gates.limits import GatesConfig
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import (
    Check,
    CheckResult,
    File,
    Link,
    LongTable,
    Picture,
    Product,
    single,
    stage,
    through,
)
from quant_assets.lineage.scope import DeskStrategy, Progress, Scope


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


# It reads the ledgers: another strategy may have been looked at since.
@stage(group="validation", owner="platform", team="team:research", kinds=frozenset({"html"}), always=True)
def desk_report(
    *,
    desk: tuple[DeskStrategy, ...],
    gates: GatesConfig,
    ideas: Mapping[str, frozenset[str]],
    home: Home,
) -> Product:
    """All strategies of the desk on one page: what their Sharpe ratios are worth beside everything that was tried."""
    from quant_assets.common.pages import publish_page
    from quant_assets.ledgers.promotions import PromotionLedger
    from quant_assets.market.calendar import periods_per_year
    from quant_assets.reports import desk as page

    report = page.desk_statistics(
        home.path,
        [page.Listed(s.name, s.book, periods_per_year(*s.sessions), ideas[s.name]) for s in desk],
        standard=gates.psr_standard,
        decided=PromotionLedger(home.promotion_ledger).entries(),
    )
    html = page.render_desk(report)
    file = publish_page(home.path, "desk", html)
    rows, absent = page.strategy_table(report), page.absent_table(report)
    facts = {
        "file": File(file),
        "open": Link(file.as_uri()),
        "strategies": LongTable(rows, max(rows.height, 1)),
        "without_a_row": LongTable(absent, max(absent.height, 1)),
        "figures": report.to_json(),
    }
    if report.rows:
        facts["haircuts"] = Picture(
            page.haircut_plot(report.rows), "Sharpe ratios as shown, and after the haircut"
        )
    return Product(html, facts)
