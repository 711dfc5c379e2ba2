"""Verdicts: what a gate said about one exact version of a model, as frozen, content-addressed data.

A gate passes iff ``value >= limit`` (or ``<=`` where it bounds from above), written inside ``bool(...)``: a
NaN compares false and fails closed.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

from quant_assets.common.errors import EvidenceError
from quant_assets.common.files import Location
from quant_assets.common.hashing import json_digest

Status = Literal["pass", "fail", "underpowered", "not_applicable"]
Comparison = Literal[">=", "<="]
ReportKind = Literal["validation", "walk_forward", "parity", "drift"]


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
    percent: bool = False,
) -> Verdict:
    """Verdict of a plain limit: ``pass`` iff ``observed comparison required``, else ``fail``.

    Parameters
    ----------
    quantity : str
        What is observed, in words and with its unit, as in ``"median net Sharpe over 5 paths (annual)"``.
    percent : bool
        Say the numbers, which are fractions, in percent.
    """
    passed = meets(observed, required, comparison)
    value, limit = (f"{100 * n:.3g}%" if percent else f"{n:.4g}" for n in (observed, required))
    value = value if math.isfinite(observed) else "not a finite number"
    return Verdict(
        gate=gate,
        subject=subject,
        status="pass" if passed else "fail",
        observed=observed,
        required=required,
        comparison=comparison,
        reason=f"{quantity} is {value}, {'which meets' if passed else 'required is'} {comparison} {limit}",
        remedy="nothing: the gate is open" if passed else remedy,
        alpha=alpha,
        power=power,
    )


@dataclass(frozen=True)
class GateReport:
    """Verdicts of one kind about one subject, with the limits and the evidence behind them.

    Attributes
    ----------
    kind : {"validation", "walk_forward", "parity", "drift"}
    subject : str
        Data version of the candidate.
    limits : mapping
        The limits that were applied, in full; promotion compares them with those in force.
    verdicts : tuple of Verdict
    details : mapping
        Plain JSON data: the numbers behind the verdicts.
    basis : mapping
        Plain JSON data by part of the configuration: the settings that the evidence was made under. Empty in a report
        of before this was recorded; promotion compares it with those in force.
    """

    kind: ReportKind
    subject: str
    limits: Mapping[str, Any]
    verdicts: tuple[Verdict, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    basis: Mapping[str, Any] = field(default_factory=dict)

    def about(self, basis: Mapping[str, Any]) -> dict[str, Any]:
        """Plain data for the store, of a report on evidence that was made under these settings."""
        return replace(self, basis=basis).to_json()

    def to_json(self) -> dict[str, Any]:
        """Plain data for the store."""
        return {
            "kind": self.kind,
            "subject": self.subject,
            "limits": dict(self.limits),
            "verdicts": [asdict(v) for v in self.verdicts],
            "details": dict(self.details),
            "basis": dict(self.basis),
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
            basis = data.get("basis", {})
            report = cls(data["kind"], data["subject"], data["limits"], verdicts, data["details"], basis)
        except (KeyError, TypeError, AttributeError) as error:
            raise EvidenceError(
                "gate report",
                expected="fields kind, subject, limits, verdicts, details",
                found=f"{type(error).__name__}: {error}",
                action="materialise the report again",
            ) from error
        told = (report.limits, report.basis)
        if report.kind not in get_args(ReportKind) or not all(isinstance(m, Mapping) for m in told):
            raise EvidenceError(
                "gate report",
                expected=f"kind in {get_args(ReportKind)}, limits and settings by name",
                found=f"kind {report.kind!r}, {' and '.join(type(m).__name__ for m in told)}",
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


def limits_digest(limits: Mapping[str, Any]) -> str:
    """Digest of a set of limits, to compare those applied with those in force."""
    return json_digest(dict(limits))


@dataclass(frozen=True)
class StrategyOutcome:
    """What running one strategy ended with.

    Attributes
    ----------
    decision : {"promoted", "refused", "blocked", "error"}
        Blocked: a check of its data or of its features closed the way, so there is nothing to decide.
    verdicts : tuple of Verdict
        Every verdict about the candidate, in the order of the gates.
    reasons : tuple of str
        Why it was refused or blocked, or what broke.
    set_aside : tuple of str
        Names and rows of its universe that were left out, each with the reason.
    unchanged : str
        Since when and where this refusal stands, when nothing was run because nothing has changed; else empty.
    """

    strategy: str
    decision: str
    verdicts: tuple[Verdict, ...]
    reasons: tuple[str, ...]
    tear_sheet: "Location | None"
    set_aside: tuple[str, ...] = ()
    unchanged: str = ""


def refusals(verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    """Reason and remedy of each verdict that does not open its gate."""
    return tuple(
        f"{v.gate}: {v.reason}. {v.remedy}" for v in verdicts if v.status not in ("pass", "not_applicable")
    )
