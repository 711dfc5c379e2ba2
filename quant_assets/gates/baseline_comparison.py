"""A candidate's verdicts as a file, and the comparison of a candidate with such a file: no silent step back.

The file is a baseline only as long as it stays where it is: compare every candidate with the file of the version in
production. Comparing each with the one before it would let the Sharpe ratio fall by the permitted amount every time.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from quant_assets.common.errors import EvidenceError
from quant_assets.gates.admission import closed_reasons
from quant_assets.gates.desk_gates import PREFIX
from quant_assets.gates.gate import gate_names, gates
from quant_assets.gates.verdicts import Verdict

SCHEMA_VERSION = 1
SHARPE_GATE = "cpcv_sharpe"


@dataclass(frozen=True)
class CandidateSummary:
    """The verdicts about one candidate, which can serve as the baseline of a later one.

    Attributes
    ----------
    strategy, subject : str
        Whose candidate, and its data version.
    verdicts : tuple of Verdict
        Those about exactly this subject.
    """

    strategy: str
    subject: str
    verdicts: tuple[Verdict, ...]

    @property
    def sharpe_annual(self) -> float | None:
        """Median net Sharpe ratio over paths, as the Sharpe gate observed it."""
        return next((v.observed for v in self.verdicts if v.gate == SHARPE_GATE), None)

    def without_verdict(self, required_gates: Sequence[str]) -> tuple[str, ...]:
        """Required gates that say nothing about this subject."""
        about = {verdict.gate for verdict in self.verdicts}
        return tuple(gate for gate in required_gates if gate not in about)

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the version of its schema."""
        return {
            "schema_version": SCHEMA_VERSION,
            "strategy": self.strategy,
            "subject": self.subject,
            "sharpe_annual": self.sharpe_annual,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
        }

    @classmethod
    def from_json(cls, data: Any, source: str) -> Self:
        """Read a summary back; fields that a command added beside it are not read.

        Raises
        ------
        EvidenceError
            When it has another schema, lacks a field, or states a Sharpe ratio that its verdicts do not.
        """
        try:
            if data["schema_version"] != SCHEMA_VERSION:
                raise _unreadable(source, f"schema_version {data['schema_version']!r}")
            summary = cls(
                str(data["strategy"]), str(data["subject"]), tuple(Verdict(**v) for v in data["verdicts"])
            )
            stated = data["sharpe_annual"]
        except (KeyError, TypeError) as error:
            raise _unreadable(source, f"{type(error).__name__}: {error}") from error
        if summary.sharpe_annual != stated or any(v.subject != summary.subject for v in summary.verdicts):
            raise _unreadable(
                source, f"a Sharpe ratio of {stated} or a subject that its verdicts do not have"
            )
        return summary


def judged_by(verdict: Verdict, limits: Mapping[str, Any]) -> bool:
    """Whether a verdict applied the limit that is in force for its gate. A desk's own gate brings its limit itself.

    Parameters
    ----------
    limits : mapping
        Limits by the names of the configuration.
    """
    gate = gates().get(verdict.gate)
    if gate is None and verdict.gate.startswith(PREFIX):
        return True
    wanted = gate.required_by(limits) if gate else None
    return wanted is not None and verdict.required == wanted


def read_baseline(file: Path) -> CandidateSummary:
    """Read a baseline that ``quant-assets validate --json`` wrote.

    Raises
    ------
    EvidenceError
        When the file is missing, is not JSON or is no baseline. An unreadable baseline is never an empty one.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _unreadable(str(file), f"{type(error).__name__}: {error}") from error
    return CandidateSummary.from_json(data, str(file))


@dataclass(frozen=True)
class BaselineComparison:
    """A candidate's Sharpe ratio against that of its baseline; annual, net of costs."""

    baseline_subject: str
    baseline_sharpe: float
    candidate_sharpe: float | None
    max_fall: float

    @property
    def passed(self) -> bool:
        """Whether the Sharpe ratio fell by no more than is permitted. Without a ratio it did not pass."""
        candidate = math.nan if self.candidate_sharpe is None else self.candidate_sharpe
        return bool(candidate >= self.baseline_sharpe - self.max_fall)

    @property
    def reason(self) -> str:
        """The comparison in one sentence."""
        now = "none" if self.candidate_sharpe is None else f"{self.candidate_sharpe:.2f}"
        return (
            f"net Sharpe ratio {now}, baseline {self.baseline_sharpe:.2f} ({self.baseline_subject[:12]}): it may not "
            f"fall below {self.baseline_sharpe - self.max_fall:.2f}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "passed": self.passed}


def compare_with_baseline(
    candidate: CandidateSummary, baseline: CandidateSummary, max_fall: float
) -> BaselineComparison:
    """Compare a candidate with a baseline of the same strategy.

    Parameters
    ----------
    max_fall : float
        By how much the annual net Sharpe ratio may fall (`GatesConfig.baseline_max_sharpe_fall`).

    Raises
    ------
    EvidenceError
        When the baseline is another strategy's, or has no Sharpe ratio to fall from.
    """
    if baseline.strategy != candidate.strategy:
        raise EvidenceError(
            f"baseline {baseline.subject[:12]}",
            expected=f"a candidate of {candidate.strategy}",
            found=f"one of {baseline.strategy}",
            action="give the file that was written for the same strategy",
        )
    if baseline.sharpe_annual is None:
        raise EvidenceError(
            f"baseline {baseline.subject[:12]}",
            expected="an observed Sharpe ratio",
            found="none",
            action="write the baseline from a candidate that was judged",
        )
    return BaselineComparison(baseline.subject, baseline.sharpe_annual, candidate.sharpe_annual, max_fall)


@dataclass(frozen=True)
class Validation:
    """What validating one candidate came to.

    Attributes
    ----------
    candidate : CandidateSummary
    comparison : BaselineComparison or None
        None without a baseline.
    required_gates : tuple of str
        Gates that decide, beside the desk's own that gave a verdict.
    """

    candidate: CandidateSummary
    comparison: BaselineComparison | None = None
    required_gates: tuple[str, ...] = field(default_factory=gate_names)

    @property
    def missing(self) -> tuple[str, ...]:
        """Required gates without a verdict about this candidate."""
        return self.candidate.without_verdict(self.required_gates)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the candidate is not let through; empty when it is."""
        own = {v.gate: None for v in self.candidate.verdicts if v.gate.startswith(PREFIX)}
        required = tuple(dict.fromkeys((*self.required_gates, *own)))
        closed = closed_reasons(self.candidate.subject, self.candidate.verdicts, required)
        worse = self.comparison is not None and not self.comparison.passed
        return (*closed, f"baseline: {self.comparison.reason}") if worse and self.comparison else closed

    @property
    def exit_code(self) -> int:
        """0 passed, 1 refused, 2 no verdict possible: a required gate says nothing about this candidate."""
        return 2 if self.missing else int(bool(self.reasons))

    def to_json(self) -> dict[str, Any]:
        """The candidate's summary, which a later call can take as its baseline, and this call's outcome."""
        return {
            **self.candidate.to_json(),
            "baseline": self.comparison.to_json() if self.comparison else None,
            "reasons": list(self.reasons),
            "exit_code": self.exit_code,
        }


def _unreadable(source: str, found: str) -> EvidenceError:
    return EvidenceError(
        f"baseline {source}",
        expected=f"a file written by quant-assets validate --json, schema version {SCHEMA_VERSION}",
        found=found,
        action="write it again from the version that candidates are to be compared with",
    )
