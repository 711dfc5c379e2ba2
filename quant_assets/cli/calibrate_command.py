"""The command ``quant-assets calibrate``. Exit codes: 0 every promise kept, 1 one broken, 2 wrong usage."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quant_assets.cli.terminal import Meter, out, quiet, require_folder, styled, table_of, write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from quant_assets.statistics.rates import Rate
    from quant_assets.studies.calibration.calibrating import CalibrationReport


def calibrate(
    full: Annotated[
        bool, typer.Option("--full", help="Thousands of series and hundreds of markets: an hour.")
    ] = False,
    json_output: Annotated[Path | None, typer.Option("--json", help="Write the whole report here.")] = None,
) -> None:
    """Measure how often the gates of gates.yaml pass noise, and how often they pass skill.

    On seeded return series of known true Sharpe ratio, and on seeded synthetic markets through the whole pipeline;
    every rate with its exact 95 % interval. Exit code 0 when every promise was kept, 1 when one was broken.

    Example: quant-assets calibrate --full --json calibration.json
    """
    from quant_assets.lineage.configured import load_settings
    from quant_assets.lineage.pipeline import judge_with_and_without_costs
    from quant_assets.studies.calibration.calibrating import calibrate_gates

    quiet()
    require_folder(json_output, "--json")
    limits = load_settings().gates
    with Meter() as meter:
        report = calibrate_gates(
            limits,
            "full" if full else "quick",
            judge=judge_with_and_without_costs,
            progress=meter.show,
        )
    show_calibration(report, out())
    write_json(json_output, report.to_json())
    raise typer.Exit(0 if report.passed else 1)


def show_calibration(report: "CalibrationReport", console: "Console") -> None:
    """Promises first, then power, sensitivity, ledgers and markets."""
    promises = _table(f"Promises ({report.mode})", "measured", "95 % interval", "required", "kept")
    for p in report.promises:
        kept = styled("yes" if p.kept else "no")
        doubt = "" if p.certain or not p.kept else " [yellow](interval reaches beyond)[/]"
        promises.add_row(p.name, *_cells(p.rate), p.required, kept + doubt)
    law = report.power_curve[0].law
    curve = _table(
        f"Ten years at {law.annual_volatility:.0%} annual volatility, Student-t({law.tail_degrees_of_freedom:g}), "
        f"autocorrelation {law.autocorrelation:g}, {report.power_curve[0].admitted.trials} series each",
        "pass", "95 % interval", "Sharpe", "PSR", "DSR, one trial", "drawdown", "loss",
    )  # fmt: skip
    for r in report.power_curve:
        gates = [f"{rate.estimate:.2%}" for rate in r.by_gate.values()]
        curve.add_row(f"true Sharpe {r.true_sharpe_annual:g}", *_cells(r.admitted), *gates)
    sensitivity = _table("Sensitivity", "noise passes", "95 % interval", "Sharpe 2 passes", "95 % interval")
    for label, rates in (
        *((f"{r.law.annual_volatility:.0%} volatility", r) for r in report.by_volatility),
        *((f"{r.years:g} years", r) for r in report.by_years),
    ):
        if rates.true_sharpe_annual == 0.0:
            noise = _cells(rates.admitted)
        else:
            sensitivity.add_row(label, *noise, *_cells(rates.admitted))
    alpha = _table("Stated alpha: the probabilistic Sharpe gate alone, on noise", "pass", "95 % interval")
    for r in report.stated_alpha:
        rate = r.by_gate["cpcv_probabilistic_sharpe"]
        alpha.add_row(f"standard {r.standard}, autocorrelation {r.law.autocorrelation:g}", *_cells(rate))
    ledgers = [
        _ledger_table(report, ratio) for ratio in dict.fromkeys(r.true_sharpe_annual for r in report.ledgers)
    ]
    markets = _table(
        "Markets through the whole pipeline",
        "markets", "median Sharpe", "before costs", "pass", "95 % interval", "pass before costs", "95 % interval",
    )  # fmt: skip
    for m in report.markets:
        kind = f"edge {m.transient_sd:g}" if m.transient_sd else "noise"
        markets.add_row(
            f"{kind}, {m.n_symbols} symbols, {m.years:.0f} years", str(m.admitted.trials),
            _number(m.median_sharpe_annual), _number(m.median_sharpe_annual_before_costs),
            *_cells(m.admitted), *_cells(m.admitted_before_costs),
        )  # fmt: skip
    for table in (promises, curve, sensitivity, alpha, *ledgers, markets):
        console.print(table)
        console.print()


def _ledger_table(report: "CalibrationReport", true_sharpe: float) -> "Table":
    """Ledgers by record length, and by volatility at ten years."""
    rows = [r for r in report.ledgers if r.true_sharpe_annual == true_sharpe]
    usual = report.power_curve[0].law.annual_volatility
    cells = dict.fromkeys((r.years, r.annual_volatility) for r in rows)
    heads = [f"{y:g} y" if v == usual else f"{y:g} y, {v:.0%}" for y, v in cells]
    what = f"true Sharpe {true_sharpe:g}" if true_sharpe else "no skill"
    table = _table(
        f"The best trial of a ledger, {what}: share that passes, with its 95 % interval", "ledgers", *heads
    )
    for plan in dict.fromkeys(r.plan for r in rows):
        found = {(r.years, r.annual_volatility): r.admitted for r in rows if r.plan == plan}
        shares = [
            f"{rate.estimate:.1%}\n{rate.interval[0]:.1%}-{rate.interval[1]:.1%}" for rate in found.values()
        ]
        table.add_row(plan.title, str(next(iter(found.values())).trials), *shares)
    return table


def _table(title: str, *columns: str) -> "Table":
    return table_of(title, ("", *columns), right=columns)


def _cells(rate: "Rate") -> tuple[str, str]:
    low, high = rate.interval
    return f"{rate.estimate:.2%}", f"{low:.2%} to {high:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
