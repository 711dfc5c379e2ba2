"""Admission: the one place that decides whether verdicts open the way.

Every registered gate is required, at the time of the question, and so is each that a strategy adds. Missing, stale,
about another subject, NaN or compared with a limit of its own: closed.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from quant_assets.common.errors import GateClosedError
from quant_assets.gates.desk_gates import PREFIX
from quant_assets.gates.gate import gate_names, gates
from quant_assets.gates.verdicts import GateReport, Verdict, meets


def foreign_limits(report: GateReport) -> tuple[str, ...]:
    """Verdicts of a report that were not judged by the limits that the report states; empty when all were.

    A desk's own gates bring their limits themselves.
    """
    reasons = []
    for verdict in report.verdicts:
        gate = gates().get(verdict.gate)
        if gate is None and verdict.gate.startswith(PREFIX):
            continue
        wanted = gate.required_by(report.limits) if gate else None
        if wanted is None or verdict.required != wanted:
            reasons.append(f"{verdict.gate}: judged by {verdict.required}, the report's limit is {wanted}")
    return tuple(reasons)


def foreign_settings(report: GateReport, in_force: Mapping[str, Any]) -> tuple[str, ...]:
    """Why what a report was judged on was made under other settings than those in force; empty when it was not.

    Parameters
    ----------
    in_force : mapping
        Plain JSON data by part of the configuration, as `GateReport.basis`.
    """
    if not report.basis:
        return (f"{report.kind} report: does not say under which settings its evidence was made",)
    changed = sorted(
        part for part in {*report.basis, *in_force} if report.basis.get(part) != in_force.get(part)
    )
    if not changed:
        return ()
    return (f"{report.kind} report: judged under other settings than those in force ({', '.join(changed)})",)


def closed_reasons(
    subject: str, verdicts: Iterable[Verdict], required_gates: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Every reason for which these verdicts do not open the way for this subject; empty when they do.

    A gate is closed when it has no verdict for exactly this subject, more than one, one that is neither
    ``pass`` nor a permitted ``not_applicable``, or one whose numbers do not say what its status says. Requiring
    no gate at all opens nothing.

    Parameters
    ----------
    required_gates : sequence of str, optional
        Names; every gate that is registered when not given.
    """
    known = gates()
    required = tuple(known) if required_gates is None else required_gates
    if not required:
        return ("no gate is required: nothing is admitted without one",)
    by_gate: dict[str, list[Verdict]] = {name: [] for name in required}
    for verdict in verdicts:
        by_gate.setdefault(verdict.gate, []).append(verdict)
    reasons = []
    for name in required:
        gate, found = known.get(name), by_gate[name]
        about = [v for v in found if v.subject == subject]
        if not found:
            reasons.append(f"{name}: no verdict")
        elif not about:
            others = ", ".join(sorted({v.subject[:12] for v in found}))
            reasons.append(f"{name}: judged another model version ({others})")
        elif len(about) > 1:
            reasons.append(f"{name}: {len(about)} verdicts where one is expected")
        elif about[0].status == "pass":
            # The status is not taken on trust: the numbers must say the same.
            v = about[0]
            if gate is not None and v.comparison != gate.limit.comparison:
                reasons.append(f"{name}: compares {v.comparison}, the gate compares {gate.limit.comparison}")
            elif v.observed is None or v.required is None or not meets(v.observed, v.required, v.comparison):
                reasons.append(
                    f"{name}: says pass, but {v.observed} {v.comparison} {v.required} does not hold"
                )
        elif not (about[0].status == "not_applicable" and gate is not None and gate.may_not_apply):
            reasons.append(f"{name}: {about[0].status}: {about[0].reason}")
    return tuple(reasons)


def admit(subject: str, verdicts: Iterable[Verdict], required_gates: Sequence[str] | None = None) -> None:
    """Let a subject through, or refuse it with every reason.

    Raises
    ------
    GateClosedError
        When any required gate has no passing verdict for exactly this subject.
    """
    required = gate_names() if required_gates is None else required_gates
    reasons = closed_reasons(subject, verdicts, required)
    if reasons:
        raise GateClosedError(
            f"candidate {subject[:12]}",
            expected=f"a passing verdict of each of {len(required)} gates for this exact version",
            found="; ".join(reasons),
            action="read the tear sheet, change the strategy (not the limits), and materialise it again",
        )
