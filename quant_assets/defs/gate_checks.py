"""Gates in the UI: blocking asset checks that say aloud what the verdicts of a report say."""

from collections.abc import Iterator

import dagster as dg

from quant_assets.defs.guards import to_metadata
from quant_assets.defs.resources import Home
from quant_assets.defs.storage import current
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.gate import find_gate
from quant_assets.gates.verdicts import GateReport, Verdict


def gates_of(report_key: dg.AssetKey, gates: tuple[str, ...], name: str) -> dg.AssetChecksDefinition:
    """Blocking checks that say aloud what a report's verdicts say: one check per gate."""

    @dg.multi_asset_check(
        name=name,
        specs=[
            dg.AssetCheckSpec(gate, asset=report_key, blocking=True, description=find_gate(gate).description)
            for gate in gates
        ],
    )
    def gate_checks(context: dg.AssetCheckExecutionContext, home: Home) -> Iterator[dg.AssetCheckResult]:
        report = GateReport.from_json(current(context.instance, report_key, home).json())
        verdicts = {verdict.gate: verdict for verdict in report.verdicts}
        for gate in gates:
            yield check_result(report_key, gate, verdicts.get(gate))

    return gate_checks


def check_result(report_key: dg.AssetKey, gate: str, verdict: Verdict | None) -> dg.AssetCheckResult:
    """A verdict as a check result. No verdict, or one that does not admit, is a failed check."""
    if verdict is None:
        return dg.AssetCheckResult(
            asset_key=report_key,
            check_name=gate,
            passed=False,
            description="the report has no verdict for it",
        )
    passed = not closed_reasons(verdict.subject, [verdict], [gate])
    facts = {
        "status": verdict.status,
        "observed": verdict.observed if verdict.observed is not None else "nothing",
        "required": f"{verdict.comparison} {verdict.required}",
        "reason": verdict.reason,
        "remedy": verdict.remedy,
        "subject": verdict.subject,
    }
    return dg.AssetCheckResult(
        asset_key=report_key,
        check_name=gate,
        passed=bool(passed),
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{verdict.status}: {verdict.reason}",
        metadata=to_metadata(facts),
    )
