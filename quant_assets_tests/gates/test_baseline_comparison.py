"""The gate command's judgement: open gates, a baseline that may not be undercut, and no verdict without evidence."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant_assets.common.errors import EvidenceError
from quant_assets.common.hashing import canonical_json
from quant_assets.gates.baseline_comparison import (
    CandidateSummary,
    Validation,
    compare_with_baseline,
    judged_by,
    read_baseline,
)
from quant_assets.gates.gate import find_gate, gate_names
from quant_assets.gates.limits import GatesConfig
from quant_assets.gates.verdicts import Verdict

SUBJECT, EARLIER = "5" * 64, "4" * 64


def verdict(gate: str, subject: str = SUBJECT, **changes: Any) -> Verdict:
    limit = 1.2 if gate == "cpcv_sharpe" else 0.5
    made = Verdict(
        gate, subject, "pass", limit, limit, find_gate(gate).limit.comparison, "it holds", "nothing"
    )
    return dataclasses.replace(made, **changes)


def candidate(sharpe: float | None = 2.0, subject: str = SUBJECT, **changes: Any) -> CandidateSummary:
    others = [verdict(gate, subject) for gate in gate_names()[1:]]
    status = "pass" if sharpe is not None and sharpe >= 1.2 else "fail"
    first = verdict("cpcv_sharpe", subject, observed=sharpe, status=status)
    return dataclasses.replace(CandidateSummary("s", subject, (first, *others)), **changes)


def written(summary: CandidateSummary, folder: Path, **changes: Any) -> Path:
    file = folder / "baseline.json"
    file.write_text(json.dumps(summary.to_json() | changes), encoding="utf-8")
    return file


# --------------------------------------------------------------------------------------- what it comes to


def test_open_gates_without_a_baseline_pass() -> None:
    outcome = Validation(candidate())
    assert (outcome.exit_code, outcome.reasons, outcome.missing) == (0, (), ())


@pytest.mark.parametrize(("sharpe", "code"), [(2.5, 0), (2.0, 0), (1.8, 0), (1.79, 1), (1.0, 1)], ids=str)
def test_the_sharpe_ratio_may_fall_by_the_permitted_amount_and_no_further(sharpe: float, code: int) -> None:
    comparison = compare_with_baseline(candidate(sharpe), candidate(2.0, EARLIER), 0.2)
    outcome = Validation(candidate(sharpe), comparison)
    assert outcome.exit_code == code
    assert comparison.passed == (code == 0)
    assert "it may not fall below 1.80" in comparison.reason
    assert any(reason.startswith("baseline: ") for reason in outcome.reasons) == (code == 1)


def test_a_candidate_without_a_sharpe_ratio_is_worse_than_any_baseline() -> None:
    comparison = compare_with_baseline(candidate(None), candidate(-3.0, EARLIER), 100.0)
    assert not comparison.passed
    assert "net Sharpe ratio none" in comparison.reason
    canonical_json(Validation(candidate(None), comparison).to_json())


@pytest.mark.parametrize("gate", gate_names())
@pytest.mark.parametrize("status", ["fail", "underpowered"])
def test_any_closed_gate_refuses(gate: str, status: str) -> None:
    made = candidate()
    closed = tuple(dataclasses.replace(v, status=status) if v.gate == gate else v for v in made.verdicts)
    outcome = Validation(dataclasses.replace(made, verdicts=closed))
    assert outcome.exit_code == 1
    assert len(outcome.reasons) == 1
    assert outcome.reasons[0].startswith(gate)


@pytest.mark.parametrize("gate", gate_names())
def test_a_gate_without_a_verdict_is_no_verdict_even_if_another_one_refuses(gate: str) -> None:
    made = candidate(1.0)
    kept = tuple(v for v in made.verdicts if v.gate != gate)
    outcome = Validation(dataclasses.replace(made, verdicts=kept))
    assert (outcome.exit_code, outcome.missing) == (2, (gate,))


def test_a_baseline_of_another_strategy_or_without_a_sharpe_ratio_is_none() -> None:
    with pytest.raises(EvidenceError, match="a candidate of s; found one of other"):
        compare_with_baseline(candidate(), candidate(strategy="other"), 0.2)
    with pytest.raises(EvidenceError, match="an observed Sharpe ratio"):
        compare_with_baseline(candidate(), candidate(None, EARLIER), 0.2)


def test_a_verdict_by_a_limit_that_is_no_longer_in_force_is_recognised() -> None:
    limits = {**GatesConfig().model_dump(), "min_drifted_features": 3}
    assert judged_by(verdict("cpcv_sharpe"), limits)
    assert not judged_by(verdict("cpcv_sharpe", required=1.1), limits)
    assert judged_by(verdict("feature_drift", required=2.0), limits)  # the gate opens below the alarm
    assert not judged_by(verdict("feature_drift", required=3.0), limits)
    assert not judged_by(verdict("cpcv_sharpe"), {})
    assert not judged_by(dataclasses.replace(verdict("cpcv_sharpe"), gate="unknown"), limits)


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 3))
def test_passing_a_baseline_is_monotone_in_the_sharpe_ratio(now: float, then: float, fall: float) -> None:
    baseline = candidate(then, EARLIER)
    one = compare_with_baseline(candidate(now), baseline, fall).passed
    assert one == (now >= then - fall)
    assert compare_with_baseline(candidate(now + 1.0), baseline, fall).passed >= one


# ------------------------------------------------------------------------------------------------- the file


def test_what_one_call_writes_is_the_baseline_of_the_next(tmp_path: Path) -> None:
    comparison = compare_with_baseline(candidate(2.1), candidate(2.0, EARLIER), 0.2)
    file = tmp_path / "out.json"
    file.write_text(json.dumps(Validation(candidate(2.1), comparison).to_json(), allow_nan=False))
    assert read_baseline(file) == candidate(2.1)
    assert json.loads(file.read_text())["schema_version"] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 2},
        {"verdicts": None},
        {"verdicts": {"a": 1}},
        {"sharpe_annual": 9.0},
        {"sharpe_annual": None},
        {"sharpe_annual": float("nan")},
        {"subject": EARLIER},
    ],
    ids=str,
)
def test_a_file_that_is_no_baseline_is_refused_by_name(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = written(candidate(), tmp_path, **changes)
    with pytest.raises(EvidenceError, match=r"baseline\.json"):
        read_baseline(file)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b"{}"])
def test_a_file_that_is_broken_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "baseline.json"
    file.write_bytes(content)
    with pytest.raises(EvidenceError, match=r"baseline\.json"):
        read_baseline(file)
    with pytest.raises(EvidenceError, match=r"absent\.json"):
        read_baseline(tmp_path / "absent.json")


def test_a_gate_of_the_desks_own_closes_it_too() -> None:
    made = candidate()
    own = dataclasses.replace(made.verdicts[0], gate="desk_max_turnover")
    assert Validation(dataclasses.replace(made, verdicts=(*made.verdicts, own))).exit_code == 0
    closed = dataclasses.replace(own, status="fail", reason="too much is traded")
    outcome = Validation(dataclasses.replace(made, verdicts=(*made.verdicts, closed)))
    assert (outcome.exit_code, outcome.reasons) == (1, ("desk_max_turnover: fail: too much is traded",))
    assert judged_by(closed, GatesConfig().model_dump())
    assert Validation(made, None, (*gate_names(), "desk_max_turnover")).exit_code == 2
