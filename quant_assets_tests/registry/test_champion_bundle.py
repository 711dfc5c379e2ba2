"""The champion's bundle: only the signed one that was promoted comes out of the registry."""

from typing import Any

import pytest

from quant_assets.artifacts.bundle.signing import TrustedKeys
from quant_assets.common.errors import ArtifactError, GateClosedError, RegistryError
from quant_assets.registry.champion import in_charge, load_champion
from quant_assets_tests.registry.conftest import STRATEGY, Desk

A = "a" * 64


def test_promotion_writes_the_fingerprint_of_the_signing_key_into_the_ledger(desk: Desk) -> None:
    desk.record(A)
    desk.promote(A, "1", None)
    (entry,) = desk.ledger.entries(STRATEGY)
    assert entry.evidence["signing_key"] == "f" * 64
    assert entry.evidence["bundle"] == "b" * 64


@pytest.mark.parametrize("key", [None, ""])
def test_a_bundle_whose_signature_was_not_verified_closes_the_gate(desk: Desk, key: Any) -> None:
    desk.record(A)
    with pytest.raises(GateClosedError, match="no signature by a trusted key was verified"):
        desk.promote(A, "1", None, signing_key=key)
    (entry,) = desk.ledger.entries(STRATEGY)
    assert entry.action == "refused"
    assert "signing_key" not in entry.evidence
    assert in_charge(desk.uri, STRATEGY, desk.keys.trusted, desk.ledger) is None


def test_the_same_candidate_signed_with_another_key_is_entered_again_and_the_same_is_not(desk: Desk) -> None:
    desk.record(A)
    desk.promote(A, "1", None)
    assert desk.promote(A, "1", A).decision == "already champion"
    assert desk.promote(A, "1", A, signing_key="e" * 64).decision == "promoted"
    assert [e.evidence["signing_key"][0] for e in desk.ledger.entries(STRATEGY)] == ["f", "e"]
    assert desk.promote(A, "1", A, signing_key="e" * 64).decision == "already champion"


def test_no_champion_is_none_and_a_champion_without_a_bundle_is_an_error(desk: Desk) -> None:
    assert load_champion(desk.uri, STRATEGY, TrustedKeys(), desk.ledger) is None
    desk.record(A)
    desk.promote(A, "1", None)
    with pytest.raises(RegistryError, match=r"a file bundle\.zip in its run"):
        load_champion(desk.uri, STRATEGY, desk.keys.trusted, desk.ledger)


def test_an_unsigned_champion_is_not_loaded(desk: Desk) -> None:
    artifacts = {"model.onnx": desk_graph(), "bundle.zip": b"PK\x03\x04"}
    desk.record(A, artifacts=artifacts)
    desk.promote(A, "1", None)
    with pytest.raises(ArtifactError, match="unsigned"):
        load_champion(desk.uri, STRATEGY, desk.keys.trusted, desk.ledger)


def desk_graph() -> bytes:
    from quant_assets_tests.registry.conftest import graph

    return graph()
