"""Every way of getting past a gate without passing it, tried."""

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.common.errors import GateClosedError
from quant_assets.gates.admission import admit, closed_reasons, foreign_limits, foreign_settings
from quant_assets.gates.gate import find_gate, gate_names, gates
from quant_assets.gates.verdicts import GateReport, ReportKind, Verdict, judge

SUBJECT = "a" * 64
OTHER = "b" * 64


def passing(gate: str, **changes: Any) -> Verdict:
    comparison = find_gate(gate).limit.comparison
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
    return {gate: passing(gate) for gate in gate_names()}


def test_a_passing_verdict_of_every_gate_lets_the_subject_through() -> None:
    admit(SUBJECT, all_passing().values())
    assert closed_reasons(SUBJECT, all_passing().values()) == ()


def test_the_required_gates_are_those_of_all_reports() -> None:
    kinds: tuple[ReportKind, ...] = ("validation", "walk_forward", "parity", "drift")
    assert gate_names() == tuple(name for kind in kinds for name in gate_names(kind))
    assert gate_names() == (
        "cpcv_sharpe",
        "cpcv_probabilistic_sharpe",
        "cpcv_deflated_sharpe",
        "cpcv_max_drawdown",
        "cpcv_loss_probability",
        "cpcv_cost_margin",
        "walk_forward",
        "onnx_parity",
        "int8_parity",
        "feature_drift",
    )
    may_not_apply = {name for name, gate in gates().items() if gate.may_not_apply}
    assert may_not_apply == {"int8_parity"}


@pytest.mark.parametrize("gate", gate_names())
def test_a_gate_without_a_verdict_is_closed(gate: str) -> None:
    verdicts = all_passing()
    del verdicts[gate]
    with pytest.raises(GateClosedError, match=f"{gate}: no verdict"):
        admit(SUBJECT, verdicts.values())


def test_no_verdicts_at_all_close_every_gate() -> None:
    assert len(closed_reasons(SUBJECT, ())) == len(gate_names())


@pytest.mark.parametrize("gate", gate_names())
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
@pytest.mark.parametrize("gate", gate_names())
def test_fail_and_underpowered_are_closed_whatever_the_numbers_say(gate: str, status: str) -> None:
    verdicts = all_passing() | {gate: passing(gate, status=status, reason="because")}
    assert closed_reasons(SUBJECT, verdicts.values()) == (f"{gate}: {status}: because",)


@pytest.mark.parametrize("gate", gate_names())
def test_not_applicable_opens_only_the_gate_that_may_say_so(gate: str) -> None:
    answer = passing(gate, status="not_applicable", observed=None, required=None)
    opens = closed_reasons(SUBJECT, (all_passing() | {gate: answer}).values()) == ()
    assert opens == (gate == "int8_parity")


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


IN_FORCE = {"costs": {"half_spread_bps": 1.0}, "portfolio": {"gross_leverage": 1.0}, "configuration": "c"}


@pytest.mark.parametrize(
    ("basis", "named"),
    [
        ({**IN_FORCE, "costs": {"half_spread_bps": 0.0}}, "than those in force (costs)"),
        ({**IN_FORCE, "costs": {}, "configuration": "d"}, "than those in force (configuration, costs)"),
        ({k: v for k, v in IN_FORCE.items() if k != "portfolio"}, "than those in force (portfolio)"),
        ({**IN_FORCE, "label": {}}, "than those in force (label)"),
        ({}, "does not say under which settings"),
    ],
)
def test_evidence_made_under_other_settings_is_named_by_what_differs(
    basis: dict[str, Any], named: str
) -> None:
    report = GateReport("validation", SUBJECT, {}, (), {}, IN_FORCE)
    assert foreign_settings(report, IN_FORCE) == ()
    (reason,) = foreign_settings(dataclasses.replace(report, basis=basis), IN_FORCE)
    assert named in reason
