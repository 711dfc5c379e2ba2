"""A desk's own gates beside those of the platform, which are judged first and stay as they are."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from quant_assets.common.plugins import Plugin
from quant_assets.gates.apart import asked_apart
from quant_assets.gates.desk_gates import desk_verdict, in_identity, told_of
from quant_assets.gates.verdicts import GateReport

if TYPE_CHECKING:
    import polars as pl


def with_desk_gates(
    report: GateReport, paths: "pl.DataFrame", strategy: str, plugins: Sequence[Plugin]
) -> GateReport:
    """A report with the verdicts of a desk's own gates behind those of the platform, which stay as they are.

    Parameters
    ----------
    report : GateReport
        Of kind ``validation``, judged by the platform's gates.
    paths : polars.DataFrame
        What it was judged on.
    strategy : str
    plugins : sequence of Plugin
        Each a function from a `TrackRecord` to a `Finding`.
    """
    if not plugins:
        return report
    told = told_of(strategy, report)
    further = tuple(
        desk_verdict(plugin, report.subject, asked_apart(plugin, "a gate", frame=paths, told=told))
        for plugin in plugins
    )
    details = {**report.details, "further_gates": in_identity(plugins)}
    return replace(report, verdicts=(*report.verdicts, *further), details=details)
