"""Verdicts and reports as data: what they refuse to say, and that they survive storage."""

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest

from quant_assets.common.errors import EvidenceError
from quant_assets.common.hashing import canonical_json
from quant_assets.gates.verdicts import GateReport, Verdict, limits_digest, meets
from quant_assets_tests.gates.test_admission import OTHER, SUBJECT, passing


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


def report(verdicts: tuple[Verdict, ...] = (), **changes: Any) -> GateReport:
    values = {"kind": "validation", "subject": SUBJECT, "limits": {"sharpe_min": 1.2}, "verdicts": verdicts}
    return GateReport(**(values | changes))


def test_a_report_survives_storage() -> None:
    original = report((passing("cpcv_sharpe"), passing("cpcv_max_drawdown", alpha=0.05, power=0.8)))
    stored = json.loads(canonical_json(original.to_json()))
    assert GateReport.from_json(stored) == original


def test_a_report_says_the_settings_of_its_evidence_and_one_of_before_says_none() -> None:
    basis = {"costs": {"half_spread_bps": 1.0}, "configuration": "c" * 64}
    stored = json.loads(canonical_json(report((passing("cpcv_sharpe"),)).about(basis)))
    assert GateReport.from_json(stored).basis == basis
    assert GateReport.from_json(without(stored, "basis")).basis == {}


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


@pytest.mark.parametrize("change", [{"kind": "opinion"}, {"limits": ["sharpe_min"]}])
def test_a_report_of_an_unknown_kind_or_without_named_limits_is_no_evidence(
    change: dict[str, object],
) -> None:
    data = GateReport("validation", "s", {"sharpe_min": 1.2}, ()).to_json()
    with pytest.raises(EvidenceError, match="kind in"):
        GateReport.from_json({**data, **change})
