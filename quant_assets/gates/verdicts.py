"""Verdicts: what a gate said about one exact version of a model, as frozen, content-addressed data.

A gate passes iff ``value >= limit`` (or ``<=`` where it bounds from above), written inside ``bool(...)``: a
NaN compares false and fails closed. `admit` is the one place that decides whether verdicts open the way.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from quant_assets.common.errors import EvidenceError, GateClosedError
from quant_assets.common.hashing import json_digest

Status = Literal["pass", "fail", "underpowered", "not_applicable"]
Comparison = Literal[">=", "<="]
ReportKind = Literal["validation", "parity", "drift"]


@dataclass(frozen=True)
class GateRule:
    """What a gate compares: its direction, and the limit of the configuration that it must have applied."""

    comparison: Comparison
    limit: str
    offset: float = 0.0


# Every gate between a candidate and production, in the order in which they are shown. A verdict that compares
# the other way, or with a limit of its own, is not this gate's verdict.
RULES: Mapping[str, GateRule] = {
    "cpcv_sharpe": GateRule(">=", "sharpe_min"),
    "cpcv_probabilistic_sharpe": GateRule(">=", "psr_min"),
    "cpcv_deflated_sharpe": GateRule(">=", "dsr_min"),
    "cpcv_max_drawdown": GateRule(">=", "max_drawdown_min"),
    "cpcv_backtest_overfitting": GateRule("<=", "pbo_max"),
    "onnx_parity": GateRule("<=", "parity_max_error_over_sd"),
    "int8_parity": GateRule(">=", "int8_min_rank_correlation"),
    # the gate opens below the number of drifted features that makes an alarm
    "feature_drift": GateRule("<=", "min_drifted_features", offset=-1.0),
}
CPCV_GATES = tuple(name for name in RULES if name.startswith("cpcv_"))
PARITY_GATES = ("onnx_parity", "int8_parity")
DRIFT_GATES = ("feature_drift",)
REQUIRED_GATES = tuple(RULES)

# Gates that may answer "not applicable" without closing: a single trial cannot be overfitted by selection
# (PBO needs two), and INT8 does nothing to a tree graph (onnxruntime#11436).
MAY_NOT_APPLY = frozenset({"cpcv_backtest_overfitting", "int8_parity"})


@dataclass(frozen=True)
class Verdict:
    """One gate's judgement of one subject.

    Attributes
    ----------
    gate : str
        Name of the gate, as in ``cpcv_deflated_sharpe``.
    subject : str
        Data version of the model that was judged.
    status : {"pass", "fail", "underpowered", "not_applicable"}
    observed, required : float or None
        Statistic and limit in the gate's own unit; None where there is none (never NaN).
    comparison : {">=", "<="}
        The gate passes iff ``observed comparison required``.
    alpha : float or None
        Probability with which the gate passes a subject without skill, where the gate is a test.
    power : float or None
        Probability with which it passes a subject whose true value is the stated effect.
    reason : str
        One sentence: why this status.
    remedy : str
        One sentence: what would change it.
    """

    gate: str
    subject: str
    status: Status
    observed: float | None
    required: float | None
    comparison: Comparison
    reason: str
    remedy: str
    alpha: float | None = None
    power: float | None = None

    def __post_init__(self) -> None:
        if self.status not in get_args(Status) or self.comparison not in get_args(Comparison):
            raise EvidenceError(
                f"verdict of gate {self.gate!r}",
                expected=f"status in {get_args(Status)} and comparison in {get_args(Comparison)}",
                found=f"status {self.status!r}, comparison {self.comparison!r}",
                action="materialise the report that holds this verdict again",
            )
        for name in ("observed", "required", "alpha", "power"):
            value = getattr(self, name)
            if value is not None:
                # numpy scalars are not JSON; a NaN is stored as "nothing was observed"
                object.__setattr__(self, name, float(value) if math.isfinite(value) else None)


def meets(observed: float, required: float, comparison: Comparison) -> bool:
    """Whether a statistic meets its limit. NaN never does."""
    return bool(observed >= required) if comparison == ">=" else bool(observed <= required)


def judge(
    gate: str,
    subject: str,
    observed: float,
    required: float,
    *,
    quantity: str,
    remedy: str,
    comparison: Comparison = ">=",
    alpha: float | None = None,
    power: float | None = None,
) -> Verdict:
    """Verdict of a plain limit: ``pass`` iff ``observed comparison required``, else ``fail``.

    Parameters
    ----------
    quantity : str
        What is observed, in words and with its unit, as in ``"median net Sharpe over 5 paths (annual)"``.
    """
    passed = meets(observed, required, comparison)
    value = f"{observed:.4g}" if math.isfinite(observed) else "not a finite number"
    return Verdict(
        gate=gate,
        subject=subject,
        status="pass" if passed else "fail",
        observed=observed,
        required=required,
        comparison=comparison,
        reason=f"{quantity} is {value}, {'which meets' if passed else 'required is'} "
        f"{comparison} {required:.4g}",
        remedy="nothing: the gate is open" if passed else remedy,
        alpha=alpha,
        power=power,
    )


@dataclass(frozen=True)
class GateReport:
    """Verdicts of one kind about one subject, with the limits and the evidence behind them.

    Attributes
    ----------
    kind : {"validation", "parity", "drift"}
    subject : str
        Data version of the candidate.
    limits : mapping
        The limits that were applied, in full; promotion compares them with those in force.
    verdicts : tuple of Verdict
    details : mapping
        Plain JSON data: the numbers behind the verdicts.
    """

    kind: ReportKind
    subject: str
    limits: Mapping[str, Any]
    verdicts: tuple[Verdict, ...]
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain data for the store."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "limits": dict(self.limits),
            "verdicts": [asdict(v) for v in self.verdicts],
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, data: Any) -> "GateReport":
        """Read a stored report back.

        Raises
        ------
        EvidenceError
            When a field is missing, unknown or of the wrong kind: unreadable evidence is no evidence.
        """
        try:
            verdicts = tuple(Verdict(**v) for v in data["verdicts"])
            report = cls(data["kind"], data["subject"], data["limits"], verdicts, data["details"])
        except (KeyError, TypeError) as error:
            raise EvidenceError(
                "gate report",
                expected="fields kind, subject, limits, verdicts, details",
                found=f"{type(error).__name__}: {error}",
                action="materialise the report again",
            ) from error
        if report.kind not in get_args(ReportKind) or not isinstance(report.limits, Mapping):
            raise EvidenceError(
                "gate report",
                expected=f"kind in {get_args(ReportKind)} and limits by name",
                found=f"kind {report.kind!r}, limits {type(report.limits).__name__}",
                action="materialise the report again",
            )
        strangers = sorted({v.subject for v in verdicts} - {report.subject})
        if strangers:
            raise EvidenceError(
                f"{report.kind} report of {report.subject}",
                expected="verdicts about that subject only",
                found=f"verdicts about {strangers}",
                action="materialise the report again",
            )
        return report


def foreign_limits(report: GateReport) -> tuple[str, ...]:
    """Verdicts of a report that were not judged by the limits that the report states; empty when all were."""
    reasons = []
    for verdict in report.verdicts:
        rule = RULES.get(verdict.gate)
        stated = report.limits.get(rule.limit) if rule else None
        wanted = None if stated is None or rule is None else float(stated) + rule.offset
        if wanted is None or verdict.required != wanted:
            reasons.append(f"{verdict.gate}: judged by {verdict.required}, the report's limit is {wanted}")
    return tuple(reasons)


def limits_digest(limits: Mapping[str, Any]) -> str:
    """Digest of a set of limits, to compare those applied with those in force."""
    return json_digest(dict(limits))


def closed_reasons(
    subject: str, verdicts: Iterable[Verdict], required_gates: Sequence[str] = REQUIRED_GATES
) -> tuple[str, ...]:
    """Every reason for which these verdicts do not open the way for this subject; empty when they do.

    A gate is closed when it has no verdict for exactly this subject, more than one, one that is neither
    ``pass`` nor a permitted ``not_applicable``, or one whose numbers do not say what its status says. Requiring
    no gate at all opens nothing.
    """
    if not required_gates:
        return ("no gate is required: nothing is admitted without one",)
    by_gate: dict[str, list[Verdict]] = {gate: [] for gate in required_gates}
    for verdict in verdicts:
        by_gate.setdefault(verdict.gate, []).append(verdict)
    reasons = []
    for gate in required_gates:
        found = by_gate[gate]
        about = [v for v in found if v.subject == subject]
        if not found:
            reasons.append(f"{gate}: no verdict")
        elif not about:
            others = ", ".join(sorted({v.subject[:12] for v in found}))
            reasons.append(f"{gate}: judged another model version ({others})")
        elif len(about) > 1:
            reasons.append(f"{gate}: {len(about)} verdicts where one is expected")
        elif about[0].status == "pass":
            # The status is not taken on trust: the numbers must say the same.
            v = about[0]
            rule = RULES.get(gate)
            if rule is not None and v.comparison != rule.comparison:
                reasons.append(f"{gate}: compares {v.comparison}, the gate compares {rule.comparison}")
            elif v.observed is None or v.required is None or not meets(v.observed, v.required, v.comparison):
                reasons.append(
                    f"{gate}: says pass, but {v.observed} {v.comparison} {v.required} does not hold"
                )
        elif not (about[0].status == "not_applicable" and gate in MAY_NOT_APPLY):
            reasons.append(f"{gate}: {about[0].status}: {about[0].reason}")
    return tuple(reasons)


def admit(subject: str, verdicts: Iterable[Verdict], required_gates: Sequence[str] = REQUIRED_GATES) -> None:
    """Let a subject through, or refuse it with every reason.

    Raises
    ------
    GateClosedError
        When any required gate has no passing verdict for exactly this subject.
    """
    reasons = closed_reasons(subject, verdicts, required_gates)
    if reasons:
        raise GateClosedError(
            f"candidate {subject[:12]}",
            expected=f"a passing verdict of each of {len(required_gates)} gates for this exact version",
            found="; ".join(reasons),
            action="read the tear sheet, change the strategy (not the limits), and materialise it again",
        )
