"""The platform itself: how often the gates pass noise, and how often they pass skill."""

from datetime import date
from typing import Literal

from pydantic import BaseModel

from quant_assets.gates.limits import GatesConfig
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import Check, CheckResult, Picture, Product, single, stage, through
from quant_assets.lineage.scope import Progress, Scope


class CalibrationRun(BaseModel):
    """How much is measured: ``full`` is thousands of series and hundreds of markets, about half an hour."""

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
