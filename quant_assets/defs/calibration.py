"""Calibration of the gates: how often they pass noise, and how often they pass skill."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from quant_assets.defs.guards import Product, code_version, plot_metadata, produce, progress, stage_options
from quant_assets.defs.models import LEARNER_LIBRARIES, MODEL_CODE
from quant_assets.defs.resources import Home
from quant_assets.gates.limits import GatesConfig

KEY = dg.AssetKey(["platform", "gate_calibration"])


class CalibrationRun(dg.Config):
    """How much is measured: ``full`` is thousands of series and hundreds of markets, about half an hour."""

    full: bool = False


def build(gates: GatesConfig) -> Sequence[dg.AssetsDefinition | dg.AssetChecksDefinition]:
    """The calibration of the limits in force, and the check that every promise was kept."""

    @dg.asset(
        key=KEY,
        kinds={"numpy"},
        code_version=code_version(
            [
                "quant_assets.studies",
                "quant_assets.gates",
                "quant_assets.features",
                "quant_assets.datasets",
                *MODEL_CODE,
            ],
            LEARNER_LIBRARIES,
            gates,
        ),
        **stage_options("validation", "team:research"),
    )
    def gate_calibration(context: dg.AssetExecutionContext, home: Home, config: CalibrationRun) -> Any:
        """False-pass rate and power of the gates, on seeded series and on whole synthetic markets."""
        from quant_assets.studies.calibration.calibrating import Mode, calibrate_gates, power_plot

        mode: Mode = "full" if config.full else "quick"

        def compute() -> Product:
            report = calibrate_gates(
                gates, mode, progress=lambda what, done, total: progress(what)(done, total)
            )
            value = report.to_json()
            plot = plot_metadata(power_plot(report), "power against the true Sharpe ratio")
            return Product(value, {"mode": mode, "promises": value["promises"], "power": plot})

        return produce(context, home, compute, extra=[mode])

    @dg.asset_check(
        asset=gate_calibration,
        name="promises_kept",
        description="The gates pass noise and skill as often as they say.",
    )
    def promises_kept(context: dg.AssetCheckExecutionContext, home: Home) -> dg.AssetCheckResult:
        from quant_assets.defs.storage import current

        broken = [p["name"] for p in current(context.instance, KEY, home).json()["promises"] if not p["kept"]]
        return dg.AssetCheckResult(
            passed=not broken,
            description=f"broken: {', '.join(broken)}" if broken else "every promise was kept",
        )

    return [gate_calibration, promises_kept]
