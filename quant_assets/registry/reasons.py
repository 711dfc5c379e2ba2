"""Why a candidate is not promoted: what its reports, verdicts and signature say against it."""

from collections.abc import Mapping, Sequence
from typing import Any

from quant_assets.validation.verdicts import (
    REQUIRED_GATES,
    GateReport,
    closed_reasons,
    foreign_limits,
    limits_digest,
)


def promotion_reasons(
    subject: str,
    reports: Sequence[GateReport],
    limits_in_force: Mapping[str, Mapping[str, Any]],
    required_gates: Sequence[str] = REQUIRED_GATES,
) -> tuple[str, ...]:
    """Every reason against promoting a subject on these reports; empty when there is none.

    Parameters
    ----------
    limits_in_force : mapping of kind to limits
        The limits of today's configuration. A report judged under others proves nothing about these.
    """
    reasons = []
    for kind, limits in limits_in_force.items():
        of_kind = [report for report in reports if report.kind == kind]
        if len(of_kind) != 1:
            reasons.append(f"{kind} report: {len(of_kind)} given where one is expected")
        for report in of_kind:
            reasons += foreign_limits(report)
            if report.subject != subject:
                reasons.append(f"{kind} report: judged another model version ({report.subject[:12]})")
            applied, wanted = limits_digest(report.limits), limits_digest(limits)
            if applied != wanted:
                changed = sorted(
                    k for k in {*report.limits, *limits} if report.limits.get(k) != limits.get(k)
                )
                reasons.append(
                    f"{kind} report: judged under other limits than those in force ({', '.join(changed)})"
                )
    strangers = sorted({report.kind for report in reports} - set(limits_in_force))
    if strangers:
        reasons.append(f"reports of {strangers}: no limits in force are known for them")
    verdicts = [verdict for report in reports for verdict in report.verdicts]
    return (*reasons, *closed_reasons(subject, verdicts, required_gates))
