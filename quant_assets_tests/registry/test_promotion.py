"""Promotion: nothing passes a closed gate, nothing is lost by a crash, nothing moves without a record."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from mlflow import MlflowClient

from quant_assets.common.errors import GateClosedError, LedgerError, RegistryError
from quant_assets.common.hashing import json_digest
from quant_assets.ledgers.promotions import LedgerEntry
from quant_assets.registry.champion import current_champion
from quant_assets.registry.promotion import (
    PromotionDecision,
    enter_look,
    look_of,
    previous_champion,
    rollback,
)
from quant_assets.reports.holdout import HoldoutLook

from .conftest import LIMITS, NOW, STRATEGY, Desk, reports_of

A, B, C = "a" * 64, "b" * 64, "c" * 64


def roll_back(desk: Desk, expected: str, reason: str = "live drawdown") -> PromotionDecision:
    return rollback(
        desk.uri,
        strategy=STRATEGY,
        expected_champion=expected,
        reason=reason,
        ledger=desk.ledger,
        keys=desk.keys,
        actor="operator",
        run_id="run-9",
        now=NOW,
    )


def version_tags(desk: Desk, version: str) -> dict[str, str]:
    return dict(MlflowClient(desk.uri, desk.uri).get_model_version(STRATEGY, version).tags)


def aliases(desk: Desk) -> dict[str, str]:
    found = MlflowClient(desk.uri, desk.uri).get_registered_model(STRATEGY).aliases
    return {alias: str(version) for alias, version in found.items()}


def test_the_first_candidate_with_open_gates_becomes_champion(desk: Desk) -> None:
    desk.record(A)
    assert current_champion(desk.uri, STRATEGY) is None
    decision = desk.promote(A, "1", None)
    assert decision == PromotionDecision("promoted", STRATEGY, A, "1", None, 0)
    champion = current_champion(desk.uri, STRATEGY)
    assert champion is not None
    assert (champion.subject, champion.model_version, champion.bundle_sha256) == (A, "1", "b" * 64)
    assert aliases(desk) == {"candidate": "1", "champion": "1"}
    (entry,) = desk.ledger.entries(STRATEGY)
    assert (entry.action, entry.subject, entry.replaces) == ("promoted", A, None)
    digests = {r.kind: json_digest(r.to_json()) for r in reports_of(A)}
    assert entry.evidence == digests | {"bundle": "b" * 64, "signing_key": "f" * 64}
    assert version_tags(desk, "1")["quant.gate"] == "passed"
    assert version_tags(desk, "1")["quant.ledger_entry"] == entry.hash


def test_the_next_champion_remembers_the_one_before(two: Desk) -> None:
    assert two.promote(B, "2", A).previous_subject == A
    assert aliases(two) == {"candidate": "2", "champion": "2", "previous_champion": "1"}


def test_promoting_the_champion_again_changes_nothing(two: Desk) -> None:
    two.promote(B, "2", A)
    for expected in (A, B):
        decision = two.promote(B, "2", expected)
        assert (decision.decision, decision.ledger_entry) == ("already champion", 1)
    assert two.ledger.verify().n_entries == 2


def closed_gate(subject: str) -> list[Any]:
    return reports_of(subject, closed=("cpcv_sharpe", "onnx_parity"))


def other_limits(subject: str) -> list[Any]:
    first, *rest = reports_of(subject)
    return [replace(first, limits={"sharpe_min": 0.1}), *rest]


def nan_observed(subject: str) -> list[Any]:
    first, *rest = reports_of(subject)
    poisoned = replace(first.verdicts[0], observed=float("nan"))
    return [replace(first, verdicts=(poisoned, *first.verdicts[1:])), *rest]


def report_about_another(subject: str) -> list[Any]:
    first, *rest = reports_of(subject)
    return [replace(first, subject=C), *rest]


@pytest.mark.parametrize(
    ("reports", "texts"),
    [
        (closed_gate(B), ["cpcv_sharpe: fail", "onnx_parity: fail"]),
        (other_limits(B), ["validation report: judged under other limits", "sharpe_min"]),
        (nan_observed(B), ["cpcv_sharpe: says pass, but None"]),
        (report_about_another(B), ["validation report: judged another model version"]),
        (reports_of(A), ["drift report: judged another model", "feature_drift: judged another model"]),
        (reports_of(B)[:2], ["drift report: 0 given", "feature_drift: no verdict"]),
        (reports_of(B) + reports_of(B)[:1], ["validation report: 2 given", "cpcv_sharpe: 2 verdicts"]),
        ([], ["validation report: 0 given", "cpcv_sharpe: no verdict", "int8_parity: no verdict"]),
    ],
)
def test_a_candidate_without_full_evidence_is_refused_with_every_reason(
    two: Desk, reports: list[Any], texts: list[str]
) -> None:
    for _ in range(2):  # the second refusal is the same: it is not written again
        with pytest.raises(GateClosedError) as caught:
            two.promote(B, "2", A, reports=reports)
    for text in texts:
        assert text in str(caught.value)
    promoted, refused = two.ledger.entries(STRATEGY)
    assert (promoted.subject, refused.action, refused.subject) == (A, "refused", B)
    assert all(any(text in reason for reason in refused.reasons) for text in texts)
    tags = version_tags(two, "2")
    assert tags["quant.gate"] == "refused"
    assert all(text in tags["quant.gate_reasons"] for text in texts)
    assert aliases(two)["champion"] == "1"


def test_a_report_of_a_kind_without_limits_in_force_is_refused(two: Desk) -> None:
    limits = {kind: value for kind, value in LIMITS.items() if kind != "drift"}
    with pytest.raises(GateClosedError, match="no limits in force"):
        two.promote(B, "2", A, limits_in_force=limits)


def test_a_champion_that_is_judged_again_and_refused_stays_until_it_is_replaced(two: Desk) -> None:
    with pytest.raises(GateClosedError):
        two.promote(A, "1", A, reports=reports_of(A, closed=("feature_drift",)))
    assert aliases(two)["champion"] == "1"
    assert version_tags(two, "1")["quant.gate"] == "refused"
    assert two.promote(B, "2", A).decision == "promoted"
    assert version_tags(two, "1")["quant.gate"] == "refused"


@pytest.mark.parametrize("expected", [None, C])
def test_a_champion_that_moved_in_between_stops_the_promotion(two: Desk, expected: str | None) -> None:
    with pytest.raises(RegistryError, match="another run moved the champion"):
        two.promote(B, "2", expected)
    assert two.ledger.verify().n_entries == 1
    assert aliases(two)["champion"] == "1"


def test_a_version_of_another_subject_or_none_cannot_be_promoted(two: Desk) -> None:
    with pytest.raises(RegistryError, match="version 1 of model"):
        two.promote(B, "1", A)
    with pytest.raises(RegistryError, match="not found"):
        two.promote(B, "99", A)
    assert two.ledger.verify().n_entries == 1


@pytest.mark.parametrize("method", ["set_registered_model_alias", "set_model_version_tag"])
@pytest.mark.parametrize("follower", ["the same promotion", "another promotion"])
def test_a_promotion_killed_half_way_is_completed_by_the_next_call(
    two: Desk, killed_at: Callable[[str], None], method: str, follower: str
) -> None:
    two.record(C)
    killed_at(method)
    with pytest.raises(KeyboardInterrupt):
        two.promote(B, "2", A)
    assert aliases(two)["champion"] == "1"
    if follower == "the same promotion":
        assert two.promote(B, "2", A).decision == "already champion"
    else:
        with pytest.raises(RegistryError, match="moved the champion"):
            two.promote(C, "3", A)
    assert {k: v for k, v in aliases(two).items() if k != "candidate"} == {
        "champion": "2",
        "previous_champion": "1",
    }
    assert version_tags(two, "2")["quant.gate"] == "passed"
    assert [e.action for e in two.ledger.entries()] == ["promoted", "promoted"]


def test_a_promotion_killed_before_its_ledger_entry_has_not_happened(
    two: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def die_at_the_ledger(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink() == two.ledger.path:
            raise KeyboardInterrupt
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", die_at_the_ledger)
        with pytest.raises(KeyboardInterrupt):
            two.promote(B, "2", A)
    assert aliases(two)["champion"] == "1"
    # The entry was whole in the file though it was never acknowledged: it counts, and is completed.
    assert two.promote(B, "2", A).decision == "already champion"
    assert two.ledger.verify().n_entries == 2


def test_a_roll_back_restores_the_champion_before(two: Desk) -> None:
    two.promote(B, "2", A)
    decision = roll_back(two, B)
    assert decision == PromotionDecision("rolled back", STRATEGY, A, "1", B, 2)
    assert {k: v for k, v in aliases(two).items() if k != "candidate"} == {"champion": "1"}
    assert previous_champion(two.uri, STRATEGY) is None
    entry = two.ledger.entries(STRATEGY)[-1]
    assert (entry.action, entry.reasons, entry.replaces) == ("rolled_back", ("live drawdown",), "2")


def test_roll_backs_go_back_one_champion_at_a_time_and_never_forward(two: Desk) -> None:
    two.record(C)
    two.promote(B, "2", A)
    two.promote(C, "3", B)
    assert roll_back(two, C).subject == B
    previous = previous_champion(two.uri, STRATEGY)
    assert previous is not None
    assert previous.subject == A
    with pytest.raises(RegistryError, match="compared with"):
        roll_back(two, C)
    assert roll_back(two, B).subject == A
    with pytest.raises(RegistryError, match="a champion before the present one"):
        roll_back(two, A)
    assert two.promote(C, "3", A).decision == "promoted"


def test_a_roll_back_killed_half_way_is_completed_by_the_next_call(
    two: Desk, killed_at: Callable[[str], None]
) -> None:
    two.promote(B, "2", A)
    killed_at("set_registered_model_alias")
    with pytest.raises(KeyboardInterrupt):
        roll_back(two, B)
    assert aliases(two)["champion"] == "2"
    assert two.promote(A, "1", B).decision == "already champion"
    assert aliases(two)["champion"] == "1"


def test_an_alias_moved_by_hand_is_a_contradiction_and_not_mended(two: Desk) -> None:
    two.record(C)
    MlflowClient(two.uri, two.uri).set_registered_model_alias(STRATEGY, "champion", "3")
    with pytest.raises(RegistryError, match="who moved the alias"):
        two.promote(B, "2", C)
    with pytest.raises(RegistryError, match="who moved the alias"):
        roll_back(two, C)
    assert aliases(two)["champion"] == "3"


def test_a_champion_without_a_ledger_is_a_contradiction(desk: Desk) -> None:
    desk.record(A)
    MlflowClient(desk.uri, desk.uri).set_registered_model_alias(STRATEGY, "champion", "1")
    with pytest.raises(RegistryError, match="the ledger has none"):
        desk.promote(A, "1", None)


def test_a_ledger_rewritten_together_with_its_head_is_found_by_the_registry(two: Desk) -> None:
    two.promote(B, "2", A)
    for file in (two.ledger.path, two.ledger.path.with_name("ledger.jsonl.head")):
        file.unlink()
    for number, (subject, replaces) in enumerate([(A, None), (B, "1")], start=1):
        two.ledger.append(
            "promoted",
            strategy=STRATEGY,
            subject=subject,
            model_version=str(number),
            replaces=replaces,
            reasons=("forged",),
            evidence={},
            actor="intruder",
            at=datetime(2026, 1, 1, tzinfo=UTC),
            run_id="run-1",
        )
    with pytest.raises(RegistryError, match="that the registry remembers"):
        two.promote(B, "2", B)


def test_a_recreated_registry_under_an_old_ledger_is_a_contradiction(two: Desk) -> None:
    client = MlflowClient(two.uri, two.uri)
    client.delete_registered_model(STRATEGY)
    two.record(B)  # takes number 1, which is A's in the ledger
    with pytest.raises(RegistryError, match="restored"):
        two.promote(B, "1", None)
    assert current_champion(two.uri, STRATEGY) is None


def test_nobody_is_promoted_on_a_broken_ledger(two: Desk) -> None:
    two.ledger.path.write_bytes(two.ledger.path.read_bytes().replace(b"asset:", b"Asset:"))
    with pytest.raises(LedgerError, match="entry 0"):
        two.promote(B, "2", A)
    assert aliases(two)["champion"] == "1"


def test_strategies_share_a_ledger_without_touching_each_other(two: Desk) -> None:
    two.record(C, strategy="other")
    assert two.promote(C, "1", None, strategy="other", reports=reports_of(C)).decision == "promoted"
    champion = current_champion(two.uri, STRATEGY)
    assert champion is not None
    assert champion.subject == A
    assert two.ledger.verify().n_entries == 2


# ------------------------------------------------------------------- the holdout is opened for who is in charge


FIRST_LOOK = HoldoutLook("desk.forward_return", "idea", date(2026, 1, 2), date(2026, 2, 27))


def enter(
    desk: Desk,
    subject: str,
    look: HoldoutLook = FIRST_LOOK,
    returns: str = "1" * 64,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> tuple[LedgerEntry, tuple[HoldoutLook, ...]]:
    return enter_look(
        desk.ledger,
        desk.keys,
        strategy=STRATEGY,
        subject=subject,
        look=look,
        evidence={"returns": returns},
        settings=settings,
        actor="asset:holdout_report",
        run_id="run-2",
        now=NOW,
    )


def test_a_look_at_the_holdout_of_the_champion_is_a_signed_entry_that_moves_nobody(two: Desk) -> None:
    before = aliases(two)
    entry, earlier = enter(two, A)
    assert (entry.action, entry.subject, entry.model_version, earlier) == ("shown", A, "1", ())
    assert two.ledger.signature(entry) is not None
    assert not entry.moves
    assert look_of(entry) == FIRST_LOOK
    assert two.promote(A, "1", A).decision == "already champion"
    assert two.promote(B, "2", A).previous_subject == A
    assert aliases(two) == before | {"champion": "2", "previous_champion": "1"}


def test_a_candidate_that_is_not_in_charge_has_no_holdout_to_look_at(two: Desk) -> None:
    with pytest.raises(GateClosedError, match="the holdout is opened once the decision is made"):
        enter(two, B)
    two.promote(B, "2", A)
    roll_back(two, B)
    with pytest.raises(GateClosedError, match=f"{A[:12]} in charge"):
        enter(two, B)
    assert [entry.action for entry in two.ledger.entries()] == ["promoted", "promoted", "rolled_back"]


def test_nobody_looks_at_the_holdout_of_a_strategy_that_was_never_promoted(desk: Desk) -> None:
    desk.record(A)
    with pytest.raises(GateClosedError, match="nobody was ever promoted"):
        enter(desk, A)


def test_other_settings_than_those_of_the_decision_open_no_holdout(two: Desk) -> None:
    """Costs of nothing, or another portfolio, would be looked at until one of them shines."""
    two.promote(B, "2", A, basis={"digests": {"costs": "c1", "portfolio": "p1"}})
    with pytest.raises(GateClosedError, match="was decided under; found others: costs"):
        enter(two, B, settings={"costs": "c2", "portfolio": "p1"})
    assert enter(two, B, settings={"costs": "c1", "portfolio": "p1"})[0].action == "shown"


def test_an_entry_that_no_trusted_key_signed_opens_no_holdout(two: Desk) -> None:
    (entry,) = two.ledger.entries()
    (two.folder / "ledger.signatures" / f"{entry.hash}.sig").unlink()
    with pytest.raises(RegistryError, match="the signature of a trusted key"):
        enter(two, A)


def test_the_same_look_is_entered_once_and_other_returns_are_another_look(two: Desk) -> None:
    first, _ = enter(two, A)
    two.promote(B, "2", A)
    second, earlier = enter(two, B, replace(FIRST_LOOK, idea="other"))
    assert earlier == (FIRST_LOOK,)
    assert enter(two, B, replace(FIRST_LOOK, idea="other")) == (second, earlier)
    roll_back(two, B)
    assert enter(two, A) == (first, ())
    third, earlier = enter(two, A, returns="2" * 64)
    assert third.index > second.index
    assert len(earlier) == 2
