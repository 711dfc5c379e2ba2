"""Attestations: what a step signs is what is believed, and nothing else is."""

import base64
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from quant_assets.artifacts.attestation import (
    Material,
    Materialisation,
    attest,
    attested,
    pre_authentication,
)
from quant_assets.artifacts.bundle.signing import (
    SIGNING_VARIABLE,
    SigningKey,
    TrustedKeys,
    development_key,
    signing_key,
)
from quant_assets.common.errors import ArtifactError

MADE = Materialisation(
    asset="edge/validation_report",
    version="1" * 64,
    sha256="2" * 64,
    media_type="json",
    code_version="3.4",
    fingerprint="5" * 40,
    inputs={"edge/cpcv_paths": Material("6" * 64, "7" * 64), "market/raw_bars[2017]": Material("8", "9")},
    run_id="run-1",
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return development_key(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def signed(key: SigningKey) -> dict[str, Any]:
    return attest(MADE, key)


def trust(*keys: SigningKey) -> TrustedKeys:
    return TrustedKeys.of(key.public_pem for key in keys)


def test_the_encoding_is_that_of_the_protocols_own_example() -> None:
    """DSSE protocol 1.0, test vectors."""
    assert pre_authentication(b"hello world", "http://example.com/HelloWorld") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_what_was_signed_is_read_back_whole(key: SigningKey) -> None:
    envelope = attest(MADE, key)
    assert attested("edge/validation_report", envelope, trust(key)) == MADE
    assert attested("edge/validation_report", json.loads(json.dumps(envelope)), trust(key)) == MADE
    assert attest(MADE, key) != envelope  # ECDSA draws a number


def test_the_statement_is_in_totos(key: SigningKey) -> None:
    statement = json.loads(base64.b64decode(attest(MADE, key)["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["subject"] == [{"name": "edge/validation_report", "digest": {"sha256": "2" * 64}}]
    assert statement["predicate"]["inputs"]["edge/cpcv_paths"] == {"version": "6" * 64, "sha256": "7" * 64}


@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_every_curve_that_signs_bundles_signs_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curve: Any
) -> None:
    file = tmp_path / "key.pem"
    file.touch(mode=0o600)
    file.write_bytes(
        ec.generate_private_key(curve()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    monkeypatch.setenv(SIGNING_VARIABLE, str(file))
    own = signing_key(tmp_path)
    assert attested("a/b", attest(MADE, own), trust(own)) == MADE


@pytest.mark.parametrize("name", [f.name for f in fields(Materialisation)])
def test_no_part_of_a_statement_can_be_changed_under_its_signature(key: SigningKey, name: str) -> None:
    change: dict[str, Any] = {name: {} if name == "inputs" else "other"}
    other = replace(MADE, **change)
    transplanted = {**attest(MADE, key), "payload": attest(other, key)["payload"]}
    with pytest.raises(ArtifactError, match="forged or altered"):
        attested("edge/validation_report", transplanted, trust(key))


@given(st.data())
@settings(deadline=None)
def test_no_single_changed_byte_of_payload_or_signature_is_believed(
    key: SigningKey, signed: dict[str, Any], data: st.DataObject
) -> None:
    envelope = signed
    signature = envelope["signatures"][0]["sig"]
    text = data.draw(st.sampled_from([envelope["payload"], signature]))
    raw = bytearray(base64.b64decode(text))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    forged = base64.b64encode(bytes(raw)).decode()
    changed = (
        {**envelope, "payload": forged}
        if text == envelope["payload"]
        else {**envelope, "signatures": [{**envelope["signatures"][0], "sig": forged}]}
    )
    with pytest.raises(ArtifactError):
        attested("edge/validation_report", changed, trust(key))


def test_a_foreign_key_no_key_and_a_borrowed_name_are_refused(key: SigningKey, tmp_path: Path) -> None:
    stranger = development_key(tmp_path)
    for envelope, trusted in ((attest(MADE, stranger), trust(key)), (attest(MADE, key), TrustedKeys())):
        with pytest.raises(ArtifactError, match="foreign key"):
            attested("a/b", envelope, trusted)
    foreign = attest(MADE, stranger)
    foreign["signatures"][0]["keyid"] = key.fingerprint
    with pytest.raises(ArtifactError, match="forged or altered"):
        attested("a/b", foreign, trust(key))
    assert attested("a/b", attest(MADE, stranger), trust(key, stranger)) == MADE


@pytest.mark.parametrize(
    ("envelope", "found"),
    [
        (None, "no attestation"),
        ({}, "no attestation"),
        ([], "unreadable"),
        ("signed", "unreadable"),
        ({"payload": "%", "payloadType": "", "signatures": []}, "unreadable"),
        ({"payload": "", "payloadType": "", "signatures": [{"keyid": "", "sig": ""}] * 2}, "unreadable"),
        ({"payload": "", "payloadType": "", "signatures": [{"keyid": "a", "sig": ""}]}, "foreign key"),
    ],
)
def test_what_is_no_attestation_is_refused_by_name(key: SigningKey, envelope: Any, found: str) -> None:
    with pytest.raises(ArtifactError, match=found):
        attested("a/b", envelope, trust(key))


@pytest.mark.parametrize(
    "alter",
    [
        lambda s: {**s, "predicateType": "https://slsa.dev/provenance/v1"},
        lambda s: {**s, "more": 1},
        lambda s: {**s, "subject": [*s["subject"], *s["subject"]]},
        lambda s: {**s, "predicate": {**s["predicate"], "inputs": {"a": {"version": "1"}}}},
        lambda s: [],
    ],
)
def test_a_good_signature_over_another_kind_of_statement_is_refused(
    key: SigningKey, monkeypatch: pytest.MonkeyPatch, alter: Any
) -> None:
    altered = json.dumps(alter(json.loads(MADE.statement())), sort_keys=True, separators=(",", ":")).encode()
    monkeypatch.setattr(Materialisation, "statement", lambda _: altered)
    envelope = attest(MADE, key)
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match="another kind"):
        attested("a/b", envelope, trust(key))
