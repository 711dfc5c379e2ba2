"""Every way of getting past a gate without passing it, tried."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import EvidenceError, GateClosedError
from quant_assets.common.hashing import canonical_json
from quant_assets.gates.verdicts import (
    CPCV_GATES,
    DRIFT_GATES,
    MAY_NOT_APPLY,
    PARITY_GATES,
    REQUIRED_GATES,
    RULES,
    GateReport,
    Verdict,
    admit,
    closed_reasons,
    foreign_limits,
    judge,
    limits_digest,
    meets,
)

SUBJECT = "a" * 64
OTHER = "b" * 64


def passing(gate: str, **changes: Any) -> Verdict:
    comparison = RULES[gate].comparison
    verdict = Verdict(
        gate=gate,
        subject=SUBJECT,
        status="pass",
        observed=2.0 if comparison == ">=" else 0.5,
        required=1.0,
        comparison=comparison,
        reason="it holds",
        remedy="nothing",
    )
    return dataclasses.replace(verdict, **changes)


def all_passing() -> dict[str, Verdict]:
    return {gate: passing(gate) for gate in REQUIRED_GATES}


def test_a_passing_verdict_of_every_gate_lets_the_subject_through() -> None:
    admit(SUBJECT, all_passing().values())
    assert closed_reasons(SUBJECT, all_passing().values()) == ()


def test_the_required_gates_are_those_of_all_three_reports() -> None:
    assert REQUIRED_GATES == CPCV_GATES + PARITY_GATES + DRIFT_GATES
    assert len(set(REQUIRED_GATES)) == 8
    assert {"cpcv_backtest_overfitting", "int8_parity"} == MAY_NOT_APPLY


@pytest.mark.parametrize("gate", REQUIRED_GATES)
def test_a_gate_without_a_verdict_is_closed(gate: str) -> None:
    verdicts = all_passing()
    del verdicts[gate]
    with pytest.raises(GateClosedError, match=f"{gate}: no verdict"):
        admit(SUBJECT, verdicts.values())


def test_no_verdicts_at_all_close_every_gate() -> None:
    assert len(closed_reasons(SUBJECT, ())) == len(REQUIRED_GATES)


@pytest.mark.parametrize("gate", REQUIRED_GATES)
def test_a_verdict_about_another_version_does_not_count(gate: str) -> None:
    verdicts = all_passing() | {gate: passing(gate, subject=OTHER)}
    assert closed_reasons(SUBJECT, verdicts.values()) == (
        f"{gate}: judged another model version ({OTHER[:12]})",
    )


def test_a_subject_that_merely_starts_alike_does_not_count() -> None:
    verdicts = all_passing() | {"onnx_parity": passing("onnx_parity", subject=SUBJECT[:12] + "c" * 52)}
    assert closed_reasons(SUBJECT, verdicts.values()) != ()
    assert closed_reasons(SUBJECT[:12], all_passing().values()) != ()


def test_a_second_verdict_cannot_outvote_the_first() -> None:
    verdicts = [*all_passing().values(), passing("cpcv_sharpe")]
    assert closed_reasons(SUBJECT, verdicts) == ("cpcv_sharpe: 2 verdicts where one is expected",)
    failing = passing("cpcv_sharpe", status="fail", observed=0.0)
    assert closed_reasons(SUBJECT, [failing, *all_passing().values()]) != ()


def test_a_verdict_about_another_version_beside_the_right_one_changes_nothing() -> None:
    verdicts = [*all_passing().values(), passing("cpcv_sharpe", subject=OTHER, status="fail")]
    assert closed_reasons(SUBJECT, verdicts) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"observed": 0.999},
        {"observed": math.nan},
        {"observed": math.inf},
        {"observed": None},
        {"required": math.nan},
        {"required": None},
    ],
    ids=str,
)
def test_a_pass_that_its_own_numbers_contradict_is_closed(changes: dict[str, Any]) -> None:
    verdicts = all_passing() | {"cpcv_sharpe": passing("cpcv_sharpe", **changes)}
    (reason,) = closed_reasons(SUBJECT, verdicts.values())
    assert reason.startswith("cpcv_sharpe: says pass, but")


@pytest.mark.parametrize("status", ["fail", "underpowered"])
@pytest.mark.parametrize("gate", REQUIRED_GATES)
def test_fail_and_underpowered_are_closed_whatever_the_numbers_say(gate: str, status: str) -> None:
    verdicts = all_passing() | {gate: passing(gate, status=status, reason="because")}
    assert closed_reasons(SUBJECT, verdicts.values()) == (f"{gate}: {status}: because",)


@pytest.mark.parametrize("gate", REQUIRED_GATES)
def test_not_applicable_opens_only_the_two_gates_that_may_say_so(gate: str) -> None:
    answer = passing(gate, status="not_applicable", observed=None, required=None)
    opens = closed_reasons(SUBJECT, (all_passing() | {gate: answer}).values()) == ()
    assert opens == (gate in {"cpcv_backtest_overfitting", "int8_parity"})


def test_a_refusal_lists_every_reason_at_once() -> None:
    verdicts = all_passing()
    del verdicts["feature_drift"]
    verdicts["cpcv_sharpe"] = passing("cpcv_sharpe", status="fail", reason="too low")
    verdicts["onnx_parity"] = passing("onnx_parity", subject=OTHER)
    with pytest.raises(GateClosedError) as refusal:
        admit(SUBJECT, verdicts.values())
    for words in ("too low", "another model version", "feature_drift: no verdict"):
        assert words in str(refusal.value)


def test_verdicts_of_gates_nobody_requires_open_nothing() -> None:
    assert closed_reasons(SUBJECT, [passing("onnx_parity")], ("cpcv_sharpe",)) == ("cpcv_sharpe: no verdict",)


@pytest.mark.parametrize(
    "changes",
    [{"status": "passed"}, {"status": "PASS"}, {"status": None}, {"status": True}, {"comparison": ">"}],
    ids=str,
)
def test_an_unknown_status_or_comparison_is_no_verdict(changes: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        passing("cpcv_sharpe", **changes)


def test_a_number_that_is_not_finite_is_kept_as_nothing_observed() -> None:
    verdict = passing("cpcv_sharpe", observed=math.nan, required=math.inf, alpha=-math.inf, power=math.nan)
    assert (verdict.observed, verdict.required, verdict.alpha, verdict.power) == (None, None, None, None)


def test_numpy_numbers_become_plain_ones() -> None:
    verdict = passing("cpcv_sharpe", observed=np.float32(1.5), required=np.int64(1))
    assert type(verdict.observed) is float
    assert type(verdict.required) is float


@pytest.mark.parametrize("comparison", [">=", "<="])
def test_nan_meets_nothing_in_either_direction(comparison: Any) -> None:
    assert not meets(math.nan, 1.0, comparison)
    assert not meets(1.0, math.nan, comparison)
    assert not meets(math.nan, math.nan, comparison)


def test_a_value_exactly_on_the_limit_passes() -> None:
    assert meets(1.2, 1.2, ">=")
    assert meets(0.2, 0.2, "<=")
    assert meets(-0.19, -0.20, ">=")
    assert not meets(-0.21, -0.20, ">=")


@given(st.floats(allow_nan=True), st.floats(-1e6, 1e6), st.sampled_from([">=", "<="]))
@settings(max_examples=50, deadline=None)
def test_what_judge_says_is_what_the_numbers_say(observed: float, required: float, comparison: Any) -> None:
    gate = "cpcv_sharpe" if comparison == ">=" else "onnx_parity"  # each compares its own way
    verdict = judge(gate, SUBJECT, observed, required, quantity="x", remedy="y", comparison=comparison)
    holds = observed >= required if comparison == ">=" else observed <= required
    assert (verdict.status == "pass") == holds
    admitted = closed_reasons(SUBJECT, [verdict], (gate,)) == ()
    # an infinite statistic "passes" its comparison, but nothing infinite is ever admitted
    assert admitted == (holds and math.isfinite(observed))


def report(verdicts: tuple[Verdict, ...] = (), **changes: Any) -> GateReport:
    values = {"kind": "validation", "subject": SUBJECT, "limits": {"sharpe_min": 1.2}, "verdicts": verdicts}
    return GateReport(**(values | changes))


def test_a_report_survives_storage() -> None:
    original = report((passing("cpcv_sharpe"), passing("cpcv_max_drawdown", alpha=0.05, power=0.8)))
    stored = json.loads(canonical_json(original.to_json()))
    assert GateReport.from_json(stored) == original


def without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in data.items() if k != key}


STORED = report((passing("cpcv_sharpe"),)).to_json()


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "pass",
        {},
        without(STORED, "verdicts"),
        without(STORED, "subject"),
        without(STORED, "limits"),
        STORED | {"verdicts": None},
        STORED | {"verdicts": ["pass"]},
        STORED | {"verdicts": [{"gate": "cpcv_sharpe", "status": "pass"}]},
        STORED | {"verdicts": [STORED["verdicts"][0] | {"waived": True}]},
        STORED | {"verdicts": [STORED["verdicts"][0] | {"status": "waived"}]},
        STORED | {"verdicts": [STORED["verdicts"][0] | {"observed": "2.0"}]},
        STORED | {"verdicts": [STORED["verdicts"][0] | {"subject": OTHER}]},
    ],
    ids=[
        "null", "list", "text", "empty", "no verdicts", "no subject", "no limits", "verdicts null", "verdict text",
        "verdict cut short", "unknown field", "unknown status", "number as text", "another subject inside",
    ],
)  # fmt: skip
def test_evidence_that_cannot_be_read_is_no_evidence(data: Any) -> None:
    with pytest.raises(EvidenceError):
        GateReport.from_json(data)


def test_a_verdict_cannot_be_edited_after_the_fact() -> None:
    verdict = passing("cpcv_sharpe", status="fail")
    with pytest.raises(dataclasses.FrozenInstanceError):
        verdict.status = "pass"  # type: ignore[misc]


def test_the_digest_of_limits_ignores_their_order_and_nothing_else() -> None:
    assert limits_digest({"a": 1.0, "b": 2}) == limits_digest({"b": 2, "a": 1.0})
    assert limits_digest({"a": 1.0}) != limits_digest({"a": 0.9})


def test_requiring_no_gate_admits_nobody() -> None:
    with pytest.raises(GateClosedError, match="no gate is required"):
        admit("subject", (), ())


def test_a_pass_that_compares_the_other_way_is_refused() -> None:
    flipped = Verdict("cpcv_sharpe", "s", "pass", 0.1, 1.2, "<=", "looks fine", "nothing")
    (reason,) = closed_reasons("s", [flipped], ["cpcv_sharpe"])
    assert reason == "cpcv_sharpe: compares <=, the gate compares >="


def test_a_pass_by_a_limit_of_its_own_is_named() -> None:
    own = Verdict("cpcv_sharpe", "s", "pass", 0.1, -9.0, ">=", "looks fine", "nothing")
    report = GateReport("validation", "s", {"sharpe_min": 1.2}, (own,))
    assert foreign_limits(report) == ("cpcv_sharpe: judged by -9.0, the report's limit is 1.2",)


def test_the_drift_gate_opens_below_the_number_that_makes_an_alarm() -> None:
    verdict = Verdict("feature_drift", "s", "pass", 2.0, 2.0, "<=", "two", "nothing")
    assert foreign_limits(GateReport("drift", "s", {"min_drifted_features": 3}, (verdict,))) == ()
    assert foreign_limits(GateReport("drift", "s", {"min_drifted_features": 2}, (verdict,))) != ()


@pytest.mark.parametrize("change", [{"kind": "opinion"}, {"limits": ["sharpe_min"]}])
def test_a_report_of_an_unknown_kind_or_without_named_limits_is_no_evidence(
    change: dict[str, object],
) -> None:
    data = GateReport("validation", "s", {"sharpe_min": 1.2}, ()).to_json()
    with pytest.raises(EvidenceError, match="kind in"):
        GateReport.from_json({**data, **change})
