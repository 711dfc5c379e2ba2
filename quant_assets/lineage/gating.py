"""Gates as checks: one blocking check for each gate of a report, which says aloud what its verdict says."""

from collections.abc import Callable, Iterator, Sequence

from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.gate import gate_modules, gates_of
from quant_assets.gates.verdicts import GateReport, ReportKind, Verdict
from quant_assets.lineage.artifact import Artifact
from quant_assets.lineage.declaring import Check, CheckResult, CheckSpec
from quant_assets.lineage.scope import Scope


def gates_behind(kind: ReportKind) -> Callable[[Scope, str | None], Sequence[str]]:
    """Roots of a report: the modules of the gates that are judged in it, plug-ins included."""
    return lambda _, __: gate_modules(kind)


def every_gate(_: Scope, __: str | None) -> Sequence[str]:
    """Roots of whatever shows or asks for every verdict."""
    return gate_modules()


def gate_checks(kind: ReportKind) -> Check:
    """The checks of a report's gates. Which those are is asked each time: a new gate is one object elsewhere."""

    def specs(_: Scope) -> Sequence[CheckSpec]:
        return [CheckSpec(gate.name, gate.description, blocking=True) for gate in gates_of(kind)]

    def said(asset: Artifact) -> Iterator[CheckResult]:
        verdicts = {verdict.gate: verdict for verdict in GateReport.from_json(asset.json()).verdicts}
        for gate in gates_of(kind):
            yield verdict_result(gate.name, verdicts.get(gate.name))

    return Check(f"{kind}_gates", specs, said)


def verdict_result(gate: str, verdict: Verdict | None) -> CheckResult:
    """A verdict as a check result. No verdict, or one that does not admit, is a failed check."""
    if verdict is None:
        return CheckResult(gate, False, "the report has no verdict for it")
    facts = {
        "status": verdict.status,
        "observed": verdict.observed if verdict.observed is not None else "nothing",
        "required": f"{verdict.comparison} {verdict.required}",
        "reason": verdict.reason,
        "remedy": verdict.remedy,
        "subject": verdict.subject,
    }
    passed = not closed_reasons(verdict.subject, [verdict], [gate])
    return CheckResult(gate, bool(passed), f"{verdict.status}: {verdict.reason}", facts=facts)
